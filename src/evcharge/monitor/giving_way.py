"""How long a Monitor stays away after another has taken its place.

Twice as long each time in a row. So of two Monitors with one id the later prevails, and the swapping dies down.
"""

from dataclasses import dataclass

LONGEST_S = 3600.0


@dataclass(slots=True)
class GivingWay:
    first_s: float
    _last_s: float = 0.0
    _back_s: float = float("-inf")

    def wait_s(self, now_s: float) -> float:
        """Another has taken the place at `now_s`, on the monotonic clock: how long to stay away."""
        in_peace = now_s - self._back_s > 2 * self._last_s
        self._last_s = self.first_s if in_peace else min(2 * self._last_s, max(self.first_s, LONGEST_S))
        self._back_s = now_s + self._last_s
        return self._last_s
