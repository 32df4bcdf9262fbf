"""Records on Kafka as those programs write them that keep to the protocol."""

from evcharge.domain.decisions import FromKafka
from evcharge.protocol import messages
from evcharge.protocol.messages import DriverRequest, Message
from evcharge.protocol.records import SIGNATURE_HEADER, Received, signature_of
from evcharge.protocol.topics import Topic


def key_of(driver_id: str) -> str:
    return f"key of {driver_id}"


def published(topic: Topic, message: Message, key: str | None = None) -> FromKafka:
    """Signed with the driver's own key, or with another, or with none if `key` is empty."""
    value = messages.encode(message)
    headers: tuple[tuple[str, bytes | None], ...] = ()
    if isinstance(message, DriverRequest) and key != "":
        signature = signature_of(value, key if key is not None else key_of(message.driver_id))
        headers = ((SIGNATURE_HEADER, signature),)
    return FromKafka(Received(topic, 0, 0, None, value, headers), message)
