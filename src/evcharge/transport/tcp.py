"""TCP links that carry one message a line: the server, and the client that reconnects by itself."""

import asyncio
import random
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Protocol, cast
from uuid import UUID

from structlog.typing import FilteringBoundLogger

from evcharge import clock
from evcharge.errors import (
    AddressInUse,
    BadJson,
    LineTooLong,
    PeerTooSlow,
    TlsFailed,
    TlsRequired,
    TooManyConnections,
    TooManyMessages,
    WireError,
)
from evcharge.limits import Allowance, Places, network_of
from evcharge.protocol import messages
from evcharge.protocol.lines import LineParser
from evcharge.protocol.messages import Message, Undecodable
from evcharge.transport.tls import TlsEnd
from evcharge.transport.trace import Trace

MAX_UNSENT_BYTES = 4 * 1024 * 1024
LINGER_S = 1.0
CONNECT_TIMEOUT_S = 10.0
HANDSHAKE_TIMEOUT_S = 10.0
PEER_CLOSED = "the peer closed the connection"
CLIENT_HELLO = b"\x16\x03"
MANY_ATTEMPTS = 30
TELL_OF_RATE_EVERY_S = 60.0


class LinkHandler(Protocol):
    """Who owns a link is told of what happens on it, always in the event loop's thread."""

    def link_failed(self, link: "Link", error: WireError) -> None:
        """A connection has come to nothing: it was never opened, and is closed."""

    def link_opened(self, link: "Link") -> None: ...

    def link_received(self, link: "Link", message: Message) -> None: ...

    def link_garbled(self, link: "Link", error: WireError) -> None:
        """The peer sent what is no message; it has been told."""

    def link_closed(self, link: "Link", reason: str) -> None: ...


class Link(asyncio.Protocol):
    """One connection. Bad messages are answered here, with an `error_response`, and harm no later one."""

    def __init__(
        self,
        handler: LinkHandler,
        trace: Trace | None,
        tls: TlsEnd | None = None,
        places: Places | None = None,
        allowance: Allowance | None = None,
    ) -> None:
        self._allowance = allowance
        self._next_told_s = 0.0
        self._over_rate = self._paused = False
        self._places = places
        self._has_place = False
        self._handler = handler
        self._trace = trace
        self._tls = tls
        self._parser = LineParser()
        self._transport: asyncio.Transport | None = None
        self._heard = self._opened = False
        self._patience: asyncio.TimerHandle | None = None
        self._failure: WireError | None = None
        self._closing_reason: str | None = None
        self.peer = self.host = "?"
        self.certified: str | None = None
        """Whose certificate the peer has shown; None without one."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods of asyncio's, but not its base class.
        self._transport = cast(asyncio.Transport, transport)
        match transport.get_extra_info("peername"):
            case (str() as host, int() as port, *_):
                self.host = host
                self.peer = str(Address(host, port))
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._places is not None:
            self._has_place = self._places.take(network_of(self.host))
            if not self._has_place:
                error = TooManyConnections(
                    f"there are too many connections, in all or from {self.host}; try later"
                )
                self._fail(error, _in_plain(error))
                return
        if self._tls is None:
            self._open()
            return
        slow = TlsFailed(f"no TLS handshake with {self.peer} within {HANDSHAKE_TIMEOUT_S:g} s")
        self._patience = asyncio.get_running_loop().call_later(HANDSHAKE_TIMEOUT_S, self._fail, slow)
        self._transport.write(self._tls.to_send())

    def _open(self) -> None:
        self._opened = True
        if self._patience is not None:
            self._patience.cancel()
        if self._tls is not None:
            self.certified = self._tls.peer_name()
        self._handler.link_opened(self)

    def data_received(self, data: bytes) -> None:
        if self._closing_reason is not None:
            return
        if self._tls is not None:
            data = self._decrypted(self._tls, data)
        elif not self._heard and data.startswith(CLIENT_HELLO):
            error = TlsFailed("this port speaks no TLS; connect without (a Monitor: no --tls-ca)")
            self._fail(error, _in_plain(error))
            return
        self._heard = True
        if data:
            self._parser.receive_data(data)
            self._take_frames()
        if self._tls is not None and self._tls.ended:
            self.eof_received()
            self._close(PEER_CLOSED)

    def _decrypted(self, tls: TlsEnd, data: bytes) -> bytes:
        assert self._transport is not None
        try:
            plain = tls.receive(data)
        except TlsRequired as error:
            self._fail(error, _in_plain(error))
            return b""
        except TlsFailed as error:
            self._fail(error, tls.to_send())
            return b""
        if reply := tls.to_send():
            self._transport.write(reply)
        if tls.established and not self._opened:
            self._open()
        return plain

    def _fail(self, error: WireError, last_words: bytes = b"") -> None:
        """There is no place, no TLS, or no longer."""
        if self._transport is None or self._closing_reason is not None:
            return
        self._failure = error
        if self._opened:
            self._handler.link_garbled(self, error)
        self._end(self._transport, error, last_words)

    def eof_received(self) -> None:
        if self._closing_reason is None:
            self._parser.receive_eof()
            self._take_frames()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._places is not None and self._has_place:
            self._places.leave(network_of(self.host))
        if self._patience is not None:
            self._patience.cancel()
        if self._closing_reason is None:
            self._closing_reason = f"the connection broke: {exc}" if exc else PEER_CLOSED
        if self._opened:
            self._handler.link_closed(self, self._closing_reason)
        else:
            self._handler.link_failed(self, self._failure or TlsFailed(f"no TLS: {self._closing_reason}"))

    def _take_frames(self) -> None:
        before = self._parser.lines
        self._take_all_frames()
        if self._allowance is not None and self.is_open:
            self._keep_to(self._allowance, self._parser.lines - before)

    def _keep_to(self, allowance: Allowance, lines: int) -> None:
        """Whoever sends more than it may is read more slowly; nothing is lost."""
        loop = asyncio.get_running_loop()
        wait_s = allowance.spend(lines, loop.time())
        if wait_s == 0:
            return
        self._over_rate = True
        self._read_if_allowed()
        loop.call_later(wait_s, self._read_on)
        error = TooManyMessages(f"{self.peer} sends more messages than it may, and is read more slowly")
        self._handler.link_garbled(self, error)
        if loop.time() >= self._next_told_s:
            self._next_told_s = loop.time() + TELL_OF_RATE_EVERY_S
            self.send(messages.error_response(error.code, str(error), None, clock.now()))

    def _read_on(self) -> None:
        self._over_rate = False
        self._read_if_allowed()

    def _read_if_allowed(self) -> None:
        if self._transport is None:
            return
        wanted = not (self._paused or self._over_rate)
        if wanted and not self._transport.is_reading():
            self._transport.resume_reading()
        elif not wanted and self._transport.is_reading():
            self._transport.pause_reading()

    def _take_all_frames(self) -> None:
        while self._closing_reason is None:
            try:
                frame = self._parser.next_frame()
                if frame is None:
                    return
                if self._trace is not None:
                    self._trace.frame("in", self.peer, frame)
                message = messages.decode(frame)
            except Undecodable as bad:
                self._complain(bad.error, bad.message_id)
            except BadJson as error:
                self._complain(error, None)
            except LineTooLong as error:
                self._handler.link_garbled(self, error)
                self.close(error)
            else:
                self._handler.link_received(self, message)

    def _complain(self, error: WireError, in_reply_to: UUID | None) -> None:
        self.send(messages.error_response(error.code, str(error), in_reply_to, clock.now()))
        self._handler.link_garbled(self, error)

    @property
    def is_open(self) -> bool:
        return self._transport is not None and self._closing_reason is None

    def send(self, *batch: Message) -> bool:
        """Send in one write; False if the link is closed, or was closed because the peer does not read."""
        if self._transport is None or self._closing_reason is not None:
            return False
        lines = [messages.encode(message) for message in batch]
        if self._trace is not None:
            for line in lines:
                self._trace.frame("out", self.peer, line)
        data = b"\n".join(lines) + b"\n"
        self._transport.write(self._tls.encrypt(data) if self._tls is not None else data)
        if self._transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            error = PeerTooSlow(f"{MAX_UNSENT_BYTES} bytes wait for {self.peer} to read them")
            self._handler.link_garbled(self, error)
            self._closing_reason = str(error)
            self._transport.abort()
            return False
        return True

    def pause(self) -> None:
        """Read no more until `resume`; the peer's data waits in the sockets."""
        self._paused = True
        self._read_if_allowed()

    def resume(self) -> None:
        self._paused = False
        self._read_if_allowed()

    def close(self, error: WireError | None = None) -> None:
        """End the link, after telling the peer why."""
        if self._transport is None or self._closing_reason is not None:
            return
        if error is None:
            self._close("closed by this side")
            return
        self.send(messages.error_response(error.code, str(error), None, clock.now()))
        if self._closing_reason is None:
            self._end(self._transport, error, self._tls.end() if self._tls is not None else b"")

    def _close(self, reason: str) -> None:
        if self._transport is None or self._closing_reason is not None:
            return
        self._closing_reason = reason
        if self._tls is not None:
            self._transport.write(self._tls.end())
        self._transport.close()

    def _end(self, transport: asyncio.Transport, error: WireError, last_words: bytes) -> None:
        self._closing_reason = str(error)
        transport.write(last_words)
        # Go on reading (and ignoring) for a moment: closing at once would reset the connection while the
        # peer still sends, and take the reason away from it.
        if transport.can_write_eof():
            transport.write_eof()
        asyncio.get_running_loop().call_later(LINGER_S, transport.abort)


def _in_plain(error: WireError) -> bytes:
    """For whoever cannot, or will not, read TLS."""
    return messages.encode(messages.error_response(error.code, str(error), None, clock.now())) + b"\n"


async def serve(
    handler: LinkHandler,
    host: str,
    port: int,
    trace: Trace | None,
    *,
    tls: ssl.SSLContext | None = None,
    places: Places | None = None,
    allowance: Callable[[], Allowance] | None = None,
    backlog: int = 4096,
) -> asyncio.Server:
    """Listen on `host:port`, one handler for all links, an allowance for each; raises `AddressInUse`."""

    def link() -> Link:
        end = TlsEnd(tls, None) if tls is not None else None
        return Link(handler, trace, end, places, allowance() if allowance is not None else None)

    loop = asyncio.get_running_loop()
    try:
        return await loop.create_server(link, host, port, backlog=backlog)
    except (OSError, OverflowError, UnicodeError) as problem:
        cause = problem.strerror if isinstance(problem, OSError) and problem.strerror else str(problem)
        raise AddressInUse(f"cannot listen on {host}:{port}: {cause}; is another program there?") from None


def port_of(server: asyncio.Server) -> int:
    """The port that a server on port 0 was given."""
    return int(server.sockets[0].getsockname()[1])


@dataclass(frozen=True, slots=True)
class Address:
    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches it."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before an attempt: doubled each time, with jitter so that a crowd does not come at once."""

    first_s: float = 1.0
    longest_s: float = 30.0

    def delay_s(self, attempt: int, chance: float) -> float:
        """The wait before reconnect attempt `attempt` (from 1); `chance` in [0, 1) spreads it."""
        ceiling_s = min(self.longest_s, self.first_s * 2.0 ** min(attempt, MANY_ATTEMPTS))
        return max(self.first_s, ceiling_s * (0.5 + chance / 2))


class ConnectionManager:
    """Keeps a link to one address: connects, and connects again, until it is cancelled."""

    def __init__(
        self,
        name: str,
        address: Address,
        *,
        on_open: Callable[[], None],
        on_message: Callable[[Message], None],
        on_closed: Callable[[str], None],
        on_failed_attempt: Callable[[str], None],
        backoff: Backoff,
        trace: Trace | None,
        log: FilteringBoundLogger,
        now_s: Callable[[], float],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.name = name
        self.address = address
        self._tls = tls
        self._on_open = on_open
        self._on_message = on_message
        self._on_closed = on_closed
        self._on_failed_attempt = on_failed_attempt
        self._backoff = backoff
        self._trace = trace
        self._log = log
        self._now_s = now_s
        self._link: Link | None = None
        self._closed = asyncio.Event()
        self._hurry = asyncio.Event()
        self._held_back = False
        self._away_until_s = float("-inf")
        self._failure: WireError | None = None
        self._cause_told: str | None = None
        self.attempts = 0
        """To connect again, since the peer has last accepted us."""
        self.connected_since_s: float | None = None

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        host, port = self.address.host, self.address.port
        while True:
            while (away_s := self._away_until_s - self._now_s()) > 0:
                await self._pause(away_s)
            self._closed.clear()
            self._failure = None
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    await loop.create_connection(self._new_link, host, port)
                await self._closed.wait()
                if self._failure is not None:
                    raise self._failure
            except (OSError, TimeoutError, UnicodeError, WireError) as problem:
                cause = str(problem) or f"no answer within {CONNECT_TIMEOUT_S:g} s"
                if cause != self._cause_told:
                    self._cause_told = cause
                    self._log.warning("waiting_for_peer", peer=self.name, address=str(self.address), cause=cause)
                self._on_failed_attempt(f"{self.name} cannot be reached at {self.address}: {cause}")
            self.attempts += 1
            await self._pause(self.delay_s(random.random()))

    async def _pause(self, longest_s: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(longest_s):
                await self._hurry.wait()
        self._hurry.clear()

    def _new_link(self) -> Link:
        return Link(self, self._trace, TlsEnd(self._tls, self.address.host) if self._tls is not None else None)

    def delay_s(self, chance: float) -> float:
        """The wait before the next attempt; `chance` in [0, 1) spreads it."""
        return self._backoff.delay_s(MANY_ATTEMPTS if self._held_back else self.attempts, chance)

    def settled(self) -> None:
        """The peer has accepted us: should the link break, the first wait is a short one again."""
        self.attempts = 0
        self._held_back = False

    def hold_back(self) -> None:
        """Should the link break, the first wait is as long as any."""
        self._held_back = True

    def stay_away(self, wait_s: float) -> None:
        """Close the link, and open none for so long, unless somebody wants to `reconnect`."""
        self._away_until_s = self._now_s() + wait_s
        self.drop()

    def send(self, *batch: Message) -> bool:
        return self._link is not None and self._link.send(*batch)

    def drop(self, error: WireError | None = None) -> None:
        """Close the link, telling the peer why; `run` opens another."""
        if self._link is not None:
            self._link.close(error)

    def reconnect(self, error: WireError) -> None:
        """Close the link, telling the peer why, or cut the wait for the next attempt short: connect now."""
        self._away_until_s = float("-inf")
        self._hurry.set()
        self.drop(error)

    def link_failed(self, link: Link, error: WireError) -> None:
        self._failure = error
        self._closed.set()

    def link_opened(self, link: Link) -> None:
        self._link = link
        self._cause_told = None
        self._hurry.clear()
        self.connected_since_s = self._now_s()
        self._log.info("connected", peer=self.name, address=str(self.address))
        self._on_open()

    def link_received(self, link: Link, message: Message) -> None:
        self._on_message(message)

    def link_garbled(self, link: Link, error: WireError) -> None:
        self._log.warning("bad_message", peer=self.name, code=error.code, reason=str(error))

    def link_closed(self, link: Link, reason: str) -> None:
        self._link = None
        self.connected_since_s = None
        self._log.warning("disconnected", peer=self.name, address=str(self.address), reason=reason)
        self._on_closed(reason)
        self._closed.set()
