"""Real charging sessions, driven through the real system.

Each row becomes a charge by that driver at that charge point, of that energy, at the power that the row implies.
Time runs `speed` times as fast as it did: rows begin when they began, as soon as charge point and driver are free.
"""

import asyncio
import math
import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from uuid import UUID

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from structlog.typing import FilteringBoundLogger

from evcharge import clock
from evcharge.children import ChildFailed, children, first_of, kafka_arguments, own_place
from evcharge.domain.battery import Battery, Current
from evcharge.domain.session import SessionStatus
from evcharge.domain.status import Status
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
from evcharge.protocol.messages import ChargeCompletionResponse
from evcharge.replay.report import Tally
from evcharge.replay.rows import Row
from evcharge.transport.kafka_settings import KafkaAccess
from evcharge.transport.publisher import Publisher
from evcharge.transport.tcp import Address, Backoff
from evcharge.transport.trace import Trace

MAX_KW = 100_000
"""The ceiling of our own Central: above all that a message can say."""
PRICE_PER_KWH = Decimal("0.23")
READY_TIMEOUT_S = 30.0
RETRY_S = 0.05
ANSWER_TIMEOUT_S = 60.0
AWAY_TIMEOUT_S = 60.0
RECEIPT_TIMEOUT_S = 120.0
ROOM_IN_BATTERY = 10
"""The battery is this many times the energy, and more, so that the power stays what the row implies."""


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
        self._begun_s: float | None = None
        self._ended_s: float | None = None
        self.tally = Tally()

    @property
    def wall_s(self) -> float:
        """Since the first row could begin, until the last was through, or until now."""
        if self._begun_s is None:
            return 0.0
        return (self._ended_s or time.monotonic()) - self._begun_s

    async def run(self) -> None:
        """All rows; with a Central of its own unless one is given."""
        if self._config.central is not None:
            await self._run_with(self._config.central, self._config.kafka)
            return
        if await a_central_answers(self._config.kafka, self._log):
            raise UsageError(
                f"a Central is at work on Kafka at {self._config.kafka}; replay through it with --central"
                " HOST:PORT (it must run with --open-registration), or use another Kafka"
            )
        async with (
            own_place(self._config.kafka, "replay", self._log) as (kafka, group),
            children(self._config.folder) as started,
        ):
            central = await started.start_server(
                "central",
                "central",
                "--host",
                "127.0.0.1",
                *kafka_arguments(kafka, self._config.kafka_config),
                *("--kafka-group", group),
                "--db",
                str(self._config.folder / "replay.db"),
                *("--http", "off"),
                *("--time-scale", str(self._config.speed)),
                "--open-registration",
                *("--max-power", str(MAX_KW)),
                "--log-level",
                "warning",
            )
            await first_of(started.watch(), self._run_with(central, kafka))

    async def _run_with(self, central: Address, kafka: KafkaAccess) -> None:
        rows_at: dict[str, list[Row]] = {}
        for row in self._rows:
            rows_at.setdefault(row.cp_id, []).append(row)
        powers_w = {cp_id: math.ceil(max(row.power_w for row in rows)) for cp_id, rows in rows_at.items()}
        publisher = Publisher(
            kafka,
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
                max_power_w=max(powers_w.values()),
                powers_w=powers_w,
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
            kafka,
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
        missing = await self._wait_until_ready(rows_at.keys(), link)
        for driver_id in sorted({row.driver_id for row in self._rows}):
            self._drivers[driver_id] = Driver(driver_id, link)
            self._driver_is_free[driver_id] = asyncio.Lock()
        self._begun_s = time.monotonic()
        try:
            async with asyncio.TaskGroup() as tasks:
                for cp_id, rows in rows_at.items():
                    if cp_id in missing:
                        self._give_up(rows)
                    else:
                        tasks.create_task(self._drive_charge_point(rows, fleet.engines[cp_id], self._begun_s))
        finally:
            self._ended_s = time.monotonic()

    def _give_up(self, rows: list[Row]) -> None:
        for row in rows:
            why = f"Central has not taken the charge point {row.cp_id} within {READY_TIMEOUT_S:g} s"
            self.tally.failures[row.session_id] = why
            self._on_progress()

    async def _wait_until_ready(self, cp_ids: Collection[str], link: DriverLink) -> set[str]:
        """The charge points that are still missing after a while, if it is not all of them."""
        watcher = Driver("replay-watcher", link)
        missing = set(cp_ids)
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                while missing:
                    found = await watcher.charge_points(everything=True)
                    missing -= {cp.cp_id for cp in found if cp.status in (Status.ACTIVE, Status.CHARGING)}
                    if missing:
                        await asyncio.sleep(RETRY_S)
        except UnknownDriver:
            raise UsageError(
                "this Central does not admit whom nobody has added; it needs --open-registration"
            ) from None
        except TimeoutError:
            if len(missing) == len(cp_ids):
                raise ChildFailed(
                    f"Central has not taken any of the {len(cp_ids)} charge points within {READY_TIMEOUT_S:g} s;"
                    " does it run with --open-registration?"
                ) from None
        return missing

    async def _drive_charge_point(self, rows: list[Row], engine: Engine, begun_s: float) -> None:
        first_at = self._rows[0].plugged_in_at
        for row in rows:
            due_s = begun_s + (row.plugged_in_at - first_at).total_seconds() / self._config.speed
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            async with self._driver_is_free[row.driver_id]:
                self.tally.begun.add(row.session_id)
                try:
                    async with asyncio.timeout(None) as deadline:
                        await _plug_in(engine, vehicle_of(row))
                        session_id = await self._begin(row)
                        takes_s = row.charging_seconds / self._config.speed
                        deadline.reschedule(asyncio.get_running_loop().time() + takes_s + RECEIPT_TIMEOUT_S)
                        await self._follow(row, session_id)
                except (WireError, NoAnswer) as refused:
                    self.tally.failures[row.session_id] = str(refused)
                except TimeoutError:
                    engine.do(engine.charger.stop_here(clock.now()))
                    late = f"no receipt came within {RECEIPT_TIMEOUT_S:g} s after its end"
                    self.tally.failures[row.session_id] = late
            self._on_progress()

    async def _begin(self, row: Row) -> UUID:
        """Waits as long as somebody else charges there, or this driver elsewhere; not long if it is away.

        Raises the `WireError` of a refusal, or `NoAnswer`.
        """
        first_s = time.monotonic()
        while True:
            asked_s = time.monotonic()
            try:
                answer = await self._drivers[row.driver_id].charge(row.cp_id, row.energy_wh)
            except (ChargePointBusy, DriverBusy):
                await asyncio.sleep(RETRY_S)
            except ChargePointUnavailable:
                if asked_s - first_s > AWAY_TIMEOUT_S:
                    raise
                await asyncio.sleep(RETRY_S)
            else:
                self.tally.latencies_s.append(time.monotonic() - asked_s)
                assert answer.session_id is not None
                return answer.session_id

    async def _follow(self, row: Row, session_id: UUID) -> None:
        async for message in self._drivers[row.driver_id].follow(session_id):
            if isinstance(message, ChargeCompletionResponse):
                self.tally.receipts[row.session_id] = message
                if message.status is not SessionStatus.COMPLETED:
                    self.tally.failures[row.session_id] = f"{message.status}: {message.end_reason}"


def vehicle_of(row: Row) -> Battery:
    """One that takes the row's power all the time, and stores all that the meter counts."""
    capacity_wh = row.energy_wh * ROOM_IN_BATTERY + row.power_w
    return Battery(capacity_wh, 0.0, row.power_w, Current.AC, losses=0.0)


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


async def _plug_in(engine: Engine, vehicle: Battery) -> None:
    """As soon as nobody else charges there, as somebody may at a live Central."""
    while True:
        try:
            engine.do(engine.charger.plug_in(vehicle, clock.now()))
            return
        except UsageError:
            await asyncio.sleep(RETRY_S)
