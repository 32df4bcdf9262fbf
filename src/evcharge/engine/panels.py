"""What EngineCLI shows: the vehicle at the plug, the charge that runs, and how this Engine is."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from rich.console import RenderableType
from rich.text import Text

from evcharge.console.drawing import (
    STATUS_STYLES,
    Sample,
    bar,
    clock_time,
    columns_of,
    curve,
    duration,
    facts,
    framed,
    kw,
    kwh,
    line,
    side_by_side,
    stacked,
)
from evcharge.domain.battery import Battery
from evcharge.domain.status import Status

CURVE_S = 300.0
CURVE_ROWS = 2
NARROW = 60
BOXED_HEIGHT = 13


@dataclass(frozen=True, slots=True)
class EngineView:
    """One moment of an Engine."""

    now_s: float
    cp_id: str | None
    has_monitor: bool
    fault: str | None
    vehicle: Battery | None
    limit_w: float
    driver_id: str | None
    session_id: UUID | None
    started_at: datetime | None
    energy_wh: int
    target_wh: int | None
    power_w: float
    left_s: float | None
    plug_within_s: float | None
    powers: tuple[Sample, ...]
    charges: int
    delivered_wh: int
    readings: int
    commands: int
    unsettled: int
    connecting: bool = False

    @property
    def most_w(self) -> float:
        """The most power that can flow here and now."""
        return min(self.limit_w, self.vehicle.most_w) if self.vehicle is not None else self.limit_w

    @property
    def state(self) -> tuple[str, str]:
        """In words, and the colour that they have."""
        if self.fault is not None:
            return f"FAULTY: {self.fault}", STATUS_STYLES[Status.FAULTY]
        if self.plug_within_s is not None:
            return f"waiting for a vehicle, {self.plug_within_s:.0f} s left to plug it in", "yellow"
        if self.session_id is not None:
            return "CHARGING" + ", connecting" * self.connecting, STATUS_STYLES[Status.CHARGING]
        if self.has_monitor:
            return "ready", STATUS_STYLES[Status.ACTIVE]
        return "no Monitor is connected", "yellow"


def draw(view: EngineView, width: int, height: int) -> RenderableType:
    state, colour = view.state
    if width < NARROW or height < BOXED_HEIGHT:
        return stacked([line((state, colour)), *_vehicle(view, width), *_charge(view, width), *_engine(view)])
    inner = width // 2 - 4
    return stacked(
        [
            side_by_side(
                framed("vehicle", stacked(_vehicle(view, inner)), height=9),
                framed("charge", stacked(_charge(view, inner)), height=9),
            ),
            framed(f"charge point {view.cp_id or '?'}", stacked([line((state, colour)), *_engine(view)]), colour),
        ]
    )


def _vehicle(view: EngineView, width: int) -> list[RenderableType]:
    if view.vehicle is None:
        return [Text("no vehicle is plugged in", "dim")]
    vehicle = view.vehicle
    left = duration(view.left_s) if view.left_s is not None else ""
    return [
        line(f"{vehicle.soc_percent:.1f} %", (" of ", "dim"), f"{vehicle.capacity_wh / 1000:g} kWh"),
        bar(vehicle.soc_percent / 100, width),
        facts(
            [
                ("power", f"{kw(view.power_w)} of {kw(view.most_w)} kW"),
                ("time left", left),
            ]
        ),
        curve(columns_of(view.powers, view.now_s, CURVE_S, width), view.most_w, CURVE_ROWS),
        line((f"the last {CURVE_S / 60:.0f} minutes, {kw(view.most_w)} kW high", "dim")),
    ]


def _charge(view: EngineView, width: int) -> list[RenderableType]:
    if view.session_id is None:
        return [Text("no charge runs", "dim")]
    target = f" of {kwh(view.target_wh)}" if view.target_wh is not None else ""
    done = view.energy_wh / view.target_wh if view.target_wh else 0.0
    return [
        facts(
            [
                ("driver", Text(view.driver_id or "")),
                ("session", str(view.session_id)),
                ("since", clock_time(view.started_at) if view.started_at is not None else ""),
                ("energy", f"{kwh(view.energy_wh)}{target} kWh"),
            ]
        ),
        bar(done, width) if view.target_wh is not None else Text("until the battery is full", "dim"),
    ]


def _engine(view: EngineView) -> list[RenderableType]:
    monitor = "connected" if view.has_monitor else "not connected"
    return [
        line(
            ("Monitor ", "dim"),
            monitor,
            ("   charges ", "dim"),
            str(view.charges),
            ("   given ", "dim"),
            f"{kwh(view.delivered_wh)} kWh",
        ),
        line(
            ("readings ", "dim"),
            str(view.readings),
            ("   commands ", "dim"),
            str(view.commands),
            ("   without a receipt ", "dim"),
            str(view.unsettled),
        ),
    ]
