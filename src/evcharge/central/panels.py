"""What AdminCLI shows: the network in figures, and the charge points."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from evcharge.console.drawing import STATUS_STYLES, counted, duration, framed, kw, kwh, line, stacked
from evcharge.domain.status import Status
from evcharge.protocol.operators import ChargePointNow, Health, RevenueRow

# What needs somebody first, then what earns, then what waits.
STATES = (Status.FAULTY, Status.DISCONNECTED, Status.CHARGING, Status.ACTIVE)
NEED_SOMEBODY = STATES[:2]
ORDER = {status: place for place, status in enumerate(STATES)}
WIDE = 100
FRAME_ROWS = 2
FIGURE_ROWS = 2
HEAD_ROWS = 1


@dataclass(frozen=True, slots=True)
class NetworkView:
    """One moment of the network. `only` is what the charge points shown were chosen by."""

    now: datetime
    charge_points: Collection[ChargePointNow]
    only: str = ""
    health: Health | None = None
    today: list[RevenueRow] = field(default_factory=list)
    problem: str | None = None
    """Why nothing newer is known."""

    def chosen(self) -> list[ChargePointNow]:
        """Those to show, those that need somebody first."""
        found = [cp for cp in self.charge_points if matches(cp, self.only)]
        return sorted(found, key=lambda cp: (not _is_there(cp), ORDER[cp.status], cp.cp_id))


def matches(cp: ChargePointNow, only: str) -> bool:
    """`only` is a state, the beginning of an id, or nothing."""
    return not only or cp.status == only.upper() or cp.cp_id.startswith(only)


def _is_there(cp: ChargePointNow) -> bool:
    """One that has never registered may not have been built yet, and needs nobody."""
    return cp.connected or cp.own_price_per_kwh is not None or cp.price_per_kwh is not None


def draw(view: NetworkView, width: int, height: int) -> RenderableType:
    figures = [_states(view), _health_and_money(view)]
    room = max(1, height - FIGURE_ROWS - FRAME_ROWS - HEAD_ROWS)
    chosen = view.chosen()
    title = "charge points" if not view.only else f"charge points: {view.only}"
    if len(chosen) > room:
        title += f" ({room} of {len(chosen)}; `view` chooses)"
    if height < FIGURE_ROWS + FRAME_ROWS + HEAD_ROWS + 1:
        return stacked(figures)
    table = _table(view, chosen[:room], width) if chosen else Text("none", "dim")
    return stacked([*figures, framed(title, table)])


def _states(view: NetworkView) -> Text:
    count = Counter(cp.status for cp in view.charge_points if _is_there(cp))
    out = sum(cp.out_of_service for cp in view.charge_points)
    parts: list[str | tuple[str, str]] = [counted(len(view.charge_points), "charge point")]
    for status in STATES:
        mark = "! " if count[status] and status in NEED_SOMEBODY else ""
        parts += ["  ", (f"{mark}{count[status]} {status}", STATUS_STYLES[status] if count[status] else "dim")]
    new = sum(not _is_there(cp) for cp in view.charge_points)
    if new:
        parts += ["  ", (f"{new} new", "dim")]
    if out:
        parts += ["  ", (f"{out} out", "yellow")]
    return line(*parts)


def _health_and_money(view: NetworkView) -> Text:
    """What does not fit is cut at the end, and money can wait."""
    sessions = [cp.session for cp in view.charge_points if cp.session is not None]
    power_w = sum(session.power_w for session in sessions)
    money = ", ".join(f"{row.cost} {row.currency}" for row in view.today)
    energy_wh = sum(row.energy_wh for row in view.today)
    return line(
        *_health(view),
        f"{counted(len(sessions), 'session')}, {kw(power_w)} kW",
        ("   today ", "dim"),
        f"{kwh(energy_wh)} kWh {money}".rstrip(),
    )


def _health(view: NetworkView) -> list[str | tuple[str, str]]:
    if view.problem is not None:
        return [(f"! {view.problem}", "bold red"), "   "]
    if view.health is None:
        return []
    named = [("Kafka", view.health.kafka), ("database", view.health.database)]
    if view.health.status != "ok" and all(state == "ok" for _, state in named):
        named = [("Central", view.health.status)]
    parts: list[str | tuple[str, str]] = []
    for name, state in sorted(named, key=lambda named: named[1] == "ok"):
        parts += [(f"{name} ", "dim"), (state, "green")] if state == "ok" else [(f"! {name} {state}", "bold red")]
        parts.append("   ")
    return parts


def _table(view: NetworkView, charge_points: list[ChargePointNow], width: int) -> Table:
    wide = width >= WIDE
    table = Table(box=None, expand=True, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("id", no_wrap=True, overflow="ellipsis", ratio=2)
    table.add_column("state", no_wrap=True, min_width=14)
    if wide:
        table.add_column("location", no_wrap=True, overflow="ellipsis", ratio=2)
        table.add_column("price", no_wrap=True, justify="right")
    table.add_column("driver", no_wrap=True, overflow="ellipsis", ratio=2)
    for name in ("kW", "kWh", "cost", "heard"):
        table.add_column(name, no_wrap=True, justify="right")
    for cp in charge_points:
        session = cp.session
        cells: list[RenderableType] = [Text(cp.cp_id), _state(cp)]
        if wide:
            cells += [
                Text(cp.location),
                Text("" if cp.price_per_kwh is None else f"{cp.price_per_kwh} {cp.currency}"),
            ]
        if session is not None:
            cells += [Text(session.driver_id), kw(session.power_w), kwh(session.energy_wh)]
            cells.append(f"{session.cost} {session.currency}")
        else:
            cells += [Text("; ".join(cp.faults), "red"), "", "", ""]
        cells.append(Text(_age(cp, view.now), "" if cp.connected else "dim"))
        table.add_row(*cells)
    return table


def _state(cp: ChargePointNow) -> Text:
    if cp.status in NEED_SOMEBODY and _is_there(cp) and not cp.out_of_service:
        return Text(f"! {cp.status}", STATUS_STYLES[cp.status])
    text = Text(cp.status, STATUS_STYLES[cp.status] if _is_there(cp) else "dim")
    if cp.out_of_service:
        text = Text.assemble((cp.status, "dim"), (" out", "yellow"))
    if cp.removed:
        text.append(" removed", "yellow")
    return text


def _age(cp: ChargePointNow, now: datetime) -> str:
    if cp.last_heard_at is None:
        return "never"
    seconds = max(0.0, (now - cp.last_heard_at).total_seconds())
    return f"{seconds:.0f} s" if seconds < 100 else duration(seconds)
