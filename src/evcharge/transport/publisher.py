"""Records out, to Kafka: queued at once, reported later."""

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, KafkaError, KafkaException, Producer
from confluent_kafka import Message as KafkaRecord
from structlog.typing import FilteringBoundLogger

from evcharge import clock
from evcharge.transport.broker_watch import BrokerWatch, Deliveries, Trouble, refused_because
from evcharge.transport.kafka_settings import KafkaAccess, client_settings
from evcharge.transport.trace import Trace

POLL_S = 0.1
LOOK_EVERY_S = 1.0
METADATA_TIMEOUT_S = 1.0
CLOSE_S = 2.0
LEAVE_POLL_S = 0.5
"""librdkafka waits by the wall clock: if that is set back by an hour, a poll lasts an hour. We end without it."""
QUEUE_RECORDS = 200_000
UNLIMITED = 0
NO_HEADERS: Mapping[str, bytes] = {}
FOR_GOOD = (
    KafkaError.INVALID_TIMESTAMP,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.MSG_SIZE_TOO_LARGE,
    KafkaError._FATAL,
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the broker has not written a record; `for_good` if it will not until a person has done something."""

    reason: str
    for_good: bool
    too_large: bool = False


class Publisher:
    """An idempotent producer (`acks=all`). What it accepts it delivers, however long the broker is away.

    What the broker refuses is reported, and forgotten here. `on_fatal` is told when nothing goes out any more.
    """

    def __init__(
        self,
        kafka: KafkaAccess,
        client_id: str,
        *,
        trace: Trace | None,
        log: FilteringBoundLogger,
        on_fatal: Callable[[str], None],
        linger_ms: int = 1,
    ) -> None:
        self._watch = BrokerWatch(kafka, log, on_fatal)
        self._deliveries = Deliveries(log)
        self._log = log
        self._on_fatal = on_fatal
        self._trace = trace
        self._prefix = kafka.topic_prefix
        self._producer = kafka.client(
            Producer,
            client_settings(kafka, client_id, self._watch.failed)
            | {
                "enable.idempotence": True,
                "acks": "all",
                "linger.ms": linger_ms,
                "message.timeout.ms": UNLIMITED,
                "queue.buffering.max.messages": QUEUE_RECORDS,
            },
        )
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._serve_reports, name="kafka-reports", daemon=True)
        self._thread.start()

    @property
    def trouble(self) -> Trouble | None:
        """What keeps records from the broker, as of the last that was tried."""
        return self._watch.trouble or self._deliveries.trouble

    def publish(
        self,
        topic: str,
        key: str | bytes | None,
        value: bytes | None,
        on_report: Callable[[Refusal | None], None] | None = None,
        *,
        headers: Mapping[str, bytes] = NO_HEADERS,
    ) -> bool:
        """Queue a record; False when the queue is full, because the broker has been away too long.

        `on_report` is told, mostly in another thread, that the broker has written the record, or why it has not.
        """
        number = self._deliveries.sent(time.monotonic())

        def report(error: KafkaError | None, record: KafkaRecord | None) -> None:
            if error is None:
                self._watch.worked()
                self._deliveries.taken(number, topic, time.monotonic(), _stamped_ago_s(record))
            else:
                self._deliveries.refused(number, topic, _text(key), error, time.monotonic())
            if on_report is not None:
                on_report(_refusal(error) if error is not None else None)

        try:
            self._producer.produce(
                self._prefix + topic, value=value, key=key, headers=dict(headers), on_delivery=report
            )
        except BufferError:
            self._deliveries.not_sent(number)
            return False
        except KafkaException as problem:  # It is too large, say; or the library has given up.
            report(problem.args[0], None)
            return True
        if self._trace is not None:
            self._trace.record("out", topic, _text(key), value or b"")
        return True

    def publish_droppable(self, topic: str, key: str, value: bytes) -> bool:
        """Queue a record that may be lost; whether it is, nobody is told, which is most of what a record costs.

        False when the queue is half full, so that what must not be lost finds room.
        """
        if len(self._producer) >= QUEUE_RECORDS // 2:
            return False
        try:
            self._producer.produce(self._prefix + topic, value, key)
        except (BufferError, KafkaException):
            return False
        if self._trace is not None:
            self._trace.record("out", topic, key, value)
        return True

    def _serve_reports(self) -> None:
        next_look_s = 0.0
        try:
            while not self._stopping.is_set():
                self._producer.poll(POLL_S)
                if time.monotonic() >= next_look_s:
                    next_look_s = time.monotonic() + LOOK_EVERY_S
                    self._see_if_it_is_back()
                    self._deliveries.look(time.monotonic(), self._watch.away)
        except KafkaException as problem:  # So the library tells that it has given up.
            self._watch.fatal(problem.args[0])
        except BaseException as bug:  # noqa: BLE001  # in a thread, whose end nobody would notice
            self._log.error("bug", message="reports from Kafka", exc_info=bug)
            self._on_fatal(f"the reports from Kafka cannot be taken any more: {bug!r}")

    def _see_if_it_is_back(self) -> None:
        """A broker that was away, and is sent nothing, would else stay away for us."""
        if self._watch.away:
            with suppress(KafkaException):
                self._producer.list_topics(timeout=METADATA_TIMEOUT_S)
                self._watch.worked()

    def close(self, timeout_s: float = CLOSE_S) -> int:
        """Deliver what is queued; the number of records that the broker did not take in time."""
        self._stopping.set()
        self._thread.join(LEAVE_POLL_S)
        try:
            return int(self._producer.flush(timeout_s))
        except KafkaException as problem:
            self._watch.fatal(problem.args[0])
            return len(self._producer)


def _refusal(error: KafkaError) -> Refusal:
    return Refusal(refused_because(error), error.code() in FOR_GOOD, error.code() == KafkaError.MSG_SIZE_TOO_LARGE)


def _stamped_ago_s(record: KafkaRecord | None) -> float | None:
    """How long ago the broker's clock stamped it, by ours; None if it bears our own stamp."""
    if record is None:
        return None
    kind, at_ms = record.timestamp()
    return clock.now().utc.timestamp() - at_ms / 1000 if kind == TIMESTAMP_LOG_APPEND_TIME else None


def _text(key: bytes | str | None) -> str | None:
    return key.decode(errors="replace") if isinstance(key, bytes) else key
