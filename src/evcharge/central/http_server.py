"""HTTP's sockets: uvicorn, with an end to its patience. It alone would wait for ever for the rest of a request and
for a peer that does not read, and take any number of connections."""

import asyncio
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from typing import Any

import uvicorn
from structlog.typing import FilteringBoundLogger
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from evcharge.central.http_door import HEADERS, MAX_HEAD_BYTES, App, Door, NameOf, nobody, problem
from evcharge.errors import AddressInUse
from evcharge.limits import network_of
from evcharge.transport.tcp import Address

BACKLOG = 2048
GRACE_S = 2
HANDSHAKE_S = 10.0
PATIENCE_S = 30.0
"""With the rest of a request, and with a peer that reads nothing."""

MAX_REQUEST_BYTES = 1024 * 1024
"""Of all that comes until a request is whole: more than any that is taken, as a body is refused before."""
CONNECTIONS_IN_ALL = 1000
CONNECTIONS_EACH = 200
LOOK_EVERY_TICKS = 10


class HttpServer:
    """Takes its address at once; raises `AddressInUse`. `answers` counts by status; `name_of` is the `Door`'s."""

    def __init__(
        self,
        address: Address,
        app: App,
        answers: Counter[int],
        log: FilteringBoundLogger,
        tls: ssl.SSLContext | None = None,
        name_of: NameOf = nobody,
    ) -> None:
        self._socket = _listening(address)
        _take_over_log(log)
        config = uvicorn.Config(
            Door(app, answers, name_of),
            lifespan="off",
            log_config=None,
            access_log=False,
            ws="none",
            server_header=False,
            # A proxy on this machine says for whom it asks; nobody else is believed.
            proxy_headers=True,
            forwarded_allow_ips=["127.0.0.1", "::1"],
            timeout_graceful_shutdown=GRACE_S,
        )
        self._server = _Server(config, answers, tls)

    @property
    def port(self) -> int:
        return int(self._socket.getsockname()[1])

    async def run(self) -> None:
        """Serve until `stop`."""
        await self._server.serve(sockets=[self._socket])

    def stop(self) -> None:
        self._server.should_exit = True


def _listening(address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    taken = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # else asyncio sets no TCP_NODELAY
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind((address.host, address.port))
        taken.listen(BACKLOG)  # here, as two may bind to one address as long as neither listens
    except (OSError, UnicodeError) as problem:
        taken.close()
        cause = problem.strerror if isinstance(problem, OSError) and problem.strerror else str(problem)
        raise AddressInUse(
            f"cannot listen on {address} for HTTP: {cause}; choose another with --http, or say off"
        ) from None
    return taken


class _Server(uvicorn.Server):
    """In a loop that is not its own: the signals are the program's."""

    def __init__(self, config: uvicorn.Config, answers: Counter[int], tls: ssl.SSLContext | None) -> None:
        super().__init__(config)
        self._answers = answers
        self._tls = tls

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, with our connections, and an end to a handshake."""
        connection = partial(Connection, self.config, self.server_state, self._answers)
        handshake_s = HANDSHAKE_S if self._tls is not None else None
        loop = asyncio.get_running_loop()
        self.servers = [
            await loop.create_server(connection, sock=taken, ssl=self._tls, ssl_handshake_timeout=handshake_s)
            for taken in sockets or []
        ]
        self.started = True

    async def on_tick(self, counter: int) -> bool:
        if counter % LOOK_EVERY_TICKS == 0:
            now_s = asyncio.get_running_loop().time()
            for connection in list(self.server_state.connections):
                if isinstance(connection, Connection):
                    connection.cut_off_if_late(now_s)
        return await super().on_tick(counter)


class Connection(HttpToolsProtocol):
    def __init__(self, config: uvicorn.Config, state: ServerState, answers: Counter[int]) -> None:
        super().__init__(config, state, {})
        self._answers = answers
        self._asking_since_s: float | None = None
        """When the request began that is not whole yet."""
        self._stuck_since_s: float | None = None
        """Since when the peer has not read what waits for it."""
        self._in_head = False
        self._request_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._asking_since_s = self.loop.time()
        if len(self.connections) > CONNECTIONS_IN_ALL or self._of_this_peer() > CONNECTIONS_EACH:
            self._end(503, "too_many_connections", "too many connections; close some, or come back later")

    def _of_this_peer(self) -> int:
        peer = self._peer()
        return sum(other._peer() == peer for other in self.connections if isinstance(other, Connection))

    def _peer(self) -> str:
        return network_of(self.client[0]) if self.client is not None else ""

    # Until a request is whole

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self._asking_since_s is None:
            self._asking_since_s = self.loop.time()
        super().data_received(data)
        if self._asking_since_s is None:
            return
        self._request_bytes += len(data)
        if self._in_head and self._request_bytes > MAX_HEAD_BYTES:
            self._end(431, "too_large", f"the headers have more than {MAX_HEAD_BYTES} bytes")
        elif self._request_bytes > MAX_REQUEST_BYTES:
            self._end(413, "too_large", f"the request has more than {MAX_REQUEST_BYTES} bytes")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._asking_since_s = self._asking_since_s or self.loop.time()
        self._in_head, self._request_bytes = True, 0

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # Not one that follows the body: uvicorn would add it, and any number, to those before.
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._asking_since_s = None

    def send_400_response(self, msg: str) -> None:
        self._end(400, "invalid_field", "this is no HTTP request")

    # The end of patience

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stuck_since_s = None

    def cut_off_if_late(self, now_s: float) -> None:
        if self.transport.is_closing() or self.flow.write_paused:
            self._stuck_since_s = self._stuck_since_s or now_s
            if now_s - self._stuck_since_s > PATIENCE_S:
                self.transport.abort()
        elif self._asking_since_s is not None and now_s - self._asking_since_s > PATIENCE_S:
            self._end(408, "too_slow", f"no whole request came within {PATIENCE_S:g} s")

    def _end(self, status: int, code: str, reason: str) -> None:
        """Say so, unless another answer is under way, and close."""
        if self.cycle is None or self.cycle.response_complete:
            self._answers[status] += 1
            body = problem(code, reason)
            headers = [
                *HEADERS,
                (b"content-type", b"application/json"),
                (b"content-length", str(len(body)).encode()),
                (b"connection", b"close"),
            ]
            line = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n".encode()
            self.transport.write(line + b"".join(b"%s: %s\r\n" % header for header in headers) + b"\r\n" + body)
        self.transport.close()


class _OurLog(logging.Handler):
    """What uvicorn has to tell, in Central's log; what strangers do wrong is counted, and no more."""

    def __init__(self, log: FilteringBoundLogger) -> None:
        super().__init__(logging.ERROR)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        about: dict[str, Any] = {"exc_info": record.exc_info} if record.exc_info else {}
        self._log.error("bug", message=record.getMessage().strip(), **about)


def _take_over_log(log: FilteringBoundLogger) -> None:
    theirs = logging.getLogger("uvicorn")
    theirs.handlers, theirs.propagate = [_OurLog(log)], False
