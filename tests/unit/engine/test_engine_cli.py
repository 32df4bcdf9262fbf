"""EngineCLI: each command, what it answers and does; what it counts and shows."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import structlog
from snapshots import SIZES, compare, played, settled, shown, text_of, utc
from textual.pilot import Pilot

from evcharge import clock
from evcharge.console.drawing import STATUS_STYLES
from evcharge.console.events import EventLog
from evcharge.console.front import Front
from evcharge.console.screen import ConsoleScreen
from evcharge.domain.battery import Battery, Current
from evcharge.domain.instant import Instant
from evcharge.domain.session import EndReason
from evcharge.domain.status import Status
from evcharge.engine.charger import ChargerConfig
from evcharge.engine.console import FAULT_CODES, EngineCLI
from evcharge.engine.panels import EngineView, draw
from evcharge.engine.service import Engine, EngineConfig
from evcharge.protocol.messages import (
    ChargeRequest,
    ChargeRequestResponse,
    InitCpId,
    Message,
    StartChargingCommand,
    StopChargingCommand,
)

SESSION = UUID("8b7c1c80-1111-4111-8111-000000000001")
NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
HERE = Path(__file__).parent / "snapshots"


@pytest.fixture(autouse=True)
def _utc() -> Iterator[None]:
    with utc():
        yield


class Link:
    """To a Monitor that says nothing, unless told otherwise; what it gets is kept."""

    peer = "127.0.0.1:1"

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.answers: Callable[[Message], None] = lambda message: None

    def send(self, *messages: Message) -> None:
        self.sent += messages
        for message in messages:
            self.answers(message)

    def close(self, *reason: Any) -> None:
        pass


class NoKafka:
    def publish(self, topic: str, key: str, value: bytes) -> bool:
        return True


class Bench:
    """An Engine with a Monitor, without sockets; the time is what a test says."""

    def __init__(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, *, bound: bool = True, manual_plug: bool = False
    ) -> None:
        self.at_s = 1000.0
        monkeypatch.setattr(clock, "now", lambda: self.now)
        charger = ChargerConfig(22_000, Battery(60_000, 30_000, 11_000), manual_plug=manual_plug)
        log = structlog.wrap_logger(structlog.PrintLogger(), processors=[_silence])
        self.engine = Engine(EngineConfig("127.0.0.1", 0, folder, charger), NoKafka(), log, None)
        self.events = EventLog(now=lambda: self.now.utc)
        self.cli = EngineCLI(self.engine, self.events)
        self.link: Any = Link()
        if bound:
            self.receive(InitCpId(message_id=SESSION, timestamp=NOON, cp_id="CP001", max_power_w=22_000))

    @property
    def now(self) -> Instant:
        return Instant(NOON + timedelta(seconds=self.at_s - 1000.0), self.at_s)

    def receive(self, message: Message) -> None:
        self.engine.link_received(self.link, message)

    def start(self, energy_wh: int | None = 10_000) -> None:
        self.receive(
            StartChargingCommand(
                message_id=UUID(int=5),
                timestamp=NOON,
                cp_id="CP001",
                session_id=SESSION,
                driver_id="ana",
                energy_wh=energy_wh,
            )
        )

    def stop(self) -> None:
        self.receive(
            StopChargingCommand(
                message_id=UUID(int=6),
                timestamp=NOON,
                cp_id="CP001",
                session_id=SESSION,
                end_reason=EndReason.STOPPED,
            )
        )

    def passes(self, seconds: int) -> None:
        for _ in range(seconds):
            self.at_s += 1
            self.engine.do(self.engine.charger.advance(self.now))

    async def says(self, line: str) -> str:
        return await self.cli.front.commands.answer(line)

    @property
    def view(self) -> EngineView:
        return self.cli.view(self.now)


def _silence(*arguments: Any) -> Any:
    raise structlog.DropEvent


Scene = Callable[[Bench], Awaitable[None]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def run(scene: Scene, **settings: bool) -> None:
        async def main() -> None:
            await scene(Bench(tmp_path, monkeypatch, **settings))

        asyncio.run(main())

    return run


# Commands


def test_status_of_an_engine_without_a_monitor(run: Callable[..., None]) -> None:
    async def scene(bench: Bench) -> None:
        assert await bench.says("status") == (
            "charge point unknown yet; no Monitor; vehicle at 50.0 %; not charging; healthy;"
            " 0 charges, 0.000 kWh; 0 completions without a receipt"
        )

    run(scene, bound=False)


def test_status_during_and_after_a_charge(run: Callable[..., None]) -> None:
    async def scene(bench: Bench) -> None:
        bench.start()
        bench.passes(60)
        assert await bench.says("status") == (
            "charge point CP001; Monitor connected; vehicle at 50.3 %; charging 183 Wh for ana; healthy;"
            " 0 charges, 0.183 kWh; 0 completions without a receipt"
        )
        bench.stop()
        assert (await bench.says("status")).endswith(
            "not charging; healthy; 1 charge, 0.183 kWh; 1 completion without a receipt"
        )

    run(scene)


@pytest.mark.parametrize(
    ("line", "answer", "power_w"),
    [
        ("plug 40 25", "plugged in: 40 kWh at 25 %, takes 11 kW", 11_000),
        ("plug 40 25 50", "plugged in: 40 kWh at 25 %, takes 50 kW", 50_000),
        ("plug 0.1 0", "plugged in: 0.1 kWh at 0 %, takes 11 kW", 11_000),
    ],
)
def test_plug(run: Callable[..., None], line: str, answer: str, power_w: float) -> None:
    async def scene(bench: Bench) -> None:
        assert await bench.says(line) == answer
        vehicle = bench.engine.charger.vehicle
        assert vehicle is not None
        assert vehicle.max_power_w == power_w

    run(scene)


def test_a_vehicle_is_unplugged_once(run: Callable[..., None]) -> None:
    async def scene(bench: Bench) -> None:
        bench.start()
        assert await bench.says("unplug") == "unplugged"
        assert bench.view.charges == 1
        assert await bench.says("unplug") == "error: no vehicle is plugged in"
        assert "no vehicle" in await bench.says("status")

    run(scene)


def test_a_charge_that_waits_for_its_vehicle(run: Callable[..., None]) -> None:
    async def scene(bench: Bench) -> None:
        bench.start()
        bench.passes(18)
        assert "ana has 42 s left to plug a vehicle in" in await bench.says("status")
        assert bench.view.state == ("waiting for a vehicle, 42 s left to plug it in", "yellow")
        assert (await bench.says("plug 60 50")).startswith("plugged in")
        assert bench.view.state == ("CHARGING", STATUS_STYLES[Status.CHARGING])

    run(scene, manual_plug=True)


@pytest.mark.parametrize(
    ("accepted", "answer"),
    [(True, f"accepted: session {SESSION}"), (False, "refused: CP001 is charging (charge_point_busy)")],
)
def test_charge_asks_central(run: Callable[..., None], accepted: bool, answer: str) -> None:
    async def scene(bench: Bench) -> None:
        def reply(message: Message) -> None:
            if isinstance(message, ChargeRequest):
                assert (message.driver_id, message.energy_wh) == ("ana", 5_000)
                bench.receive(
                    ChargeRequestResponse(
                        message_id=UUID(int=7),
                        timestamp=NOON,
                        in_reply_to=message.message_id,
                        driver_id="ana",
                        cp_id="CP001",
                        accepted=accepted,
                        session_id=SESSION if accepted else None,
                        code=None if accepted else "charge_point_busy",
                        reason=None if accepted else "CP001 is charging",
                    )
                )

        bench.link.answers = reply
        assert await bench.says("charge ana 5") == answer

    run(scene)


def test_stop_fault_and_repair(run: Callable[..., None]) -> None:
    async def scene(bench: Bench) -> None:
        bench.start()
        assert await bench.says("stop") == "stopped"
        assert await bench.says("stop") == "error: no charge runs"
        assert await bench.says("fault over_voltage the grid is high") == "faulty: over_voltage"
        assert "faulty: over_voltage, the grid is high" in await bench.says("status")
        assert await bench.says("repair") == "repaired"
        assert await bench.says("repair") == "error: nothing is faulty"

    run(scene)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("plug", "say: plug BATTERY_KWH SOC_PERCENT [POWER_KW]"),
        ("plug 60", "say: plug BATTERY_KWH SOC_PERCENT [POWER_KW]"),
        ("plug 60 50 11 1", "say: plug BATTERY_KWH SOC_PERCENT [POWER_KW]"),
        ("plug x 50", "the battery in kWh must be a number from 0.1 to 1000, not 'x'"),
        ("plug 60 101", "the state of charge in percent must be a number from 0 to 100, not '101'"),
        ("plug 60 50 0", "the power in kW must be a number from 0.1 to 2000, not '0'"),
        ("unplug now", "unplug takes nothing more, not 'now'"),
        ("charge", "say: charge DRIVER_ID [KWH]"),
        ("charge 'a b'", "say: charge DRIVER_ID [KWH]"),
        ("charge ana five", "the energy in kWh must be a number from 0.001 to 1000, not 'five'"),
        ("charge ana 5", "no Monitor is connected, so nobody can be asked"),
        ("stop", "no charge runs"),
        ("stop all", "stop takes nothing more, not 'all'"),
        ("fault", "say: fault CODE [DESCRIPTION]"),
        ("fault a/b", "say: fault CODE [DESCRIPTION]"),
        ("fault over_voltage", "no Monitor has told this Engine yet which charge point it is"),
        ("repair", "nothing is faulty"),
        ("repair it", "repair takes nothing more, not 'it'"),
        ("status all", "status takes nothing more, not 'all'"),
        ("statsu", "there is no command 'statsu'; did you mean 'status'?"),
    ],
)
def test_what_is_wrong_is_one_sentence(run: Callable[..., None], line: str, sentence: str) -> None:
    async def scene(bench: Bench) -> None:
        assert await bench.says(line) == f"error: {sentence}"

    run(scene, bound=False)


def test_another_vehicle_cannot_be_plugged_in_while_one_charges(run: Callable[..., None]) -> None:
    async def scene(bench: Bench) -> None:
        bench.start()
        assert await bench.says("plug 60 50") == "error: a vehicle is charging; unplug it first"

    run(scene)


def test_a_direct_current_charge_says_that_it_connects_before_power_flows(run: Callable[..., None]) -> None:
    async def scene(bench: Bench) -> None:
        vehicle = Battery(60_000, 6_000, 120_000, Current.DC)
        bench.engine.do(bench.engine.charger.plug_in(vehicle, bench.now))
        bench.start()
        assert bench.view.state[0] == "CHARGING, connecting"
        assert "; connecting for ana;" in await bench.says("status")
        bench.passes(48)
        assert bench.view.state[0] == "CHARGING"

    run(scene)


def test_faults_and_drivers_are_completed(run: Callable[..., None]) -> None:
    async def scene(bench: Bench) -> None:
        complete = bench.cli.front.commands.complete
        assert complete("fault ") == [f"fault {code}" for code in FAULT_CODES]
        assert complete("charge ") == []
        bench.start()
        assert complete("charge ") == ["charge ana"]

    run(scene)


# What it counts and tells


def test_it_counts_what_goes_out(run: Callable[..., None]) -> None:
    async def scene(bench: Bench) -> None:
        bench.start()
        bench.passes(3)
        bench.stop()
        bench.stop()
        view = bench.view
        assert (view.charges, view.readings, view.commands, view.unsettled) == (1, 4, 3, 1)
        assert view.delivered_wh == 9
        assert view.powers[-1] == (1003.0, 0.0)

    run(scene)


def test_the_curve_is_kept_for_as_long_as_it_shows(run: Callable[..., None]) -> None:
    async def scene(bench: Bench) -> None:
        bench.start(None)
        bench.passes(1000)
        assert bench.view.powers[0][0] == 2000.0 - 301
        assert len(bench.view.powers) == 302

    run(scene)


def test_a_charge_that_begins_is_an_event(run: Callable[..., None]) -> None:
    async def scene(bench: Bench) -> None:
        bench.start()
        assert [event.text for event in bench.events.last()] == [
            f"a charge for ana begins, session {SESSION}",
        ]

    run(scene)


def test_how_long_a_charge_still_takes(run: Callable[..., None]) -> None:
    async def scene(bench: Bench) -> None:
        assert bench.view.left_s is None
        bench.start(11_000)
        assert bench.view.left_s == pytest.approx(3600)
        bench.passes(600)
        assert bench.view.left_s == pytest.approx(3000)
        bench.at_s += 0.5
        assert bench.view.left_s == pytest.approx(2999.5)

    run(scene)


# What it shows

EMPTY = EngineView(
    now_s=1000.0,
    cp_id=None,
    has_monitor=False,
    fault=None,
    vehicle=None,
    limit_w=22_000,
    driver_id=None,
    session_id=None,
    started_at=None,
    energy_wh=0,
    target_wh=None,
    power_w=0.0,
    left_s=None,
    plug_within_s=None,
    powers=(),
    charges=0,
    delivered_wh=0,
    readings=0,
    commands=0,
    unsettled=0,
)
CHARGING = replace(
    EMPTY,
    cp_id="CP001",
    has_monitor=True,
    vehicle=Battery(60_000, 50_460, 11_000),
    driver_id="ana",
    session_id=SESSION,
    started_at=NOON,
    energy_wh=3_460,
    target_wh=9_000,
    power_w=10_560.0,
    left_s=2030.0,
    powers=(*((700.0 + 2 * n, min(11_000.0, 55.0 * n**1.2)) for n in range(130)), (985.0, 8_000.0)),
    charges=3,
    delivered_wh=31_415,
    readings=1024,
    commands=8,
    unsettled=1,
)
VIEWS = {
    "charging": CHARGING,
    "waiting": replace(CHARGING, vehicle=None, left_s=None, plug_within_s=42.0, energy_wh=0, power_w=0.0),
    "faulty": replace(
        CHARGING, session_id=None, fault="over_voltage, [red]the grid\x1b[31m is high", left_s=None, power_w=0.0
    ),
    "alone": EMPTY,
}


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("name", VIEWS)
def test_the_screen(run: Callable[..., None], tmp_path: Path, name: str, size: tuple[int, int]) -> None:
    fronts: list[Front] = []

    async def scene(bench: Bench) -> None:
        bench.events.tell("engine_listening  address=127.0.0.1:6000")
        view = VIEWS[name]
        fronts.append(replace(bench.cli.front, panels=lambda width, height: draw(view, width, height)))

    run(scene)
    text = shown(fronts[0], size, "help unplug", "plug 60")
    compare(HERE / f"engine-{name}-{size[0]}x{size[1]}.txt", text)


def test_a_small_screen_shows_the_state_first(run: Callable[..., None]) -> None:
    async def look(screen: ConsoleScreen, pilot: Pilot[bool]) -> None:
        for view, size in itertools.product(VIEWS.values(), [(59, 24), (40, 10), (20, 5), (3, 1)]):
            now[:] = [view]
            await pilot.resize_terminal(*size)
            await settled(screen, pilot)
            first = text_of(screen).splitlines()[0]
            assert size[0] < 40 or (view.state[0][:20] in first) == (size[1] == 10)

    now: list[EngineView] = [EMPTY]
    fronts: list[Front] = []

    async def scene(bench: Bench) -> None:
        fronts.append(replace(bench.cli.front, panels=lambda width, height: draw(now[0], width, height)))

    run(scene)
    played(fronts[0], (80, 24), look)
