"""What operators see and do over HTTP, against the running system."""

import base64
import csv
import io
import json
import signal
import socket
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from harness import World, eventually
from test_charging import FAST, SLOW

from kafka_broker import Broker, free_port

Json = dict[str, Any]
CHANGES = ("post", "put", "delete", "patch")


def ok(response: httpx.Response, status_code: int = 200) -> Any:
    """The body of a success."""
    assert response.status_code == status_code, (
        f"{response.request.method} {response.request.url}: {response.text}"
    )
    return response.json() if response.content else None


def problem(response: httpx.Response, status_code: int) -> str:
    """The code of a refusal, which has a sentence too."""
    assert response.status_code == status_code, response.text
    body = response.json()
    assert set(body) == {"code", "reason"}
    assert body["reason"]
    return str(body["code"])


def start(operator: httpx.Client, cp_id: str, driver_id: str = "ana", **order: Any) -> str:
    """The id of the session that begins."""
    response = operator.post(f"/v1/charge-points/{cp_id}/start", json={"driver_id": driver_id, **order})
    return str(ok(response, 202)["session_id"])


def session_of(world: World, session_id: str) -> sqlite3.Row:
    (row,) = world.rows("SELECT * FROM sessions WHERE session_id = ?", uuid.UUID(session_id).hex)
    return row


def until_ended(world: World, session_id: str) -> sqlite3.Row:
    return eventually(
        lambda: row if (row := session_of(world, session_id))["ended_at"] else None, f"{session_id} has ended"
    )


def routes(viewer: httpx.Client) -> Iterator[tuple[str, str]]:
    """Each method and path of Central's own description, with ids that could be."""
    paths = ok(viewer.get("/docs/openapi.json"))["paths"]
    for path, methods in paths.items():
        real = path.format(cp_id="CP001", session_id=uuid.uuid4(), driver_id="ana", number=1)
        for method in methods:
            yield method, real


# Who may


def test_without_a_valid_token_nothing_is_told(world: World) -> None:
    central = world.central()
    token = world.token("wall", "viewer")
    viewer, stranger, liar = world.http(central, token), world.http(central), world.http(central, "wrong")
    all_routes = list(routes(viewer))
    assert len(all_routes) > 20
    for method, path in [*all_routes, ("get", "/docs"), ("get", "/docs/openapi.json")]:
        if path == "/healthz":
            assert ok(stranger.request(method, path))["status"] == "ok"
            continue
        for client in (stranger, liar):
            response = client.request(method, path)
            assert problem(response, 401) == "not_authenticated", (method, path)
            assert response.headers["WWW-Authenticate"].startswith("Bearer")
        ok(viewer.get("/v1/totals"))  # or the liar would have to wait soon
    # The very next request is refused, however often the token was good.
    ok(viewer.get("/v1/totals"))
    assert world.start("remove", "token", "remove", "wall", "--db", "evcharge.db").wait() == 0
    assert problem(viewer.get("/v1/totals"), 401) == "not_authenticated"
    assert token not in central.log + central.output


def test_a_viewer_sees_everything_and_changes_nothing(world: World) -> None:
    central = world.central()
    world.charge_point("CP001", central, engine=SLOW)
    viewer = world.http(central, world.token("wall", "viewer"))
    for method, path in routes(viewer):
        if method in CHANGES:
            for body in ({"driver_id": "ana", "out_of_service": True}, None):
                assert problem(viewer.request(method, path, json=body), 403) == "not_allowed", (method, path)
        elif not path.endswith(("/events", "/meter-values")) and "/v1/sessions/" not in path:
            expected = 404 if path == "/v1/to-settle/1" else 200  # Nothing waits.
            assert viewer.get(path).status_code == expected, path
    # An export changes nothing either, but who takes a copy is to be seen.
    assert [row["action"] for row in ok(viewer.get("/v1/audit"))["audit"]] == ["export", "add token"]


def test_a_browsers_password_is_good_for_looking_alone(world: World) -> None:
    """A browser sends it by itself, also when another's page has it ask: so nothing is changed with it."""
    central = world.central()
    token = world.token("maria")
    basic = {"Authorization": "Basic " + base64.b64encode(f"me:{token}".encode()).decode()}
    client = world.http(central)
    assert "evcharge" in client.get("/docs", headers=basic).text
    ok(client.get("/v1/totals", headers=basic))
    response = client.put("/v1/network/service", json={"out_of_service": True}, headers=basic)
    assert problem(response, 401) == "not_authenticated"
    for nonsense in ("Basic", "Basic !!!", "Basic /////w==", "Bearer", "Digest x", "x"):
        assert problem(client.get("/v1/totals", headers={"Authorization": nonsense}), 401) == "not_authenticated"


# Charges


def test_an_operator_starts_and_stops_a_charge_and_its_driver_hears_of_it(world: World) -> None:
    central = world.central()
    world.charge_point("CP001", central, engine=SLOW)
    operator = world.operator(central)
    request_id = str(uuid.uuid4())
    session_id = start(operator, "CP001", request_id=request_id)
    world.until_session("charging", least_wh=1)
    assert start(operator, "CP001", request_id=request_id) == session_id  # asked again, not started again
    busy = operator.post("/v1/charge-points/CP001/start", json={"driver_id": "bo"})
    assert problem(busy, 409) == "charge_point_busy"
    shown = ok(operator.get("/v1/charge-points/CP001"))
    assert (shown["status"], shown["available"]) == ("CHARGING", False)
    assert (shown["session"]["session_id"], shown["session"]["driver_id"]) == (session_id, "ana")
    assert world.ask("ana", "status")["session_id"] == session_id
    assert ok(operator.post(f"/v1/sessions/{session_id}/stop"), 202) == {"session_id": session_id, "reason": None}
    session = until_ended(world, session_id)
    assert (session["status"], session["end_reason"]) == ("completed", "stopped")
    assert problem(operator.post(f"/v1/sessions/{session_id}/stop"), 409) == "no_open_session"
    assert start(operator, "CP001", request_id=request_id) == session_id
    types = [
        line["message"]["type"]
        for line in central.trace()
        if line.get("topic") == "driver_responses" and line["message"]["session_id"] == session_id
    ]
    assert types[0] == "charging_status_update"
    assert types[-1] == "charge_completion_response"
    (past,) = world.ask("ana", "history")
    assert past["session_id"] == session_id
    rows = ok(operator.get("/v1/audit"))["audit"]
    assert [row["action"] for row in rows] == ["stop", "start", "add token"]
    assert {row["target"] for row in rows[:2]} == {session_id}


def test_out_of_service_refuses_drivers_while_a_running_charge_goes_on(world: World) -> None:
    central = world.central()
    world.charge_point("CP001", central, engine=SLOW)
    world.charge_point("CP002", central, engine=SLOW)
    operator = world.operator(central)
    session_id = start(operator, "CP001")
    world.until_session("charging", least_wh=1)
    out, back = {"out_of_service": True}, {"out_of_service": False}
    answer = ok(operator.put("/v1/charge-points/CP001/service", json=out))
    assert answer == {"changed_cp_ids": ["CP001"]}
    assert ok(operator.put("/v1/charge-points/CP001/service", json=out)) == {"changed_cp_ids": []}
    assert session_of(world, session_id)["ended_at"] is None
    energy_then = session_of(world, session_id)["energy_wh"]
    world.until_session("charging", least_wh=energy_then + 1)
    operator.post(f"/v1/sessions/{session_id}/stop")
    until_ended(world, session_id)
    assert "out of service" in world.ask("bo", "charge", "CP001", code=1)
    assert [cp["cp_id"] for cp in world.ask("bo", "list")] == ["CP002"]
    # All of them, and back.
    assert ok(operator.put("/v1/network/service", json=out)) == {"changed_cp_ids": ["CP002"]}
    assert world.ask("bo", "list") == []
    refused = operator.post("/v1/charge-points/CP002/start", json={"driver_id": "bo"})
    assert problem(refused, 409) == "out_of_service"
    assert ok(operator.put("/v1/network/service", json=back)) == {"changed_cp_ids": ["CP001", "CP002"]}
    assert [cp["cp_id"] for cp in world.ask("bo", "list")] == ["CP001", "CP002"]


def test_the_operators_price_is_billed_and_no_reconnect_undoes_it(world: World) -> None:
    central = world.central()
    engine, monitor = world.charge_point("CP001", central, "--price", "0.30", engine=FAST)
    operator = world.operator(central)
    response = operator.put("/v1/charge-points/CP001/price", json={"price_per_kwh": "1.25", "currency": "CHF"})
    changed = ok(response)
    assert (changed["price_per_kwh"], changed["currency"], changed["price_by_operator"]) == ("1.25", "CHF", True)
    monitor.kill()
    world.until_status("CP001", "DISCONNECTED")
    world.monitor("CP001", engine.port, central.port, "--price", "0.30", name="monitor2")
    world.until_status("CP001", "ACTIVE")
    receipt = world.ask("ana", "charge", "CP001", "--energy", "1", "--wait")
    assert (receipt["price_per_kwh"], receipt["cost"], receipt["currency"]) == ("1.25", "1.25", "CHF")
    given_back = ok(operator.delete("/v1/charge-points/CP001/price"))
    assert (given_back["price_per_kwh"], given_back["price_by_operator"]) == ("0.30", False)
    for words, code in (({"price_per_kwh": "-1"}, 400), ({"price_per_kwh": "1", "currency": "ABC"}, 400)):
        assert problem(operator.put("/v1/charge-points/CP001/price", json=words), code) == "invalid_field"
    assert problem(operator.put("/v1/charge-points/CP9/price", json={"price_per_kwh": "1"}), 404)


# Who is admitted


def test_a_charge_point_is_added_and_removed_while_its_monitor_waits(world: World) -> None:
    central = world.central(open_registration=False)
    operator = world.operator(central)
    engine = world.engine(*SLOW)
    key = ok(operator.post("/v1/charge-points", json={"cp_id": "CP001"}), 201)["key"]
    assert problem(operator.post("/v1/charge-points", json={"cp_id": "CP001"}), 409) == "already_there"
    shown = ok(operator.get("/v1/charge-points/CP001"))
    assert (shown["status"], shown["connected"], shown["last_heard_at"]) == ("DISCONNECTED", False, None)
    monitor = world.monitor("CP001", engine.port, central.port, "--key", key)
    world.until_status("CP001", "ACTIVE")
    assert operator.delete("/v1/charge-points/CP001").status_code == 204
    world.until_status("CP001", "DISCONNECTED", deadline_s=1.0)
    eventually(lambda: "CP001 has been removed" in monitor.log, "the Monitor is told why")
    assert problem(operator.get("/v1/charge-points/CP001"), 404) == "unknown_charge_point"
    assert problem(operator.delete("/v1/charge-points/CP001"), 404) == "not_there"
    assert ok(operator.get("/v1/charge-points"))["charge_points"] == []
    monitor.kill()
    new_key = ok(operator.post("/v1/charge-points", json={"cp_id": "CP001"}), 201)["key"]
    assert new_key != key
    world.monitor("CP001", engine.port, central.port, "--key", new_key, name="monitor2")
    world.until_status("CP001", "ACTIVE")
    assert key not in central.log + central.output


def test_drivers_are_added_and_removed(world: World) -> None:
    central = world.central(open_registration=False)
    operator = world.operator(central)
    key = ok(operator.post("/v1/charge-points", json={"cp_id": "CP001"}), 201)["key"]
    world.charge_point("CP001", central, "--key", key, engine=FAST)
    assert "there is no driver ana" in world.ask("ana", "charge", "CP001", code=1)
    start = operator.post("/v1/charge-points/CP001/start", json={"driver_id": "ana"})
    assert problem(start, 404) == "unknown_driver"
    keys = {}
    for driver_id in ("ana", "bo", "cy"):
        added = ok(operator.post("/v1/drivers", json={"driver_id": driver_id}), 201)
        assert added["driver_id"] == driver_id
        keys[driver_id] = added["key"]
    assert problem(operator.post("/v1/drivers", json={"driver_id": "ana"}), 409) == "already_there"
    assert "the record is not signed" in world.ask("ana", "charge", "CP001", code=1)
    assert "the signature is not ana's" in world.ask("ana", "charge", "CP001", "--key", keys["bo"], code=1)
    by_ana = ("--key", keys["ana"])
    assert world.ask("ana", "charge", "CP001", "--energy", "0.1", "--wait", *by_ana)["energy_wh"] == 100
    assert len(world.ask("ana", "history", *by_ana)) == 1
    page = ok(operator.get("/v1/drivers", params={"limit": 2}))
    assert [row["driver_id"] for row in page["drivers"]] == ["ana", "bo"]
    page = ok(operator.get("/v1/drivers", params={"limit": 2, "after": page["next_after"]}))
    assert ([row["driver_id"] for row in page["drivers"]], page["next_after"]) == (["cy"], None)
    assert operator.delete("/v1/drivers/ana").status_code == 204
    assert "there is no driver ana" in world.ask("ana", "list", *by_ana, code=1)
    assert problem(operator.delete("/v1/drivers/ana"), 404) == "not_there"
    told = central.log + central.output + "".join(map(str, central.trace()))
    assert not [key for key in keys.values() if key in told]


def test_each_change_is_in_the_audit_whichever_way_it_was_made(world: World) -> None:
    assert world.start("add", "cp", "add", "CP002", "--db", "evcharge.db").wait() == 0
    central = world.central()
    world.charge_point("CP001", central, engine=SLOW)
    operator = world.operator(central)
    begun = datetime.now(UTC)
    operator.put("/v1/charge-points/CP001/service", json={"out_of_service": True})
    operator.put("/v1/charge-points/CP001/price", json={"price_per_kwh": "0.5"})
    operator.delete("/v1/charge-points/CP002")
    operator.post("/v1/drivers", json={"driver_id": "ana"})
    assert world.start("remove", "drivers", "remove", "ana", "--db", "evcharge.db").wait() == 0
    rows = ok(operator.get("/v1/audit"))["audit"]
    assert [(row["via"], row["action"], row["target"]) for row in rows] == [
        ("command line", "remove driver", "ana"),
        ("http", "add driver", "ana"),
        ("http", "remove charge point", "CP002"),
        ("http", "price", "CP001"),
        ("http", "out of service", "CP001"),
        ("command line", "add token", "maria"),
        ("command line", "add charge point", "CP002"),
    ]
    assert {row["actor"] for row in rows if row["via"] == "http"} == {"maria"}
    assert all(begun <= datetime.fromisoformat(row["at"]) <= datetime.now(UTC) for row in rows[:5])
    price = rows[3]
    assert price["before"] == {"price_per_kwh": "0.30", "currency": "EUR", "price_by_operator": False}
    assert price["after"] == {"price_per_kwh": "0.5", "currency": "EUR", "price_by_operator": True}
    # Two by two it is the same.
    page = ok(operator.get("/v1/audit", params={"limit": 4}))
    assert page["audit"] == rows[:4]
    page = ok(operator.get("/v1/audit", params={"limit": 4, "before": page["next_before"]}))
    assert (page["audit"], page["next_before"]) == (rows[4:], None)


# Looking back


def test_what_has_been_charged_can_be_looked_up_exported_and_summed(world: World) -> None:
    central = world.central("--zone", "UTC")
    for cp_id, price in (("CP001", "0.30"), ("CP002", "0.41")):
        world.charge_point(cp_id, central, "--price", price, engine=FAST)
    for driver_id, cp_id, energy in (("ana", "CP001", "1"), ("bo", "CP002", "0.5"), ("ana", "CP002", "0.2")):
        assert world.ask(driver_id, "charge", cp_id, "--energy", energy, "--wait")
    operator = world.operator(central)

    def found(**wanted: Any) -> list[int]:
        return [row["energy_wh"] for row in ok(operator.get("/v1/sessions", params=wanted))["sessions"]]

    rows = ok(operator.get("/v1/sessions"))["sessions"]
    middle = rows[1]["booked_at"]
    assert found() == [200, 500, 1000]
    assert found(driver_id="ana") == [200, 1000]
    assert found(cp_id="CP002") == [200, 500]
    assert found(cp_id="CP002", driver_id="ana") == [200]
    assert found(since=middle) == [200, 500]
    assert found(until=middle) == [1000]
    assert found(driver_id="nobody") == []
    pages = []
    query: Json = {"limit": 1}
    while query.get("before") != "":
        page = ok(operator.get("/v1/sessions", params=query))
        pages += page["sessions"]
        query["before"] = page["next_before"] or ""
    assert pages == rows
    for name, value in (
        ("since", "2026-11"),
        ("until", "1"),
        ("before", "x"),
        ("limit", "0"),
        ("cp_id", "a b"),
    ):
        assert problem(operator.get("/v1/sessions", params={name: value}), 400) == "invalid_field", name

    first = rows[-1]
    assert ok(operator.get(f"/v1/sessions/{first['session_id']}")) == first
    values = ok(operator.get(f"/v1/sessions/{first['session_id']}/meter-values"))["meter_values"]
    assert values[-1]["energy_wh"] == 1000
    assert problem(operator.get(f"/v1/sessions/{uuid.uuid4()}"), 404) == "not_there"
    assert problem(operator.get("/v1/sessions/x"), 404)

    export = operator.get("/v1/sessions.csv", params={"cp_id": "CP002"})
    assert export.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert "attachment" in export.headers["Content-Disposition"]
    exported = list(csv.DictReader(io.StringIO(export.text)))
    assert [row["energy_wh"] for row in exported] == ["200", "500"]
    for exported_row, row in zip(exported, rows[:2], strict=True):
        assert exported_row == {name: "" if value is None else str(value) for name, value in row.items()}

    today = ok(operator.get("/v1/totals"))["today"]
    assert [(row["sessions"], row["energy_wh"], row["cost"]) for row in today] == [(3, 1700, "0.59")]
    by = ok(operator.get("/v1/revenue", params={"by": "charge_point"}))["rows"]
    assert [(row["of"], row["sessions"], row["cost"]) for row in by] == [
        ("CP001", 1, "0.30"),
        ("CP002", 2, "0.29"),
    ]
    backwards = {"since": "2026-02-01", "until": "2026-01-01"}
    assert problem(operator.get("/v1/revenue", params=backwards), 400) == "invalid_field"


def test_faults_are_seen_as_they_come_and_go(world: World) -> None:
    central = world.central()
    engine, _ = world.charge_point("CP001", central, engine=SLOW)
    operator = world.operator(central)
    port = engine.port
    engine.kill()
    world.until_status("CP001", "FAULTY")
    (fault,) = ok(operator.get("/v1/faults", params={"uncleared": True}))["faults"]
    assert (fault["cp_id"], fault["code"], fault["cleared_at"]) == ("CP001", "engine_lost", None)
    assert ok(operator.get("/v1/charge-points/CP001"))["faults"] == ["engine_lost"]
    shown = ok(operator.get("/v1/charge-points", params={"status": "FAULTY"}))["charge_points"]
    assert [cp["cp_id"] for cp in shown] == ["CP001"]
    world.engine(*SLOW, name="engine2", port=port)
    world.until_status("CP001", "ACTIVE")
    assert ok(operator.get("/v1/faults", params={"uncleared": True}))["faults"] == []
    (fault,) = ok(operator.get("/v1/faults", params={"cp_id": "CP001"}))["faults"]
    assert fault["started_at"] < fault["cleared_at"]
    assert ok(operator.get("/v1/faults", params={"cp_id": "CP9"}))["faults"] == []


# Live


class Events:
    """Central's event stream, as it comes."""

    def __init__(self, response: httpx.Response) -> None:
        self._lines = response.iter_lines()
        self.charge_points: dict[str, Json] = {}
        self.events: list[str] = []

    def next(self) -> Json | None:
        """The next item; None once the stream has ended."""
        for line in self._lines:
            if line.startswith("data: "):
                changes: Json = json.loads(line.removeprefix("data: "))
                self.charge_points |= {cp["cp_id"]: cp for cp in changes["charge_points"]}
                for cp_id in changes["removed_cp_ids"]:
                    del self.charge_points[cp_id]
                self.events += [event["event"] for event in changes["events"]]
                return changes
        return None

    def until(self, condition: Callable[[], bool], deadline_s: float = 20.0) -> None:
        """Follow the stream, in which something always changes, until the condition holds."""
        until_s = time.monotonic() + deadline_s
        while not condition():
            assert self.next() is not None
            assert time.monotonic() < until_s


@contextmanager
def watching(client: httpx.Client) -> Iterator[Events]:
    with client.stream("GET", "/v1/events") as response:
        assert response.status_code == 200
        assert response.headers["Content-Type"].startswith("text/event-stream")
        yield Events(response)


def test_whoever_watches_sees_all_there_is_and_then_what_changes(world: World) -> None:
    central = world.central()
    world.charge_point("CP001", central, engine=SLOW)
    world.charge_point("CP002", central, engine=SLOW)
    operator = world.operator(central)
    with watching(operator) as seen:
        first = seen.next()
        assert first is not None
        assert sorted(seen.charge_points) == ["CP001", "CP002"]
        assert first["removed_cp_ids"] == []
        session_id = start(operator, "CP001")
        asked_s = time.monotonic()
        seen.until(lambda: seen.charge_points["CP001"]["session"] is not None)
        assert time.monotonic() - asked_s < 1.0
        seen.until(lambda: seen.charge_points["CP001"]["session"]["energy_wh"] > 0)
        assert seen.charge_points["CP001"]["session"]["session_id"] == session_id
        assert seen.charge_points["CP001"]["status"] == "CHARGING"
        operator.put("/v1/charge-points/CP002/service", json={"out_of_service": True})
        seen.until(lambda: seen.charge_points["CP002"]["out_of_service"])
        operator.delete("/v1/charge-points/CP002")
        seen.until(lambda: "CP002" not in seen.charge_points)
        assert {"session_authorised", "session_started", "operator", "state"} <= set(seen.events)
        # What does not change is not told again: CP001 charges, CP002 was told when it changed.
        operator.post(f"/v1/sessions/{session_id}/stop")
        seen.until(lambda: seen.charge_points["CP001"]["session"] is None)
        assert seen.charge_points["CP001"]["status"] == "ACTIVE"
    with watching(operator) as again:
        assert again.next() is not None
        assert again.charge_points == ok_points(operator)


def ok_points(client: httpx.Client) -> dict[str, Json]:
    return {cp["cp_id"]: cp for cp in ok(client.get("/v1/charge-points"))["charge_points"]}


def test_central_stops_promptly_while_others_watch(world: World) -> None:
    central = world.central()
    token = world.token("wall", "viewer")
    # One reads, one has never read, one has not finished asking.
    with (
        watching(world.http(central, token)) as seen,
        socket.create_connection(("127.0.0.1", central.http_port)) as silent,
        socket.create_connection(("127.0.0.1", central.http_port)) as slow,
    ):
        assert seen.next() is not None
        silent.sendall(f"GET /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
        slow.sendall(b"GET /v1/events HTTP/1.1\r\nHost:")
        begun_s = time.monotonic()
        central.signal(signal.SIGTERM)
        while seen.next() is not None:
            pass
        assert central.wait(5) == 128 + signal.SIGTERM
        assert time.monotonic() - begun_s < 3.0
    assert "Traceback" not in central.log, central.log


# Whether it works


def test_metrics_have_the_figures(world: World) -> None:
    central = world.central()
    world.charge_point("CP001", central, engine=FAST)
    world.charge_point("CP002", central, engine=SLOW)
    operator = world.operator(central)
    world.ask("ana", "charge", "CP001", "--energy", "1", "--wait")
    start(operator, "CP002", "bo")
    world.until_session("charging", least_wh=1)
    operator.put("/v1/charge-points/CP001/service", json={"out_of_service": True})
    operator.post("/v1/charge-points/CP001/start", json={"driver_id": "cy"})

    def metrics() -> dict[str, float]:
        response = operator.get("/metrics")
        assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        lines = [line for line in response.text.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}

    eventually(lambda: metrics()["evcharge_power_watts"] > 0, "the power of the charge is shown")
    found = metrics()
    expected = {
        'evcharge_charge_points{status="ACTIVE"}': 1,
        'evcharge_charge_points{status="CHARGING"}': 1,
        'evcharge_charge_points{status="FAULTY"}': 0,
        "evcharge_charge_points_out_of_service": 1,
        "evcharge_sessions_open": 1,
        "evcharge_connections": 2,
        "evcharge_energy_billed_watt_hours_total": 1000,
        'evcharge_sessions_ended_total{status="completed"}': 1,
        'evcharge_errors_total{code="out_of_service"}': 1,
        'evcharge_up{part="kafka"}': 1,
        'evcharge_up{part="database"}': 1,
        'evcharge_messages_received_total{type="charge_request",via="kafka"}': 1,
    }
    assert {name: found.get(name) for name in expected} == expected
    assert found['evcharge_messages_received_total{type="charging_data",via="tcp"}'] > 0
    assert found["evcharge_decide_seconds_count"] > 0
    assert found["evcharge_commit_seconds_count"] > 0
    lag = 'evcharge_kafka_lag_records{topic="charging_session_data"}'
    eventually(lambda: lag in metrics(), "how far Central is behind is shown")


def test_health_says_that_the_broker_is_away_and_back_without_any_traffic(tmp_path: Path) -> None:
    broker = Broker(tmp_path / "kafka", free_port())
    broker.start()
    world = World(tmp_path, broker.bootstrap)
    try:
        central = world.central()
        client = world.operator(central)

        def health(status_code: int, kafka: str) -> bool:
            response = client.get("/healthz")
            return response.status_code == status_code and response.json()["kafka"] == kafka

        assert health(200, "ok")
        broker.kill()
        eventually(lambda: health(503, "unreachable"), "it is seen that the broker is away")
        body = client.get("/healthz").json()
        assert (body["status"], body["database"]) == ("degraded", "ok")
        assert 'evcharge_up{part="kafka"} 0' in client.get("/metrics").text
        ok(client.get("/v1/totals"))  # What needs no Kafka goes on.
        broker.start()
        eventually(lambda: health(200, "ok"), "it is seen that the broker is back")
    finally:
        world.stop()
        broker.stop()


def test_a_database_that_is_held_up_is_told_and_a_command_is_not_promised(world: World) -> None:
    central = world.central()
    world.charge_point("CP001", central, engine=SLOW)
    operator = world.operator(central)
    with closing(sqlite3.connect(world.folder / "evcharge.db", isolation_level=None)) as other:
        ok(operator.get("/v1/charge-points"))
        other.execute("BEGIN IMMEDIATE")
        response = operator.put("/v1/charge-points/CP001/service", json={"out_of_service": True})
        assert problem(response, 503) == "not_decided"
        eventually(lambda: operator.get("/healthz").status_code == 503, "it is seen that the database is held")
        assert operator.get("/healthz").json()["database"] == "unusable"
        ok(operator.get("/v1/sessions"))  # To look takes no lock,
        # and shows how it was when somebody last looked; nobody is told that there is no CP002, for there may be.
        assert not ok(operator.get("/v1/charge-points/CP001"))["out_of_service"]
        assert problem(operator.get("/v1/charge-points/CP002"), 503) == "not_decided"
        other.execute("COMMIT")
    eventually(lambda: operator.get("/healthz").status_code == 200, "it goes on")
    eventually(
        lambda: ok(operator.get("/v1/charge-points/CP001"))["out_of_service"],
        "what was asked for is done after all",
    )


def test_commands_give_up_with_one_sentence_when_another_program_holds_the_database(world: World) -> None:
    assert world.start("add", "cp", "add", "CP1", "--db", "evcharge.db").wait() == 0
    with closing(sqlite3.connect(world.folder / "evcharge.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        commands = (
            "cp add CP2",
            "cp remove CP1",
            "drivers add ana",
            "drivers remove bo",
            "token add t --role viewer",
        )
        for program in [world.start(words, *words.split(), "--db", "evcharge.db") for words in commands]:
            assert program.wait() == 3, program.name
            assert program.log == (
                "evcharge: error: the database evcharge.db could not be written: database is locked;"
                " another program writes to it, try again when that has finished\n"
            )
            assert program.output == ""


def test_http_can_be_off_and_a_taken_port_is_one_sentence(world: World) -> None:
    central = world.central("--http", "off")
    assert '"http": "off"' in central.log
    assert not (world.folder / "central.http").exists()
    taken = world.start(
        "taken",
        *("central", "--port", "0", "--kafka", world.kafka, "--db", "other.db"),
        *("--http", f"127.0.0.1:{central.port}"),
    )
    assert taken.wait() == 3
    (sentence,) = [line for line in taken.log.splitlines() if line.startswith("evcharge:")]
    assert f"cannot listen on 127.0.0.1:{central.port} for HTTP: Address already in use" in sentence
    assert "Traceback" not in taken.log
