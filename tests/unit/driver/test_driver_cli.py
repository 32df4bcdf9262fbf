"""DriverCLI: each command, what it answers; what it hears, tells and shows."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from snapshots import SIZES, compare, played, settled, shown, text_of, utc
from textual.pilot import Pilot

from evcharge.console import front as console_front
from evcharge.console.events import EventLog
from evcharge.console.screen import ConsoleScreen
from evcharge.domain.session import EndReason, SessionStatus
from evcharge.domain.status import Status
from evcharge.driver import console
from evcharge.driver.console import DriverCLI
from evcharge.driver.panels import DriverView, draw, left_s
from evcharge.driver.service import NoAnswer
from evcharge.errors import ChargePointBusy, NoOpenSession
from evcharge.protocol.messages import (
    ChargeCompletionResponse,
    ChargeRequestResponse,
    ChargingStatusUpdate,
    CpInfo,
    PastSession,
    StopChargingResponse,
)

SESSION = UUID("8b7c1c80-1111-4111-8111-000000000001")
NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
HERE = Path(__file__).parent / "snapshots"
NO_ANSWER = "no answer from Central within 30 s; is Central running?"


@pytest.fixture(autouse=True)
def _utc() -> Iterator[None]:
    with utc():
        yield


def point(cp_id: str, location: str, status: Status = Status.ACTIVE, price: str = "0.30") -> CpInfo:
    return CpInfo(
        cp_id=cp_id,
        location=location,
        status=status,
        available=status is Status.ACTIVE,
        price_per_kwh=Decimal(price),
        currency="EUR",
        max_power_w=22_000,
    )


POINTS = [
    point("CP001", "Harbour, bay 1", Status.CHARGING),
    point("CP002", "Harbour, bay 2"),
    point("CP003", "[red]Market\x1b[31m square", price="0.45"),
    point("CP004", "x" * 200, Status.DISCONNECTED),
]


def update(seconds: int = 0, energy_wh: int = 0, **others: Any) -> ChargingStatusUpdate:
    fields: dict[str, Any] = {
        "message_id": UUID(int=seconds + 1),
        "timestamp": NOON + timedelta(seconds=seconds),
        "in_reply_to": None,
        "driver_id": "ana",
        "cp_id": "CP001",
        "session_id": SESSION,
        "status": SessionStatus.CHARGING,
        "energy_wh": energy_wh,
        "power_w": 11_000,
        "cost": Decimal("1.04"),
        "currency": "EUR",
        "target_energy_wh": 9_000,
        "soc_percent": 42.0,
        "started_at": NOON,
    }
    return ChargingStatusUpdate(**fields | others)


def receipt(revision: int = 1) -> ChargeCompletionResponse:
    return ChargeCompletionResponse(
        message_id=UUID(int=99),
        timestamp=NOON,
        cp_id="CP001",
        session_id=SESSION,
        driver_id="ana",
        status=SessionStatus.COMPLETED,
        end_reason=EndReason.TARGET_REACHED,
        energy_wh=9_000,
        price_per_kwh=Decimal("0.30"),
        cost=Decimal("2.70"),
        currency="EUR",
        requested_at=NOON,
        started_at=NOON,
        ended_at=NOON,
        revision=revision,
    )


def past(day: int, energy_wh: int, cost: str, currency: str = "EUR") -> PastSession:
    return PastSession(
        session_id=UUID(int=day),
        cp_id="CP002",
        status=SessionStatus.COMPLETED,
        end_reason=EndReason.TARGET_REACHED,
        energy_wh=energy_wh,
        price_per_kwh=Decimal("0.30"),
        cost=Decimal(cost),
        currency=currency,
        requested_at=NOON - timedelta(days=day),
        ended_at=NOON - timedelta(days=day),
        revision=1,
        started_at=NOON - timedelta(days=day),
    )


PAST = [past(1, 5_000, "1.50"), past(2, 12_345, "3.70"), past(3, 1_000, "0.45", "CHF")]


class Driver:
    """One whose Central answers at once, with what a test says."""

    driver_id = "ana"
    silence: str | None = None

    def __init__(self) -> None:
        self.points = POINTS
        self.past = PAST
        self.running: ChargingStatusUpdate | None = None
        self.trouble: Exception | None = None
        self.heard: asyncio.Queue[ChargingStatusUpdate | ChargeCompletionResponse | None] = asyncio.Queue()
        self.asked: list[tuple[Any, ...]] = []

    def _note(self, *what: Any) -> None:
        self.asked.append(what)
        if self.trouble is not None:
            raise self.trouble

    async def charge_points(self, everything: bool = False, most: int | None = None) -> list[CpInfo]:
        self._note("charge_points", everything)
        return [cp for cp in self.points if everything or cp.available]

    async def charge(self, cp_id: str, energy_wh: int | None) -> ChargeRequestResponse:
        self._note("charge", cp_id, energy_wh)
        return ChargeRequestResponse(
            message_id=UUID(int=1),
            timestamp=NOON,
            in_reply_to=UUID(int=2),
            driver_id="ana",
            cp_id=cp_id,
            accepted=True,
            session_id=SESSION,
            price_per_kwh=Decimal("0.30"),
            currency="EUR",
        )

    async def status(self) -> ChargingStatusUpdate:
        self._note("status")
        if self.running is None:
            raise NoOpenSession("ana has no charge running")
        self.heard.put_nowait(self.running)
        return self.running

    async def stop(self) -> StopChargingResponse:
        self._note("stop")
        return StopChargingResponse(
            message_id=UUID(int=1),
            timestamp=NOON,
            in_reply_to=UUID(int=2),
            driver_id="ana",
            cp_id="CP001",
            session_id=SESSION,
            accepted=True,
        )

    async def history(self, limit: int) -> list[PastSession]:
        self._note("history", limit)
        return self.past[:limit]

    async def news(self) -> AsyncIterator[ChargingStatusUpdate | ChargeCompletionResponse]:
        while (message := await self.heard.get()) is not None:
            yield message


class Bench:
    def __init__(self) -> None:
        self.driver = Driver()
        self.events = EventLog(now=lambda: NOON)
        driver: Any = self.driver
        self.cli = DriverCLI(driver, self.events)

    async def says(self, line: str) -> str:
        return await self.cli.front.commands.answer(line)

    @property
    def told(self) -> list[str]:
        return [event.text for event in self.events.last()]


Scene = Callable[[Bench], Awaitable[None]]


def play(scene: Scene) -> None:
    async def run() -> None:
        await scene(Bench())

    asyncio.run(run())


# Commands


@pytest.mark.parametrize(
    ("line", "ids"), [("list", ["CP002", "CP003"]), ("list all", ["CP001", "CP002", "CP003", "CP004"])]
)
def test_list(line: str, ids: list[str]) -> None:
    async def scene(bench: Bench) -> None:
        lines = (await bench.says(line)).splitlines()
        assert lines[0].split() == ["charge", "point", "location", "state", "free", "price/kWh", "up", "to"]
        assert [line.split()[0] for line in lines[1:]] == ids

    play(scene)


def test_list_when_nothing_is_free() -> None:
    async def scene(bench: Bench) -> None:
        bench.driver.points = []
        assert await bench.says("list") == "no charge point is free now"

    play(scene)


@pytest.mark.parametrize(
    ("line", "asked"), [("charge CP002 5", ("charge", "CP002", 5000)), ("charge CP002", ("charge", "CP002", None))]
)
def test_charge(line: str, asked: tuple[Any, ...]) -> None:
    async def scene(bench: Bench) -> None:
        assert await bench.says(line) == f"accepted: CP002 for 0.30 EUR/kWh, session {SESSION}"
        assert bench.driver.asked == [asked]

    play(scene)


def test_status_and_stop() -> None:
    async def scene(bench: Bench) -> None:
        assert await bench.says("status") == "ana has no charge running"
        bench.driver.running = update(energy_wh=3_460)
        assert await bench.says("status") == (
            "CP001: charging, 3.460 of 9.000 kWh at 11.0 kW, battery 42 %, 1.04 EUR"
        )
        assert await bench.says("stop") == "stopping at CP001"

    play(scene)


@pytest.mark.parametrize(("line", "limit"), [("history", 20), ("history 2", 2)])
def test_history(line: str, limit: int) -> None:
    async def scene(bench: Bench) -> None:
        lines = (await bench.says(line)).splitlines()
        assert len(lines) == 1 + min(limit, len(PAST))
        assert "2026-03-01 12:00" in lines[1]
        assert bench.driver.asked == [("history", limit)]

    play(scene)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("list free", "say: list [all]"),
        ("charge", "say: charge CP_ID [KWH]"),
        ("charge 'a b'", "say: charge CP_ID [KWH]"),
        ("charge CP001 5 6", "say: charge CP_ID [KWH]"),
        ("charge CP001 -1", "the energy in kWh must be a number from 0.001 to 1000, not '-1'"),
        ("status all", "status takes nothing more, not 'all'"),
        ("stop CP001", "stop takes nothing more, not 'CP001'"),
        ("history 0", "how many must be a whole number from 1 to 10000, not '0'"),
        ("history 1 2", "say: history [N]"),
        ("chrage CP001", "there is no command 'chrage'; did you mean 'charge'?"),
    ],
)
def test_what_is_wrong_is_one_sentence_and_asks_nobody(line: str, sentence: str) -> None:
    async def scene(bench: Bench) -> None:
        assert await bench.says(line) == f"error: {sentence}"
        assert bench.driver.asked == []

    play(scene)


@pytest.mark.parametrize("line", ["list", "charge CP001", "status", "stop", "history"])
@pytest.mark.parametrize("trouble", [NoAnswer(NO_ANSWER), ChargePointBusy("CP001 is charging")])
def test_a_refusal_and_no_answer_are_told(line: str, trouble: Exception) -> None:
    async def scene(bench: Bench) -> None:
        bench.driver.trouble = trouble
        assert await bench.says(line) == f"error: {trouble}"

    play(scene)


def test_ids_are_completed_from_the_last_list() -> None:
    async def scene(bench: Bench) -> None:
        complete = bench.cli.front.commands.complete
        assert complete("charge ") == []
        await bench.says("list")
        assert complete("charge ") == ["charge CP002", "charge CP003"]
        await bench.says("list all")
        assert len(complete("charge ")) == 4

    play(scene)


async def until(true: Callable[[], bool]) -> None:
    """Let the others work; all of them answer at once."""
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0)


# What it hears


def after(*news: ChargingStatusUpdate | ChargeCompletionResponse, greeted: bool = True) -> Bench:
    """A console that has run, and heard this; `greeted` if Central's first answer came before."""
    benches: list[Bench] = []

    async def scene(bench: Bench) -> None:
        benches.append(bench)
        if greeted:
            await bench.cli._greet()
        for message in news:
            bench.driver.heard.put_nowait(message)
        bench.driver.heard.put_nowait(None)
        await bench.cli._hear()

    play(scene)
    return benches[0]


def test_what_happens_to_a_charge_is_told_once() -> None:
    bench = after(update(0), update(1, 3), update(2, 6), receipt(), receipt(), receipt(revision=2))
    assert bench.told == [
        "CP001: charging, 0.000 of 9.000 kWh at 11.0 kW, battery 42 %, 1.04 EUR",
        "CP001: completed (target_reached), 9.000 kWh x 0.30 = 2.70 EUR",
        "CP001: completed (target_reached), 9.000 kWh x 0.30 = 2.70 EUR (corrected, revision 2)",
    ]


def test_a_charge_that_ran_before_is_told_as_such() -> None:
    bench = after(update(5, 20, in_reply_to=SESSION), update(6, 24))
    assert bench.told == [
        "still charging: CP001: charging, 0.020 of 9.000 kWh at 11.0 kW, battery 42 %, 1.04 EUR",
    ]


def test_so_it_is_if_an_update_overtakes_the_first_answer() -> None:
    bench = after(update(5, 20), update(6, 24), greeted=False)
    assert bench.told == [
        "still charging: CP001: charging, 0.020 of 9.000 kWh at 11.0 kW, battery 42 %, 1.04 EUR",
    ]


def test_the_charge_that_runs_is_the_last_that_was_heard_of() -> None:
    view = after(update(0), update(1, 3)).cli.view()
    assert (view.began, view.running) == (update(0), update(1, 3))
    view = after(update(0), update(1, 3), receipt()).cli.view()
    assert (view.began, view.running, view.receipt) == (None, None, receipt())


def test_it_ends_with_its_front_and_everything_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(bench: Bench) -> None:
        lines: asyncio.Queue[str | None] = asyncio.Queue()
        monkeypatch.setattr(console_front, "lines_of_stdin", lambda: lines)
        monkeypatch.setattr(console_front, "is_full_screen", lambda: False)
        monkeypatch.setattr(console, "is_full_screen", lambda: True)
        bench.driver.running = update(energy_wh=3_460)
        running = asyncio.ensure_future(bench.cli.run(asyncio.Event()))
        await until(lambda: bench.cli.view().seen_at is not None and bench.cli.view().running is not None)
        lines.put_nowait(None)
        await running
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == 1
        assert ("charge_points", True) in bench.driver.asked

    play(scene)


def test_without_an_answer_the_screen_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(bench: Bench) -> None:
        bench.driver.trouble = NoAnswer(NO_ANSWER)
        looking = asyncio.ensure_future(bench.cli._look())
        await until(lambda: bench.cli.view().trouble is not None)
        looking.cancel()
        assert bench.cli.view().trouble == NO_ANSWER

    play(scene)


# What it shows


def test_how_long_it_still_takes() -> None:
    assert left_s(None, update(10, 100)) is None
    assert left_s(update(0), update(0)) is None
    assert left_s(update(0), update(100, 1_000)) == pytest.approx(800)
    free: dict[str, Any] = {"target_energy_wh": None}
    assert left_s(update(0, **free), update(100, 1_000, **free)) is None
    assert left_s(update(0, soc_percent=40.0, **free), update(100, soc_percent=42.0, **free)) == pytest.approx(
        2900
    )
    assert left_s(update(0, soc_percent=None, **free), update(100, soc_percent=None, **free)) is None


EMPTY = DriverView(charge_points=[], seen_at=None, trouble=None, began=None, running=None, receipt=None, past=[])
CHARGING = DriverView(
    charge_points=POINTS,
    seen_at=NOON,
    trouble=None,
    began=update(0),
    running=update(1200, 3_460),
    receipt=receipt(revision=2),
    past=PAST,
)
VIEWS = {
    "new": EMPTY,
    "charging": CHARGING,
    "until full": replace(
        CHARGING,
        began=update(0, target_energy_wh=None, soc_percent=40.0),
        running=update(600, 1_700, target_energy_wh=None, soc_percent=42.8),
        receipt=PAST[0],
    ),
    "many": replace(
        EMPTY, charge_points=[point(f"CP{n:03}", f"bay {n}") for n in range(200)], seen_at=NOON, past=PAST * 10
    ),
    "no answer": replace(EMPTY, trouble=NO_ANSWER),
}


def screen(name: str, size: tuple[int, int]) -> str:
    fronts = []

    async def scene(bench: Bench) -> None:
        view = VIEWS[name]
        fronts.append(replace(bench.cli.front, panels=lambda width, height: draw(view, width, height)))

    play(scene)
    return shown(fronts[0], size, "help stop", "charge")


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("name", VIEWS)
def test_the_screen(name: str, size: tuple[int, int]) -> None:
    compare(HERE / f"driver-{name.replace(' ', '-')}-{size[0]}x{size[1]}.txt", screen(name, size))


def test_a_small_screen_shows_the_charge_first() -> None:
    async def look(screen: ConsoleScreen, pilot: Pilot[bool]) -> None:
        for view, size in itertools.product(VIEWS.values(), [(59, 24), (40, 10), (20, 5), (3, 1)]):
            now[:] = [view]
            await pilot.resize_terminal(*size)
            await settled(screen, pilot)
            first = text_of(screen).splitlines()[0]
            state = "charging at CP001" if view.running is not None else "no charge runs"
            assert size[0] < 40 or (state in first) == (size[1] == 10)

    now: list[DriverView] = [EMPTY]
    fronts = []

    async def scene(bench: Bench) -> None:
        fronts.append(replace(bench.cli.front, panels=lambda width, height: draw(now[0], width, height)))

    play(scene)
    played(fronts[0], (80, 24), look)
