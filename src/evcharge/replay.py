"""`evcharge replay`: real charging sessions, driven through the real system, and checked to the Wh.

Each row of the file becomes a charge by that driver at that charge point, of that energy, at the power that the
row implies. Time runs `speed` times as fast as it did: rows begin when they began, as soon as charge point and
driver are free.
"""

import asyncio
import csv
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from structlog.typing import FilteringBoundLogger

from evcharge import clock
from evcharge.children import ChildFailed, children, first_of, kafka_arguments, own_group
from evcharge.domain import tariff
from evcharge.domain.battery import Battery
from evcharge.domain.session import SessionStatus
from evcharge.driver.service import Driver, DriverLink, NoAnswer, a_central_answers
from evcharge.engine.service import Engine
from evcharge.errors import (
    ChargePointBusy,
    ChargePointUnavailable,
    DriverBusy,
    UnknownDriver,
    UsageError,
    WireError,
)
from evcharge.fleet import Fleet, FleetConfig
from evcharge.protocol.messages import ChargeCompletionResponse, is_id
from evcharge.protocol.plain_text import one_line
from evcharge.protocol.topics import TO_CENTRAL
from evcharge.transport.kafka import Cluster, Publisher
from evcharge.transport.kafka_settings import KafkaAccess
from evcharge.transport.tcp import Address, Backoff
from evcharge.transport.trace import Trace

COLUMNS = ("session_id", "charge_point_id", "driver_id", "plugged_in_at", "charging_seconds", "energy_kwh")
PRICE_PER_KWH = Decimal("0.23")
READY_TIMEOUT_S = 30.0
RETRY_S = 0.05
ANSWER_TIMEOUT_S = 60.0
ROOM_IN_BATTERY = 10
"""The battery is this many times the energy, so that the power stays what the row implies."""


@dataclass(frozen=True, slots=True)
class Row:
    """One session of the file; `line` is where it stands."""

    line: int
    session_id: str
    cp_id: str
    driver_id: str
    plugged_in_at: datetime
    charging_seconds: int
    energy_wh: int

    @property
    def power_w(self) -> float:
        return self.energy_wh * 3600 / self.charging_seconds


@dataclass(frozen=True, slots=True)
class Skipped:
    """A row that makes no sense."""

    line: int
    reason: str


def read_rows(path: Path, limit: int | None) -> tuple[list[Row], list[Skipped]]:
    """The first `limit` rows, those that make sense apart from those that do not."""
    rows: list[Row] = []
    skipped: list[Skipped] = []
    seen: set[str] = set()
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise UsageError(f"{path} has no column {', '.join(missing)}; is it a file of charging sessions?")
            for count, cells in enumerate(reader):
                if count == limit:
                    break
                try:
                    row = _row(reader.line_num, cells)
                    if row.session_id in seen:
                        raise ValueError(f"the session {row.session_id} stands in the file before")
                except ValueError as problem:
                    skipped.append(Skipped(reader.line_num, str(problem)))
                else:
                    seen.add(row.session_id)
                    rows.append(row)
    except (OSError, UnicodeDecodeError, csv.Error) as problem:
        raise UsageError(f"{path} cannot be read: {problem}") from None
    return rows, skipped


def _row(line: int, cells: dict[str, str | None]) -> Row:
    """Raises `ValueError` with what makes no sense."""

    def cell(name: str) -> str:
        text = cells[name]
        if not text:
            raise ValueError(f"{name} is empty")
        return text

    for name in ("session_id", "charge_point_id", "driver_id"):
        if not is_id(cell(name)):
            raise ValueError(f"{name} is no id: {cells[name]!a}")
    try:
        plugged_in_at = datetime.fromisoformat(cell("plugged_in_at"))
    except ValueError:
        raise ValueError(f"plugged_in_at is no time: {cells['plugged_in_at']!a}") from None
    if plugged_in_at.tzinfo is None:
        raise ValueError(f"plugged_in_at has no offset from UTC: {cells['plugged_in_at']!a}")
    try:
        charging_seconds = int(cell("charging_seconds"))
        energy_kwh = Decimal(cell("energy_kwh"))
        energy_wh = round(energy_kwh * 1000)
    except (ValueError, InvalidOperation, OverflowError):
        raise ValueError(
            f"charging_seconds {cells['charging_seconds']!a} or energy_kwh {cells['energy_kwh']!a} is no number"
        ) from None
    if charging_seconds <= 0:
        raise ValueError(f"charging_seconds is {charging_seconds}, so the row implies no power")
    if energy_wh <= 0:
        raise ValueError(f"energy_kwh is {energy_kwh}, so there is nothing to charge")
    return Row(
        line,
        cell("session_id"),
        cell("charge_point_id"),
        cell("driver_id"),
        plugged_in_at,
        charging_seconds,
        energy_wh,
    )


@dataclass(slots=True)
class Tally:
    """What came of the rows so far."""

    receipts: dict[str, ChargeCompletionResponse] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    latencies_s: list[float] = field(default_factory=list)


def report(rows: list[Row], skipped: list[Skipped], tally: Tally, wall_s: float) -> dict[str, Any]:
    """The figures, and each row whose bill is not what the file says."""
    billed = {session_id: receipt.energy_wh for session_id, receipt in tally.receipts.items()}
    differences = [
        {
            "line": row.line,
            "session_id": row.session_id,
            "file_wh": row.energy_wh,
            "billed_wh": billed.get(row.session_id),
            "reason": tally.failures.get(row.session_id, ""),
        }
        for row in rows
        if not _is_exact(row, tally)
    ]
    return {
        "sessions": len(rows),
        "done": len(tally.receipts),
        "failed": len(tally.failures),
        "skipped": [{"line": skip.line, "reason": skip.reason} for skip in skipped],
        "file_wh": sum(row.energy_wh for row in rows),
        "billed_wh": sum(billed.values()),
        "cost": str(sum((receipt.cost for receipt in tally.receipts.values()), Decimal(0))),
        "differences": differences,
        "request_p50_ms": _percentile_ms(tally.latencies_s, 0.50),
        "request_p99_ms": _percentile_ms(tally.latencies_s, 0.99),
        "wall_s": round(wall_s, 3),
        "sessions_per_s": round(len(tally.receipts) / wall_s, 1) if wall_s else 0.0,
    }


def _is_exact(row: Row, tally: Tally) -> bool:
    receipt = tally.receipts.get(row.session_id)
    return (
        receipt is not None
        and receipt.energy_wh == row.energy_wh
        and receipt.cost == tariff.cost(row.energy_wh, receipt.price_per_kwh)
    )


def _percentile_ms(latencies_s: list[float], share: float) -> float | None:
    """Nearest rank; None of nothing."""
    if not latencies_s:
        return None
    ordered = sorted(latencies_s)
    return round(ordered[max(0, math.ceil(share * len(ordered)) - 1)] * 1000, 2)


@dataclass(frozen=True, slots=True)
class ReplayConfig:
    """`kafka_config` is the file that the settings of `kafka` were read from."""

    kafka: KafkaAccess
    kafka_config: Path | None
    central: Address | None
    speed: float
    folder: Path


class Replay:
    def __init__(
        self,
        rows: list[Row],
        config: ReplayConfig,
        log: FilteringBoundLogger,
        trace: Trace | None,
        on_progress: Callable[[], None],
    ) -> None:
        self._rows = rows
        self._config = config
        self._log = log
        self._trace = trace
        self._on_progress = on_progress
        self._drivers: dict[str, Driver] = {}
        self._driver_is_free: dict[str, asyncio.Lock] = {}
        self.tally = Tally()
        self.wall_s = 0.0

    async def run(self) -> None:
        """All rows; with a Central of its own unless one is given."""
        if self._config.central is not None:
            await self._run_with(self._config.central)
            return
        if await a_central_answers(self._config.kafka, self._log):
            raise UsageError(
                f"a Central is at work on Kafka at {self._config.kafka}; replay through it with --central"
                " HOST:PORT (it must run with --open-registration), or use another Kafka"
            )
        group = own_group("replay")
        await asyncio.to_thread(Cluster(self._config.kafka, self._log).begin_at_end, group, TO_CENTRAL)
        async with children(self._config.folder) as started:
            central = await started.start_server(
                "central",
                "central",
                "--host",
                "127.0.0.1",
                *kafka_arguments(self._config.kafka, self._config.kafka_config),
                *("--kafka-group", group),
                "--db",
                str(self._config.folder / "replay.db"),
                *("--http", "off"),
                *("--time-scale", str(self._config.speed)),
                "--open-registration",
                "--log-level",
                "warning",
            )
            await first_of(started.watch(), self._run_with(central))

    async def _run_with(self, central: Address) -> None:
        rows_at: dict[str, list[Row]] = {}
        for row in self._rows:
            rows_at.setdefault(row.cp_id, []).append(row)
        most_power_w = math.ceil(max(row.power_w for row in self._rows))
        publisher = Publisher(
            self._config.kafka,
            "evcharge-replay-fleet",
            trace=self._trace,
            log=self._log,
            on_fatal=lambda reason: self._log.error("kafka_failed", cause=reason),
        )
        fleet = Fleet(
            rows_at,
            FleetConfig(
                central=central,
                journal=self._config.folder / "journal",
                price_per_kwh=PRICE_PER_KWH,
                currency="USD",
                max_power_w=most_power_w,
                vehicle=Battery(1.0, 0.0, 1.0),  # each row plugs in its own
                time_scale=self._config.speed,
                backoff=Backoff(0.1, 5.0),
            ),
            publisher,
            self._log,
            self._trace,
        )
        stop = asyncio.Event()
        link = DriverLink(
            self._config.kafka,
            "evcharge-replay-drivers",
            timeout_s=ANSWER_TIMEOUT_S,
            log=self._log,
            trace=self._trace,
        )
        try:
            async with link.opened(None):
                running = asyncio.ensure_future(fleet.run(stop))
                try:
                    await first_of(_wait_for(running), self._drive(rows_at, fleet, link))
                finally:
                    stop.set()
                    await running
        finally:
            await asyncio.to_thread(publisher.close)

    async def _drive(self, rows_at: dict[str, list[Row]], fleet: Fleet, link: DriverLink) -> None:
        await self._wait_until_ready(rows_at.keys(), link)
        for driver_id in sorted({row.driver_id for row in self._rows}):
            self._drivers[driver_id] = Driver(driver_id, link)
            self._driver_is_free[driver_id] = asyncio.Lock()
        begun_s = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            for cp_id, rows in rows_at.items():
                tasks.create_task(self._drive_charge_point(cp_id, rows, fleet, begun_s))
        self.wall_s = time.monotonic() - begun_s

    async def _wait_until_ready(self, cp_ids: Iterable[str], link: DriverLink) -> None:
        watcher = Driver("replay-watcher", link)
        missing = set(cp_ids)
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                while missing:
                    missing -= {cp.cp_id for cp in await watcher.charge_points()}
                    if missing:
                        await asyncio.sleep(RETRY_S)
        except UnknownDriver:
            raise UsageError(
                "this Central does not admit whom nobody has added; it needs --open-registration"
            ) from None
        except TimeoutError:
            raise ChildFailed(
                f"{len(missing)} of {len(set(cp_ids))} charge points were not ready within {READY_TIMEOUT_S:g} s;"
                " does Central run with --open-registration?"
            ) from None

    async def _drive_charge_point(self, cp_id: str, rows: list[Row], fleet: Fleet, begun_s: float) -> None:
        engine = fleet.engines[cp_id]
        first_at = self._rows[0].plugged_in_at
        for row in rows:
            due_s = begun_s + (row.plugged_in_at - first_at).total_seconds() / self._config.speed
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            async with self._driver_is_free[row.driver_id]:
                await _plug_in(engine, Battery(float(row.energy_wh * ROOM_IN_BATTERY), 0.0, row.power_w))
                await self._charge(row)
            self._on_progress()

    async def _charge(self, row: Row) -> None:
        driver = self._drivers[row.driver_id]
        while True:
            asked_s = time.monotonic()
            try:
                answer = await driver.charge(row.cp_id, row.energy_wh)
                break
            except (ChargePointBusy, ChargePointUnavailable, DriverBusy):
                await asyncio.sleep(RETRY_S)  # somebody else's charge: a busy charge point is waited for
            except (WireError, NoAnswer) as refused:
                self.tally.failures[row.session_id] = str(refused)
                return
        self.tally.latencies_s.append(time.monotonic() - asked_s)
        assert answer.session_id is not None
        async for message in driver.follow(answer.session_id):
            if isinstance(message, ChargeCompletionResponse):
                self.tally.receipts[row.session_id] = message
                if message.status is not SessionStatus.COMPLETED:
                    self.tally.failures[row.session_id] = f"{message.status}: {message.end_reason}"


async def _wait_for(running: asyncio.Future[None]) -> None:
    await asyncio.shield(running)


@contextmanager
def progress_bar(total: int, hidden: bool) -> Iterator[Callable[[], None]]:
    """A bar on stderr with rate and time left; gives what to call at each row that is through."""
    with Progress(
        TextColumn("replay"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=hidden or not sys.stderr.isatty(),
    ) as progress:
        task = progress.add_task("replay", total=total, rate="")

        def advance() -> None:
            speed = progress.tasks[task].speed
            progress.update(task, advance=1, rate=f"{speed:.1f} sessions/s" if speed else "")

        yield advance


def text_of(figures: dict[str, Any]) -> str:
    """The report for a person."""
    exact = not figures["differences"]
    lines = [
        f"sessions   {figures['done']} done, {figures['failed']} failed, {len(figures['skipped'])} rows skipped",
        f"energy     {figures['file_wh']} Wh in the file, {figures['billed_wh']} Wh billed:"
        f" {'equal, row by row' if exact else str(len(figures['differences'])) + ' rows differ'}",
        f"requests   p50 {figures['request_p50_ms']} ms, p99 {figures['request_p99_ms']} ms",
        f"time       {figures['wall_s']} s, {figures['sessions_per_s']} sessions/s",
    ]
    lines += [f"line {skip['line']} skipped: {one_line(skip['reason'])}" for skip in figures["skipped"]]
    lines += [
        f"line {row['line']}: {row['file_wh']} Wh in the file, {row['billed_wh']} Wh billed"
        f" {one_line(row['reason'])}"
        for row in figures["differences"][:20]
    ]
    return "\n".join(lines)


async def _plug_in(engine: Engine, vehicle: Battery) -> None:
    """As soon as nobody else charges there, as somebody may at a live Central."""
    while True:
        try:
            engine.do(engine.charger.plug_in(vehicle, clock.now()))
            return
        except UsageError:
            await asyncio.sleep(RETRY_S)
