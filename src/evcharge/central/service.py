"""The program Central: decide, commit, act.

Sockets live in the event loop; Kafka's reader, and the worker that owns `Network` and the database's writing
side, each in a thread. Nothing is said to anyone before it is on disk. A crash between two steps is healed by
redelivery: offsets are committed once all that followed from their records has reached the broker.
"""

import asyncio
import gc
import itertools
import math
import socket
import ssl
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

from sqlalchemy.exc import OperationalError
from structlog.typing import FilteringBoundLogger

from evcharge import clock
from evcharge.central.board import Board, seen
from evcharge.central.desk import Desk
from evcharge.central.health import health_of
from evcharge.central.historian import MAX_OF_ONE, Historian
from evcharge.central.http import make_app
from evcharge.central.http_server import HttpServer
from evcharge.central.inbox import FromBroker, Inbox, Item, Look, ReceiptSent, ReceiptsWait, Stop
from evcharge.central.metrics import Metrics, Snapshot, count
from evcharge.central.orders import Orders
from evcharge.central.outbox import Outbox
from evcharge.central.receipts import Backlog, Receipts
from evcharge.domain.commands import Actor
from evcharge.domain.decisions import (
    Closing,
    DeadLetter,
    Decisions,
    EntriesChanged,
    Frame,
    FromKafka,
    FromMonitor,
    Input,
    MonitorCame,
    MonitorGone,
    Note,
    Record,
)
from evcharge.domain.instant import Instant
from evcharge.domain.network import Network, Policy
from evcharge.domain.replies import refusal_of
from evcharge.errors import DatabaseUnusable, InternalError, KafkaUnusable, TooManyMessages, WireError
from evcharge.limits import Allowance, Places, network_of
from evcharge.protocol import messages
from evcharge.protocol.messages import (
    ChargingHistoryRequest,
    ChargingHistoryResponse,
    Message,
    Undecodable,
)
from evcharge.protocol.operators import Changes, Event, Health
from evcharge.protocol.records import Received
from evcharge.protocol.topics import FROM_DRIVERS, FROM_METERS, TO_CENTRAL, Topic
from evcharge.storage.books import Books
from evcharge.storage.lock import locked
from evcharge.storage.registry import Registry
from evcharge.storage.settlements import ToSettle
from evcharge.storage.store import Store
from evcharge.throttle import Throttle
from evcharge.transport.broker_watch import Standing, Trouble
from evcharge.transport.group_watch import GroupWatch
from evcharge.transport.kafka import Cluster, Subscriber
from evcharge.transport.kafka_settings import KafkaAccess
from evcharge.transport.offsets import OffsetTracker, Ticket
from evcharge.transport.publisher import Publisher
from evcharge.transport.tcp import Address, Link, port_of, serve
from evcharge.transport.trace import Trace

GC_AFTER_ALLOCATIONS = 50_000
LOOK_AT_TOPICS_EVERY_S = 5.0
READINGS_PATIENCE_MS = 50
"""Nobody waits for a reading; one by one they would cost broker, Central and disk many times as much."""
READINGS_A_BATCH = 500
"""They are decoded in some milliseconds, after which it is seen whether somebody waits for something."""
READINGS_A_TURN = 10_000
"""Of a session with many only the last state is written, and told."""
READINGS_IN_HAND = 2 * READINGS_A_TURN
REQUESTS_CLIENT = "evcharge-central-requests"
REQUESTS_A_BATCH = 500
"""Each is worth a hundred readings; so many still take less than a second."""
REQUESTS_IN_HAND = 2 * REQUESTS_A_BATCH
MAX_WAITING = 50_000
MAX_WAITING_OF_ONE = 1_000
MESSAGES_AT_ONCE = 20_000
"""From one connection: a Monitor that is back has up to 10,000 readings to pass on."""
RETRY_S = 1.0
COPY_BACK_EVERY_S = 0.5
END_WITHIN_S = 4.0
CLOSE_S = 1.5
LEAST_S = 0.2
LOOK_AT_ENTRIES_EVERY_S = 1.0
RECEIPTS_NOTED_WITHIN_S = 1.0
"""That Kafka has them; with what is committed anyway, as each commit costs a wait for the disk."""
FORGET_ANSWERS_EVERY_S = 3600.0
EVENTS_KEPT = 200
DESK_THREADS = 4
PUBLISH_AGAIN_EVERY_S = 1.0
TOO_MANY_HISTORIES = TooManyMessages(
    f"{MAX_OF_ONE} requests for your history wait already; ask again when they have been answered"
)
UTC_ZONE = ZoneInfo("UTC")

T = TypeVar("T")


@dataclass(slots=True)
class Turn:
    """What the worker has taken from the inbox, to be decided and committed together."""

    inputs: list[Input] = field(default_factory=list)
    receipts_sent: list[tuple[UUID, int]] = field(default_factory=list)
    offsets: dict[tuple[str, int], int] = field(default_factory=dict)
    """Those after the records in it."""
    rejects: Decisions = field(default_factory=Decisions)
    """What follows from records that are no messages."""
    looked_for: bool = False
    is_last: bool = False

    @property
    def size(self) -> int:
        """What cannot be taken counts, too: a flood of it must end a turn as readings do."""
        return len(self.inputs) + len(self.rejects.dead_letters)


@dataclass(frozen=True, slots=True)
class CentralConfig:
    host: str
    port: int
    kafka: KafkaAccess
    kafka_group: str
    database: Path
    partitions: int
    policy: Policy
    http: Address | None
    tls: ssl.SSLContext | None = None
    http_tls: ssl.SSLContext | None = None
    max_connections: int = 20_000
    max_connections_per_address: int = 5_000
    max_messages_per_s: float = 100.0
    zone: ZoneInfo = UTC_ZONE
    """That the days of the books are days of."""

    def places(self) -> Places:
        return Places(self.max_connections, self.max_connections_per_address)


class Central:
    def __init__(self, config: CentralConfig, log: FilteringBoundLogger, trace: Trace | None) -> None:
        self._config = config
        self._log = log
        self._trace = trace
        self._inbox = Inbox()
        self._stopping = threading.Event()
        self._failed: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._loop = asyncio.get_running_loop()
        self._links: dict[int, Link] = {}
        self._connections: dict[Link, int] = {}
        self._paused: set[int] = set()
        self._waiting: Counter[int] = Counter()
        """connection -> its messages in the inbox."""
        self._connection_numbers = itertools.count(1)
        self._arrived: list[Input] = []
        self._offsets = OffsetTracker()
        self._historian = Historian(self._offsets, self._answer_history)
        self._receipts = Receipts(
            load=lambda after, limit: self._store.receipts_waiting(after, limit),
            count=lambda: Backlog(*self._store.receipts_backlog()),
            hand_in=lambda sessions: self._inbox.put_second(ReceiptsWait(sessions)),
        )
        self._throttle = Throttle()
        self._next_forgetting_s = 0.0
        self._receipts_sent: list[tuple[UUID, int]] = []
        """Not noted yet: a receipt of which that is never noted is sent once more after the next start."""
        self._receipts_due_s = math.inf
        self._group = GroupWatch(f"{socket.gethostname()}:{config.database.resolve()}", uuid4().hex[:8])
        self._orders = Orders(self._inbox.put)
        self._events: deque[Event] = deque(maxlen=EVENTS_KEPT)
        self._database_works = True
        self._now = clock.Attention().now  # The worker's, once it runs.
        self.metrics = Metrics()

    async def run(self, stop: asyncio.Event, on_listening: Callable[[int, int | None, Desk], None]) -> None:
        """Serve until `stop`; raises an `EvchargeError` if that cannot be done, or can no longer be done.

        `on_listening` is told the port for Monitors, the one for HTTP, and the desk.
        """
        config = self._config
        with locked(config.database):
            self._store = Store(config.database, self._stopping)
            try:
                now = self._now()
                self._registry = Registry(self._store.engine)
                self._last_change = self._registry.last_change()
                self._store.begin(now.utc)
                self._network = Network(
                    config.policy,
                    self._store.charge_points(),
                    self._store.open_sessions(),
                    now,
                    sessions_before=self._store.last_session_number(),
                )
                self.board = Board(lambda: self._inbox.put(Look()), self._seen(now))
                server = await serve(
                    self,
                    config.host,
                    config.port,
                    self._trace,
                    tls=config.tls,
                    places=config.places(),
                    allowance=lambda: Allowance(config.max_messages_per_s, MESSAGES_AT_ONCE, self._loop.time()),
                )
                await self._serve(server, stop, on_listening)
            finally:
                self._store.close()

    async def _serve(
        self, server: asyncio.Server, stop: asyncio.Event, on_listening: Callable[[int, int | None, Desk], None]
    ) -> None:
        config = self._config
        self._publisher = Publisher(
            config.kafka, "evcharge-central", trace=self._trace, log=self._log, on_fatal=self._fail
        )
        self._outbox = Outbox(
            self._publisher,
            self._offsets,
            self._receipts,
            on_receipt=lambda session_id, revision: self._inbox.put_second(ReceiptSent(session_id, revision)),
            warn=self._warn,
            stopping=self._stopping,
        )
        # Each has a queue of its own in Kafka's client, so that requests do not wait behind readings there.
        self._readers = {
            FROM_DRIVERS: self._reader(REQUESTS_CLIENT, self._inbox.put, REQUESTS_A_BATCH, REQUESTS_IN_HAND),
            FROM_METERS: self._reader(
                "evcharge-central-meters",
                self._inbox.put_second,
                READINGS_A_BATCH,
                READINGS_IN_HAND,
                READINGS_PATIENCE_MS,
            ),
        }
        # What has been loaded stays, and no search for garbage need look at it again; nor at each few messages.
        gc.freeze()
        gc.set_threshold(GC_AFTER_ALLOCATIONS)
        desk_threads = ThreadPoolExecutor(DESK_THREADS, thread_name_prefix="desk")
        desk = self._desk(desk_threads)
        http = self._http_server(config.http, desk) if config.http is not None else None
        works = {
            "worker": self._work,
            "kafka-setup": self._join_kafka,
            "copy-back": self._copy_back,
            "entries": self._look_at_entries,
            "publish-again": self._publish_what_waits,
            "history": self._historian.work,
        }
        # Daemons: one that is stuck when we end, in a disk that hangs, say, holds nothing up.
        threads = {
            name: threading.Thread(target=self._guarded, args=(work,), name=name, daemon=True)
            for name, work in works.items()
        }
        port = port_of(server)
        http_port = http.port if http is not None else None
        self._log.info(
            "central_listening",
            address=f"{config.host}:{port}",
            tls=config.tls is not None,
            http=f"{config.http.host}:{http_port}" if config.http is not None else "off",
            database=str(config.database),
            kafka=config.kafka.address,
            charge_points=len(self._network.charge_points),
            open_sessions=len(self._network.sessions),
        )
        on_listening(port, http_port, desk)  # Before the threads: if it fails, nothing holds the program up.
        for thread in threads.values():
            thread.start()
        serving = asyncio.ensure_future(self._serve_http(http)) if http is not None else None
        try:
            stopped: asyncio.Future[object] = asyncio.ensure_future(stop.wait())
            await asyncio.wait([stopped, self._failed], return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
        finally:
            server.close()
            self.board.stop()
            if http is not None:
                http.stop()
            await self._end(threads)
            if serving is not None:
                await serving  # Its last requests have waited for the worker meanwhile.
            desk_threads.shutdown(wait=False, cancel_futures=True)
        if self._failed.done():
            self._failed.result()

    async def _end(self, threads: dict[str, threading.Thread]) -> None:
        """In order, but with an end to patience: whatever is cut off here is done again after the next start."""
        begun_s = time.monotonic()

        async def within(work: Callable[[float], T], most_s: float) -> T:
            left_s = max(LEAST_S, begun_s + END_WITHIN_S - time.monotonic())
            return await asyncio.to_thread(work, min(most_s, left_s))

        self._stopping.set()
        readers = self._readers.values()
        await asyncio.gather(*(asyncio.to_thread(reader.stop_reading) for reader in readers))
        for name in ("kafka-setup", "copy-back", "publish-again", "entries"):
            await within(threads[name].join, LEAST_S)
        self._historian.stop()
        self._inbox.put(Stop())
        await within(threads["worker"].join, END_WITHIN_S)
        await within(threads["history"].join, LEAST_S)
        for link in list(self._links.values()):
            link.close()
        undelivered = await within(self._publisher.close, CLOSE_S) + self._outbox.kept
        self._commit_offsets()
        await asyncio.gather(*(within(reader.close, CLOSE_S) for reader in readers))
        if stuck := [name for name, thread in threads.items() if thread.is_alive()]:
            self._log.warning("threads_left", threads=stuck)
        self._log.info("central_stopped", undelivered_records=undelivered, **self.metrics.counts)

    def _http_server(self, address: Address, desk: Desk) -> HttpServer:
        app = make_app(desk, self._metrics_page, self._log)
        if self._config.http_tls is None and not address.is_local:
            self._log.warning(
                "http_not_encrypted",
                address=str(address),
                advice="tokens cross the network in the clear: give --http-tls-cert and --http-tls-key",
            )
        name_of = app.state["tokens"].name_of
        return HttpServer(address, app, self.metrics.http_answers, self._log, self._config.http_tls, name_of)

    async def _serve_http(self, http: HttpServer) -> None:
        try:
            await http.run()
        except Exception as problem:  # noqa: BLE001  # as with a thread
            self._end_with(problem)
        else:
            self._ended("http")

    def _guarded(self, work: Callable[[], None]) -> None:
        """A thread that dies takes the program with it: better restarted than half alive."""
        try:
            work()
        except Exception as problem:  # noqa: BLE001  # it is raised again by `run`
            self._end_with(problem)
        except BaseException as problem:  # noqa: BLE001  # such as SystemExit, of which nobody else would hear
            self._end_with(RuntimeError(f"the thread {threading.current_thread().name} was ended: {problem!r}"))
        else:
            self._ended(threading.current_thread().name)

    def _ended(self, name: str) -> None:
        """Nothing of ours ends by itself as long as Central runs."""
        if not self._stopping.is_set():
            self._end_with(RuntimeError(f"{name} has ended, though nobody has asked it to"))

    def _fail(self, reason: str) -> None:
        self._end_with(KafkaUnusable(reason))

    def _end_with(self, problem: Exception) -> None:
        def end() -> None:
            if not self._failed.done():
                self._failed.set_exception(problem)

        self._stopping.set()
        self._loop.call_soon_threadsafe(end)

    # The operators: the event loop's thread

    def _desk(self, threads: ThreadPoolExecutor) -> Desk:
        return Desk(
            actor=Actor("nobody", "nothing"),
            order=self._orders.place,
            board=self.board,
            registry=self._registry,
            books=Books(self._store.engine, self._config.zone),
            threads=threads,
            health_now=self._health,
            zone=self._config.zone,
        )

    async def _metrics_page(self) -> bytes:
        board = await self.board.fresh()
        now = Snapshot(
            at=clock.now().utc,
            charge_points=board.all(),
            connections=len(self._links),
            waiting=len(self._inbox),
            lag={where: lag for reader in self._readers.values() for where, lag in reader.lag.items()},
            up={"kafka": self._kafka_trouble() is None, "database": self._database_works},
            receipts=self._receipts.backlog,
            kept=self._outbox.kept,
            to_settle=await self._to_settle(),
        )
        return self.metrics.page(now)

    async def _to_settle(self) -> dict[str, tuple[int, float]] | None:
        """Of each kind how many wait, and for how many seconds the oldest; None if the database cannot tell."""
        try:
            waiting = await asyncio.to_thread(ToSettle(self._store.engine).waiting)
        except DatabaseUnusable:
            return None
        now = clock.now().utc
        return {item.kind: (item.count, max(0.0, (now - item.since).total_seconds())) for item in waiting}

    # In: the event loop's thread

    def link_opened(self, link: Link) -> None:
        connection = next(self._connection_numbers)
        self._links[connection] = link
        self._connections[link] = connection
        self._hand_over(MonitorCame(connection, link.certified, network_of(link.host)))

    def link_received(self, link: Link, message: Message) -> None:
        connection = self._connections[link]
        self._waiting[connection] += 1
        self._hand_over(FromMonitor(connection, message))
        if len(self._inbox) > MAX_WAITING or self._waiting[connection] > MAX_WAITING_OF_ONE:
            # The worker cannot keep up (its disk is full, say): let TCP hold the senders back.
            link.pause()
            self._paused.add(connection)

    def _hand_over(self, item: MonitorCame | FromMonitor | MonitorGone) -> None:
        """To the worker, together with all else that comes in this turn of the loop, so that it is woken once."""
        if not self._arrived:
            self._loop.call_soon(self._put_arrived)
        self._arrived.append(item)

    def _put_arrived(self) -> None:
        arrived, self._arrived = self._arrived, []
        self._inbox.put(*arrived)

    def _take_note_of_handled(self, handled: Counter[int]) -> None:
        """So many messages of each connection have left the inbox."""
        self._waiting -= handled & self._waiting  # A connection may have gone meanwhile.
        if len(self._inbox) > MAX_WAITING // 2:
            return
        for connection in [c for c in self._paused if self._waiting[c] <= MAX_WAITING_OF_ONE // 2]:
            self._paused.discard(connection)
            self._links[connection].resume()

    def link_failed(self, link: Link, error: WireError) -> None:
        self.link_garbled(link, error)

    def link_garbled(self, link: Link, error: WireError) -> None:
        self.metrics.counts[error.code] += 1
        self._warn("bad_message", (link.host, error.code), peer=link.peer, code=error.code, reason=str(error))

    def link_closed(self, link: Link, reason: str) -> None:
        connection = self._connections.pop(link)
        self._paused.discard(connection)
        self._waiting.pop(connection, None)
        del self._links[connection]
        self._hand_over(MonitorGone(connection, reason))

    # In: Kafka's threads

    def _join_kafka(self) -> None:
        cluster = Cluster(self._config.kafka, self._log)
        cluster.create_missing(Topic, self._config.partitions, self._stopping)
        topics = cluster.topics(TO_CENTRAL, self._stopping)
        if topics is None:
            return
        cluster.have_stamped(Topic, self._stopping)
        try:
            for names, reader in self._readers.items():
                reader.start({name: topics[name] for name in names})
        except KafkaUnusable:
            if self._stopping.is_set():
                return
            raise
        partitions = sum(topic.partitions for topic in topics.values())
        self._log.info("kafka_joined", address=self._config.kafka.address, partitions=partitions)
        while not self._stopping.is_set():
            self._look_at_topics(cluster)
            self._stopping.wait(LOOK_AT_TOPICS_EVERY_S)

    def _look_at_topics(self, cluster: Cluster) -> None:
        """One may have been deleted, or all lost with Kafka's disk, or may have got more partitions."""
        found = cluster.look(Topic)
        if found is None:
            return  # Kafka is away, which has been said.
        missing = sorted(set(Topic) - found.keys())
        if missing:
            self._warn("topics_lost", "topics_lost", topics=missing)
            try:
                cluster.create(missing, self._config.partitions)
            except KafkaUnusable as problem:
                self._warn("topics_not_created", "topics_not_created", cause=str(problem))
            found = cluster.look(Topic) or found
        for names, reader in self._readers.items():
            reader.follow({name: found[name] for name in names if name in found})

    def _reader(
        self,
        client_id: str,
        put: Callable[[FromBroker], None],
        batch_records: int,
        most_in_hand: int,
        patience_ms: int = 0,
    ) -> Subscriber:
        in_hand = threading.BoundedSemaphore(most_in_hand // batch_records)

        def take_batch(records: list[Received]) -> None:
            while self._outbox.is_full or not in_hand.acquire(timeout=RETRY_S):
                if self._stopping.wait(RETRY_S if self._outbox.is_full else 0):
                    return
            put(FromBroker(records, in_hand))

        return Subscriber(
            self._config.kafka,
            client_id,
            group_id=self._config.kafka_group,
            group=self._group,
            tells_of_group=client_id == REQUESTS_CLIENT,  # One of the readers, not each.
            batch_records=batch_records,
            patience_ms=patience_ms,
            trace=self._trace,
            log=self._log,
            on_fatal=self._fail,
            on_batch=take_batch,
        )

    def _kafka_trouble(self) -> Trouble | None:
        if not all(reader.works for reader in self._readers.values()):
            return Trouble(Standing.UNREACHABLE, f"Kafka at {self._config.kafka} cannot be read")
        return self._publisher.trouble or next(
            (reader.trouble for reader in self._readers.values() if reader.trouble is not None), None
        )

    def _health(self) -> Health:
        return health_of(
            self._kafka_trouble(),
            self._database_works,
            self.board.held_up,
            self._receipts.backlog,
            clock.now().utc,
        )

    def _commit_offsets(self) -> None:
        offsets = self._offsets.take_committable()
        for names, reader in self._readers.items():
            if own := {where: at for where, at in offsets.items() if where[0] in names}:
                reader.commit(own)

    # Decide, commit, act: the worker's thread

    def _work(self) -> None:
        stopped = False
        while not stopped or self._inbox:
            self._inbox.wait(self._patience_s())
            if not self._inbox and self._patience_s() > 0:
                continue
            turn = self._next_turn()
            self._handle(turn)
            if turn.looked_for:
                self._loop.call_soon_threadsafe(self.board.take, self._seen(self._now()))
            stopped = stopped or turn.is_last

    def _next_turn(self) -> Turn:
        """Readings, as many as there are until somebody waits for something; and what is waited for."""
        turn = Turn()
        while turn.size < READINGS_A_TURN and (item := self._inbox.take_second()) is not None:
            self._take_in(item, turn)
            if self._inbox.somebody_waits:
                break
        for item in self._inbox.take():
            self._take_in(item, turn)
        return turn

    def _take_in(self, item: Item, turn: Turn) -> None:
        match item:
            case FromBroker(records, in_hand):
                in_hand.release()
                self._decode(records, turn)
            case ReceiptSent(session_id, revision):
                turn.receipts_sent.append((session_id, revision))
            case ReceiptsWait(sessions):
                self._act(self._network.republish_receipts(sessions, self._now()), None)
            case Look():
                turn.looked_for = True
            case Stop():
                turn.is_last = True
            case _:
                turn.inputs.append(item)

    def _seen(self, now: Instant) -> Changes:
        """What has changed since this was last asked."""
        cp_ids, self._network.touched = self._network.touched, set()
        events, self._events = list(self._events), deque(maxlen=EVENTS_KEPT)
        return seen(self._network, cp_ids, events, now)

    def _patience_s(self) -> float:
        deadline_s = min(self._network.next_deadline_s or math.inf, self._receipts_due_s)
        return max(0.0, min(deadline_s - self._now().monotonic_s, clock.LOOK_EVERY_S))

    def _decode(self, records: list[Received], turn: Turn) -> None:
        inputs, offsets = turn.inputs, turn.offsets
        for record in records:
            offsets[record.topic, record.partition] = record.offset + 1
            try:
                inputs.append(FromKafka(record, messages.decode(record.value)))
            except Undecodable as bad:
                self.metrics.counts[bad.error.code] += 1
                turn.rejects.dead_letters.append(DeadLetter(record, bad.error))
                if bad.driver_id is not None and record.topic in FROM_DRIVERS:
                    reply = messages.error_response(
                        bad.error.code, str(bad), bad.message_id, clock.now(), bad.driver_id
                    )
                    turn.rejects.records.append(Record(bad.driver_id, reply))

    def _handle(self, turn: Turn) -> None:
        inputs, offsets = turn.inputs, turn.offsets
        known = self._persistently(lambda: self._store.known(self._network.wanted(inputs)))
        from_monitors = [item for item in inputs if isinstance(item, FromMonitor)]
        count(self.metrics.received, "tcp", from_monitors)
        count(self.metrics.received, "kafka", [item for item in inputs if isinstance(item, FromKafka)])
        now = self._now()
        begun_s = time.perf_counter()
        decisions = self._network.decide(inputs, known, now)
        self.metrics.decide_s.observe(time.perf_counter() - begun_s)
        decisions.records += turn.rejects.records
        decisions.dead_letters += turn.rejects.dead_letters
        self._note_receipts_sent(turn, decisions, now)
        if not decisions.nothing_to_store:
            begun_s = time.perf_counter()
            self._persistently(lambda: self._store.commit(decisions, now.utc))
            self._receipts.noted(decisions.receipts_sent)
            self.metrics.commit_s.observe(time.perf_counter() - begun_s)
            self._database_works = True  # What could only be read says nothing of a disk that is full.
        handled = Counter([item.connection for item in from_monitors])
        if handled or self._paused or decisions.frames or decisions.closings:
            self._loop.call_soon_threadsafe(self._send, decisions.frames, decisions.closings, handled)
        self._act(decisions, self._offsets.open(offsets) if offsets else None)
        self._commit_offsets()
        self._forget_old_answers(now)

    def _note_receipts_sent(self, turn: Turn, decisions: Decisions, now: Instant) -> None:
        if turn.receipts_sent and not self._receipts_sent:
            self._receipts_due_s = now.monotonic_s + RECEIPTS_NOTED_WITHIN_S
        self._receipts_sent += turn.receipts_sent
        if not decisions.nothing_to_store or now.monotonic_s >= self._receipts_due_s or turn.is_last:
            decisions.receipts_sent, self._receipts_sent = self._receipts_sent, []
            self._receipts_due_s = math.inf

    def _persistently(self, work: Callable[[], T]) -> T:
        """Do it, however long the disk is full or the database locked: memory is ahead of it by this batch."""
        while True:
            try:
                return work()
            except OperationalError as problem:
                self._database_works = False
                self._warn("database_unavailable", "database", cause=str(problem.orig), retry_s=RETRY_S)
                if self._stopping.wait(RETRY_S):
                    raise DatabaseUnusable(f"the database could not be written: {problem.orig}") from None

    def _act(self, decisions: Decisions, ticket: Ticket | None) -> None:
        if decisions.outcomes:
            self._loop.call_soon_threadsafe(self._orders.report, decisions.outcomes)
        for record in decisions.records:
            message = record.message
            if not record.droppable:
                self._outbox.send(record.driver_id, message, ticket)
            elif not self._outbox.send_droppable(record.driver_id, message):
                self.metrics.counts["status_update_dropped"] += 1
        for letter in decisions.dead_letters:
            self._tell_of(letter)
            self._outbox.put_aside(letter, ticket)
        for request in decisions.histories:
            if not self._historian.ask(request, ticket):
                self.metrics.counts[TOO_MANY_HISTORIES.code] += 1
                reply = refusal_of(request, TOO_MANY_HISTORIES, self._now())
                self._outbox.send(request.driver_id, reply, ticket)
        if ticket is not None:
            self._offsets.seal(ticket)
        for note in decisions.notes:
            self._tell(note)
        self.metrics.counts.update(decisions.counts)
        count(self.metrics.sent, "tcp", decisions.frames)
        count(self.metrics.sent, "kafka", decisions.records)

    def _tell_of(self, letter: DeadLetter) -> None:
        record, code = letter.record, letter.error.code
        reason = messages.shown(str(letter.error))
        self.metrics.counts["dead_letter"] += 1
        self._warn("bad_record", (record.topic, code), record=record.place, code=code, reason=reason)

    def _tell(self, note: Note) -> None:
        if note.kind is not None:
            self._warn(note.event, note.kind, **note.fields)
            return
        (self._log.error if note.event == "bug" else self._log.info)(note.event, **note.fields)
        self._events.append(Event(at=clock.now().utc, event=note.event, fields=note.fields))

    def _send(self, frames: list[Frame], closings: list[Closing], handled: Counter[int]) -> None:
        batches: dict[int, list[Message]] = {}
        for frame in frames:
            batches.setdefault(frame.connection, []).append(frame.message)
        for connection, batch in batches.items():
            if connection in self._links:
                self._links[connection].send(*batch)
        for closing in closings:
            if closing.connection in self._links:
                self._links[closing.connection].close(closing.error)
        self._take_note_of_handled(handled)

    def _answer_history(self, request: ChargingHistoryRequest, ticket: Ticket | None) -> None:
        answer: Message
        try:
            sessions, next_before = self._persistently(lambda: self._store.history(request))
        except DatabaseUnusable:
            raise  # We are asked to end; it is asked again after the next start.
        except Exception as bug:  # noqa: BLE001  # one request must not end what others wait for
            self._log.exception("bug", message="charging_history_request")
            answer = refusal_of(request, InternalError(f"Central failed at this message: {bug!r}"), clock.now())
        else:
            answer = ChargingHistoryResponse(
                **messages.answering(request, clock.now()),
                driver_id=request.driver_id,
                sessions=sessions,
                next_before=next_before,
            )
        self._outbox.send(request.driver_id, answer, ticket)

    def _publish_what_waits(self) -> None:
        """Receipts that wait in the database, and what Kafka has refused before."""
        while not self._stopping.wait(PUBLISH_AGAIN_EVERY_S):
            with suppress(DatabaseUnusable):  # The worker says so.
                self._receipts.look()
            self._outbox.try_again()

    def _copy_back(self) -> None:
        while not self._stopping.wait(COPY_BACK_EVERY_S):
            self._store.copy_back()

    def _look_at_entries(self) -> None:
        """`evcharge cp add` and the like write to the database beside us: act on that as on what is asked here."""
        while not self._stopping.wait(LOOK_AT_ENTRIES_EVERY_S):
            with suppress(DatabaseUnusable):  # The worker says so, and this is looked at again.
                self._last_change, cp_ids = self._registry.changes_since(self._last_change)
                if cp_ids:
                    self._inbox.put(EntriesChanged(cp_ids))

    def _forget_old_answers(self, now: Instant) -> None:
        if now.monotonic_s >= self._next_forgetting_s:
            self._next_forgetting_s = now.monotonic_s + FORGET_ANSWERS_EVERY_S
            self._persistently(lambda: self._store.forget_answers(now.utc))

    def _warn(self, event: str, kind: object, **fields: object) -> None:
        before = self._throttle.admit(kind, clock.now().monotonic_s)
        if before is not None:
            self._log.warning(event, **fields, **({"silenced_before": before} if before else {}))
