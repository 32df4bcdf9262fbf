"""How much of what one peer does is written down: rows of faults, lines of the log. All of it still counts."""

from evcharge.limits import Rate

LINES_PER_S = 1.0
LINES_AT_ONCE = 300
FAULTS_PER_S = 1 / 60
FAULTS_AT_ONCE = 100
"""A charge point that breaks and recovers all day has a row a minute."""


class Floods:
    """Of each charge point, and of each driver."""

    def __init__(self) -> None:
        self._lines = Rate(LINES_PER_S, LINES_AT_ONCE)
        self._faults = Rate(FAULTS_PER_S, FAULTS_AT_ONCE)
        self._silenced: dict[str, int] = {}

    def line(self, who: str, now_s: float) -> int | None:
        """None to keep silent; else how many lines of this peer have been left out before."""
        if self._lines.wait_s(who, now_s):
            self._silenced[who] = self._silenced.get(who, 0) + 1
            return None
        return self._silenced.pop(who, 0)

    def lists_fault(self, cp_id: str, now_s: float) -> bool:
        """Whether a fault that begins now gets a row."""
        return not self._faults.wait_s(cp_id, now_s)
