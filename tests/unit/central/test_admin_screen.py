"""What AdminCLI's screen shows, and how it completes what is typed; its commands are tested end to end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from msgspec.structs import replace
from snapshots import SIZES, compare, shown, utc

from evcharge.central.board import Board
from evcharge.central.console import AdminCLI
from evcharge.central.desk import Desk
from evcharge.central.health import health_of
from evcharge.central.panels import NetworkView
from evcharge.central.receipts import Backlog
from evcharge.console.events import EventLog
from evcharge.domain.commands import Actor, Command
from evcharge.domain.instant import Instant
from evcharge.domain.session import SessionStatus
from evcharge.domain.status import Status
from evcharge.errors import UnknownDriver
from evcharge.protocol.operators import Changes, ChargePointNow, OpenSession, RevenueRow
from evcharge.storage.books import Books
from evcharge.storage.database import open_database
from evcharge.storage.registry import Registry

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
PLACES = ("Harbour, bay 1", "Harbour, bay 2", "Market square", "[bold]Station[/bold]", "Town hall")


def a_charge_point(number: int, status: Status = Status.ACTIVE, heard_s: float = 3.0) -> ChargePointNow:
    session = OpenSession(
        session_id=UUID(int=number),
        driver_id=("ana", "bo", "chris")[number % 3],
        status=SessionStatus.CHARGING,
        energy_wh=1234 * number,
        power_w=11_000,
        cost=Decimal("0.37") * number,
        currency="EUR",
        requested_at=NOON - timedelta(minutes=number),
        started_at=NOON - timedelta(minutes=number),
        target_energy_wh=20_000,
        soc_percent=43.0,
        stop_requested=False,
    )
    return ChargePointNow(
        cp_id=f"CP{number:03}",
        location=PLACES[number % len(PLACES)],
        status=status,
        connected=status is not Status.DISCONNECTED,
        available=status is Status.ACTIVE,
        out_of_service=number == 7,
        price_per_kwh=Decimal("0.30"),
        currency="EUR",
        price_by_operator=False,
        max_power_w=22_000,
        faults=["ground_failure"] if status is Status.FAULTY else [],
        last_heard_at=NOON - timedelta(seconds=heard_s) if status is not Status.DISCONNECTED else None,
        session=session if status is Status.CHARGING else None,
    )


STATES = {3: Status.CHARGING, 5: Status.CHARGING, 6: Status.FAULTY, 9: Status.DISCONNECTED}
NETWORK = Changes(
    as_of=NOON,
    charge_points=[a_charge_point(number, STATES.get(number, Status.ACTIVE)) for number in range(1, 13)],
    removed_cp_ids=[],
    events=[],
)


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[AdminCLI]:
    """AdminCLI at a desk whose network is `NETWORK`, and which refuses every command."""

    async def refuse(actor: Actor, command: Command) -> object:
        raise UnknownDriver("there is no driver nobody")

    engine = open_database(tmp_path / "evcharge.db")
    threads = ThreadPoolExecutor(1)
    board = Board(lambda: board.take(Changes(as_of=NOON, charge_points=[], removed_cp_ids=[], events=[])), NETWORK)
    desk = Desk(
        actor=Actor("maria", "console"),
        order=refuse,
        board=board,
        registry=Registry(engine),
        books=Books(engine, ZoneInfo("UTC")),
        threads=threads,
        health_now=lambda: health_of(None, False, False, Backlog(), NOON),
        zone=ZoneInfo("UTC"),
    )
    events = EventLog(lambda: NOON)
    now = Instant(NOON, 1000.0)
    cli = AdminCLI(desk, events, title="AdminCLI   EV_Central", quit_help="stop this Central", now=lambda: now)
    with utc():
        yield cli
    threads.shutdown()
    engine.dispose()


@pytest.mark.parametrize("size", SIZES, ids=["80x24", "120x40"])
def test_the_screen(cli: AdminCLI, size: tuple[int, int]) -> None:
    cli.see(NETWORK)
    asyncio.run(cli.look_at_totals())
    text = shown(cli.front, size, "stop CP001", "start CP001 nobody", "shw CP003")
    compare(Path(__file__).parent / "snapshots" / f"admin_{size[0]}x{size[1]}.txt", text)


@pytest.mark.parametrize("size", [(40, 10), (20, 5), (200, 60)])
def test_any_size_can_be_drawn(cli: AdminCLI, size: tuple[int, int]) -> None:
    cli.see(NETWORK)
    assert "cannot be drawn" not in shown(cli.front, size)


def test_an_empty_network_can_be_drawn(cli: AdminCLI) -> None:
    assert "0 charge points" in shown(cli.front, (80, 24))


def test_what_has_changed_is_shown_and_what_was_removed_is_not(cli: AdminCLI) -> None:
    cli.see(NETWORK)
    changed = a_charge_point(1, Status.FAULTY)
    cli.see(Changes(as_of=NOON, charge_points=[changed], removed_cp_ids=["CP002"], events=[]))
    found = {cp.cp_id: cp.status for cp in cli.view(NOON).charge_points}
    assert found["CP001"] is Status.FAULTY
    assert "CP002" not in found


def test_those_that_need_somebody_come_first() -> None:
    view = NetworkView(now=NOON, charge_points=NETWORK.charge_points)
    assert [cp.cp_id for cp in view.chosen()][:4] == ["CP006", "CP009", "CP003", "CP005"]


def test_one_that_never_registered_needs_nobody_and_comes_last() -> None:
    new = replace(a_charge_point(1, Status.DISCONNECTED), price_per_kwh=None)
    view = NetworkView(now=NOON, charge_points=[new, *NETWORK.charge_points[1:]])
    assert view.chosen()[-1].cp_id == "CP001"


@pytest.mark.parametrize("size", [(80, 24), (60, 20)])
def test_health_comes_first_and_is_never_cut_for_money(cli: AdminCLI, size: tuple[int, int]) -> None:
    cli.see(NETWORK)
    asyncio.run(cli.look_at_totals())
    cli._today = [
        RevenueRow(of="", sessions=12345, energy_wh=123_456_789, cost=Decimal("99999.99"), currency="EUR")
    ]
    second = shown(cli.front, size).splitlines()[2]
    assert second.startswith("! database unusable   Kafka ok   2 sessions, 22.0 kW")
    assert second.endswith("…")


@pytest.mark.parametrize("size", [(80, 24), (60, 20)])
def test_what_needs_somebody_is_marked_without_colours_too(cli: AdminCLI, size: tuple[int, int]) -> None:
    cli.see(NETWORK)
    text = shown(cli.front, size)
    assert "12 charge points  ! 1 FAULTY  ! 1 DISCONNECTED" in text
    first, second = [row for row in text.splitlines() if row.startswith("│ CP")][:2]
    assert "! FAULTY" in first
    assert "! DISCONNECTED" in second


@pytest.mark.parametrize(("only", "count"), [("", 12), ("charging", 2), ("CP01", 3), ("x", 0)])
def test_a_state_or_the_beginning_of_an_id_chooses(only: str, count: int) -> None:
    view = NetworkView(now=NOON, charge_points=NETWORK.charge_points, only=only)
    assert len(view.chosen()) == count


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("sho", ["show"]),
        ("show CP01", ["show CP010", "show CP011", "show CP012"]),
        ("stop CP", ["stop CP003", "stop CP005"]),
        ("out a", ["out all"]),
        ("start CP003 ", ["start CP003 ana", "start CP003 chris"]),
        ("history dr", ["history driver="]),
        ("remove cp CP01", ["remove cp CP010", "remove cp CP011", "remove cp CP012"]),
        ("export x.csv s", ["export x.csv since="]),
    ],
)
def test_commands_and_ids_are_completed(cli: AdminCLI, line: str, found: list[str]) -> None:
    cli.see(NETWORK)
    assert cli.commands.complete(line) == found
