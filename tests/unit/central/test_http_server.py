"""HTTP's sockets, before peers that are slow, greedy or hostile; the patience is shortened."""

import asyncio
import logging
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import msgspec
import pytest
import structlog
from structlog.testing import CapturingLogger

from evcharge.central import http_server
from evcharge.central.http_door import MAX_HEAD_BYTES, REQUESTS_AT_ONCE, Door
from evcharge.central.http_server import HttpServer
from evcharge.errors import AddressInUse
from evcharge.transport.tcp import Address

SOON_S = 0.2
LOCAL = Address("127.0.0.1", 0)
MUCH = b"x" * 200_000

Answers = Counter[int]
Scene = Callable[[int, Answers], Awaitable[None]]


async def hello(scope: Any, receive: Any, send: Any) -> None:
    """What stands for the interface: /much answers with 200 MB, /headers with their names, /bug fails."""
    if scope["path"] == "/bug":
        raise ZeroDivisionError("too few viewers")
    body = await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(1000 if scope["path"] == "/much" else 0):
        await send({"type": "http.response.body", "body": MUCH, "more_body": True})
    names = b" ".join(name for name, _ in scope["headers"]) if scope["path"] == "/headers" else b""
    await send({"type": "http.response.body", "body": b"hello " + body["body"] + names})


def be_impatient(monkeypatch: pytest.MonkeyPatch, patience_s: float) -> None:
    monkeypatch.setattr(http_server, "PATIENCE_S", patience_s)
    monkeypatch.setattr(http_server, "LOOK_EVERY_TICKS", 1)


def served(scene: Scene, log: CapturingLogger | None = None) -> Answers:
    """Act the scene against a server of its own."""
    answers: Answers = Counter()

    async def act() -> None:
        told = structlog.wrap_logger(log or CapturingLogger(), processors=[])
        server = HttpServer(LOCAL, hello, answers, told)
        running = asyncio.ensure_future(server.run())
        try:
            async with asyncio.timeout(20):
                await scene(server.port, answers)
        finally:
            server.stop()
            await running

    asyncio.run(act())
    return answers


async def say(port: int, *parts: bytes) -> bytes:
    """All that is answered until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for part in parts:
        writer.write(part)
    answer = await reader.read()
    writer.close()
    return answer


def parts_of(answer: bytes) -> tuple[int, dict[str, str], dict[str, str]]:
    """Status, headers, and what the problem says."""
    head, _, body = answer.partition(b"\r\n\r\n")
    line, *lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return int(line.split(" ")[1]), headers, msgspec.json.decode(body)


GET = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"\r\n",
        b"GET / HT",
        b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
    ],
)
def test_half_a_request_is_cut_off(begun: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    be_impatient(monkeypatch, SOON_S)

    async def scene(port: int, answers: Answers) -> None:
        answer = await say(port, begun)
        if b"POST" not in begun:  # its answer is under way, so nothing can be said any more
            status, _, said = parts_of(answer)
            assert (status, said["code"]) == (408, "too_slow")
            assert answers[408] == 1

    served(scene)


def test_a_second_request_that_comes_by_halves_is_cut_off_too(monkeypatch: pytest.MonkeyPatch) -> None:
    be_impatient(monkeypatch, SOON_S)

    async def scene(port: int, answers: Answers) -> None:
        answer = await say(port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /")
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"408" in answer

    served(scene)


def test_who_reads_nothing_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    be_impatient(monkeypatch, SOON_S)

    async def act() -> None:
        server = HttpServer(LOCAL, hello, Counter(), structlog.get_logger())
        connections = server._server.server_state.connections
        running = asyncio.ensure_future(server.run())
        async with asyncio.timeout(20):
            with socket.create_connection(("127.0.0.1", server.port)) as peer:
                peer.sendall(b"GET /much HTTP/1.1\r\nHost: x\r\n\r\n")
                await until(lambda: bool(connections))
                await until(lambda: not connections)
        server.stop()
        await running

    asyncio.run(act())


async def until(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110
        await asyncio.sleep(0.01)


def test_who_reads_slowly_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    be_impatient(monkeypatch, 0.5)

    async def scene(port: int, answers: Answers) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1000)
        writer.write(b"GET /much HTTP/1.1\r\nHost: x\r\n\r\n")
        loop = asyncio.get_running_loop()
        until_s = loop.time() + 2.5
        while loop.time() < until_s:
            assert await reader.read(100_000)
            await asyncio.sleep(0.01)
        writer.close()

    served(scene)


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * (MAX_HEAD_BYTES + 1) + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX-Endless: " + b"x" * 1_000_000,
        b"GET /" + b"x" * 1_000_000,
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 200_000,
    ],
)
def test_a_head_without_end_is_refused(head: bytes) -> None:
    async def scene(port: int, answers: Answers) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head)
        status_line = await reader.readline()
        assert status_line.startswith(b"HTTP/1.1 431"), status_line
        writer.close()

    assert served(scene)[431] == 1


ENDLESS = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "begun",
    [ENDLESS + b"0\r\n" + b"A: b\r\n" * 200_000, ENDLESS + b"0\r\nA: ", ENDLESS + b"1;", ENDLESS],
    ids=["trailers", "a trailer", "a chunk's extension", "chunks"],
)
def test_a_request_without_end_is_cut_off_long_before_patience_ends(begun: bytes) -> None:
    async def scene(port: int, answers: Answers) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        more = b"1\r\nx\r\n" * 10_000 if begun == ENDLESS else b"x" * 60_000
        writer.write(begun)
        with suppress(ConnectionError):
            for _ in range(100):
                writer.write(more)
                await writer.drain()
            await reader.read()
        writer.close()

    served(scene)


def test_what_follows_a_body_is_no_header() -> None:
    async def scene(port: int, answers: Answers) -> None:
        request = ENDLESS.replace(b"/", b"/headers", 1).replace(b"x\r\n", b"x\r\nConnection: close\r\n", 1)
        answer = await say(port, request + b"0\r\nAuthorization: Bearer x\r\n\r\n")
        assert answer.endswith(b"\r\n0\r\n\r\n")
        assert b"hello host connection transfer-encoding\r\n" in answer

    served(scene)


@pytest.mark.parametrize(
    "nonsense", [b"\x16\x03\x01\x02\x00\x01\x00", b"hello\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"]
)
def test_nonsense_is_answered_counted_and_not_logged(nonsense: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    log = CapturingLogger()

    async def scene(port: int, answers: Answers) -> None:
        status, headers, said = parts_of(await say(port, nonsense))
        assert (status, said["code"]) == (400, "invalid_field")
        assert headers["x-content-type-options"] == "nosniff"

    assert served(scene, log)[400] == 1
    assert not log.calls
    assert capfd.readouterr() == ("", "")


def test_too_many_connections_of_one_are_refused_and_others_are_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "CONNECTIONS_EACH", 3)

    async def scene(port: int, answers: Answers) -> None:
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        status, _, said = parts_of(await say(port))
        assert (status, said["code"]) == (503, "too_many_connections")
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.2", 0))
        writer.write(GET)
        assert (await reader.read()).startswith(b"HTTP/1.1 200")
        for _, writer in held:
            writer.close()
            await writer.wait_closed()
        while not (await say(port, GET)).startswith(b"HTTP/1.1 200"):
            pass  # until the server has seen them go

    served(scene)


def test_every_answer_forbids_what_a_browser_might_make_of_it() -> None:
    async def scene(port: int, answers: Answers) -> None:
        answer = (await say(port, GET)).decode().lower()
        for header in ("x-content-type-options: nosniff", "cache-control: no-store", "default-src 'none'"):
            assert header in answer
        assert "server:" not in answer
        assert "strict-transport-security" not in answer

    assert served(scene) == {200: 1}


def test_one_address_gets_so_many_requests_and_health_is_always_told() -> None:
    async def scene(port: int, answers: Answers) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while answers[429] == 0:
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            if b"content-length" in head:
                assert head.startswith(b"HTTP/1.1 429")
                assert b"retry-after: 1\r\n" in head
            else:
                await reader.readuntil(b"0\r\n\r\n")
        assert answers[200] >= REQUESTS_AT_ONCE
        writer.close()
        assert (await say(port, GET.replace(b"/ ", b"/healthz "))).startswith(b"HTTP/1.1 200")
        # A proxy here asks for somebody else.
        other = GET.replace(b"Host", b"X-Forwarded-For: 192.0.2.7\r\nHost")
        assert (await say(port, other)).startswith(b"HTTP/1.1 200")

    served(scene)


def test_an_address_that_asks_too_much_takes_nothing_from_who_has_a_token_there() -> None:
    async def name_of(header: str) -> str | None:
        return "maria" if header == "Bearer right" else None

    async def asked() -> tuple[list[int], list[int]]:
        answers: Answers = Counter()
        door = Door(hello, answers, name_of, now_s=lambda: 0.0)

        async def ask(token: bytes) -> int:
            before = answers.copy()
            headers = [(b"authorization", b"Bearer " + token)]
            scope = {
                "scheme": "http",
                "method": "GET",
                "path": "/",
                "client": ("192.0.2.1", 1),
                "headers": headers,
            }
            await door(scope, receive, send)
            (status,) = answers - before
            return status

        wrong = [await ask(b"wrong") for _ in range(REQUESTS_AT_ONCE + 1)]
        return wrong, [await ask(b"right") for _ in range(REQUESTS_AT_ONCE + 1)]

    async def receive() -> Any:
        return {"body": b""}

    async def send(message: Any) -> None:
        pass

    wrong, right = asyncio.run(asked())
    assert wrong == [200] * REQUESTS_AT_ONCE + [429]
    assert right == [200] * REQUESTS_AT_ONCE + [429], "but no more than it may"


def test_a_bug_is_told_in_our_log(capfd: pytest.CaptureFixture[str]) -> None:
    log = CapturingLogger()

    async def scene(port: int, answers: Answers) -> None:
        assert (await say(port, GET.replace(b"/ ", b"/bug "))).startswith(b"HTTP/1.1 500")

    served(scene, log)
    (call,) = log.calls
    assert (call.method_name, call.kwargs["event"]) == ("error", "bug")
    assert isinstance(call.kwargs["exc_info"][1], ZeroDivisionError)
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger("uvicorn").propagate is False


def test_two_cannot_have_one_port() -> None:
    log = structlog.get_logger()
    first = HttpServer(LOCAL, hello, Counter(), log)
    with pytest.raises(AddressInUse, match=f"cannot listen on 127.0.0.1:{first.port} for HTTP"):
        HttpServer(Address("127.0.0.1", first.port), hello, Counter(), log)


@pytest.mark.parametrize("host", ["no.such.host.invalid", "192.0.2.1", "a" * 70 + ".example", "::zz"])
def test_an_address_that_is_not_ours_is_one_sentence(host: str) -> None:
    with pytest.raises(AddressInUse, match="choose another with --http, or say off"):
        HttpServer(Address(host, 0), hello, Counter(), structlog.get_logger())
