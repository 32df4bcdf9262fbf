"""Many charge points on sockets, in one process that costs less than whoever serves them.

    python bench/socket_crowd.py ocpp|evcharge PORT CONNECTIONS

Connects and registers them all, each with a charge that runs, and says `{}`. Then each line that it reads is a
run: `{"what": "readings" or "heartbeats", "each": so many of each connection}`. Its messages are encoded, then
sent in rounds, one of each connection, `ROUNDS_AHEAD` rounds at the most ahead of what has been answered. When the
last answer is there, it says what that took: `{"seconds": by the clock, "processor_s": of this process}`.
"""

import asyncio
import json
import sys
import time
from typing import cast

import uvloop

from dialects import Evcharge, Frames, Lines, Ocpp, WrongAnswer
from evcharge.open_files import allow_open_files

ROUNDS_AHEAD = 4
CONNECTING_AT_ONCE = 100
DEADLINE_S = 120.0


class Tally:
    """How many answers have come to all connections."""

    def __init__(self) -> None:
        self.answers = 0
        self._wanted = 0
        self._reached: asyncio.Future[None] | None = None
        self._failure: Exception | None = None

    def add(self, answers: int) -> None:
        self.answers += answers
        if self._reached is not None and not self._reached.done() and self.answers >= self._wanted:
            self._reached.set_result(None)

    def fail(self, problem: Exception) -> None:
        self._failure = problem
        if self._reached is not None and not self._reached.done():
            self._reached.set_exception(problem)

    async def until(self, answers: int) -> None:
        """Wait until so many have come in all."""
        if self._failure is not None:
            raise self._failure
        if self.answers < answers:
            self._wanted, self._reached = answers, asyncio.get_running_loop().create_future()
            async with asyncio.timeout(DEADLINE_S):
                await self._reached


class Connection(asyncio.Protocol):
    def __init__(self, parser: Lines | Frames, tally: Tally) -> None:
        self._parser = parser
        self._tally = tally

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            answers, back = self._parser.take(data)
        except WrongAnswer as problem:
            self._tally.fail(problem)
            return
        self._tally.add(answers)
        if back:
            self.transport.write(back)

    def connection_lost(self, exc: Exception | None) -> None:
        self._tally.fail(WrongAnswer(f"a connection was closed: {exc}"))


async def crowd(dialect: Evcharge | Ocpp, port: int, connections: int) -> None:
    loop = asyncio.get_running_loop()
    tally = Tally()
    transports: list[asyncio.Transport] = []
    expected = 0
    for number in range(connections):
        _, connection = await loop.create_connection(
            lambda: Connection(dialect.parser(), tally), "127.0.0.1", port
        )
        hello, answers = dialect.hello(number)
        connection.transport.write(hello)
        transports.append(connection.transport)
        expected += answers
        if number % CONNECTING_AT_ONCE == 0:
            await tally.until(expected)
    await tally.until(expected)
    print("{}", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        rounds = dialect.rounds(**json.loads(line))
        through = tally.answers
        begun_s, used_s = time.monotonic(), time.process_time()
        for number, now in enumerate(rounds):
            if number >= ROUNDS_AHEAD:
                through += rounds[number - ROUNDS_AHEAD].answers
                await tally.until(through)
            for transport, message in zip(transports, now.messages, strict=True):
                transport.write(message)
        await tally.until(through + sum(now.answers for now in rounds[-ROUNDS_AHEAD:]))
        took = {"seconds": time.monotonic() - begun_s, "processor_s": time.process_time() - used_s}
        print(json.dumps(took), flush=True)


if __name__ == "__main__":
    count = int(sys.argv[3])
    allow_open_files(count + 100)
    speaks = Ocpp(count) if sys.argv[1] == "ocpp" else Evcharge(count)
    uvloop.run(crowd(speaks, int(sys.argv[2]), count))
