"""The program Driver: asks Central through Kafka; hears answers, updates and receipts on `driver_responses`."""

import asyncio
import math
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import ParamSpec, TypeVar
from uuid import UUID

from structlog.typing import FilteringBoundLogger

from evcharge import clock
from evcharge.errors import (
    WIRE_ERRORS,
    EvchargeError,
    InternalError,
    KafkaUnusable,
    NoOpenSession,
    WireError,
)
from evcharge.protocol import messages
from evcharge.protocol.messages import (
    AvailableCpsRequest,
    AvailableCpsResponse,
    ChargeCompletionResponse,
    ChargeRequest,
    ChargeRequestResponse,
    ChargingHistoryRequest,
    ChargingHistoryResponse,
    ChargingStatusRequest,
    ChargingStatusUpdate,
    CpInfo,
    ErrorResponse,
    Message,
    PastSession,
    Reply,
    StopChargingRequest,
    StopChargingResponse,
    Undecodable,
    Verdict,
    new_id,
)
from evcharge.protocol.records import SIGNATURE_HEADER, Received, signature_of
from evcharge.protocol.topics import FROM_DRIVERS, Topic, partition_of
from evcharge.transport.kafka import Cluster, Subscriber, Topics
from evcharge.transport.kafka_settings import KafkaAccess
from evcharge.transport.publisher import Publisher, Refusal
from evcharge.transport.trace import Trace

REPEAT_S = 5.0
SILENCE_S = 2.5
"""Without a word from Central while it owes us one: then we say so, and go on asking."""
QUIET_S = 15.0
PROBE_S = 2.0
LOOK_AT_TOPICS_EVERY_S = 10.0
FIRST_LOOK_AT_TOPICS_S = 1.0  # A command that is answered at once need not look at all.

P = ParamSpec("P")
R = TypeVar("R", bound=Reply)


class NoAnswer(EvchargeError):
    """Central has not answered in time."""


class KafkaRefuses(NoAnswer, KafkaUnusable):
    """What was asked has not got through, and will not until a person has done something."""


class WhereAnswersAre:
    """The partitions with the answers to these drivers, or to all (None).

    One that was read stays: when partitions are added, Central's client goes on with the old number of them for a
    while, and what it has written there must be heard, too.
    """

    def __init__(self, driver_ids: Iterable[str] | None) -> None:
        self._driver_ids = frozenset(driver_ids) if driver_ids is not None else None
        self._read: set[int] = set()

    def __call__(self, topics: Topics) -> list[tuple[str, int]]:
        partitions = topics[Topic.RESPONSES].partitions
        ids = self._driver_ids
        numbers = range(partitions) if ids is None else {partition_of(one, partitions) for one in ids}
        self._read = {number for number in self._read.union(numbers) if number < partitions}
        return [(Topic.RESPONSES, number) for number in sorted(self._read)]


class DriverLink:
    """The way to Central and back; one serves any number of drivers, each in the partition of its id."""

    def __init__(
        self,
        kafka: KafkaAccess,
        client_id: str,
        *,
        timeout_s: float,
        log: FilteringBoundLogger,
        trace: Trace | None,
    ) -> None:
        self._kafka = kafka
        self._client_id = client_id
        self._timeout_s = timeout_s
        self._log = log
        self._trace = trace
        self._loop = asyncio.get_running_loop()
        self._asked: dict[UUID, asyncio.Future[Reply]] = {}
        self._listeners: dict[str, Callable[[Message | KafkaRefuses], None]] = {}
        self._broken: str | None = None
        self._heard_s = -math.inf
        self.silence: str | None = None
        """What to tell of a Central that owes an answer, and says nothing."""
        self._refused: str | None = None

    @asynccontextmanager
    async def opened(self, driver_ids: Iterable[str] | None) -> AsyncIterator["DriverLink"]:
        """Hear the answers to these drivers, or to all; raises `NoAnswer` if Kafka or the topics are not there."""
        topics = await self._topics()
        self._publisher = Publisher(
            self._kafka, self._client_id, trace=self._trace, log=self._log, on_fatal=self._fail, linger_ms=0
        )
        subscriber = Subscriber(
            self._kafka,
            self._client_id,
            group_id=None,
            choose=WhereAnswersAre(driver_ids),
            trace=self._trace,
            log=self._log,
            on_fatal=self._fail,
            on_batch=lambda batch: self._call(self._hear, batch),
        )
        watching = asyncio.ensure_future(self._watch(subscriber))
        try:
            await asyncio.to_thread(subscriber.start, topics)
            yield self
        finally:
            watching.cancel()
            await asyncio.gather(asyncio.to_thread(subscriber.close), asyncio.to_thread(self._publisher.close))

    async def _topics(self) -> Topics:
        giving_up = threading.Event()
        timer = self._loop.call_later(self._timeout_s, giving_up.set)
        refusals: list[str] = []

        def refused(reason: str) -> None:
            refusals.append(reason)
            giving_up.set()

        self._cluster = Cluster(self._kafka, self._log, refused)
        try:
            found = await asyncio.to_thread(self._cluster.topics, [*FROM_DRIVERS, Topic.RESPONSES], giving_up)
        finally:
            timer.cancel()
            giving_up.set()
        if found is not None:
            return {Topic.RESPONSES: found[Topic.RESPONSES]}
        if refusals:
            raise KafkaUnusable(refusals[0])
        raise NoAnswer(
            f"Kafka at {self._kafka} did not offer our topics within {self._timeout_s:g} s;"
            " is the broker running, and is Central?"
        )

    async def _watch(self, subscriber: Subscriber) -> None:
        """The answers' topic may be lost and made anew, or get more partitions."""
        wait_s = FIRST_LOOK_AT_TOPICS_S
        while True:
            await asyncio.sleep(wait_s)
            found = await asyncio.to_thread(self._cluster.look, [Topic.RESPONSES])
            if found:
                subscriber.follow(found)
            wait_s = LOOK_AT_TOPICS_EVERY_S

    def _fail(self, reason: str) -> None:
        self._broken = reason
        self._call(self._give_up, reason)

    def _give_up(self, reason: str) -> None:
        for asked in self._asked.values():
            if not asked.done():
                asked.set_exception(KafkaRefuses(reason))
        for listener in self._listeners.values():
            listener(KafkaRefuses(reason))

    def _take_report(self, asked: "asyncio.Future[Reply]", refusal: Refusal | None) -> None:
        self._refused = refusal.reason if refusal is not None else None
        if refusal is not None and refusal.for_good and not asked.done():
            asked.set_exception(KafkaRefuses(f"the request does not get through: {refusal.reason}"))

    def _call(self, function: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        with suppress(RuntimeError):  # The loop is closed: nobody waits any more.
            self._loop.call_soon_threadsafe(partial(function, *args, **kwargs))

    def _look_for_silence(self, since_s: float) -> None:
        if self._heard_s < since_s and self.silence is None:
            self.silence = f"Central does not answer; trying for {self._timeout_s:g} s"
            self._log.warning("central_does_not_answer", silent_s=SILENCE_S, trying_for_s=self._timeout_s)

    def _hear(self, batch: list[Received]) -> None:
        self._heard_s, self.silence = self._loop.time(), None
        for record in batch:
            try:
                message = messages.decode(record.value)
            except Undecodable as bad:
                self._log.warning("bad_record", topic=record.topic, code=bad.error.code, reason=str(bad))
                continue
            if isinstance(message, Reply) and message.in_reply_to in self._asked:
                asked = self._asked[message.in_reply_to]
                if not asked.done():
                    asked.set_result(message)
            listener = self._listeners.get(getattr(message, "driver_id", ""))
            if listener is not None:
                listener(message)

    def listen(self, driver_id: str, listener: Callable[[Message | KafkaRefuses], None]) -> None:
        """It is told each message to this driver; and why there will be no more, should that come to pass."""
        self._listeners[driver_id] = listener

    async def ask(
        self, topic: Topic, record_key: str, request: Message, answer_type: type[R], signing_key: str
    ) -> R:
        """Central's answer; asked again, with the same `message_id`, until it comes.

        Raises the `WireError` of an `error_response`, or `NoAnswer` after the timeout.
        """
        if self._broken is not None:
            raise KafkaRefuses(self._broken)
        asked: asyncio.Future[Reply] = self._loop.create_future()
        self._asked[request.message_id] = asked
        value = messages.encode(request)
        headers = {SIGNATURE_HEADER: signature_of(value, signing_key)} if signing_key else {}

        def reported(refusal: Refusal | None) -> None:
            self._call(self._take_report, asked, refusal)

        silence = self._loop.call_later(SILENCE_S, self._look_for_silence, self._loop.time())
        try:
            async with asyncio.timeout(self._timeout_s):
                while True:
                    self._publisher.publish(topic, record_key, value, reported, headers=headers)
                    done, _ = await asyncio.wait([asked], timeout=REPEAT_S)
                    if done:
                        break
        except TimeoutError:
            reason = self._broken or self._refused or "is Central running?"
            raise NoAnswer(f"no answer from Central within {self._timeout_s:g} s; {reason}") from None
        finally:
            silence.cancel()
            del self._asked[request.message_id]
        answer = asked.result()
        if isinstance(answer, ErrorResponse):
            raise WIRE_ERRORS.get(answer.code, InternalError)(answer.reason)
        if not isinstance(answer, answer_type):
            raise NoAnswer(f"Central answered with a {messages.type_name(answer)}, which is no answer to this")
        return answer


class Driver:
    """One driver, who signs with `key`, if there is one. Refusals are raised as the `WireError` of their code."""

    def __init__(self, driver_id: str, link: DriverLink, key: str = "") -> None:
        self.driver_id = driver_id
        self._link = link
        self._key = key
        self._heard: asyncio.Queue[Message | KafkaRefuses] = asyncio.Queue()
        link.listen(driver_id, self._heard.put_nowait)

    @property
    def silence(self) -> str | None:
        """What to tell of a Central that owes an answer, and says nothing."""
        return self._link.silence

    async def _ask(self, topic: Topic, record_key: str, request: Message, answer_type: type[R]) -> R:
        return await self._link.ask(topic, record_key, request, answer_type, self._key)

    async def charge_points(self, everything: bool = False, most: int | None = None) -> list[CpInfo]:
        """Those where a charge can start now, or all, in order of their ids; some more than `most` at the most."""
        found: list[CpInfo] = []
        after: str | None = ""
        while after is not None and (most is None or len(found) < most):
            request = AvailableCpsRequest(
                message_id=new_id(),
                timestamp=clock.now().utc,
                driver_id=self.driver_id,
                all=everything,
                after=after,
            )
            page = await self._ask(Topic.CPS_REQUESTS, self.driver_id, request, AvailableCpsResponse)
            found += page.charge_points
            after = page.next_after
        return found

    async def charge(self, cp_id: str, energy_wh: int | None) -> ChargeRequestResponse:
        request = ChargeRequest(
            message_id=new_id(),
            timestamp=clock.now().utc,
            driver_id=self.driver_id,
            cp_id=cp_id,
            energy_wh=energy_wh,
        )
        answer = await self._ask(Topic.CHARGE_REQUESTS, cp_id, request, ChargeRequestResponse)
        return _accepted(answer)

    async def status(self) -> ChargingStatusUpdate:
        """The charge that runs; raises `NoOpenSession` if none does."""
        request = ChargingStatusRequest(message_id=new_id(), timestamp=clock.now().utc, driver_id=self.driver_id)
        return await self._ask(Topic.CPS_REQUESTS, self.driver_id, request, ChargingStatusUpdate)

    async def stop(self) -> StopChargingResponse:
        """Stop the charge that runs; raises `NoOpenSession` if none does."""
        running = await self.status()
        request = StopChargingRequest(
            message_id=new_id(),
            timestamp=clock.now().utc,
            driver_id=self.driver_id,
            cp_id=running.cp_id,
            session_id=running.session_id,
        )
        answer = await self._ask(Topic.STOP_REQUESTS, running.cp_id, request, StopChargingResponse)
        return _accepted(answer)

    async def history(self, limit: int) -> list[PastSession]:
        """The last ended sessions, newest first, at most `limit`."""
        found: list[PastSession] = []
        before: int | None = None
        while len(found) < limit:
            request = ChargingHistoryRequest(
                message_id=new_id(),
                timestamp=clock.now().utc,
                driver_id=self.driver_id,
                before=before,
                limit=min(limit - len(found), messages.MAX_PAGE),
            )
            page = await self._ask(Topic.CPS_REQUESTS, self.driver_id, request, ChargingHistoryResponse)
            found += page.sessions
            before = page.next_before
            if before is None:
                break
        return found

    async def follow(self, session_id: UUID) -> AsyncIterator[ChargingStatusUpdate | ChargeCompletionResponse]:
        """The updates of a charge, and at last its receipt."""
        async for message in self.news(session_id):
            if message.session_id == session_id:
                yield message
                if isinstance(message, ChargeCompletionResponse):
                    return

    async def news(
        self, session_id: UUID | None = None
    ) -> AsyncIterator[ChargingStatusUpdate | ChargeCompletionResponse]:
        """The updates and receipts of all charges of this driver, whoever began them.

        After a while without news of the charge that runs (`session_id`, or the last that was heard of), it asks;
        so a receipt that was written while nobody listened is found.
        """
        running = session_id
        while True:
            try:
                async with asyncio.timeout(QUIET_S if running is not None else None):
                    message = await self._heard.get()
            except TimeoutError:
                assert running is not None
                receipt = await self._receipt_if_ended(running)
                if receipt is not None:
                    running = None
                    yield receipt
                continue
            match message:
                case KafkaRefuses():
                    raise message
                case ChargingStatusUpdate():
                    running = message.session_id if session_id is None else session_id
                    yield message
                case ChargeCompletionResponse():
                    running = None if message.session_id == running else running
                    yield message

    async def _receipt_if_ended(self, session_id: UUID) -> ChargeCompletionResponse | None:
        try:
            running = await self.status()
        except NoOpenSession:
            pass
        except (NoAnswer, WireError):
            return None
        else:
            if running.session_id == session_id:
                return None
        try:
            past_sessions = await self.history(messages.MAX_PAGE)
        except (NoAnswer, WireError):
            return None
        for past in past_sessions:
            if past.session_id == session_id:
                return ChargeCompletionResponse(
                    message_id=new_id(),
                    timestamp=clock.now().utc,
                    cp_id=past.cp_id,
                    session_id=session_id,
                    driver_id=self.driver_id,
                    status=past.status,
                    end_reason=past.end_reason,
                    energy_wh=past.energy_wh,
                    price_per_kwh=past.price_per_kwh,
                    cost=past.cost,
                    currency=past.currency,
                    requested_at=past.requested_at,
                    started_at=past.started_at,
                    ended_at=past.ended_at,
                    revision=past.revision,
                )
        return None


async def a_central_answers(kafka: KafkaAccess, log: FilteringBoundLogger) -> bool:
    """Whether a Central is at work on this Kafka: a second one beside it would answer the same drivers."""
    driver_id = "evcharge-probe"
    link = DriverLink(kafka, driver_id, timeout_s=PROBE_S, log=log, trace=None)
    try:
        async with link.opened([driver_id]):
            await Driver(driver_id, link).charge_points()
    except NoAnswer:
        return False
    except WireError:
        pass  # It does not know this driver, which is an answer, too.
    return True


V = TypeVar("V", bound=Verdict)


def _accepted(answer: V) -> V:
    if not answer.accepted:
        error: type[WireError] = WIRE_ERRORS.get(answer.code or "", InternalError)
        raise error(answer.reason or "refused")
    return answer
