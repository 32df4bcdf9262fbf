"""What `evcharge admin` makes of whatever answers at Central's address."""

import asyncio
from collections.abc import Awaitable, Callable
from urllib.parse import unquote

import pytest

from evcharge.central.client import CentralUnreachable, DeskClient, Refused

HTML = b"<html>Please sign in</html>"

Ask = Callable[[DeskClient], Awaitable[object]]


async def watched(desk: DeskClient) -> None:
    async with desk.watch() as changes:
        async for _ in changes:
            pass


async def removed(desk: DeskClient) -> None:
    await desk.remove_driver("ana")


ASKED: dict[str, Ask] = {
    "totals": lambda desk: desk.totals(),
    "health": lambda desk: desk.health(),
    "set_service": lambda desk: desk.set_service(None, True),
    "watch": watched,
    "remove_driver": removed,
}


def answered(reply: bytes, ask: Ask) -> None:
    """Ask somebody who gives this reply to everything."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, DeskClient(f"http://127.0.0.1:{port}", "secret") as desk:
            await ask(desk)

    asyncio.run(run())


def http(status: str, body: bytes, *headers: str) -> bytes:
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


@pytest.mark.parametrize("name", ["..", ".", "a/b", "a?b#c", "é", "%2e"])
def test_no_id_leads_to_another_path(name: str) -> None:
    """Of a charge point or of a driver: what is asked is about what has been named."""
    asked: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n")).split()[1].decode())
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server, DeskClient(url, "secret") as desk:
            for ask in (
                desk.set_service(name, True),
                desk.charge_point(name),
                desk.remove_charge_point(name),
                desk.start(name, "ana"),
                desk.set_price(name, None),
                desk.remove_driver(name),
            ):
                with pytest.raises(CentralUnreachable):
                    await ask

    asyncio.run(run())
    segments = [path.split("/") for path in asked]
    assert {unquote(path[3]) for path in segments} == {name}
    assert not {".", ".."} & {part for path in segments for part in path}


@pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED.keys())
@pytest.mark.parametrize("status", ["200 OK", "302 Found", "404 Not Found", "502 Bad Gateway", "503 Unavailable"])
def test_a_page_of_somebody_else_is_refused_in_one_sentence(ask: Ask, status: str) -> None:
    if ask in (watched, removed) and status == "200 OK":
        answered(http(status, HTML), ask)  # There is nothing in it to be misled by.
        return
    with pytest.raises(
        Refused, match=f"what answers there is no Central that this evcharge knows: HTTP {status[:3]}"
    ):
        answered(http(status, HTML, "Location: https://192.0.2.1/"), ask)


@pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED.keys())
@pytest.mark.parametrize("reply", [b"", b"SSH-2.0-OpenSSH\r\n", http("200 OK", HTML)[:-5]])
def test_what_is_no_http_is_no_central(ask: Ask, reply: bytes) -> None:
    with pytest.raises(CentralUnreachable, match="no Central answers at http://127"):
        answered(reply, ask)


def test_a_central_that_is_unwell_says_so() -> None:
    body = b'{"status":"degraded","kafka":"unreachable","database":"ok","version":"1"}'
    health = []

    async def ask(desk: DeskClient) -> None:
        health.append(await desk.health())

    answered(http("503 Unavailable", body), ask)
    assert health[0].kafka == "unreachable"
