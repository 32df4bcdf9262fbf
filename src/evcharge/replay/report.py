"""What a replay says: before it starts, and of what came of it, in figures and for a person."""

import math
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from evcharge.console.drawing import counted, duration
from evcharge.domain import tariff
from evcharge.protocol.messages import ChargeCompletionResponse
from evcharge.protocol.plain_text import one_line
from evcharge.replay.plan import Plan
from evcharge.replay.rows import Row, Sessions, Skipped

LINES_SHOWN = 20


@dataclass(slots=True)
class Tally:
    """What came of the rows so far: each that is through has a receipt or a failure; or both, if it broke off."""

    begun: set[str] = field(default_factory=set)
    receipts: dict[str, ChargeCompletionResponse] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    latencies_s: list[float] = field(default_factory=list)

    def is_through(self, row: Row) -> bool:
        return row.session_id in self.receipts or row.session_id in self.failures

    def is_exact(self, row: Row) -> bool:
        """Whether it is billed to the Wh and to the cent."""
        receipt = self.receipts.get(row.session_id)
        return (
            receipt is not None
            and receipt.energy_wh == row.energy_wh
            and receipt.cost == tariff.cost(row.energy_wh, receipt.price_per_kwh, receipt.currency)
        )


def announcement(path: Path, sessions: Sessions, plan: Plan, speed: float) -> str:
    """What is going to be replayed, for a person."""
    days = (plan.last_at - plan.first_at).total_seconds() / 86_400
    lines = [
        f"{path}: {counted(plan.sessions, 'session')} from {plan.first_at:%Y-%m-%d %H:%M} to"
        f" {plan.last_at:%Y-%m-%d %H:%M} UTC ({days:,.1f} days)",
        f"at {counted(plan.charge_points, 'charge point')} by {counted(plan.drivers, 'driver')},"
        f" {plan.energy_wh / 1000:,.3f} kWh",
        f"expected   at least {duration(plan.least_s)} at {speed:,.12g} times the speed,"
        " and what the programs need",
    ]
    if plan.waits:
        lines.append(f"overlaps   {plan.waits:,} begin later, as their charge point or driver is not free")
    if sessions.out_of_order is not None:
        lines.append(
            f"order      sorted by plugged_in_at, as line {sessions.out_of_order} is earlier than one before it"
        )
    return "\n".join([*lines, *skipped_lines(sessions.skipped)])


def skipped_lines(skipped: list[Skipped]) -> list[str]:
    return _bounded([f"line {skip.line} skipped: {one_line(skip.reason)}" for skip in skipped], "skipped")


def _bounded(lines: list[str], what: str) -> list[str]:
    more = len(lines) - LINES_SHOWN
    return lines if more <= 0 else [*lines[:LINES_SHOWN], f"and {more:,} more {what}"]


def report(
    sessions: Sessions, plan: Plan, tally: Tally, wall_s: float, *, interrupted: bool = False
) -> dict[str, Any]:
    """The figures, each row whose bill is not what the file says, and what an end before its time has left."""
    rows = sessions.rows
    billed = {session_id: receipt.energy_wh for session_id, receipt in tally.receipts.items()}
    through = [row for row in rows if tally.is_through(row)]
    under_way = [row for row in rows if row.session_id in tally.begun and not tally.is_through(row)]
    done = len(through) - len(tally.failures)
    return {
        "sessions": len(rows),
        "done": done,
        "failed": len(tally.failures),
        "skipped": [{"line": skip.line, "reason": skip.reason} for skip in sessions.skipped],
        "sorted": sessions.out_of_order is not None,
        "first_at": plan.first_at.isoformat(),
        "last_at": plan.last_at.isoformat(),
        "charge_points": plan.charge_points,
        "drivers": plan.drivers,
        "expected_s": round(plan.least_s, 3),
        "file_wh": plan.energy_wh,
        "billed_wh": sum(billed.values()),
        "cost": str(sum((receipt.cost for receipt in tally.receipts.values()), Decimal(0))),
        "differences": [
            {
                "line": row.line,
                "session_id": row.session_id,
                "file_wh": row.energy_wh,
                "billed_wh": billed.get(row.session_id),
                "reason": tally.failures.get(row.session_id, ""),
            }
            for row in through
            if not tally.is_exact(row) or row.session_id in tally.failures
        ],
        "interrupted": interrupted,
        "under_way": [{"line": row.line, "session_id": row.session_id} for row in under_way],
        "not_begun": len(rows) - len(through) - len(under_way),
        "request_p50_ms": _percentile_ms(tally.latencies_s, 0.50),
        "request_p99_ms": _percentile_ms(tally.latencies_s, 0.99),
        "wall_s": round(wall_s, 3),
        "sessions_per_s": round(done / wall_s, 1) if wall_s else 0.0,
    }


def _percentile_ms(latencies_s: list[float], share: float) -> float | None:
    """Nearest rank; None of nothing."""
    if not latencies_s:
        return None
    ordered = sorted(latencies_s)
    return round(ordered[max(0, math.ceil(share * len(ordered)) - 1)] * 1000, 2)


def text_of(figures: dict[str, Any]) -> str:
    """The report for a person; the lines that were skipped stand in the announcement."""
    differences, under_way = figures["differences"], figures["under_way"]
    unfinished = len(under_way) + figures["not_begun"]
    if differences:
        verdict = f"{len(differences)} rows differ"
    else:
        verdict = "equal, row by row" if not unfinished else "equal, row by row, as far as it got"
    lines = [
        f"sessions   {figures['done']} done, {figures['failed']} failed, {len(figures['skipped'])} rows skipped",
        f"energy     {figures['file_wh']} Wh in the file, {figures['billed_wh']} Wh billed: {verdict}",
        f"time       {figures['wall_s']} s, {figures['sessions_per_s']} sessions/s",
    ]
    if figures["request_p50_ms"] is not None:
        lines.insert(2, f"requests   p50 {figures['request_p50_ms']} ms, p99 {figures['request_p99_ms']} ms")
    if figures["interrupted"]:
        lines.append(
            f"interrupted: {unfinished} of {figures['sessions']} sessions are unfinished, {len(under_way)} of them"
            f" were under way, {figures['not_begun']} had not begun"
        )
        lines += _bounded(
            [f"line {row['line']} unfinished: {row['session_id']} was under way" for row in under_way],
            "unfinished",
        )
    lines += _bounded(
        [
            f"line {row['line']}: {row['file_wh']} Wh in the file, {row['billed_wh']} Wh billed"
            f" {one_line(row['reason'])}"
            for row in differences
        ],
        "rows that differ",
    )
    return "\n".join(lines)
