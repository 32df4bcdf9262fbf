"""The program Engine: a `Charger` behind a TCP server for its Monitor, with a journal and a way to Kafka."""

import asyncio
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

from structlog.typing import FilteringBoundLogger

from evcharge import clock
from evcharge.engine.charger import NO_VERDICT, Charger, ChargerConfig
from evcharge.engine.journal import Journal
from evcharge.errors import ConnectionReplaced, EvchargeError, NotRegistered, UsageError, WireError
from evcharge.limits import Places
from evcharge.protocol import messages
from evcharge.protocol.messages import (
    ChargeCompletion,
    ChargeCompletionResponse,
    ChargeRequest,
    ChargeRequestResponse,
    ChargingData,
    ErrorResponse,
    InitCpId,
    Message,
)
from evcharge.protocol.topics import Topic
from evcharge.throttle import Throttle
from evcharge.transport.tcp import Link, port_of, serve
from evcharge.transport.trace import Trace

ANSWER_TIMEOUT_S = 10.0
INIT_TIMEOUT_S = 10.0
MAX_CONNECTIONS = 17
"""The Monitor's, and those that have not said yet who they are."""


class RecordSink(Protocol):
    """Where records for Kafka go."""

    def publish(self, topic: str, key: str, value: bytes) -> bool: ...


@dataclass(frozen=True, slots=True)
class EngineConfig:
    host: str
    port: int
    journal: Path
    charger: ChargerConfig


class Engine:
    def __init__(
        self, config: EngineConfig, kafka: RecordSink, log: FilteringBoundLogger, trace: Trace | None
    ) -> None:
        self.config = config
        self._kafka = kafka
        self._log = log
        self._trace = trace
        self._link: Link | None = None
        self._journal: Journal | None = None
        self._syncing: set[int] = set()
        self._throttle = Throttle()
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._failed: asyncio.Future[Any] = self._loop.create_future()
        self._asked: dict[UUID, asyncio.Future[ChargeRequestResponse]] = {}
        self._watcher: Callable[[list[Message]], None] = lambda outcome: None
        self.charger = Charger(config.charger)

    async def run(self, stop: asyncio.Event, on_listening: Callable[[int], None]) -> None:
        """Serve one Monitor until `stop`, which ends a charge that still runs."""
        places = Places(MAX_CONNECTIONS, MAX_CONNECTIONS)
        server = await serve(self, self.config.host, self.config.port, self._trace, places=places)
        if any(not ip_address(address.getsockname()[0]).is_loopback for address in server.sockets):
            self._log.warning(
                "engine_exposed",
                host=self.config.host,
                reason="the link to the Monitor is neither encrypted nor authenticated; bind it to 127.0.0.1",
            )
        port = port_of(server)
        self._log.info("engine_listening", address=f"{self.config.host}:{port}")
        on_listening(port)
        clockwork = asyncio.ensure_future(self._keep_time())
        stopped = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait({clockwork, stopped, self._failed}, return_when=asyncio.FIRST_COMPLETED)
            self.do(self.charger.shut_down(clock.now()))
        finally:
            server.close()
            stopped.cancel()
            clockwork.cancel()
            if self._link is not None:
                self._link.close()
            if self._journal is not None:
                self._journal.close()
        for future in (self._failed, clockwork):
            if future.done():
                future.result()

    # The Monitor

    def link_failed(self, link: Link, error: WireError) -> None:
        self._log.warning("monitor_failed", peer=link.peer, reason=str(error))

    def link_opened(self, link: Link) -> None:
        self._log.info("monitor_came", peer=link.peer)
        asyncio.get_running_loop().call_later(INIT_TIMEOUT_S, self._check_identified, link)

    def _check_identified(self, link: Link) -> None:
        if link is not self._link:
            link.close(NotRegistered(f"no good init_cp_id came within {INIT_TIMEOUT_S:g} s"))

    def link_received(self, link: Link, message: Message) -> None:
        if isinstance(message, InitCpId):
            self._welcome(link, message)
        elif link is not self._link:
            error = NotRegistered("send an init_cp_id first")
            link.send(messages.error_response(error.code, str(error), message.message_id, clock.now()))
        elif isinstance(message, ChargeRequestResponse):
            self._answered(message)
        else:
            self._forget_if_settled(message)
            self.do(self.charger.receive(message, clock.now()))

    def link_garbled(self, link: Link, error: WireError) -> None:
        self._log.warning("bad_message", peer=link.peer, code=error.code, reason=str(error))

    def link_closed(self, link: Link, reason: str) -> None:
        self._log.warning("monitor_gone", peer=link.peer, reason=reason)
        if self._link is link:
            self._link = None

    def _welcome(self, link: Link, request: InitCpId) -> None:
        now = clock.now()
        answers = self.charger.bind(request, now)
        if self.charger.cp_id != request.cp_id:
            link.send(*answers)
            return
        if self._journal is None:
            try:
                self._journal = Journal(self.config.journal, request.cp_id)
                self.charger.resume(self._journal.unsettled(), now)
                for path in self._journal.unreadable:
                    self._log.error("journal_unreadable", kept_in=str(path))
            except (EvchargeError, OSError) as problem:
                if not self._failed.done():
                    self._failed.set_exception(problem)
                return
        if self._link is not None and self._link is not link:
            self._link.close(ConnectionReplaced("the Monitor has connected anew"))
        self._link = link
        self._log.info("engine_bound", cp_id=request.cp_id, unsettled=len(self.charger.unsettled))
        self.charger.repeat_now(now)
        self.do(answers)

    @property
    def has_monitor(self) -> bool:
        return self._link is not None

    async def ask(self, request: ChargeRequest) -> ChargeRequestResponse:
        """Ask Central for a charge here; raises `UsageError` when no answer comes in time."""
        answer: asyncio.Future[ChargeRequestResponse] = asyncio.get_running_loop().create_future()
        self._asked[request.message_id] = answer
        self.do([request])
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                return await answer
        except TimeoutError:
            raise UsageError(f"no answer from Central within {ANSWER_TIMEOUT_S:g} s") from None
        finally:
            del self._asked[request.message_id]

    def _answered(self, response: ChargeRequestResponse) -> None:
        asked = self._asked.get(response.in_reply_to) if response.in_reply_to is not None else None
        if asked is not None and not asked.done():
            asked.set_result(response)

    def _forget_if_settled(self, message: Message) -> None:
        if self._journal is None:
            return
        if isinstance(message, ChargeCompletionResponse) and self.charger.is_receipt(message):
            self._journal.settle(message.session_id)
        elif isinstance(message, ErrorResponse) and message.code not in NO_VERDICT:
            for session_id, completion in self.charger.unsettled.items():
                if completion.message_id == message.in_reply_to:
                    path = self._journal.set_aside(session_id)
                    self._log.error("completion_refused", session_id=session_id, kept_in=str(path))

    # What follows

    def watch(self, watcher: Callable[[list[Message]], None]) -> None:
        """Let somebody see all that is sent on, in order."""
        self._watcher = watcher

    def do(self, outcome: list[Message]) -> None:
        """Put what must not be lost into the journal, then send it all, each on the ways that it has."""
        for message in outcome:
            if isinstance(message, ChargingData | ChargeCompletion):
                self._keep(message)
        for message in outcome:
            if isinstance(message, ChargingData):
                self._kafka.publish(Topic.SESSION_DATA, message.cp_id, messages.encode(message))
            elif isinstance(message, ChargeCompletion):
                self._kafka.publish(Topic.SESSION_COMPLETE, message.cp_id, messages.encode(message))
                self._log.info(
                    "charge_ended",
                    session_id=message.session_id,
                    reason=message.end_reason,
                    energy_wh=message.energy_wh,
                )
        if self._link is not None and outcome:
            self._link.send(*outcome)
        self._watcher(outcome)
        self._wake.set()

    def _keep(self, message: ChargingData | ChargeCompletion) -> None:
        assert self._journal is not None
        try:
            self._write(self._journal, message)
        except OSError as problem:
            # The disk is full or gone. Go on: the driver charges, and Monitor and Kafka still carry the data.
            self._tell_unwritable(problem)

    def _tell_unwritable(self, problem: OSError) -> None:
        before = self._throttle.admit(problem.errno, clock.now().monotonic_s)
        if before is not None:
            self._log.error("journal_unwritable", cause=problem.strerror, silenced_before=before)

    def _write(self, journal: Journal, message: ChargingData | ChargeCompletion) -> None:
        descriptor = journal.write(message)
        if isinstance(message, ChargeCompletion):
            os.fdatasync(descriptor)
        elif message.seq == 0:
            os.fdatasync(descriptor)
            journal.sync_folder()
        elif descriptor not in self._syncing:
            # In a thread: a slow card must not hold up the meter. A cut of power costs the last second at most.
            self._syncing.add(descriptor)
            copy = os.dup(descriptor)
            self._loop.run_in_executor(None, self._sync, copy, descriptor)

    def _sync(self, copy: int, descriptor: int) -> None:
        try:
            os.fdatasync(copy)
        except OSError as problem:
            self._loop.call_soon_threadsafe(self._tell_unwritable, problem)
        finally:
            os.close(copy)
            self._syncing.discard(descriptor)

    async def _keep_time(self) -> None:
        while True:
            self._wake.clear()
            patience_s = self.charger.next_due_s() - clock.now().monotonic_s
            try:
                async with asyncio.timeout(None if math.isinf(patience_s) else max(0.0, patience_s)):
                    await self._wake.wait()
            except TimeoutError:
                now = clock.now()
                self.do(self.charger.advance(now))
                self._repeat(self.charger.repeats(now))

    def _repeat(self, completions: list[ChargeCompletion]) -> None:
        if self._link is not None and completions:
            self._link.send(*completions)
