"""What the benchmarks stand on: a real Kafka for all, a second for who needs two, and a network for each."""

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from harness import Program, World, eventually

from evcharge.protocol.topics import Topic
from kafka_broker import Broker, free_port

PARTITIONS = 6


@dataclass(frozen=True, slots=True)
class Ground:
    """`folder` is for files that go when the run ends; `quick` asks for a run of seconds, not minutes."""

    folder: Path
    kafka: str
    quick: bool

    def network(self, name: str) -> World:
        """An empty folder, and empty topics."""
        folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.folder))
        self.empty(Topic)
        return World(folder, self.kafka)

    def empty(self, topics: Iterable[str]) -> None:
        """Have these topics, with nothing in them."""
        admin = AdminClient({"bootstrap.servers": self.kafka})
        names = list(topics)
        for done in admin.delete_topics(names, operation_timeout=30).values():
            try:
                done.result()
            except KafkaException as problem:
                if problem.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                    raise
        wanted = [NewTopic(name, num_partitions=PARTITIONS, replication_factor=1) for name in names]
        for made in admin.create_topics(wanted, operation_timeout=30).values():
            made.result()
        consumer = Consumer({"bootstrap.servers": self.kafka, "group.id": "bench-ground"})
        try:
            for name, number in product(names, range(PARTITIONS)):
                eventually(partial(_is_led, consumer, TopicPartition(name, number)), f"{name} can be read")
        finally:
            consumer.close()


@contextmanager
def second_kafka(ground: Ground) -> Iterator[Ground]:
    """The same ground on a Kafka of its own, which ends with it."""
    folder = Path(tempfile.mkdtemp(prefix="kafka-", dir=ground.folder))
    broker = Broker(folder, free_port())
    broker.start()
    try:
        yield replace(ground, kafka=broker.bootstrap)
    finally:
        broker.stop()


def _is_led(consumer: Consumer, partition: TopicPartition) -> bool:
    """Whether the broker serves it: it knows of a new topic before it does."""
    try:
        consumer.get_watermark_offsets(partition, timeout=10)
    except KafkaException:
        return False
    return True


def start_central(world: World, *arguments: str) -> Program:
    """Central as an operator runs it, but that it admits whoever comes, and logs only what is wrong."""
    program = world.start(
        "central",
        *("central", "--headless", "--host", "127.0.0.1", "--port", "0", "--port-file", "central.port"),
        *("--http", "127.0.0.1:0", "--http-port-file", "central.http"),
        *("--kafka", world.kafka, "--db", "evcharge.db", "--open-registration", "--log-level", "warning"),
        *("--max-connections-per-address", "20000"),
        *("--time-scale", "1000"),  # Their charges of some kWh are over within moments.
        *arguments,
    )
    assert program.port
    return program
