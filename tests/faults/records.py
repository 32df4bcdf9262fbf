"""What the tests themselves read from Kafka, and write to it."""

import json
import logging
import random
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition

RESPONSES = "driver_responses"
METERS = ("charging_session_data", "charging_session_complete")
REQUESTS = ("driver_charge_requests", "driver_stop_requests")

# That a broker which was killed cannot be reached is nothing to tell.
_quiet = logging.getLogger("evcharge.librdkafka")
_quiet.addHandler(logging.NullHandler())
_quiet.propagate = False

Places = dict[tuple[str, int], int]
"""An offset, by topic and partition."""


def ends(bootstrap: str) -> Places:
    """Where our topics end now."""
    with _reader(bootstrap) as consumer:
        topics = consumer.list_topics(timeout=10).topics
        return {
            (topic, number): consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=10)[1]
            for topic in (RESPONSES, *METERS, *REQUESTS)
            if topic in topics
            for number in topics[topic].partitions
        }


def since(bootstrap: str, begun: Places, *topics: str) -> list[tuple[str, Any]]:
    """What stands in these topics, from there to their ends: the topic and the message."""
    until = {at: end for at, end in ends(bootstrap).items() if at[0] in topics}
    found = []
    with _reader(bootstrap) as consumer:
        missing = sum(end - begun.get(at, 0) for at, end in until.items())
        consumer.assign([TopicPartition(*at, begun.get(at, 0)) for at in until])
        while missing > 0:
            record = consumer.poll(10)
            assert record is not None, f"Kafka did not give {missing} records that it has"
            missing -= 1
            found.append((str(record.topic()), json.loads(record.value() or b"null")))
    return found


def publish(bootstrap: str, records: list[tuple[str, str, dict[str, Any]]]) -> None:
    """Topic, key and message of each."""
    sender = producer(bootstrap)
    for topic, key, message in records:
        sender.produce(topic, json.dumps(message).encode(), key)
        sender.poll(0)
    assert sender.flush(20) == 0


def producer(bootstrap: str) -> Producer:
    return Producer({"bootstrap.servers": bootstrap, "logger": _quiet})


def say_again(bootstrap: str, begun: Places, prefix: str, rng: random.Random) -> None:
    """All that was said to Central about these charge points comes once more, in any order."""
    said = [
        (topic, message["cp_id"], message)
        for topic, message in since(bootstrap, begun, *METERS, *REQUESTS)
        if isinstance(message, dict) and str(message.get("cp_id", "")).startswith(prefix)
    ]
    rng.shuffle(said)
    publish(bootstrap, said)


@contextmanager
def _reader(bootstrap: str) -> Iterator[Consumer]:
    settings = {"bootstrap.servers": bootstrap, "group.id": "checker", "enable.auto.commit": False}
    with closing(Consumer(settings)) as consumer:
        yield consumer
