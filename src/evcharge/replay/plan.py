"""What lies before a replay: how much it is, and how long it takes at the least."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from evcharge.replay.rows import Row


@dataclass(frozen=True, slots=True)
class Plan:
    """`waits`: how many sessions overlap another of their charge point or driver, and begin after it."""

    first_at: datetime
    last_at: datetime
    sessions: int
    charge_points: int
    drivers: int
    energy_wh: int
    waits: int
    least_s: float


def plan_of(rows: Sequence[Row], speed: float) -> Plan:
    """Of one row or more, in order of time. What the programs themselves need comes on top of `least_s`."""
    first_at = rows[0].plugged_in_at
    free_s: dict[tuple[str, str], float] = {}
    waits = 0
    for row in rows:
        due_s = (row.plugged_in_at - first_at).total_seconds()
        both = ("charge point", row.cp_id), ("driver", row.driver_id)
        begin_s = max(due_s, *(free_s.get(one, 0.0) for one in both))
        waits += begin_s > due_s
        for one in both:
            free_s[one] = begin_s + row.charging_seconds
    return Plan(
        first_at=first_at,
        last_at=rows[-1].plugged_in_at,
        sessions=len(rows),
        charge_points=len({row.cp_id for row in rows}),
        drivers=len({row.driver_id for row in rows}),
        energy_wh=sum(row.energy_wh for row in rows),
        waits=waits,
        least_s=max(free_s.values()) / speed,
    )
