"""MonitorCLI: each command, what it answers and does; and what MonitorStatusPanel shows."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import structlog
from rich.console import Console
from snapshots import SIZES, compare, shown, utc

from evcharge.clock import Attention
from evcharge.console.events import EventLog
from evcharge.domain.instant import Instant
from evcharge.domain.session import EndReason
from evcharge.domain.status import Status
from evcharge.monitor.actions import ToCentral, ToEngine
from evcharge.monitor.config import MonitorConfig
from evcharge.monitor.console import MonitorCLI, MonitorStatusPanel
from evcharge.monitor.service import Monitor
from evcharge.protocol.messages import (
    AuthResponse,
    ChargeCompletion,
    ChargingData,
    CommandResponse,
    FaultNotification,
    HealthCheckResponse,
    HeartbeatResponse,
    InitCpId,
    Message,
    RecoveryNotification,
    RegisterRequest,
    RegisterResponse,
)
from evcharge.transport.tcp import Address, Backoff

SESSION = UUID("8b7c1c80-1111-4111-8111-000000000001")
NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
ANSWER_S = 0.004


class Bench:
    """A Monitor without sockets: what it would send is kept, and the time is what a test says."""

    def __init__(self) -> None:
        config = MonitorConfig("CP001", "secret", "Harbour, bay 1", Decimal("0.30"), "EUR", 22_000)
        central, engine = Address("192.0.2.11", 5000), Address("127.0.0.1", 6001)
        self.monitor = Monitor(
            config, central, engine, Backoff(), structlog.wrap_logger(structlog.PrintLogger()), None, Attention()
        )
        self.relay = self.monitor.relay
        self.events = EventLog(lambda: self.now.utc)
        self.cli = MonitorCLI(self.monitor, self.events, lambda: self.now)
        self.panel = MonitorStatusPanel(self.monitor)
        self.at_s = 1000.0
        self.to_central: list[Message] = []
        self.to_engine: list[Message] = []
        self.reconnected: list[str] = []
        self.monitor.do = self.does  # type: ignore[method-assign]
        for link in (self.monitor.central, self.monitor.engine):
            link.reconnect = lambda error, link=link: self.reconnected.append(f"{link.name}: {error}")  # type: ignore[method-assign, misc]

    @property
    def now(self) -> Instant:
        return Instant(NOON + timedelta(seconds=self.at_s - 1000), self.at_s)

    def does(self, actions: list[Any]) -> None:
        for action in actions:
            if isinstance(action, ToCentral):
                self.to_central.append(action.message)
            elif isinstance(action, ToEngine):
                self.to_engine.append(action.message)

    def say(self, line: str) -> str:
        return asyncio.run(self.cli.front.commands.answer(line))

    def make(self, kind: Callable[..., Message], **fields: Any) -> Any:
        return kind(message_id=UUID(int=1), timestamp=self.now.utc, **fields)

    def central(self, kind: Callable[..., Message], **fields: Any) -> None:
        self.does(self.relay.central_received(self.make(kind, **fields), self.now))

    def engine(self, kind: Callable[..., Message], **fields: Any) -> None:
        self.does(self.relay.engine_received(self.make(kind, cp_id="CP001", **fields), self.now))

    def ready(self, **account: Any) -> None:
        self.monitor.engine.connected_since_s = self.at_s
        self.does(self.relay.engine_opened(self.now))
        (init,) = [message for message in self.to_engine if isinstance(message, InitCpId)]
        self.engine(CommandResponse, in_reply_to=init.message_id, accepted=True)
        self.at_s += ANSWER_S
        self.account(in_reply_to=UUID(int=2), **account)

    def account(self, **fields: Any) -> None:
        self.engine(HealthCheckResponse, **{"healthy": True, "vehicle_connected": True} | fields)

    def registered(self) -> None:
        self.monitor.central.connected_since_s = self.at_s
        self.does(self.relay.central_opened(self.now))
        self.central(AuthResponse, accepted=True)
        self.central(RegisterResponse, accepted=True, status=Status.ACTIVE)

    def reading(self, seq: int, energy_wh: int, **fields: Any) -> None:
        details = {"power_w": 11_000, "soc_percent": 43.2, "driver_id": "ana"} | fields
        self.engine(ChargingData, session_id=SESSION, seq=seq, energy_wh=energy_wh, **details)

    def completed(self) -> None:
        self.engine(
            ChargeCompletion,
            session_id=SESSION,
            driver_id="ana",
            seq=9,
            energy_wh=5000,
            end_reason=EndReason.TARGET_REACHED,
            started_at=self.now.utc,
            ended_at=self.now.utc,
        )
        self.account()


def working() -> Bench:
    bench = Bench()
    bench.ready()
    bench.registered()
    bench.to_central.clear()
    bench.to_engine.clear()
    return bench


def charging() -> Bench:
    bench = working()
    bench.at_s += 60
    bench.account(session_id=SESSION)
    bench.does(bench.relay.tick(bench.now))
    bench.at_s += ANSWER_S
    bench.central(HeartbeatResponse)
    bench.account(session_id=SESSION, in_reply_to=UUID(int=3))
    bench.at_s += 7
    bench.reading(0, 0)
    bench.reading(1, 1234)
    bench.at_s += 2
    return bench


# Commands


def test_help_has_each_command() -> None:
    said = Bench().say("help")
    for command in ("status", "reconnect", "fault", "clear", "location", "help", "quit"):
        assert any(line.startswith(command) for line in said.splitlines()), command


def test_status_before_anything_was_heard() -> None:
    assert Bench().say("status") == (
        "charge point CP001 is DISCONNECTED; Central not connected; Engine not connected; no charge; "
        "passed 0 up and 0 down, 0 wait"
    )


def test_status_says_all_that_there_is() -> None:
    bench = charging()
    bench.say("fault cable_damaged")
    assert bench.say("status") == (
        "charge point CP001 is FAULTY (cable_damaged); Central connected for 0:01:09; "
        f"Engine connected for 0:01:09; ana: 1.234 kWh, 11.0 kW, battery 43 %, 2 s ago, session {SESSION}; "
        "passed 2 up and 0 down, 0 wait"
    )


def test_reconnect() -> None:
    bench = Bench()
    assert bench.say("reconnect central") == "connecting anew to Central"
    assert bench.reconnected == ["Central: the Monitor was told to connect to Central anew"]
    assert bench.say("reconnect engine") == "connecting anew to Engine"
    assert bench.say("reconnect") == "connecting anew to Central and Engine"
    assert [told.split(":")[0] for told in bench.reconnected] == ["Central", "Engine", "Central", "Engine"]


def test_a_fault_is_reported_and_cleared() -> None:
    bench = working()
    assert bench.say("fault cable_damaged the cable is cut") == "faulty: cable_damaged, told to Central"
    (fault,) = bench.to_central
    assert isinstance(fault, FaultNotification)
    assert (fault.fault_code, fault.description) == ("cable_damaged", "the cable is cut")
    assert bench.say("fault display_dark") == "faulty: display_dark, told to Central"
    assert bench.relay.faults.all["display_dark"] == "display_dark, reported at the Monitor"
    bench.to_central.clear()
    assert bench.say("clear cable_damaged") == "cleared: cable_damaged; still faulty: display_dark"
    assert isinstance(bench.to_central[0], RecoveryNotification)
    assert bench.say("clear display_dark") == "cleared: display_dark"


def test_a_fault_without_central_waits_for_it() -> None:
    assert Bench().say("fault cable_damaged") == "faulty: cable_damaged, to be told to Central when it is there"


def test_a_description_can_be_told_to_central_and_shown_whatever_was_typed() -> None:
    bench = working()
    bench.say("fault cable_damaged '\x1b[31m" + "x" * 600 + "'")
    (fault,) = bench.to_central
    assert isinstance(fault, FaultNotification)
    assert fault.description.startswith("\\x1b[31mxxx")
    assert len(fault.description) == 500


def test_a_location_is_told_to_central() -> None:
    bench = working()
    said = bench.say("location Harbour, bay 2")
    assert (
        said
        == "location: Harbour, bay 2, told to Central; start the Monitor with --location to keep it over a restart"
    )
    (request,) = bench.to_central
    assert isinstance(request, RegisterRequest)
    assert request.location == "Harbour, bay 2"
    assert "to be told to Central when it is there" in Bench().say("location 'Harbour, bay 2'")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("status now", "say: status, without more"),
        ("reconnect everything", "say: reconnect [central|engine]"),
        ("reconnect central engine", "say: reconnect [central|engine]"),
        ("fault", "say: fault CODE [DESCRIPTION]"),
        ("fault 'no code' x", "'no code' is no code; a code has 1 to 64 letters, digits or . _ : -"),
        ("fault engine_lost", "the fault engine_lost is for evcharge itself to report"),
        ("fault here again", "the fault here is reported already"),
        ("clear", "say: clear CODE"),
        ("clear here there", "say: clear CODE"),
        ("clear there", "there is no fault 'there'"),
        ("clear overheated", "the fault overheated is the Engine's own: it ends when it is repaired there"),
        ("location", "say: location TEXT"),
        ("location ''", "a location has 1 to 500 characters, none of them a control character"),
        (f"location {'x' * 501}", "a location has 1 to 500 characters, none of them a control character"),
        ("fautl x", "there is no command 'fautl'; did you mean 'fault'?"),
        ("fault 'x", "no closing quotation"),
    ],
)
def test_what_is_wrong_gets_a_sentence_and_changes_nothing(line: str, sentence: str) -> None:
    bench = working()
    bench.say("fault here")
    bench.engine(FaultNotification, fault_code="overheated", description="too hot")
    bench.to_central.clear()
    faults = bench.relay.faults.all
    assert bench.say(line) == f"error: {sentence}"
    assert (bench.relay.faults.all, bench.to_central, bench.reconnected) == (faults, [], [])


def test_arguments_are_completed() -> None:
    bench = working()
    commands = bench.cli.front.commands
    assert commands.complete("reconnect ") == ["reconnect central", "reconnect engine"]
    assert commands.complete("reconnect e") == ["reconnect engine"]
    assert "fault cable_damaged" in commands.complete("fault ")
    assert commands.complete("clear ") == []
    bench.say("fault leaking")
    bench.engine(FaultNotification, fault_code="overheated", description="too hot")
    assert commands.complete("clear ") == ["clear leaking"]


def test_quit_says_that_a_charge_goes_on() -> None:
    bench = Bench()
    assert "a charge goes on" in bench.say("help quit")
    assert not bench.cli.front.ends_with_stdin


# The panel


def drawn(bench: Bench, width: int, height: int) -> list[str]:
    """The lines of the panel, drawn by a console that would take markup for markup."""
    console = Console(file=io.StringIO(), width=width, height=height)
    console.print(bench.panel.draw(bench.now, width, height))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def text_of(bench: Bench, width: int = 120, height: int = 30) -> str:
    return "\n".join(drawn(bench, width, height))


def faulty() -> Bench:
    bench = charging()
    for number in range(6):
        bench.engine(FaultNotification, fault_code=f"fault_{number}", description=f"number {number} " + "x" * 200)
    return bench


@pytest.mark.parametrize("make", [Bench, working, charging, faulty])
@pytest.mark.parametrize(
    ("width", "height"), [(80, 16), (120, 29), (59, 20), (80, 12), (60, 13), (20, 5), (200, 60), (1, 1)]
)
def test_it_fits_into_the_room_that_there_is(make: Callable[[], Bench], width: int, height: int) -> None:
    lines = drawn(make(), width, height)
    assert max(map(len, lines)) <= width
    if height >= 12:
        assert len(lines) <= height


def test_it_shows_links_times_state_charge_and_what_was_passed() -> None:
    said = text_of(charging())
    for part in (
        "CP001, Harbour, bay 1",
        "192.0.2.11:5000",
        "127.0.0.1:6001",
        "connected for 0:01:09",
        "heartbeat  9 s ago, took 4 ms",
        "health   9 s ago, took 4 ms",
        "CHARGING since",
        "ana: 1.234 kWh, 11.0 kW, battery 43 %, 2 s ago",
        str(SESSION),
        "2 up, 0 wait",
        "ACTIVE → CHARGING  the Engine's account: a charge runs",
        "DISCONNECTED → ACTIVE  registered with Central",
    ):
        assert part in said, part


def test_it_shows_how_often_it_has_tried_to_connect() -> None:
    bench = working()
    bench.does(bench.relay.central_closed("the peer closed the connection", bench.now))
    bench.monitor.central.connected_since_s = None
    bench.monitor.central.attempts = 4
    bench.reading(0, 0)
    said = text_of(bench)
    assert "not connected, attempt 4" in said
    assert "0 up, 1 wait" in said
    assert "DISCONNECTED since" in said
    bench.monitor.central.connected_since_s = bench.at_s
    assert "not registered, attempt 4" in text_of(bench, 80, 16)


def test_it_shows_what_was_asked_and_not_answered() -> None:
    bench = charging()
    bench.at_s += 60
    bench.does(bench.relay.tick(bench.now))
    bench.at_s += 5
    assert "heartbeat  5 s ago, no answer yet" in text_of(bench)
    assert "health   5 s ago, no answer yet" in text_of(bench)


def test_it_shows_how_a_charge_begins_waits_and_ends() -> None:
    bench = working()
    assert "no charge" in text_of(bench)
    bench.account(session_id=SESSION, vehicle_connected=False)
    assert f"a charge, session {SESSION}; no reading yet" in text_of(bench)
    bench.reading(0, 0, power_w=0, soc_percent=None)
    assert "ana: waits for a vehicle" in text_of(bench)
    bench.account(session_id=SESSION)
    assert "ana: 0.000 kWh, 0.0 kW, 0 s ago" in text_of(bench)
    bench.completed()
    assert "no charge; the last: ana, 5.000 kWh, target_reached" in text_of(bench)


def test_each_fault_has_its_line_until_there_are_many() -> None:
    bench = working()
    bench.engine(FaultNotification, fault_code="overheated", description="too hot")
    assert "overheated  too hot" in text_of(bench)
    assert "and 3 more" in text_of(faulty())


@pytest.mark.parametrize("words", ["[red]hot[/red]", "[link=x]", "\u202egnp.exe", ":fire:", "\u2028next"])
def test_what_a_peer_says_is_neither_markup_nor_control_characters(words: str) -> None:
    bench = working()
    bench.engine(FaultNotification, fault_code="overheated", description=words)
    said = text_of(bench)
    assert (words if words.isprintable() else ascii(words)[1:-1]) in said
    assert all(character.isprintable() or character == "\n" for character in said)


# The whole screen

SNAPSHOTS = Path(__file__).parent / "snapshots"


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_the_screen_in_mid_charge(size: tuple[int, int]) -> None:
    bench = charging()
    bench.events.tell("connected  peer=Engine address=127.0.0.1:6001")
    bench.events.tell("connected  peer=Central address=192.0.2.11:5000")
    with utc():
        compare(SNAPSHOTS / f"charging-{size[0]}x{size[1]}.txt", shown(bench.cli.front, size, "status"))


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_the_screen_in_trouble(size: tuple[int, int]) -> None:
    bench = charging()
    bench.say("fault cable_damaged the cable is cut")
    bench.completed()
    bench.at_s += 3
    bench.does(bench.relay.central_closed("the peer closed the connection", bench.now))
    bench.monitor.central.connected_since_s = None
    bench.monitor.central.attempts = 2
    bench.events.tell("warning disconnected  peer=Central reason='the peer closed the connection'")
    bench.at_s += 4
    with utc():
        screen = shown(bench.cli.front, size, "clear overheated", "reconnect central")
        compare(SNAPSHOTS / f"trouble-{size[0]}x{size[1]}.txt", screen)
