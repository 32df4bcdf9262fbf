"""What of the operators' interface takes too long, or a fault of ours, to be seen from outside."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from sqlite3 import connect
from typing import Any

import pytest
import structlog
from litestar.testing import TestClient
from structlog.testing import CapturingLogger

from evcharge.central.board import Board
from evcharge.central.desk import Desk
from evcharge.central.http import event_lines, make_app
from evcharge.central.orders import Orders
from evcharge.domain.charge_point import hash_key
from evcharge.domain.commands import Actor, Role
from evcharge.protocol.operators import Changes
from evcharge.storage.books import Books
from evcharge.storage.database import open_database
from evcharge.storage.registry import Registry

NOW = datetime(2026, 5, 4, 8, 0, tzinfo=UTC)
MARIA = Actor("maria", "command line")
SOON_S = 0.02


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "evcharge.db"


@pytest.fixture
def registry(path: Path) -> Registry:
    registry = Registry(open_database(path))
    registry.add_token("maria", Role.OPERATOR, hash_key("secret"), MARIA, NOW)
    return registry


@pytest.fixture
def desk(path: Path, registry: Registry) -> Iterator[Desk]:
    """Of a network without charge points, whose worker only answers looks."""
    nothing = Changes(as_of=NOW, charge_points=[], removed_cp_ids=[], events=[])
    board = Board(lambda: asyncio.get_running_loop().call_soon(lambda: board.take(nothing)), nothing)
    with ThreadPoolExecutor(1) as threads:
        yield Desk(
            actor=MARIA,
            order=Orders(lambda _: None).place,
            board=board,
            registry=registry,
            books=Books(open_database(path)),
            threads=threads,
            kafka_works=lambda: True,
            database_works=lambda: True,
        )


def lines_until_the_end(desk: Desk, after_the_first: Any) -> list[bytes]:
    async def follow() -> list[bytes]:
        lines = []
        async with asyncio.timeout(10):
            async for line in event_lines(desk, "secret", SOON_S):
                lines.append(line)
                if len(lines) == 1:
                    after_the_first()
                if len(lines) == 5:
                    desk.board.stop()
        return lines

    return asyncio.run(follow())


def test_a_stream_ends_soon_after_its_token_has_been_removed(desk: Desk, registry: Registry) -> None:
    lines = lines_until_the_end(desk, lambda: registry.remove_token("maria", MARIA, NOW))
    assert lines[0].startswith(b"data: {")
    assert lines[1:] == [b": nothing new\n\n"]


def test_a_stream_shows_that_it_lives_until_it_ends(desk: Desk) -> None:
    first, *others = lines_until_the_end(desk, lambda: None)
    assert first.startswith(b"data: {")
    assert others == [b": nothing new\n\n"] * 4


def test_a_stream_goes_on_while_its_token_cannot_be_looked_up(desk: Desk, path: Path) -> None:
    def break_database() -> None:
        with closing(connect(path)) as database, database:
            database.execute("DROP TABLE tokens")

    assert len(lines_until_the_end(desk, break_database)) == 5


def test_a_bug_met_by_one_request_is_logged_and_told_in_a_sentence(desk: Desk) -> None:
    async def broken() -> bytes:
        raise ZeroDivisionError("too few viewers")

    log = CapturingLogger()
    app = make_app(desk, broken, structlog.wrap_logger(log, processors=[]))
    headers = {"Authorization": "Bearer secret"}
    with TestClient(app, raise_server_exceptions=False) as client:
        response = client.get("/metrics", headers=headers)
        assert response.status_code == 500
        assert response.json() == {
            "code": "internal_error",
            "reason": "Central failed at this request: ZeroDivisionError('too few viewers')",
        }
        assert client.get("/healthz").status_code == 200
    (call,) = log.calls
    assert (call.method_name, call.kwargs["event"], call.kwargs["message"]) == ("error", "bug", "GET /metrics")
    assert "ZeroDivisionError: too few viewers" in call.kwargs["traceback"]
    assert "secret" not in call.kwargs["traceback"]


def test_a_database_that_cannot_be_read_is_told_with_503(desk: Desk, path: Path) -> None:
    with closing(connect(path)) as database, database:
        database.execute("DROP TABLE sessions")

    async def no_metrics() -> bytes:
        return b""

    app = make_app(desk, no_metrics, structlog.get_logger())
    with TestClient(app) as client:
        for page in ("/v1/sessions", "/v1/sessions.csv", "/v1/revenue"):
            response = client.get(page, headers={"Authorization": "Bearer secret"})
            assert response.status_code == 503, page
            assert response.json()["code"] == "unavailable"
            assert "could not be read: no such table: sessions" in response.json()["reason"]
