"""Of which day money is, and in which digits: on the wire, over HTTP, in AdminCLI, in the CSV."""

import csv
import io
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
from harness import Program, World

Json = dict[str, Any]
KIRITIMATI = ZoneInfo("Pacific/Kiritimati")  # 14 hours ahead of UTC: for most of the day, its day is another


class ChargePoint:
    """What docs/protocol.md asks of one, and no more; its clock says what it is told."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._lines = link.makefile("rb")

    def say(self, type_: str, **fields: Any) -> None:
        head = {
            "type": type_,
            "message_id": str(uuid4()),
            "timestamp": datetime.now(UTC).isoformat(),
            "cp_id": "CP1",
        }
        self._link.sendall(json.dumps(head | fields).encode() + b"\n")

    def hears(self, *types: str) -> Json:
        while True:
            message: Json = json.loads(self._lines.readline())
            if message["type"] in types:
                return message

    def registers(self, price: str = "0.30", currency: str = "EUR") -> Json:
        self.say("register_request", location="x", price_per_kwh=price, currency=currency, max_power_w=22_000)
        return self.hears("register_response", "error_response")

    def charges(self, energy_wh: int, started_at: str, ended_at: str) -> Json:
        """A whole charge; the receipt."""
        self.say("status_update", status="ACTIVE", engine_connected=True)
        self.say("charge_request", driver_id="ana")
        start = self.hears("start_charging_command")
        whose = {"session_id": start["session_id"], "driver_id": "ana"}
        self.say("charging_data", seq=0, energy_wh=0, power_w=11_000, timestamp=started_at, **whose)
        times = {"started_at": started_at, "ended_at": ended_at}
        self.say("charge_completion", seq=1, energy_wh=energy_wh, end_reason="stopped", **times, **whose)
        return self.hears("charge_completion_response", "error_response")


@contextmanager
def connected(central: Program) -> Iterator[ChargePoint]:
    with socket.create_connection(("127.0.0.1", central.port), timeout=30) as link:
        charge_point = ChargePoint(link)
        charge_point.say("auth_request", key="")
        yield charge_point


@pytest.mark.parametrize(
    "clock", [datetime(1970, 1, 1, 0, 0, 12, tzinfo=UTC), timedelta(hours=-9), timedelta(days=400)], ids=str
)
def test_the_clock_of_a_charge_point_does_not_decide_the_day_of_the_money(
    world: World, clock: datetime | timedelta
) -> None:
    central = world.central("--zone", "Pacific/Kiritimati", "--time-scale", "1000")
    begins = clock if isinstance(clock, datetime) else datetime.now(UTC) + clock
    asked_at = datetime.now(UTC)
    with connected(central) as charge_point:
        charge_point.registers()
        receipt = charge_point.charges(5000, begins.isoformat(), (begins + timedelta(minutes=30)).isoformat())
    now = datetime.now(UTC)
    assert (receipt["energy_wh"], receipt["cost"]) == (5000, "1.50")
    started, ended, booked = (
        datetime.fromisoformat(receipt[name]) for name in ("started_at", "ended_at", "booked_at")
    )
    assert asked_at <= started <= ended <= now
    assert asked_at <= booked <= now

    operator = world.operator(central)
    day = booked.astimezone(KIRITIMATI).date()
    total = {"of": str(day), "sessions": 1, "energy_wh": 5000, "cost": "1.50", "currency": "EUR"}
    totals, revenue = (operator.get(f"/v1/{path}").json() for path in ("totals", "revenue"))
    assert (totals["today"], totals["zone"]) == ([total], "Pacific/Kiritimati")
    assert (revenue["rows"], revenue["zone"]) == ([total], "Pacific/Kiritimati")

    def listed(**period: Any) -> list[Json]:
        page: Json = operator.get("/v1/sessions", params=period).json()
        assert page["zone"] == "Pacific/Kiritimati"
        rows: list[Json] = page["sessions"]
        return rows

    (row,) = listed(since=str(day), until=str(day))
    said = datetime.fromisoformat(row["said_ended_at"])
    assert abs(said - (begins + timedelta(minutes=30))) < timedelta(seconds=1)
    assert listed(since=str(day + timedelta(days=1))) == listed(until=str(day - timedelta(days=1))) == []
    assert listed(since=booked.isoformat()) == [row]
    assert listed(until=booked.isoformat()) == []  # a moment is where it ends
    lines = operator.get("/v1/sessions.csv", params={"since": str(day), "until": str(day)}).text
    (line,) = csv.DictReader(io.StringIO(lines))
    assert Decimal(line["cost"]) == Decimal("1.50")
    assert datetime.fromisoformat(line["booked_at"]) == booked
    assert line["booked_at"].endswith("+14:00")

    elsewhere = {"EVCHARGE_TOKEN": world.token("bo"), "TZ": "America/Los_Angeles"}
    url = f"http://127.0.0.1:{central.http_port}"

    def admin(name: str, *words: str) -> str:
        told = world.start(name, "admin", "--url", url, *words, env=elsewhere)
        assert told.wait() == 0, told.log
        return told.output

    history = admin("history", "history", f"since={day}", f"until={day}")
    assert row["session_id"] in history
    assert f"{booked.astimezone(KIRITIMATI):%Y-%m-%d %H:%M:%S}" in history
    assert "times: Pacific/Kiritimati" in history
    assert "booked today (Pacific/Kiritimati): 1 sessions, 5.000 kWh, 1.50 EUR" in admin("totals", "totals")
    session = admin("session", "session", row["session_id"])
    assert f"the charge point's clock says {said.astimezone(KIRITIMATI):%Y-%m-%d %H:%M}" in session


def test_a_currency_has_its_own_digits_and_what_is_none_is_refused(world: World) -> None:
    central = world.central("--time-scale", "1000")
    operator = world.operator(central)
    now = datetime.now(UTC).isoformat()
    with connected(central) as charge_point:
        refused = charge_point.registers(currency="ABC")
        assert refused["code"] == "invalid_field"
        assert "'ABC' is none" in refused["reason"]
        charge_point.registers("30", "JPY")
        assert charge_point.charges(1834, now, now)["cost"] == "55"
        charge_point.registers("0.025", "KWD")
        assert charge_point.charges(1834, now, now)["cost"] == "0.046"
        order = {"price_per_kwh": "1", "currency": "ABC"}
        problem = operator.put("/v1/charge-points/CP1/price", json=order)
        assert (problem.status_code, problem.json()["code"]) == (400, "invalid_field")
        assert "'ABC' is none" in problem.json()["reason"]
    sums = {row["currency"]: row["cost"] for row in operator.get("/v1/revenue").json()["rows"]}
    assert sums == {"JPY": "55", "KWD": "0.046"}
