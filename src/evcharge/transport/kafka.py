"""Apache Kafka through confluent-kafka: batches in, and topics. Nothing of charging."""

import math
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from operator import methodcaller
from typing import TypeVar

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_INVALID,
    Consumer,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka import Message as KafkaRecord
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import AlterConfigOpType, ConfigEntry, ConfigResource
from confluent_kafka.admin._resource import ResourceType
from confluent_kafka.cimpl import NewTopic
from structlog.typing import FilteringBoundLogger

from evcharge.errors import KafkaUnusable
from evcharge.protocol.records import Received
from evcharge.transport.broker_watch import SHUT_OUT, BrokerWatch, Standing, Trouble, shut_out_by
from evcharge.transport.group_watch import GroupNews, GroupWatch
from evcharge.transport.kafka_settings import KafkaAccess, client_settings
from evcharge.transport.offsets import Offsets
from evcharge.transport.trace import Trace

POLL_S = 0.1
CLOSE_S = 2.0
LEAVE_POLL_S = 0.5
"""librdkafka waits by the wall clock: if that is set back by an hour, a poll lasts an hour. We end without it."""
BATCH_RECORDS = 2000
FETCH_BYTES = 100_000
METADATA_TIMEOUT_S = 1.0
LEADER_TIMEOUT_S = 20.0
REMOVE_TIMEOUT_S = 5.0
SURVEY_EVERY_S = 2.0
LOOK_AT_GROUP_EVERY_S = 5.0
STAMP = "message.timestamp.type"
BROKERS_TIME = {STAMP: "LogAppendTime"}
"""Else a broker refuses the records of whoever has a clock that is more than an hour ahead."""
NOT_ALLOWED = (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED)

T = TypeVar("T")
OUT_OF_RANGE = "Kafka does not have the record that comes next; reading goes on with the oldest one that it has"
_headers = methodcaller("headers")
"""Not `record.headers()`: Python may take a short cut there, which does not notice that the library has failed."""


@dataclass(frozen=True, slots=True)
class TopicNow:
    """A topic as it is now; one that is deleted and made again has another id. None: not known yet."""

    partitions: int
    topic_id: str | None = None

    def is_another_than(self, topic_id: str | None) -> bool:
        return topic_id is not None and self.topic_id is not None and topic_id != self.topic_id


Topics = dict[str, TopicNow]


def partitions_of(topics: Topics) -> list[tuple[str, int]]:
    return [(name, number) for name, topic in sorted(topics.items()) for number in range(topic.partitions)]


class Subscriber:
    """Reads given partitions in a thread of its own, and hands over whole batches, without waiting to fill them.

    It assigns itself its partitions instead of joining a group: a Central that restarts after a crash reads on at
    once, where a group would first wait for the dead member's session to time out; and a driver reads one
    partition, not all (`choose`). `group_id` names where offsets are kept; without one, reading begins at the
    end. `group` has a mark to write beside them, and sees from it whether another moves them. With `patience_ms`
    the broker lets so much time pass for `FETCH_BYTES` to come together.
    """

    def __init__(
        self,
        kafka: KafkaAccess,
        client_id: str,
        *,
        group_id: str | None,
        group: GroupWatch | None = None,
        tells_of_group: bool = True,
        batch_records: int = BATCH_RECORDS,
        patience_ms: int = 0,
        choose: "Callable[[Topics], list[tuple[str, int]]] | None" = None,
        trace: Trace | None,
        log: FilteringBoundLogger,
        on_fatal: Callable[[str], None],
        on_batch: Callable[[list[Received]], None],
    ) -> None:
        self._watch = BrokerWatch(kafka, log, on_fatal)
        self._log = log
        self._trace = trace
        self._on_fatal = on_fatal
        self._on_batch = on_batch
        self._group_id = group_id
        self._group = group
        self._tells_of_group = tells_of_group
        self._batch_records = batch_records
        self._choose = choose or partitions_of
        self._prefix = kafka.topic_prefix
        self._consumer = kafka.client(
            Consumer,
            client_settings(kafka, client_id, self._watch.failed)
            | {
                "group.id": group_id or client_id,
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "error",
                "fetch.wait.max.ms": patience_ms or 500,
                "fetch.min.bytes": FETCH_BYTES if patience_ms else 1,
                "queued.max.messages.kbytes": 16_384,
            },
        )
        self._pending: Offsets = {}
        self._following: Topics | None = None
        self._topics: Topics = {}
        self._begin: Offsets = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._read, name="kafka-records", daemon=True)
        self._next_survey_s = 0.0
        self._next_look_at_group_s = 0.0
        self.lag: Offsets = {}
        """(topic, partition) -> records that have not been read yet, as of some seconds ago."""

    def start(self, topics: "Topics") -> None:
        """Begin to read where the group left off; without a group, after the last record that is there now."""
        self._topics = topics
        partitions = self._choose(topics)
        self._begin = self._ends(partitions) if self._group_id is None else self._left_off(partitions)
        # Else the library finds out who leads a partition when it wants to read it, in steps of half a second.
        self._patiently(lambda: self._consumer.list_topics(timeout=METADATA_TIMEOUT_S), "the list of topics")
        self._assign()
        self._thread.start()

    def follow(self, topics: "Topics") -> None:
        """Go on with these topics, as they are now: one that was made anew is read from its beginning."""
        with self._lock:
            self._following = topics

    def _assign(self) -> None:
        self._consumer.assign([self._at(where, offset) for where, offset in self._begin.items()])

    def _at(self, where: tuple[str, int], offset: int = OFFSET_INVALID, metadata: str = "") -> TopicPartition:
        topic, partition = where
        return TopicPartition(self._prefix + topic, partition, offset, metadata=metadata)

    def _where(self, at: TopicPartition) -> tuple[str, int]:
        return at.topic.removeprefix(self._prefix), at.partition

    def _take_following(self) -> None:
        # In the reader's own thread, as with commits.
        with self._lock:
            topics, self._following = self._following, None
        if topics is None:
            return
        before, self._topics = self._topics, topics
        known = {name: topic.topic_id for name, topic in before.items()}
        anew = {name for name, topic in topics.items() if topic.is_another_than(known.get(name))}
        partitions = set(self._choose(topics))
        if not anew and partitions == self._begin.keys():
            return
        self._keep_positions()
        self._begin = {
            where: OFFSET_BEGINNING if where[0] in anew else self._begin.get(where, OFFSET_BEGINNING)
            for where in sorted(partitions)
        }
        with self._lock:
            self._pending = {where: at for where, at in self._pending.items() if where[0] not in anew}
        self._log.warning("topics_have_changed", read_from_the_beginning=sorted(anew), partitions=len(partitions))
        self._assign()

    def _keep_positions(self) -> None:
        for at in self._consumer.position(self._consumer.assignment()):
            if at.offset >= 0:
                self._begin[self._where(at)] = at.offset

    def _begin_anew(self, topic: str, partition: int, offset: int) -> None:
        """The record that comes next is not there: Kafka's data was lost, or is kept for too short a time."""
        self._log.error("records_lost", topic=topic, partition=partition, offset=offset, cause=OUT_OF_RANGE)
        self._keep_positions()
        self._begin[topic, partition] = OFFSET_BEGINNING
        self._assign()

    def _left_off(self, partitions: list[tuple[str, int]]) -> Offsets:
        wanted = [self._at(where) for where in partitions]

        def look() -> list[TopicPartition]:
            found = self._consumer.committed(wanted, timeout=METADATA_TIMEOUT_S)
            for at in found:
                if at.error is not None:
                    raise KafkaException(at.error)
            return found

        found = self._patiently(look, f"the offsets of the group {self._group_id}")
        self._see_marks(found)
        return {self._where(at): at.offset if at.offset >= 0 else OFFSET_BEGINNING for at in found}

    def _ends(self, partitions: list[tuple[str, int]]) -> Offsets:
        # The number and not OFFSET_END, which would be looked up later, after the first answer may have come.
        return {where: self._end(self._at(where)) for where in partitions}

    def _end(self, here: TopicPartition) -> int:
        def look() -> tuple[int, int]:
            return self._consumer.get_watermark_offsets(here, timeout=METADATA_TIMEOUT_S)

        return self._patiently(look, f"{here.topic}[{here.partition}]")[1]

    def _patiently(self, look: Callable[[], T], what: str) -> T:
        """What has just been made has no leader for a moment; and whoever has a group has time."""
        deadline_s = time.monotonic() + LEADER_TIMEOUT_S if self._group_id is None else math.inf
        while True:
            try:
                return look()
            except KafkaException as problem:
                error = problem.args[0]
                given_up = time.monotonic() > deadline_s or self._stopping.is_set()
                if given_up or error.code() in NOT_ALLOWED:
                    raise KafkaUnusable(f"{what} cannot be read: {error.str()}") from None
                self._stopping.wait(POLL_S)

    def _read(self) -> None:
        try:
            self._read_on()
        except KafkaException as problem:
            self._watch.fatal(problem.args[0])
        except BaseException as bug:  # noqa: BLE001  # in a thread, whose end nobody would notice
            self._log.error("bug", message="reading from Kafka", exc_info=bug)
            self._on_fatal(f"reading from Kafka has failed: {bug!r}")

    def _read_on(self) -> None:
        while not self._stopping.is_set():
            self._take_following()
            self._commit_pending(asynchronous=True)
            self._survey()
            self._look_after_group()
            first = self._consumer.poll(POLL_S)
            if first is None:
                continue
            records = [first, *self._consumer.consume(self._batch_records - 1, 0)]
            batch = [received for record in records if (received := self._received(record)) is not None]
            if batch and not self._stopping.is_set():
                self._watch.worked()
                self._on_batch(batch)

    @property
    def trouble(self) -> Trouble | None:
        if self._group is not None and self._group.shared and self._tells_of_group:
            others = ", ".join(self._group.others)
            return self._watch.trouble or Trouble(
                Standing.GROUP_SHARED,
                f"another Central moves the offsets of the group {self._group_id}, and answers the same drivers:"
                f" {others}; end one of the two, or give it another Kafka",
            )
        return self._watch.trouble

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
                self._where(at): max(0, self._consumer.get_watermark_offsets(at, cached=True)[1] - at.offset)
                for at in self._consumer.position(assigned)
                if at.offset >= 0
            }
        except KafkaException:
            return  # It is still away, which has been said.

    def _look_after_group(self) -> None:
        """See whether another writes offsets, and put our mark where it is not."""
        if self._group is None or not self._tells_of_group or time.monotonic() < self._next_look_at_group_s:
            return
        self._next_look_at_group_s = time.monotonic() + LOOK_AT_GROUP_EVERY_S
        try:
            found = self._consumer.committed(self._consumer.assignment(), timeout=METADATA_TIMEOUT_S)
            self._see_marks(found)
            unmarked = {
                self._where(at): at.offset
                for at in found
                if at.error is None and at.offset >= 0 and not self._group.is_ours(str(at.metadata or ""))
            }
            if found and all(
                at.offset < 0 for at in found
            ):  # None at all: one offset will do for the others to see.
                first = min(found, key=self._where)
                unmarked[self._where(first)], _ = self._consumer.get_watermark_offsets(
                    first, timeout=METADATA_TIMEOUT_S
                )
        except KafkaException:
            return  # It is away, which is said elsewhere; it is looked at again.
        with self._lock:
            self._pending = unmarked | self._pending

    def _see_marks(self, found: list[TopicPartition]) -> None:
        if self._group is None or not self._tells_of_group:
            return
        news = self._group.see({self._where(at): str(at.metadata or "") for at in found})
        if news is GroupNews.OF_ANOTHER:
            self._log.warning(
                "group_of_another", group=self._group_id, mine=self._group.name, others=self._group.others
            )
        elif news is GroupNews.OURS_ALONE:
            self._log.info("group_is_ours_alone", group=self._group_id)

    def _received(self, record: KafkaRecord) -> Received | None:
        error = record.error()
        topic, partition, offset = record.topic(), record.partition(), record.offset()
        if topic is not None:
            topic = topic.removeprefix(self._prefix)
        if error is not None:
            if error.code() == KafkaError._AUTO_OFFSET_RESET:
                self._begin_anew(str(topic), int(partition or 0), int(offset or 0))
            else:
                self._log.warning("kafka_read_failed", cause=error.str())
            return None
        assert topic is not None
        assert partition is not None
        assert offset is not None
        key, value = record.key(), record.value() or b""
        if self._trace is not None:
            self._trace.record("in", topic, _text(key), value)
        return Received(topic, partition, offset, _bytes(key), value, headers_of(record))

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
        mark = self._group.mark if self._group is not None else ""
        offsets = [self._at(where, offset, mark) for where, offset in pending.items()]
        if asynchronous:
            self._consumer.commit(offsets=offsets, asynchronous=True)
        else:
            self._consumer.commit(offsets=offsets, asynchronous=False)

    def stop_reading(self) -> None:
        """No batch comes after this returns."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(LEAVE_POLL_S)

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """Stop, and write down how far this group has come, if the broker is there to take it in time."""
        self.stop_reading()
        if self._thread.is_alive():
            return  # In a poll that lasts; what was not committed is read again, which changes nothing.
        # In a thread, which is left if a broker that is silent holds it up.
        closing = threading.Thread(target=self._close, name="kafka-close", daemon=True)
        closing.start()
        closing.join(timeout_s)

    def _close(self) -> None:
        try:
            self._commit_pending(asynchronous=False)
        except KafkaException as problem:
            self._log.warning("offsets_not_committed", cause=problem.args[0].str())
        self._consumer.close()


def headers_of(record: KafkaRecord) -> tuple[tuple[str, bytes | None], ...]:
    """Its headers; none if the name of one is not UTF-8, which the library cannot read and anyone can send."""
    try:
        headers = _headers(record)
        return tuple((name, _bytes(said)) for name, said in headers) if headers else ()
    except (SystemError, UnicodeDecodeError):
        return ()


def _text(key: bytes | str | None) -> str | None:
    return key.decode(errors="replace") if isinstance(key, bytes) else key


def _bytes(value: bytes | str | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value


class Cluster:
    """What is to be found out about the broker, or set up: its topics."""

    def __init__(
        self,
        kafka: KafkaAccess,
        log: FilteringBoundLogger,
        on_refused: Callable[[str], None] = lambda reason: None,
    ) -> None:
        self._kafka = kafka
        self._prefix = kafka.topic_prefix
        self._log = log
        self._on_refused = on_refused
        self._refused: str | None = None
        self._admin = kafka.client(AdminClient, client_settings(kafka, "evcharge-setup", self._failed))

    def _failed(self, error: KafkaError) -> None:
        if error.code() in SHUT_OUT:
            self._refused = shut_out_by(error)
            self._on_refused(f"Kafka at {self._kafka} refuses us: {self._refused}")

    def topics(self, names: Iterable[str], stopping: threading.Event) -> "Topics | None":
        """The topics of these names; waits for broker and topics; None once `stopping`."""
        wanted = set(names)

        def look() -> tuple[Topics, str | None]:
            found, problem = self._found()
            missing = sorted(wanted - found.keys())
            if problem is None and missing:
                problem = f"Central to create the topics {', '.join(missing)}"
            return {name: found[name] for name in wanted & found.keys()}, problem

        return self._wait(look, stopping)

    def create_missing(self, names: Iterable[str], partitions: int, stopping: threading.Event) -> None:
        """Make sure that there are such topics; waits for the broker. Raises `KafkaUnusable` if it refuses."""
        found = self._wait(self._found, stopping)
        if found is not None:
            self.create(sorted(set(names) - found.keys()), partitions)

    def _wait(self, look: Callable[[], tuple[T, str | None]], stopping: threading.Event) -> T | None:
        waiting_for = ""
        while not stopping.is_set():
            found, problem = look()
            if problem is None:
                return found
            if problem != waiting_for:
                waiting_for = problem
                self._log.warning("waiting_for_kafka", address=self._kafka.address, cause=problem)
            stopping.wait(POLL_S)
        return None

    def _found(self) -> tuple["Topics", str | None]:
        self._admin.poll(0)  # for what the library has to tell of the broker
        try:
            metadata = self._admin.list_topics(timeout=METADATA_TIMEOUT_S)
        except KafkaException as problem:
            refused = f"; it refuses us: {self._refused}" if self._refused is not None else ""
            return {}, f"no answer from the broker ({problem.args[0].str()}){refused}"
        return {
            name.removeprefix(self._prefix): TopicNow(len(topic.partitions))
            for name, topic in metadata.topics.items()
            if name.startswith(self._prefix)
        }, None

    def look(self, names: Iterable[str]) -> "Topics | None":
        """These topics as they are now, without what is not there; None if the broker does not say."""
        topics: Topics = {}
        wanted = TopicCollection([self._prefix + name for name in names])
        asked = self._admin.describe_topics(wanted, request_timeout=METADATA_TIMEOUT_S)
        for name, answer in asked.items():
            try:
                topic = answer.result()
            except KafkaException as problem:
                if problem.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                    return None
            else:
                topics[name.removeprefix(self._prefix)] = TopicNow(len(topic.partitions), str(topic.topic_id))
        return topics

    def create(self, names: Iterable[str], partitions: int) -> None:
        """Raises `KafkaUnusable` if the broker refuses."""
        requests = [
            NewTopic(self._prefix + name, num_partitions=partitions, replication_factor=-1, config=BROKERS_TIME)
            for name in names
        ]
        if not requests:
            return
        asked = self._admin.create_topics(requests, request_timeout=LEADER_TIMEOUT_S)
        for name, result in asked.items():
            try:
                result.result()
            except KafkaException as problem:
                error = problem.args[0]
                if error.code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise KafkaUnusable(f"Kafka refuses to create the topic {name}: {error.str()}") from None
        self._log.info("topics_created", topics=sorted(asked), partitions=partitions)

    def have_stamped(self, names: Iterable[str], stopping: threading.Event) -> None:
        """Have the broker stamp what comes on these topics, if it lets us."""
        topics = [ConfigResource(ResourceType.TOPIC, self._prefix + name) for name in names]
        try:
            looks = self._admin.describe_configs(topics, request_timeout=METADATA_TIMEOUT_S)
            senders = [topic for topic, look in looks.items() if look.result()[STAMP].value != BROKERS_TIME[STAMP]]
            for topic in senders:
                topic.add_incremental_config(
                    ConfigEntry(STAMP, BROKERS_TIME[STAMP], incremental_operation=AlterConfigOpType.SET)
                )
            if not senders or stopping.is_set():
                return
            changes = self._admin.incremental_alter_configs(senders, request_timeout=METADATA_TIMEOUT_S)
            for change in changes.values():
                change.result()
        except KafkaException as problem:
            self._log.info("topics_not_stamped_by_kafka", cause=problem.args[0].str(), setting=STAMP)
        else:
            self._log.info("topics_stamped_by_kafka", topics=sorted(topic.name for topic in senders))

    def remove(self, group_id: str) -> None:
        """Remove all topics with our prefix, and this group's offsets. Raises `KafkaUnusable` if some stay."""
        assert self._prefix, "else these would be everybody's topics"
        found, silence = self._found()
        if silence is not None:
            raise KafkaUnusable(silence)
        names = [self._prefix + name for name in found]
        asked = self._admin.delete_topics(names, request_timeout=REMOVE_TIMEOUT_S) if names else {}
        asked |= self._admin.delete_consumer_groups([group_id], request_timeout=REMOVE_TIMEOUT_S)
        for result in asked.values():
            try:
                result.result()
            except KafkaException as problem:
                error = problem.args[0]
                if error.code() not in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.GROUP_ID_NOT_FOUND):
                    raise KafkaUnusable(error.str()) from None
