"""What tests of links share: event loops, real sockets, a handler and a client that keep what they are told."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any, TypeVar

import pytest
import structlog
import uvloop
from structlog.typing import FilteringBoundLogger

from evcharge.errors import WireError
from evcharge.protocol.messages import HeartbeatRequest, HeartbeatResponse, Message, new_id
from evcharge.transport.tcp import Address, Backoff, ConnectionManager, Link, port_of, serve
from evcharge.transport.trace import Trace

DEADLINE_S = 10.0
HOST = "127.0.0.1"
QUICK = Backoff(0.01, 0.02)

T = TypeVar("T")
Run = Callable[[Awaitable[T]], T]


LOOPS = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}
"""That of the programs, and the standard one."""

on_the_programs_loop = pytest.mark.parametrize("run", ["uvloop"], indirect=True)
"""For a test that has to wait out the moment that a link takes to close; once is enough."""


def runner(loop: str) -> Callable[[Any], Any]:
    """Run a coroutine on this loop."""

    def run(work: Any) -> Any:
        with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
            return runner.run(work)

    return run


class Changes:
    """Something that tests wait on: a condition over what has happened so far, with a deadline."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()

    def happened(self) -> None:
        self._changed.set()

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


class Recorder(Changes):
    """A `LinkHandler` that keeps what it is told."""

    def __init__(self, answer: Callable[[Link, Message], None] = lambda link, message: None) -> None:
        super().__init__()
        self.links: list[Link] = []
        self.received: list[Message] = []
        self.garbled: list[WireError] = []
        self.failed: list[WireError] = []
        self.closed: list[str] = []
        self._answer = answer

    def link_failed(self, link: Link, error: WireError) -> None:
        self.failed.append(error)
        self.happened()

    def link_opened(self, link: Link) -> None:
        self.links.append(link)
        self.happened()

    def link_received(self, link: Link, message: Message) -> None:
        self.received.append(message)
        self._answer(link, message)
        self.happened()

    def link_garbled(self, link: Link, error: WireError) -> None:
        self.garbled.append(error)
        self.happened()

    def link_closed(self, link: Link, reason: str) -> None:
        self.closed.append(reason)
        self.happened()


class Client(Changes):
    """A `ConnectionManager` and what it told."""

    def __init__(
        self,
        port: int,
        *,
        host: str = HOST,
        backoff: Backoff = QUICK,
        log: FilteringBoundLogger | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__()
        self.opened = 0
        self.received: list[Message] = []
        self.closed: list[str] = []
        self.failed: list[str] = []
        self.manager = ConnectionManager(
            "Central",
            Address(host, port),
            on_open=self._on_open,
            on_message=lambda message: self._keep(self.received, message),
            on_closed=lambda reason: self._keep(self.closed, reason),
            on_failed_attempt=lambda reason: self._keep(self.failed, reason),
            now_s=time.monotonic,
            backoff=backoff,
            trace=None,
            log=log if log is not None else silent_log(),
            tls=tls,
        )

    def _on_open(self) -> None:
        self.opened += 1
        self.happened()

    def _keep(self, kept: list[Any], what: object) -> None:
        kept.append(what)
        self.happened()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Client]:
        task = asyncio.create_task(self.manager.run())
        try:
            yield self
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            self.manager.drop()


def capturing_log() -> tuple[FilteringBoundLogger, Callable[[], list[str]]]:
    """A log, and the events that have been said in it."""
    capture = structlog.testing.CapturingLogger()
    log: FilteringBoundLogger = structlog.wrap_logger(
        capture, processors=[], wrapper_class=structlog.make_filtering_bound_logger(0)
    )
    return log, lambda: [str(call.kwargs["event"]) for call in capture.calls]


def silent_log() -> FilteringBoundLogger:
    log: FilteringBoundLogger = structlog.wrap_logger(
        structlog.ReturnLogger(), wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL)
    )
    return log


@asynccontextmanager
async def serving(
    recorder: Recorder, port: int = 0, trace: Trace | None = None, **settings: Any
) -> AsyncIterator[int]:
    server = await serve(recorder, HOST, port, trace, **settings)
    try:
        yield port_of(server)
    finally:
        server.close()
        for link in recorder.links:
            link.close()


@asynccontextmanager
async def raw_client(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    async with asyncio.timeout(DEADLINE_S):
        reader, writer = await asyncio.open_connection(HOST, port, limit=2**20)
        try:
            yield reader, writer
        finally:
            writer.close()


async def read_message(reader: asyncio.StreamReader) -> dict[str, Any]:
    line = await reader.readline()
    assert line.endswith(b"\n"), f"no whole line, but {line!r}"
    message = json.loads(line)
    assert isinstance(message, dict)
    return message


def beat(cp_id: str = "CP001") -> HeartbeatRequest:
    return HeartbeatRequest(message_id=new_id(), timestamp=datetime.now(UTC), cp_id=cp_id)


def answer_beats(link: Link, message: Message) -> None:
    link.send(HeartbeatResponse(message_id=new_id(), timestamp=datetime.now(UTC), in_reply_to=message.message_id))
