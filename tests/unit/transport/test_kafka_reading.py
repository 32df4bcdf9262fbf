"""Reading from Kafka, whatever is read: the names of headers anyone who may write can make of any bytes."""

import ctypes
import queue
from collections.abc import Callable
from pathlib import Path

import confluent_kafka
import pytest
import structlog
from structlog.testing import CapturingLogger

from evcharge.protocol.records import Received
from evcharge.transport.kafka import Subscriber, TopicNow
from evcharge.transport.kafka_settings import KafkaAccess
from evcharge.transport.trial_broker import TrialBroker

TOPIC = "driver_charge_requests"
MANY = 100
"""So many that Python has begun to take the short cuts that it keeps for what is called often."""


class Writer:
    """librdkafka itself: its Python side writes no name that is no text."""

    END, TOPIC, PARTITION, VALUE, HEADERS = 0, 1, 3, 4, 10

    def __init__(self, bootstrap: str) -> None:
        beside = Path(confluent_kafka.__file__).parent.parent / "confluent_kafka.libs"
        libraries = sorted(beside.glob("librdkafka*"))
        if not libraries:
            pytest.skip("librdkafka is not where the wheels for Linux have it")
        self._library = ctypes.CDLL(str(libraries[0]))
        for maker in ("rd_kafka_conf_new", "rd_kafka_new", "rd_kafka_headers_new"):
            getattr(self._library, maker).restype = ctypes.c_void_p
        problem, size = ctypes.create_string_buffer(512), ctypes.c_size_t(512)
        conf = ctypes.c_void_p(self._library.rd_kafka_conf_new())
        self._library.rd_kafka_conf_set(conf, b"bootstrap.servers", bootstrap.encode(), problem, size)
        self._producer = ctypes.c_void_p(self._library.rd_kafka_new(0, conf, problem, size))

    def write(self, value: bytes, header: bytes) -> None:
        kind, sized = ctypes.c_int, ctypes.c_size_t
        headers = ctypes.c_void_p(self._library.rd_kafka_headers_new(sized(1)))
        self._library.rd_kafka_header_add(headers, header, sized(len(header)), b"said", sized(4))
        where = (kind(self.TOPIC), ctypes.c_char_p(TOPIC.encode()), kind(self.PARTITION), ctypes.c_int32(0))
        what = (kind(self.VALUE), ctypes.c_char_p(value), sized(len(value)), kind(self.HEADERS), headers)
        assert self._library.rd_kafka_producev(self._producer, *where, *what, kind(self.END)) == 0

    def close(self) -> None:
        assert self._library.rd_kafka_flush(self._producer, 10_000) == 0
        self._library.rd_kafka_destroy(self._producer)


def subscribed(
    broker: TrialBroker,
    told: CapturingLogger,
    on_batch: Callable[[list[Received]], None],
    on_fatal: Callable[[str], None],
) -> Subscriber:
    subscriber = Subscriber(
        KafkaAccess(broker.bootstrap),
        "test",
        group_id=None,
        trace=None,
        log=structlog.wrap_logger(told, processors=[]),
        on_fatal=on_fatal,
        on_batch=on_batch,
    )
    subscriber.start({TOPIC: TopicNow(1)})
    return subscriber


def test_a_header_whose_name_is_not_utf8_stops_nobody() -> None:
    """As it did: the thread that reads died of it, and again after each restart, at the same record."""
    broker = TrialBroker([TOPIC])
    batches: queue.SimpleQueue[list[Received]] = queue.SimpleQueue()
    subscriber = subscribed(broker, CapturingLogger(), batches.put, pytest.fail)
    try:
        writer = Writer(broker.bootstrap)
        for _ in range(MANY):
            writer.write(b"before", b"name")
        writer.write(b"hostile", b"\xff\xfe")
        writer.write(b"after", b"name")
        writer.close()
        read: list[Received] = []
        while len(read) < MANY + 2:
            read += batches.get(timeout=10)
    finally:
        subscriber.close()
    assert [record.value for record in read] == [*[b"before"] * MANY, b"hostile", b"after"]
    assert read[0].headers == read[-1].headers == (("name", b"said"),)
    assert read[-2].headers == ()


def test_a_bug_ends_the_program_and_not_the_reading_alone() -> None:
    broker = TrialBroker([TOPIC])
    ends: queue.SimpleQueue[str] = queue.SimpleQueue()
    log = CapturingLogger()

    def fail(_: list[Received]) -> None:
        raise ZeroDivisionError("no records")

    subscriber = subscribed(broker, log, fail, ends.put)
    try:
        writer = Writer(broker.bootstrap)
        writer.write(b"one", b"name")
        writer.close()
        assert ends.get(timeout=10) == "reading from Kafka has failed: ZeroDivisionError('no records')"
    finally:
        subscriber.close()
    assert not subscriber.works
    assert [(call.method_name, call.kwargs["event"]) for call in log.calls] == [("error", "bug")]
