"""EngineCLI: what one sees, and can do, at the charge point itself."""

from collections import deque
from dataclasses import replace

from evcharge import clock
from evcharge.console.drawing import Sample, counted, kwh
from evcharge.console.events import EventLog
from evcharge.console.front import Front
from evcharge.console.shell import MAX_KWH, Command, Commands, energy_wh_of, no_more, number
from evcharge.domain.instant import Instant
from evcharge.engine.panels import CURVE_S, EngineView, draw
from evcharge.engine.service import Engine
from evcharge.errors import UsageError
from evcharge.protocol.messages import (
    ChargeCompletion,
    ChargingData,
    CommandResponse,
    FaultNotification,
    Message,
    is_id,
    shown,
)

MAX_KW = 2000
DRIVERS_KEPT = 20
FAULT_CODES = (
    "connector_lock_failure",
    "ground_failure",
    "high_temperature",
    "over_current",
    "over_voltage",
    "power_meter_failure",
    "under_voltage",
    "weak_signal",
)


class EngineCLI:
    """It watches what the Engine sends, to count and to draw it, and does what one types."""

    def __init__(self, engine: Engine, events: EventLog) -> None:
        self._engine = engine
        self._charger = engine.charger
        self._events = events
        self._powers: deque[Sample] = deque()
        self._power_w = 0.0
        self._drivers: deque[str] = deque(maxlen=DRIVERS_KEPT)
        self._fault = ""
        self._charges = self._delivered_wh = self._readings = self._commands = 0
        engine.watch(lambda outcome: self.saw(outcome, clock.now()))
        commands = {
            "status": Command("", "vehicle, charge, fault and what waits for a receipt", self._status),
            "plug": Command("BATTERY_KWH SOC_PERCENT [POWER_KW]", "plug a vehicle in", self._plug),
            "unplug": Command("", "unplug the vehicle, which ends its charge", self._unplug),
            "charge": Command(
                "DRIVER_ID [KWH]", "ask for a charge here, as this driver", self._charge, (lambda: self._drivers,)
            ),
            "stop": Command("", "press the stop button", self._stop),
            "fault": Command(
                "CODE [DESCRIPTION]", "simulate a fault, which ends the charge", self._fail, (lambda: FAULT_CODES,)
            ),
            "repair": Command("", "repair the fault", self._repair),
        }
        self.front = Front(
            title="EngineCLI",
            commands=Commands(commands, quit_help="stop this Engine, in order"),
            panels=lambda width, height: draw(self.view(clock.now()), width, height),
            events=events,
        )

    # What it sees

    def saw(self, outcome: list[Message], now: Instant) -> None:
        for message in outcome:
            match message:
                case ChargingData():
                    self._readings += 1
                    self._take_power(message.power_w, now)
                    if message.seq == 0:
                        self._begun(message)
                case ChargeCompletion():
                    self._charges += 1
                    self._delivered_wh += message.energy_wh
                    self._take_power(0.0, now)
                case CommandResponse() if message.session_id is not None:
                    self._commands += 1
                case FaultNotification():
                    self._fault = message.description

    def _begun(self, reading: ChargingData) -> None:
        if reading.driver_id in self._drivers:
            self._drivers.remove(reading.driver_id)
        self._drivers.appendleft(reading.driver_id)
        self._events.tell(f"a charge for {reading.driver_id} begins, session {reading.session_id}")

    def _take_power(self, power_w: float, now: Instant) -> None:
        self._power_w = power_w
        self._powers.append((now.monotonic_s, power_w))
        # The one before the curve begins says how high it begins.
        while len(self._powers) > 1 and self._powers[1][0] < now.monotonic_s - CURVE_S:
            self._powers.popleft()

    def view(self, now: Instant) -> EngineView:
        charger, charge = self._charger, self._charger.charge
        fault = charger.fault_code
        return EngineView(
            now_s=now.monotonic_s,
            cp_id=charger.cp_id,
            has_monitor=self._engine.has_monitor,
            fault=f"{fault}, {self._fault}" if fault is not None and self._fault else fault,
            vehicle=charger.vehicle,
            limit_w=charger.limit_w,
            driver_id=charge.driver_id if charge is not None else None,
            session_id=charge.session_id if charge is not None else None,
            started_at=charge.started_at if charge is not None else None,
            energy_wh=charge.energy_wh if charge is not None else 0,
            target_wh=charge.target_wh if charge is not None else None,
            power_w=self._power_w,
            left_s=charger.left_s(now),
            plug_within_s=charger.waiting_for_vehicle(now),
            powers=tuple(self._powers),
            charges=self._charges,
            delivered_wh=self._delivered_wh + (charge.energy_wh if charge is not None else 0),
            readings=self._readings,
            commands=self._commands,
            unsettled=len(charger.unsettled),
            connecting=charge is not None and charge.connecting_s > 0,
        )

    # What one can say to it

    async def _status(self, words: list[str]) -> str:
        no_more(words, "status")
        view = self.view(clock.now())
        charging = "not charging"
        if view.plug_within_s is not None:
            charging = f"{view.driver_id} has {view.plug_within_s:.0f} s left to plug a vehicle in"
        elif view.session_id is not None:
            how = "connecting" if view.connecting else f"charging {view.energy_wh} Wh"
            charging = f"{how} for {view.driver_id}"
        return "; ".join(
            [
                f"charge point {view.cp_id or 'unknown yet'}",
                "Monitor connected" if view.has_monitor else "no Monitor",
                f"vehicle at {view.vehicle.soc_percent:.1f} %" if view.vehicle is not None else "no vehicle",
                charging,
                f"faulty: {view.fault}" if view.fault is not None else "healthy",
                f"{counted(view.charges, 'charge')}, {kwh(view.delivered_wh)} kWh",
                f"{counted(view.unsettled, 'completion')} without a receipt",
            ]
        )

    async def _plug(self, words: list[str]) -> str:
        if len(words) not in (2, 3):
            raise UsageError("say: plug BATTERY_KWH SOC_PERCENT [POWER_KW]")
        capacity_wh = number(words[0], "the battery in kWh", 0.1, MAX_KWH) * 1000
        soc_percent = number(words[1], "the state of charge in percent", 0, 100)
        before = self._charger.vehicle or self._engine.config.charger.vehicle
        power_w = (
            number(words[2], "the power in kW", 0.1, MAX_KW) * 1000 if len(words) == 3 else before.max_power_w
        )
        vehicle = replace(
            before, capacity_wh=capacity_wh, stored_wh=capacity_wh * soc_percent / 100, max_power_w=power_w
        )
        self._engine.do(self._charger.plug_in(vehicle, clock.now()))
        return f"plugged in: {capacity_wh / 1000:g} kWh at {soc_percent:g} %, takes {power_w / 1000:g} kW"

    async def _unplug(self, words: list[str]) -> str:
        no_more(words, "unplug")
        if self._charger.vehicle is None:
            raise UsageError("no vehicle is plugged in")
        self._engine.do(self._charger.unplug(clock.now()))
        return "unplugged"

    async def _charge(self, words: list[str]) -> str:
        if len(words) not in (1, 2) or not is_id(words[0]):
            raise UsageError("say: charge DRIVER_ID [KWH]")
        energy_wh = energy_wh_of(words[1]) if len(words) == 2 else None
        if not self._engine.has_monitor:
            raise UsageError("no Monitor is connected, so nobody can be asked")
        answer = await self._engine.ask(self._charger.ask(words[0], energy_wh, clock.now()))
        if answer.accepted:
            return f"accepted: session {answer.session_id}"
        return f"refused: {answer.reason} ({answer.code})"

    async def _stop(self, words: list[str]) -> str:
        no_more(words, "stop")
        if self._charger.charge is None:
            raise UsageError("no charge runs")
        self._engine.do(self._charger.stop_here(clock.now()))
        return "stopped"

    async def _fail(self, words: list[str]) -> str:
        if not words or not is_id(words[0]):
            raise UsageError("say: fault CODE [DESCRIPTION]")
        description = shown(" ".join(words[1:])) or f"simulated fault {words[0]}"
        self._engine.do(self._charger.fail(words[0], description, clock.now()))
        return f"faulty: {words[0]}"

    async def _repair(self, words: list[str]) -> str:
        no_more(words, "repair")
        if self._charger.fault_code is None:
            raise UsageError("nothing is faulty")
        self._engine.do(self._charger.repair(clock.now()))
        self._fault = ""
        return "repaired"
