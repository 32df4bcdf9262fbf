"""What of the operators' interface takes too long, or a fault of ours, to be seen from outside."""

import asyncio
import re
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from sqlite3 import connect
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import structlog
from litestar import Litestar
from litestar.testing import TestClient
from structlog.testing import CapturingLogger

from evcharge.central.board import Board
from evcharge.central.console import AdminCLI
from evcharge.central.desk import Desk
from evcharge.central.health import health_of
from evcharge.central.http import event_lines, make_app
from evcharge.central.http_access import TokenLookups
from evcharge.central.http_page import page_of
from evcharge.central.orders import Orders
from evcharge.central.receipts import Backlog
from evcharge.console.events import EventLog
from evcharge.domain.charge_point import hash_key
from evcharge.domain.commands import Actor, Command, Role, SetService
from evcharge.errors import InternalError, UnknownChargePoint
from evcharge.protocol.operators import Changes
from evcharge.storage.books import Books
from evcharge.storage.database import open_database
from evcharge.storage.registry import Registry, Token

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
            books=Books(open_database(path), ZoneInfo("UTC")),
            threads=threads,
            health_now=lambda: health_of(None, True, False, Backlog(), NOW),
            zone=ZoneInfo("UTC"),
        )


async def no_metrics() -> bytes:
    return b""


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
    # At the next look at the token, which is overdue where the removal has taken long.
    assert lines[1:] in ([], [b": nothing new\n\n"])


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

    app = make_app(desk, no_metrics, structlog.get_logger())
    with TestClient(app) as client:
        for page in ("/v1/sessions", "/v1/sessions.csv", "/v1/revenue"):
            response = client.get(page, headers={"Authorization": "Bearer secret"})
            assert response.status_code == 503, page
            assert response.json()["code"] == "unavailable"
            assert "could not be read: no such table: sessions" in response.json()["reason"]


@pytest.mark.parametrize("given", ["Basic \u00e9", "Basic ////", "Basic /w==", "Bearer", "Bearer \u00e9", "x", ""])
def test_an_authorization_that_makes_no_sense_is_no_token(desk: Desk, given: str) -> None:
    log = CapturingLogger()
    with TestClient(make_app(desk, no_metrics, structlog.wrap_logger(log, processors=[]))) as client:
        response = client.get("/v1/charge-points", headers=[(b"authorization", given.encode("latin-1"))])
        assert (response.status_code, response.json()["code"]) == (401, "not_authenticated")
    assert not log.calls


def test_a_bug_met_by_a_command_is_no_refusal(desk: Desk) -> None:
    async def fail(actor: Actor, command: Command) -> object:
        raise InternalError("Central failed at this command")

    app = make_app(replace(desk, order=fail), no_metrics, structlog.get_logger())
    with TestClient(app) as client:
        response = client.put(
            "/v1/network/service", json={"out_of_service": True}, headers={"Authorization": "Bearer secret"}
        )
    assert (response.status_code, response.json()["code"]) == (500, "internal_error")


def test_wrong_tokens_wait_and_a_right_one_never_does(desk: Desk, registry: Registry) -> None:
    log = CapturingLogger()
    app = make_app(desk, no_metrics, structlog.wrap_logger(log, processors=[]))

    def ask(client: "TestClient[Litestar]", token: str) -> int:
        response = client.get("/v1/audit", headers={"Authorization": f"Bearer {token}"})
        if response.status_code == 429:
            assert int(response.headers["Retry-After"]) >= 1
        return response.status_code

    with TestClient(app) as client:
        assert [ask(client, f"guess-{number}") for number in range(10)] == [401] * 10
        assert ask(client, "guess") == 429
        assert client.get("/v1/audit").status_code == 401, "who sends none is told to send one"
        assert ask(client, "secret") == 200, "the first time, too"
        assert ask(client, "guess") == 401, "and a right one ends the wait"
        registry.add_token("bo", Role.VIEWER, hash_key("new"), MARIA, NOW)
        assert [ask(client, "guess") for _ in range(9)] == [401] * 9
        assert ask(client, "guess") == 429
        assert ask(client, "new") == 200, "also one that has just been made"
    warnings = [call for call in log.calls if call.kwargs["event"] == "wrong_tokens"]
    assert len(warnings) == 1, "once a minute"
    assert warnings[0].kwargs["address"] == "unknown"
    assert "guess" not in str(log.calls)


def test_a_flood_of_wrong_tokens_is_looked_up_in_few_looks(desk: Desk) -> None:
    looks: list[set[str]] = []

    class Counting(Registry):
        def tokens_with(self, hashes: Collection[str]) -> dict[str, Token]:
            looks.append(set(hashes))
            return super().tokens_with(hashes)

    async def flood() -> list[Token | None]:
        tokens = TokenLookups(replace(desk, registry=Counting(desk.books._engine)))
        guesses = [tokens.find(f"guess-{number}") for number in range(1000)]
        return list(await asyncio.gather(*guesses, tokens.find("secret")))

    found = asyncio.run(flood())
    assert [token.name for token in found if token is not None] == ["maria"]
    assert len(looks) <= 2


def test_a_removed_token_waits_as_all_others_do(desk: Desk, registry: Registry) -> None:
    with TestClient(make_app(desk, no_metrics, structlog.get_logger())) as client:
        headers = {"Authorization": "Bearer secret"}
        assert client.get("/v1/audit", headers=headers).status_code == 200
        registry.remove_token("maria", MARIA, NOW)
        statuses = [client.get("/v1/audit", headers=headers).status_code for _ in range(11)]
        assert statuses == [401] * 10 + [429]


@pytest.mark.parametrize("where", ["/v1/totals", "/v1/charge-points/CP001/price", "/metrics", "/docs"])
def test_without_a_token_even_to_ask_what_may_be_asked_is_refused(desk: Desk, where: str) -> None:
    with TestClient(make_app(desk, no_metrics, structlog.get_logger())) as client:
        response = client.options(where)
        assert (response.status_code, response.json()["code"]) == (401, "not_authenticated")
        assert client.options(where, headers={"Authorization": "Bearer secret"}).status_code == 204


@pytest.mark.parametrize(
    ("method", "where", "body"),
    [
        ("PUT", "/v1/network/service", b'{"out_of_service": 1}'),
        ("PUT", "/v1/charge-points/CP001/service", b'{"out_of_service": "true"}'),
        ("PUT", "/v1/charge-points/CP001/service", b'{"out_of_service": null}'),
        ("PUT", "/v1/charge-points/CP001/service", b""),
        ("PUT", "/v1/charge-points/CP001/service", b'{"out_of_service": true'),
        ("PUT", "/v1/charge-points/CP001/service", b'"\xff"'),
        ("POST", "/v1/charge-points/CP001/start", b'{"driver_id": "ana", "energy_wh": "5000"}'),
        ("POST", "/v1/charge-points/CP001/start", b'{"driver_id": "ana", "energy_wh": 5000.5}'),
        ("PUT", "/v1/charge-points/CP001/price", b'{"price_per_kwh": true}'),
        ("POST", "/v1/drivers", b"[" * 8000 + b"]" * 8000),
        ("PUT", "/v1/network/service", b'{"out_of_service": ' + b'{"a":' * 2000 + b"1" + b"}" * 2001),
    ],
    ids=lambda value: value[:40] if isinstance(value, str | bytes) else "",
)
def test_a_body_that_is_not_as_described_is_refused_in_a_sentence(
    desk: Desk, method: str, where: str, body: bytes
) -> None:
    log = CapturingLogger()
    with TestClient(make_app(desk, no_metrics, structlog.wrap_logger(log, processors=[]))) as client:
        response = client.request(method, where, content=body, headers={"Authorization": "Bearer secret"})
    assert (response.status_code, response.json()["code"]) == (400, "invalid_field"), response.text
    assert ("the body is " in response.json()["reason"]) or not body
    assert not log.calls


PRICE = "/v1/charge-points/CP001/price"
OF_PYTHON = re.compile(r"regex|\\\\|\$|`(?:str|int|bool|float|object|array)`|codec|Expected|Invalid|Object")
"""What no sentence for people has, whatever Central is written in."""


@pytest.mark.parametrize(
    ("method", "where", "body", "sentence"),
    [
        *(
            ("PUT", PRICE, f'{{"price_per_kwh": {price}}}'.encode(), "in plain notation")
            for price in (
                '"1_0"',
                '"٠.٣"',
                '" 0.30"',
                '".5"',
                '"+0.30"',
                '"3e-1"',
                "3e-1",
                '"2000"',
                "null",
                '"x"',
            )
        ),
        ("PUT", PRICE, b'{"price_per_kwh": "1", "\xff": 1}', "the body is not in UTF-8, at byte"),
        ("PUT", PRICE, b'{"price_per_kwh": "1", "currency": "euro"}', "`currency` must be a currency"),
        ("PUT", PRICE, b"{}", "`price_per_kwh` is missing"),
        ("PUT", PRICE, b'{"price_per_kwh": "1", "prize": 1}', "there is no field `prize`"),
        ("PUT", PRICE, b"[1]", "it must be an object"),
        ("PUT", PRICE, b"{", "the body is not valid JSON"),
        ("POST", "/v1/charge-points", b'{"cp_id": "a b"}', "`cp_id` must be an id, of 1 to 64"),
        ("POST", "/v1/drivers", b'{"driver_id": 5}', "`driver_id` must be an id, of 1 to 64"),
        (
            "POST",
            "/v1/charge-points/A/start",
            b'{"driver_id": "a", "energy_wh": 0}',
            "must be an integer from 1 to",
        ),
        ("POST", "/v1/charge-points/A/start", b'{"driver_id": "a", "request_id": "x"}', "must be a UUID such as"),
        ("GET", "/v1/charge-points?limit=x", b"", "limit: must be an integer"),
        ("GET", "/v1/charge-points?limit=0", b"", "limit: must be an integer of at least 1"),
        ("GET", "/v1/charge-points?limit=1001", b"", "limit: must be an integer of at most 1000"),
        ("GET", "/v1/charge-points?status=x", b"", "status: there is no 'x' to choose"),
        ("GET", "/v1/charge-points/a%20b", b"", "cp_id: must be an id, of 1 to 64"),
        ("GET", "/v1/sessions?before=x", b"", "before: must be the `next_before` of a page"),
        ("GET", "/v1/revenue?since=20261101", b"", "since: must be a day such as 2026-11-30"),
        ("GET", "/v1/faults?uncleared=x", b"", "uncleared: must be true or false"),
        ("GET", "/v1/charge-points?after=" + "x" * 65, b"", "after: must have at most 64 characters"),
    ],
)
def test_a_refusal_is_a_sentence_in_words_of_ours(
    desk: Desk, method: str, where: str, body: bytes, sentence: str
) -> None:
    with TestClient(make_app(desk, no_metrics, structlog.get_logger())) as client:
        response = client.request(method, where, content=body, headers={"Authorization": "Bearer secret"})
    assert response.status_code == 400, response.text
    assert sentence in response.json()["reason"]
    assert not OF_PYTHON.search(response.json()["reason"]), response.text


def test_what_a_careless_program_makes_of_a_charge_point_with_dots_is_no_command(desk: Desk) -> None:
    async def refuse(actor: Actor, command: Command) -> object:
        assert isinstance(command, SetService)
        assert command.cp_id == ".."
        raise UnknownChargePoint("there is no charge point ..")

    with TestClient(make_app(replace(desk, order=refuse), no_metrics, structlog.get_logger())) as client:
        for path in ("/v1/service", "/v1/charge-points/../service", "/v1/charge-points/%2E%2E/service"):
            response = client.put(path, json={"out_of_service": True}, headers={"Authorization": "Bearer secret"})
            assert response.status_code == 404, path
    assert response.json() == {"code": "unknown_charge_point", "reason": "there is no charge point .."}


def test_a_body_from_an_edited_file_may_begin_with_a_byte_order_mark(desk: Desk) -> None:
    with TestClient(make_app(desk, no_metrics, structlog.get_logger())) as client:
        body = b'\xef\xbb\xbf{"driver_id": "ana"}\r\n'
        response = client.post("/v1/drivers", content=body, headers={"Authorization": "Bearer secret"})
    assert response.status_code == 201, response.text


def test_who_exports_is_in_the_audit_with_what_was_chosen(desk: Desk) -> None:
    with TestClient(make_app(desk, no_metrics, structlog.get_logger())) as client:
        headers = {"Authorization": "Bearer secret"}
        assert client.get("/v1/sessions.csv?cp_id=CP001", headers=headers).status_code == 200
        entry = client.get("/v1/audit", headers=headers).json()["audit"][0]
    assert (entry["actor"], entry["via"], entry["action"]) == ("maria", "http", "export")
    assert (entry["target"], entry["after"]) == ("sessions", {"cp_id": "CP001"})


def test_an_export_is_private_and_may_lie_at_home(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    console = AdminCLI(desk, EventLog(), title="", quit_help="")
    assert asyncio.run(console.commands.answer("export ~/all.csv")).startswith("written: ")
    assert (tmp_path / "all.csv").stat().st_mode & 0o777 == 0o600
    assert "is there already" in asyncio.run(console.commands.answer("export ~/all.csv"))


def test_the_page_has_all_that_is_described_and_runs_nothing(desk: Desk) -> None:
    with TestClient(make_app(desk, no_metrics, structlog.get_logger())) as client:
        headers = {"Authorization": "Bearer secret"}
        page = client.get("/docs", headers=headers).text
        described = client.get("/docs/openapi.json", headers=headers).json()
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            assert f"<code>{method.upper()} {path}</code> {escape(operation['summary'])}" in page
    for name in described["components"]["schemas"]:
        assert f'id="{name}"' in page
    for link in re.findall(r'href="?#([^">]+)', page):
        assert f'id="{link}"' in page
    for active in ("<script", "<img", "<link", "http:", "https:", "onload", "javascript"):
        assert active not in page


def test_what_is_described_never_becomes_markup() -> None:
    bad = "<script>alert(1)</script>"
    schema = {"type": bad, "pattern": bad, "description": bad, "properties": {bad: {"$ref": f"#/x/{bad}"}}}
    parameter = {"name": bad, "in": bad, "schema": schema}
    answer = {"description": bad, "content": {bad: {"schema": {"anyOf": [schema, {"type": "array"}]}}}}
    operation = {"summary": bad, "parameters": [parameter], "responses": {bad: answer}}
    described = {
        "info": {"title": bad, "version": bad, "description": bad},
        "paths": {bad: {bad: operation}},
        "components": {"schemas": {bad: schema}},
    }
    assert "<script>" not in page_of(described)
