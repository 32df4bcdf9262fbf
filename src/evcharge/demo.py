"""`evcharge demo`: a small network of real processes at work, with a screen to watch it, or a JSON summary.

Everything shown comes over the documented wire: the demo watches as a driver would.
"""

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text
from structlog.typing import FilteringBoundLogger

from evcharge.children import Child, ChildFailed, Children, children, kafka_arguments, own_place
from evcharge.console.drawing import STATUS_STYLES
from evcharge.domain.session import SessionStatus
from evcharge.domain.status import Status
from evcharge.driver.service import Driver, DriverLink, KafkaRefuses, NoAnswer, a_central_answers
from evcharge.errors import UsageError
from evcharge.protocol.messages import ChargeCompletionResponse, ChargingStatusUpdate, CpInfo, Message
from evcharge.protocol.plain_text import one_line
from evcharge.protocol.topics import Topic
from evcharge.transport.kafka_settings import KafkaAccess
from evcharge.transport.trial_broker import TrialBroker

DRIVERS = ("ana", "bo")
LOOK_EVERY_S = 0.5
READY_TIMEOUT_S = 20.0
ANSWER_TIMEOUT_S = 10.0
EVENTS_SHOWN = 8
RECEIPTS_SHOWN = 6
# Energies, at 11 kW and 60 times the speed of life, of some 15 to 25 seconds.
ENERGY_KWH = (2.8, 4.6)


@dataclass(frozen=True, slots=True)
class Place:
    """One charge point of the demo."""

    cp_id: str
    location: str
    price_per_kwh: str
    max_power_kw: str


PLACES = (
    Place("CP001", "Harbour, bay 1", "0.30", "11"),
    Place("CP002", "Harbour, bay 2", "0.30", "11"),
    Place("CP003", "Market square", "0.45", "22"),
)


@dataclass(slots=True)
class View:
    """What has been seen so far, for the screen."""

    kafka: str
    charge_points: dict[str, CpInfo] = field(default_factory=dict)
    charges: dict[str, ChargingStatusUpdate] = field(default_factory=dict)
    receipts: deque[ChargeCompletionResponse] = field(default_factory=lambda: deque(maxlen=RECEIPTS_SHOWN))
    events: deque[str] = field(default_factory=lambda: deque(maxlen=EVENTS_SHOWN))
    on_event: Callable[[str], None] = lambda event: None

    def tell(self, text: str) -> None:
        event = f"{datetime.now():%H:%M:%S}  {one_line(text)}"
        self.events.append(event)
        self.on_event(event)

    def hear(self, message: Message | KafkaRefuses) -> None:
        match message:
            case ChargingStatusUpdate():
                if message.cp_id not in self.charges:
                    self.tell(f"{message.driver_id} charges at {message.cp_id}")
                self.charges[message.cp_id] = message
            case ChargeCompletionResponse():
                self.charges.pop(message.cp_id, None)
                self.receipts.append(message)
                kwh = f"{message.energy_wh / 1000:.3f} kWh"
                self.tell(f"receipt for {message.driver_id}: {kwh}, {message.cost} {message.currency}")

    def see(self, charge_points: list[CpInfo]) -> None:
        for cp in charge_points:
            before = self.charge_points.get(cp.cp_id)
            if before is None or before.status is not cp.status:
                self.tell(f"{cp.cp_id} is {cp.status}")
            self.charge_points[cp.cp_id] = cp

    def __rich__(self) -> RenderableType:
        return Group(
            Text.assemble(("evcharge demo", "bold"), f"  Kafka at {self.kafka}; Ctrl-C ends everything"),
            self._charge_point_table(),
            self._receipt_table(),
            Panel(
                Text("\n".join(self.events)),
                title="events",
                height=EVENTS_SHOWN + 2,
            ),
        )

    def _charge_point_table(self) -> Table:
        table = Table("charge point", "location", "state", "driver", "kW", "kWh", "battery", "cost", expand=True)
        for place in PLACES:
            cp, charge = self.charge_points.get(place.cp_id), self.charges.get(place.cp_id)
            status = cp.status if cp is not None else Status.DISCONNECTED
            cells = ["", "", "", "", ""]
            if charge is not None:
                cells = [
                    charge.driver_id,
                    f"{charge.power_w / 1000:.1f}",
                    f"{charge.energy_wh / 1000:.3f}",
                    f"{charge.soc_percent:.0f} %" if charge.soc_percent is not None else "",
                    f"{charge.cost} {charge.currency}",
                ]
            table.add_row(place.cp_id, place.location, Text(status, style=STATUS_STYLES[status]), *cells)
        return table

    def _receipt_table(self) -> Table:
        table = Table("receipt", "charge point", "kWh", "price", "cost", "ended by", expand=True)
        for receipt in self.receipts:
            table.add_row(
                receipt.driver_id,
                receipt.cp_id,
                f"{receipt.energy_wh / 1000:.3f}",
                f"{receipt.price_per_kwh}",
                f"{receipt.cost} {receipt.currency}",
                receipt.end_reason,
            )
        for _ in range(RECEIPTS_SHOWN - len(self.receipts)):
            table.add_row(*[""] * 6)
        return table


class Demo:
    """On a real Kafka, if one is given, with the file of its settings; else on the trial broker."""

    def __init__(
        self, kafka: KafkaAccess | None, kafka_config: Path | None, time_scale: float, log: FilteringBoundLogger
    ) -> None:
        self._broker = TrialBroker(Topic) if kafka is None else None
        self._kafka = kafka if kafka is not None else KafkaAccess(self._trial_address())
        self._kafka_config = kafka_config
        self._group = "evcharge-demo"
        self._time_scale = time_scale
        self._log = log
        self.view = View(str(self._kafka) if kafka is not None else f"{self._kafka} (trial broker, in memory)")

    def _trial_address(self) -> str:
        assert self._broker is not None
        return self._broker.bootstrap

    @asynccontextmanager
    async def running(self, folder: Path) -> AsyncIterator[Children]:
        """Central, the charge points, and the watching, until the block ends."""
        async with AsyncExitStack() as entered:
            if self._broker is None:
                if await a_central_answers(self._kafka, self._log):
                    raise UsageError(
                        f"a Central is at work on Kafka at {self._kafka}; the demo needs a Kafka of its own"
                    )
                place = own_place(self._kafka, "demo", self._log)
                self._kafka, self._group = await entered.enter_async_context(place)
            started = await entered.enter_async_context(children(folder))
            await self._start(started)
            link = DriverLink(self._kafka, "evcharge-demo", timeout_s=ANSWER_TIMEOUT_S, log=self._log, trace=None)
            async with link.opened(None):
                for driver_id in DRIVERS:
                    link.listen(driver_id, self.view.hear)
                watcher = Driver("demo-watcher", link)
                await self._wait_until_ready(watcher)
                looking = asyncio.ensure_future(self._look(watcher))
                try:
                    yield started
                finally:
                    looking.cancel()
                    await asyncio.gather(looking, return_exceptions=True)

    async def _start(self, started: Children) -> None:
        kafka = kafka_arguments(self._kafka, self._kafka_config)
        central = await started.start_server(
            "central",
            "central",
            *(*kafka, "--kafka-group", self._group, "--host", "127.0.0.1", "--open-registration", "--http", "off"),
            *("--time-scale", str(self._time_scale)),
            *("--db", str(started.folder / "demo.db")),
        )
        for place in PLACES:
            engine = await started.start_server(
                f"engine-{place.cp_id}",
                "engine",
                *(*kafka, "--time-scale", str(self._time_scale)),
                *("--max-power", place.max_power_kw, "--journal", str(started.folder / "journal")),
            )
            await started.start(
                f"monitor-{place.cp_id}",
                "monitor",
                place.cp_id,
                *("--engine", str(engine), "--central", str(central)),
                *("--location", place.location, "--price", place.price_per_kwh),
                *("--max-power", place.max_power_kw),
            )

    async def _wait_until_ready(self, watcher: Driver) -> None:
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                while len(self.view.charge_points) < len(PLACES):
                    self.view.see(await watcher.charge_points())
                    await asyncio.sleep(LOOK_EVERY_S / 5)
        except TimeoutError:
            raise ChildFailed(f"the charge points were not ready within {READY_TIMEOUT_S:g} s") from None

    async def _look(self, watcher: Driver) -> None:
        while True:
            try:
                self.view.see(await watcher.charge_points(everything=True))
            except NoAnswer as problem:
                self.view.tell(str(problem))
            await asyncio.sleep(LOOK_EVERY_S)

    async def drive(self, started: Children, sessions: int | None) -> list[dict[str, Any]]:
        """Let the drivers charge, each at the next free charge point; the summary of all `sessions`, if ended."""
        free: asyncio.Queue[str] = asyncio.Queue()
        for place in PLACES:
            free.put_nowait(place.cp_id)
        chance = random.Random(7)
        summary: list[dict[str, Any]] = []
        begun = 0

        async def charge_again_and_again(driver_id: str) -> None:
            nonlocal begun
            while sessions is None or begun < sessions:
                begun += 1
                number, cp_id = begun, await free.get()
                energy = f"{chance.uniform(*ENERGY_KWH):.3f}"
                child = await started.start_errand(
                    f"driver-{driver_id}-{number}",
                    "driver",
                    driver_id,
                    "charge",
                    cp_id,
                    *("--energy", energy, "--wait", "--json", *kafka_arguments(self._kafka, self._kafka_config)),
                )
                summary.append(await _summary_of(child, driver_id, cp_id))
                free.put_nowait(cp_id)

        async with asyncio.TaskGroup() as tasks:
            for driver_id in DRIVERS:
                tasks.create_task(charge_again_and_again(driver_id))
        return summary


async def _summary_of(child: Child, driver_id: str, cp_id: str) -> dict[str, Any]:
    """What a driver's process had to say in the end: its receipt, or why it has none."""
    code = await child.process.wait()
    said = child.log.read_text(errors="replace").strip()
    try:
        receipt = msgspec.json.decode(said.splitlines()[-1], type=ChargeCompletionResponse)
    except (IndexError, msgspec.DecodeError):
        return {"driver": driver_id, "charge_point": cp_id, "completed": False, "exit_code": code, "said": said}
    return {
        "driver": driver_id,
        "charge_point": cp_id,
        "completed": receipt.status is SessionStatus.COMPLETED,
        "session_id": str(receipt.session_id),
        "energy_wh": receipt.energy_wh,
        "cost": str(receipt.cost),
        "currency": receipt.currency,
        "reason": receipt.end_reason,
    }
