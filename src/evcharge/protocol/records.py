"""A Kafka record as it came, and the signature by which a driver's is known to be the driver's own."""

import hmac
from uuid import UUID

import msgspec

from evcharge.protocol.messages import ChargeRequest

SIGNATURE_HEADER = "evcharge-hmac-sha256"


class Received(msgspec.Struct, frozen=True):
    """One record."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes | None], ...] = ()

    def header(self, name: str) -> bytes | None:
        """The last one of that name, as Kafka's own clients read them."""
        return next((value for key, value in reversed(self.headers) if key == name), None)

    @property
    def place(self) -> str:
        return f"{self.topic}[{self.partition}]@{self.offset}"


def signature_of(value: bytes, key: str) -> bytes:
    """What the holder of `key` gives the header `SIGNATURE_HEADER` of a record with this value."""
    return hmac.new(key.encode(), value, "sha256").hexdigest().encode()


def confirmation_of(cp_id: str, message_id: UUID, key: str) -> str:
    """What the holder of `key` gives a charge point that asks for a charge in his name by this message."""
    return hmac.new(key.encode(), f"{cp_id}\n{message_id}".encode(), "sha256").hexdigest()


def is_confirmed(request: ChargeRequest, key: str) -> bool:
    wanted = confirmation_of(request.cp_id, request.message_id, key)
    return request.confirmation is not None and hmac.compare_digest(request.confirmation, wanted)


def is_signed(record: Received, key: str) -> bool:
    signature = record.header(SIGNATURE_HEADER)
    return signature is not None and hmac.compare_digest(signature, signature_of(record.value, key))
