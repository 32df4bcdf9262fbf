"""Apache Kafka through confluent-kafka: batches in, batches out, delivery reports. Nothing of charging."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

from confluent_kafka import (
    OFFSET_STORED,
    Consumer,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka import Message as KafkaRecord
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from structlog.typing import FilteringBoundLogger

from evcharge.errors import KafkaUnusable
from evcharge.protocol.records import Received
from evcharge.transport.offsets import Offsets
from evcharge.transport.trace import Trace

POLL_S = 0.1
BATCH_RECORDS = 1000
QUEUE_RECORDS = 200_000
METADATA_TIMEOUT_S = 1.0
LEADER_TIMEOUT_S = 20.0
UNLIMITED = 0
SURVEY_EVERY_S = 2.0
NO_HEADERS: Mapping[str, bytes] = {}

Headers = Iterable[tuple[str, bytes | str | None]]

# librdkafka would write each failed attempt to connect to stderr; we say once what is waited for.
_quiet = logging.getLogger("evcharge.librdkafka")
_quiet.addHandler(logging.NullHandler())
_quiet.propagate = False


class BrokerWatch:
    """Says once that the broker is away, and once that it is back."""

    def __init__(self, bootstrap: str, log: FilteringBoundLogger, on_fatal: Callable[[str], None]) -> None:
        self._bootstrap = bootstrap
        self._log = log
        self._on_fatal = on_fatal
        self.away = False

    def failed(self, error: KafkaError) -> None:
        if error.fatal():
            self._on_fatal(f"Kafka at {self._bootstrap}: {error.str()}")
        elif error.code() == KafkaError._ALL_BROKERS_DOWN and not self.away:
            self.away = True
            self._log.warning("waiting_for_kafka", address=self._bootstrap, cause=error.str())

    def worked(self) -> None:
        if self.away:
            self.away = False
            self._log.info("kafka_is_back", address=self._bootstrap)


def _settings(bootstrap: str, client_id: str, error_cb: Callable[[KafkaError], None]) -> dict[str, Any]:
    return {
        "bootstrap.servers": bootstrap,
        "client.id": client_id,
        "error_cb": error_cb,
        "logger": _quiet,
        "reconnect.backoff.max.ms": 2000,
        "topic.metadata.refresh.interval.ms": 30_000,
    }


class Publisher:
    """An idempotent producer (`acks=all`). What it accepts it delivers, however long the broker is away."""

    def __init__(
        self,
        bootstrap: str,
        client_id: str,
        *,
        trace: Trace | None,
        log: FilteringBoundLogger,
        on_fatal: Callable[[str], None],
        linger_ms: int = 1,
    ) -> None:
        self._watch = BrokerWatch(bootstrap, log, on_fatal)
        self._log = log
        self._trace = trace
        self._producer = Producer(
            _settings(bootstrap, client_id, self._watch.failed)
            | {
                "enable.idempotence": True,
                "acks": "all",
                "linger.ms": linger_ms,
                "message.timeout.ms": UNLIMITED,
                "queue.buffering.max.messages": QUEUE_RECORDS,
            }
        )
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._serve_reports, name="kafka-reports", daemon=True)
        self._thread.start()

    def publish(
        self,
        topic: str,
        key: str,
        value: bytes,
        on_report: Callable[[bool], None] | None = None,
        *,
        headers: Mapping[str, bytes] = NO_HEADERS,
        droppable: bool = False,
    ) -> bool:
        """Queue a record; False when the queue is full, because the broker has been away too long.

        For a `droppable` one it is full at half its size, so that what must not be lost finds room.
        `on_report` is told, in another thread, whether the broker has written the record.
        """

        def report(error: KafkaError | None, _: KafkaRecord | None) -> None:
            if error is None:
                self._watch.worked()
            else:
                self._log.error("record_not_delivered", topic=topic, key=key, cause=error.str())
            if on_report is not None:
                on_report(error is None)

        if droppable and len(self._producer) >= QUEUE_RECORDS // 2:
            return False
        try:
            self._producer.produce(topic, value=value, key=key.encode(), headers=dict(headers), on_delivery=report)
        except BufferError:
            return False
        except KafkaException as problem:  # It is too large, say; no other try will be better.
            report(problem.args[0], None)
            return True
        if self._trace is not None:
            self._trace.record("out", topic, key, value)
        return True

    def _serve_reports(self) -> None:
        while not self._stopping.is_set():
            self._producer.poll(POLL_S)

    def close(self, timeout_s: float = 2.0) -> int:
        """Deliver what is queued; the number of records that the broker did not take in time."""
        self._stopping.set()
        self._thread.join()
        return int(self._producer.flush(timeout_s))


class Subscriber:
    """Reads given partitions in a thread of its own, and hands over whole batches, without waiting to fill them.

    It assigns itself its partitions instead of joining a group: a Central that restarts after a crash reads on at
    once, where a group would first wait for the dead member's session to time out; and a driver reads one
    partition, not all. `group_id` names where offsets are kept; without one, reading begins at the end.
    """

    def __init__(
        self,
        bootstrap: str,
        client_id: str,
        *,
        group_id: str | None,
        trace: Trace | None,
        log: FilteringBoundLogger,
        on_fatal: Callable[[str], None],
        on_batch: Callable[[list[Received]], None],
    ) -> None:
        self._watch = BrokerWatch(bootstrap, log, on_fatal)
        self._log = log
        self._trace = trace
        self._on_batch = on_batch
        self._group_id = group_id
        self._consumer = Consumer(
            _settings(bootstrap, client_id, self._watch.failed)
            | {
                "group.id": group_id or client_id,
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 500,
                "queued.max.messages.kbytes": 16_384,
            }
        )
        self._pending: Offsets = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._read, name="kafka-records", daemon=True)
        self._next_survey_s = 0.0
        self.lag: Offsets = {}
        """(topic, partition) -> records that have not been read yet, as of some seconds ago."""

    def start(self, partitions: Iterable[tuple[str, int]]) -> None:
        """Begin to read; without a group, after the last record that is there now."""
        self._consumer.assign([self._beginning(topic, partition) for topic, partition in partitions])
        self._thread.start()

    def _beginning(self, topic: str, partition: int) -> TopicPartition:
        if self._group_id is not None:
            return TopicPartition(topic, partition, OFFSET_STORED)
        # The number and not OFFSET_END, which would be looked up later, after the first answer may have come.
        here = TopicPartition(topic, partition)
        deadline_s = time.monotonic() + LEADER_TIMEOUT_S
        while True:
            try:
                _, end = self._consumer.get_watermark_offsets(here, timeout=METADATA_TIMEOUT_S)
            except KafkaException as problem:
                # A partition that has just been made has no leader for a moment.
                if time.monotonic() > deadline_s:
                    raise KafkaUnusable(f"{topic}[{partition}] cannot be read: {problem.args[0].str()}") from None
                self._stopping.wait(POLL_S)
            else:
                return TopicPartition(topic, partition, end)

    def _read(self) -> None:
        while not self._stopping.is_set():
            self._commit_pending(asynchronous=True)
            self._survey()
            first = self._consumer.poll(POLL_S)
            if first is None:
                continue
            records = [first, *self._consumer.consume(BATCH_RECORDS - 1, 0)]
            batch = [received for record in records if (received := self._received(record)) is not None]
            if batch:
                self._watch.worked()
                self._on_batch(batch)

    @property
    def works(self) -> bool:
        """Whether it reads, from a broker that is there."""
        return self._thread.is_alive() and not self._watch.away

    def _survey(self) -> None:
        """See how far behind we are, and whether a broker that was away is back though it has nothing for us."""
        if time.monotonic() < self._next_survey_s:
            return
        self._next_survey_s = time.monotonic() + SURVEY_EVERY_S
        assigned = self._consumer.assignment()
        try:
            if self._watch.away and assigned:
                self._consumer.get_watermark_offsets(assigned[0], timeout=METADATA_TIMEOUT_S)
                self._watch.worked()
            self.lag = {
                (at.topic, at.partition): max(
                    0, self._consumer.get_watermark_offsets(at, cached=True)[1] - at.offset
                )
                for at in self._consumer.position(assigned)
                if at.offset >= 0
            }
        except KafkaException:
            return  # It is still away, which has been said.

    def _received(self, record: KafkaRecord) -> Received | None:
        error = record.error()
        if error is not None:
            self._log.warning("kafka_read_failed", cause=error.str())
            return None
        topic, partition, offset = record.topic(), record.partition(), record.offset()
        assert topic is not None
        assert partition is not None
        assert offset is not None
        key, value = record.key(), bytes(record.value() or b"")
        if self._trace is not None:
            self._trace.record("in", topic, bytes(key).decode(errors="replace") if key else None, value)
        headers = cast("Headers", record.headers() or ())
        return Received(
            topic, partition, offset, _bytes(key), value, tuple((name, _bytes(said)) for name, said in headers)
        )

    def commit(self, offsets: Offsets) -> None:
        """Remember, soon and without waiting, how far this group has come."""
        with self._lock:
            self._pending.update(offsets)

    def _commit_pending(self, asynchronous: bool) -> None:
        # In the reader's own thread: the consumer is locked while it polls, and another thread would starve.
        with self._lock:
            pending, self._pending = self._pending, {}
        if not pending:
            return
        offsets = [TopicPartition(topic, partition, at) for (topic, partition), at in pending.items()]
        if asynchronous:
            self._consumer.commit(offsets=offsets, asynchronous=True)
        else:
            self._consumer.commit(offsets=offsets, asynchronous=False)

    def stop_reading(self) -> None:
        """No batch comes after this returns."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def close(self) -> None:
        """Stop, and write down how far this group has come, if the broker is there to take it."""
        self.stop_reading()
        try:
            self._commit_pending(asynchronous=False)
        except KafkaException as problem:
            self._log.warning("offsets_not_committed", cause=problem.args[0].str())
        self._consumer.close()


def _bytes(value: bytes | str | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value


class Cluster:
    """What is to be found out about the broker, or set up, before work begins."""

    def __init__(self, bootstrap: str, log: FilteringBoundLogger) -> None:
        self._bootstrap = bootstrap
        self._log = log
        self._admin = AdminClient(_settings(bootstrap, "evcharge-setup", lambda error: None))

    def partitions(self, topics: Iterable[str], stopping: threading.Event) -> dict[str, int] | None:
        """The number of partitions of each of `topics`; waits for broker and topics; None once `stopping`."""
        wanted = set(topics)
        waiting_for = ""
        while not stopping.is_set():
            found, problem = self._found()
            missing = sorted(wanted - found.keys())
            if not missing:
                return {topic: found[topic] for topic in wanted}
            reason = problem or f"Central to create the topics {', '.join(missing)}"
            if reason != waiting_for:
                waiting_for = reason
                self._log.warning("waiting_for_kafka", address=self._bootstrap, cause=reason)
            stopping.wait(POLL_S)
        return None

    def create_missing(self, topics: Iterable[str], partitions: int, stopping: threading.Event) -> None:
        """Make sure that `topics` exist; waits for the broker. Raises `KafkaUnusable` if it refuses."""
        waiting_for = ""
        while not stopping.is_set():
            found, problem = self._found()
            if problem is None:
                missing = sorted(set(topics) - found.keys())
                if missing:
                    self._create(missing, partitions)
                return
            if problem != waiting_for:
                waiting_for = problem
                self._log.warning("waiting_for_kafka", address=self._bootstrap, cause=problem)
            stopping.wait(POLL_S)

    def _found(self) -> tuple[dict[str, int], str | None]:
        try:
            metadata = self._admin.list_topics(timeout=METADATA_TIMEOUT_S)
        except KafkaException as problem:
            return {}, f"no answer from the broker ({problem.args[0].str()})"
        return {name: len(topic.partitions) for name, topic in metadata.topics.items()}, None

    def _create(self, topics: list[str], partitions: int) -> None:
        requests = [NewTopic(topic, num_partitions=partitions, replication_factor=-1) for topic in topics]
        for topic, result in self._admin.create_topics(requests).items():
            try:
                result.result()
            except KafkaException as problem:
                error = problem.args[0]
                if error.code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise KafkaUnusable(f"Kafka refuses to create the topic {topic}: {error.str()}") from None
        self._log.info("topics_created", topics=topics, partitions=partitions)
