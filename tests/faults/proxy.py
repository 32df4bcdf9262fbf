"""A TCP proxy that treats what passes as a bad network does: resets, silence, delay, loss, a trickle, repeats.

All proxies of a process live in one event loop, in a thread of its own; they are told from any thread.
"""

import asyncio
import json
import random
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

Write = Callable[[bytes], Awaitable[None]]

DELAY_S = 0.3
LOSS = 0.05
RETRANSMISSION_S = (0.2, 1.0)
"""What a lost packet costs TCP: itself and all behind it wait for its return."""
TRICKLE_BYTES, TRICKLE_PAUSE_S = 40, 0.01
DATA_TYPES = ("charging_data", "charge_completion")
"""What may come in any order; of all else the protocol keeps the order of a connection."""

T = TypeVar("T")


class Carrier:
    """Carries the bytes of one direction of one connection, as they are."""

    async def carry(self, data: bytes, write: Write) -> None:
        await write(data)

    async def finish(self, write: Write) -> None:
        """Give out what was held back."""


class Delayed(Carrier):
    async def carry(self, data: bytes, write: Write) -> None:
        await asyncio.sleep(DELAY_S)
        await write(data)


class Lossy(Carrier):
    async def carry(self, data: bytes, write: Write) -> None:
        if random.random() < LOSS:
            await asyncio.sleep(random.uniform(*RETRANSMISSION_S))
        await write(data)


class Trickle(Carrier):
    async def carry(self, data: bytes, write: Write) -> None:
        for at in range(0, len(data), TRICKLE_BYTES):
            await write(data[at : at + TRICKLE_BYTES])
            await asyncio.sleep(TRICKLE_PAUSE_S)


class Lines(Carrier):
    """For those who must see whole messages; what has no end yet waits for it."""

    def __init__(self) -> None:
        self._rest = b""

    async def carry(self, data: bytes, write: Write) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            await self.carry_line(line + b"\n", write)

    async def carry_line(self, line: bytes, write: Write) -> None:
        await write(line)

    async def finish(self, write: Write) -> None:
        await write(self._rest)


class Twice(Lines):
    async def carry_line(self, line: bytes, write: Write) -> None:
        await write(line + line)


class Shuffled(Lines):
    """Readings and completions come in another order, and now and then again."""

    def __init__(self) -> None:
        super().__init__()
        self._held: list[bytes] = []

    async def carry_line(self, line: bytes, write: Write) -> None:
        if _type_of(line) not in DATA_TYPES:
            await write(line)
            return
        self._held += [line, line]
        while len(self._held) > 8:
            await write(self._held.pop(random.randrange(len(self._held))))

    async def finish(self, write: Write) -> None:
        random.shuffle(self._held)
        await write(b"".join(self._held) + self._rest)


class Connection:
    """One connection through the proxy; a hole swallows what comes, and tells neither side of the other's end."""

    def __init__(self, near: asyncio.StreamWriter, far: asyncio.StreamWriter) -> None:
        self.writers = (near, far)
        self.is_hole = False

    def reset(self) -> None:
        for writer in self.writers:
            _reset(writer)


class Proxy:
    """Listens on `port` for whoever wants to reach `target_port` on this machine."""

    def __init__(self, target_port: int, port: int) -> None:
        self.port = port
        self.target_port = target_port
        self._connections: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._cut = False
        self._way: type[Carrier] = Carrier
        self._flows = asyncio.Event()
        self._flows.set()
        self._server: asyncio.Server | None = None
        _call(self._listen())

    # What a network can do

    def reset(self) -> None:
        """Every connection is reset, and so is each new one, until `heal`."""
        _call(self._reset(cut=True))

    def reset_once(self) -> None:
        """Every connection is reset; new ones are carried."""
        _call(self._reset(cut=False))

    def open_half(self) -> None:
        """What goes over the connections that there are gets lost, and neither side hears of it; new ones work."""
        _call(self._open_half())

    def stall(self) -> None:
        """Nothing passes; all of it does, late, after `heal`: a cable that is out, and TCP behind it."""
        _call(self._set_flow(False))

    def carry_as(self, way: type[Carrier]) -> None:
        _call(self._set_way(way))

    def heal(self) -> None:
        _call(self._heal())

    def close(self) -> None:
        _call(self._close())

    # In the loop

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, backlog=4096)

    async def _reset(self, cut: bool) -> None:
        self._cut = cut
        for connection in list(self._connections):
            connection.reset()

    async def _open_half(self) -> None:
        for connection in self._connections:
            connection.is_hole = True

    async def _set_flow(self, flows: bool) -> None:
        self._flows.set() if flows else self._flows.clear()

    async def _set_way(self, way: type[Carrier]) -> None:
        self._way = way

    async def _heal(self) -> None:
        self._cut = False
        self._way = Carrier
        self._flows.set()

    async def _close(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._reset(cut=True)
        for task in list(self._tasks):
            task.cancel()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._flows.wait()
        if self._cut:
            _reset(writer)
            return
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target_port)
        except OSError:
            _reset(writer)
            return
        connection = Connection(writer, far_writer)
        self._connections.add(connection)
        pumps = [
            asyncio.ensure_future(self._pump(connection, reader, far_writer)),
            asyncio.ensure_future(self._pump(connection, far_reader, writer)),
        ]
        self._tasks.update(pumps)
        await asyncio.gather(*pumps, return_exceptions=True)
        self._tasks.difference_update(pumps)
        self._connections.discard(connection)
        # Not reset, which would take away what is still on its way.
        for each in connection.writers:
            each.close()

    async def _pump(
        self, connection: Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        async def write(data: bytes) -> None:
            await self._flows.wait()
            if not connection.is_hole:
                writer.write(data)
                await writer.drain()

        way, carrier = Carrier, Carrier()
        try:
            while data := await reader.read(65_536):
                if way is not self._way:
                    await carrier.finish(write)
                    way, carrier = self._way, self._way()
                await carrier.carry(data, write)
            await carrier.finish(write)
        except OSError:
            if not connection.is_hole:
                connection.reset()
            return
        await self._flows.wait()
        if not connection.is_hole:
            with suppress(OSError):
                writer.write_eof()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Without the two words, the other side would see an end in order."""
    sock = writer.get_extra_info("socket")
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def _type_of(line: bytes) -> object:
    try:
        return json.loads(line).get("type")
    except (ValueError, AttributeError):
        return None


_loop: asyncio.AbstractEventLoop | None = None


def _call(work: Coroutine[Any, Any, T]) -> T:
    """Run it in the proxies' loop, which the first of them starts."""
    global _loop
    if _loop is None:
        _loop = asyncio.new_event_loop()
        threading.Thread(target=_loop.run_forever, name="proxies", daemon=True).start()
    return asyncio.run_coroutine_threadsafe(work, _loop).result(10)
