"""What DriverCLI shows: my charge, where one can charge, the last receipt, and what was before."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from evcharge.console.drawing import (
    bar,
    clock_time,
    counted,
    duration,
    framed,
    kw,
    kwh,
    line,
    side_by_side,
    stacked,
)
from evcharge.protocol.messages import ChargeCompletionResponse, ChargingStatusUpdate, CpInfo, PastSession

NARROW = 60
BOXED_HEIGHT = 14
CHARGE_HEIGHT = 4
LEAST_BELOW = 5
MOST_BELOW = 12
FRAME = 2


@dataclass(frozen=True, slots=True)
class DriverView:
    """One moment of a driver. `began` is the first that was heard of the charge that runs, `running` the last."""

    charge_points: Sequence[CpInfo]
    seen_at: datetime | None
    trouble: str | None
    began: ChargingStatusUpdate | None
    running: ChargingStatusUpdate | None
    receipt: ChargeCompletionResponse | PastSession | None
    past: Sequence[PastSession]


def draw(view: DriverView, width: int, height: int) -> RenderableType:
    if view.trouble is None or view.seen_at is None:
        return _draw(view, width, height)
    return stacked([line((f"! {view.trouble}", "bold red")), _draw(view, width, height - 1)])


def _draw(view: DriverView, width: int, height: int) -> RenderableType:
    if width < NARROW or height < BOXED_HEIGHT:
        mine = _charge(view, width)
        return stacked([*mine, _charge_points(view, width, max(1, height - len(mine)))])
    below_height = max(LEAST_BELOW, min(MOST_BELOW, height // 3))
    room = height - CHARGE_HEIGHT - below_height
    rows = min(room - FRAME, max(1, len(view.charge_points)) + 1)
    below = side_by_side(
        framed("last receipt", _receipt(view), height=below_height),
        framed("my charges", _history(view, below_height - FRAME), height=below_height),
    )
    return stacked(
        [
            framed("my charge", stacked(_charge(view, width - 4)), "green" if view.running is not None else ""),
            framed(_title(view), _charge_points(view, width - 4, rows), height=rows + FRAME),
            below,
        ]
    )


def left_s(began: ChargingStatusUpdate | None, running: ChargingStatusUpdate) -> float | None:
    """Seconds until the target, or until the battery is full, at the pace so far; None as long as it has none."""
    if began is None:
        return None
    passed_s = (running.timestamp - began.timestamp).total_seconds()
    if running.target_energy_wh is not None:
        done, missing = running.energy_wh - began.energy_wh, running.target_energy_wh - running.energy_wh
        return missing * passed_s / done if done > 0 else None
    if running.soc_percent is None or began.soc_percent is None or running.soc_percent <= began.soc_percent:
        return None
    return (100 - running.soc_percent) * passed_s / (running.soc_percent - began.soc_percent)


def _charge(view: DriverView, width: int) -> list[RenderableType]:
    update = view.running
    if update is None:
        return [Text("no charge runs; charge CP_ID [KWH] asks for one", "dim"), Text()]
    target_wh = update.target_energy_wh
    fraction = update.energy_wh / target_wh if target_wh else (update.soc_percent or 0) / 100
    wanted = f" of {kwh(target_wh)}" if target_wh is not None else ""
    left = left_s(view.began, update)
    figures = f"  {kwh(update.energy_wh)}{wanted} kWh  {update.cost} {update.currency}"
    return [
        line(
            (str(update.status.value), "green"),
            f" at {update.cp_id}",
            f"  {kw(update.power_w)} kW",
            f"  battery {update.soc_percent:.0f} %" if update.soc_percent is not None else "",
            f"  {duration(left)} left" if left is not None else "",
            (f"  {update.notice}" if update.notice is not None else "", "yellow"),
        ),
        Text.assemble(bar(fraction, max(4, width - len(figures))), figures, no_wrap=True, overflow="crop"),
    ]


def _title(view: DriverView) -> str:
    free = sum(cp.available for cp in view.charge_points)
    seen = f", {clock_time(view.seen_at)}" if view.seen_at is not None else ""
    return f"charge points: {free} of {len(view.charge_points)} free{seen}"


def _charge_points(view: DriverView, width: int, rows: int) -> RenderableType:
    if view.seen_at is None:
        return Text("asking …", "dim") if view.trouble is None else Text(f"! {view.trouble}", "bold red")
    if not view.charge_points:
        return Text("there is no charge point", "dim")
    shown = sorted(view.charge_points, key=lambda cp: not cp.available)
    if len(shown) + 1 > rows:
        shown = shown[: max(0, rows - 2)]
    table = Table(
        *("charge point", "", "", "price/kWh", "up to"),
        box=None,
        padding=(0, 2, 0, 0),
        header_style="dim",
        expand=True,
    )
    table.columns[1].ratio = 1
    for column in table.columns:
        column.no_wrap = True
        column.overflow = "ellipsis"
    for cp in shown:
        table.add_row(
            Text(cp.cp_id),
            Text(cp.location if width >= NARROW else ""),
            Text("free", "green") if cp.available else Text(cp.status.value, "dim"),
            f"{cp.price_per_kwh} {cp.currency}",
            f"{cp.max_power_w / 1000:g} kW",
        )
    more = len(view.charge_points) - len(shown)
    return stacked([table, Text(f"… {more} more", "dim")]) if more else table


def _receipt(view: DriverView) -> RenderableType:
    receipt = view.receipt
    if receipt is None:
        return Text("none yet", "dim")
    corrected = f", revision {receipt.revision}" if receipt.revision > 1 else ""
    return stacked(
        [
            line(f"{receipt.cp_id}  {receipt.ended_at.astimezone():%Y-%m-%d %H:%M}"),
            line(f"{kwh(receipt.energy_wh)} kWh at {receipt.price_per_kwh} {receipt.currency}"),
            line((f"{receipt.cost} {receipt.currency}", "bold"), f"  {receipt.end_reason.value}{corrected}"),
        ]
    )


def _history(view: DriverView, rows: int) -> RenderableType:
    if not view.past:
        return Text("none yet", "dim")
    costs: Counter[str] = Counter()
    for past in view.past:
        costs[past.currency] += past.cost  # type: ignore[assignment]  # a Counter adds decimals, too
    table = Table.grid(padding=(0, 2, 0, 0))
    for past in view.past[: rows - 1]:
        table.add_row(
            f"{past.ended_at.astimezone():%m-%d %H:%M}",
            Text(past.cp_id, overflow="ellipsis", no_wrap=True),
            Text(kwh(past.energy_wh), justify="right"),
            Text(f"{past.cost} {past.currency}", justify="right"),
        )
    energy_wh = sum(past.energy_wh for past in view.past)
    total = ", ".join(f"{Decimal(cost)} {currency}" for currency, cost in costs.items())
    return stacked([table, line((f"{counted(len(view.past), 'charge')}, {kwh(energy_wh)} kWh, {total}", "bold"))])
