"""How a vehicle takes power, as real ones do; docs/battery.md says where the figures come from.

The power is the least of three: what the charger gives, what the vehicle takes at the most, and what its battery
takes at its state of charge. That falls in a straight line, to a quarter of the capacity an hour when it is full.
It is the power at the meter; a part of it is lost on the way, and the battery stores the rest.
Everything is solved in closed form, so that a step of an hour ends where 3,600 steps of a second do.
"""

import math
from dataclasses import dataclass, replace
from enum import StrEnum

SECONDS_PER_HOUR = 3600.0
NEGLIGIBLE_WH = 1e-9

PEAK_SHARE = 0.73
"""Of the peak that a vehicle is sold with, what it takes with direct current for more than a moment."""
RATE_WHEN_FULL = 0.25
RATE_MORE_WHEN_EMPTY = 2.6
"""What a battery takes an hour, in parts of its capacity: 2.85 when it is empty, 0.25 when it is full."""
MOST_BY_AC_W = 43_000
"""The most that chargers give with alternating current (three phases of 63 A); what gives more, gives direct."""


class Current(StrEnum):
    """Alternating current goes through the vehicle's own charger; direct current does not."""

    AC = "ac"
    DC = "dc"


LOSSES = {Current.AC: 0.10, Current.DC: 0.05}
CONNECT_S = {Current.AC: 0.0, Current.DC: 48.0}
"""From the start until power flows: with direct current, both sides first talk, and test the insulation."""


def current_of(charger_w: float) -> Current:
    """What a charger of this power gives, as far as that shows."""
    return Current.DC if charger_w > MOST_BY_AC_W else Current.AC


@dataclass(frozen=True, slots=True)
class Battery:
    """`capacity_wh` is usable energy, `stored_wh` of it is in it; `max_power_w` is what the vehicle is sold with.

    `losses` is the part of what the meter counts that the battery does not store.
    """

    capacity_wh: float
    stored_wh: float
    max_power_w: float
    current: Current = Current.AC
    losses: float = LOSSES[Current.AC]

    @property
    def soc_percent(self) -> float:
        """State of charge."""
        return 100.0 * min(1.0, self.stored_wh / self.capacity_wh)

    @property
    def is_full(self) -> bool:
        return self.stored_wh >= self.capacity_wh - NEGLIGIBLE_WH

    @property
    def room_wh(self) -> float:
        """What the meter will have counted from now until it is full."""
        return self._metered_wh(self.capacity_wh - self.stored_wh)

    @property
    def connect_s(self) -> float:
        """The time from a start until power flows."""
        return CONNECT_S[self.current]

    @property
    def most_w(self) -> float:
        """The most that the vehicle takes."""
        return PEAK_SHARE * self.max_power_w if self.current is Current.DC else self.max_power_w

    def power_w(self, limit_w: float) -> float:
        """The power at the meter, now, from a charger that gives `limit_w` at the most."""
        if self.is_full:
            return 0.0
        missing = max(0.0, 1.0 - self.stored_wh / self.capacity_wh)
        taken_w = self.capacity_wh * (RATE_WHEN_FULL + RATE_MORE_WHEN_EMPTY * missing)
        return min(limit_w, self.most_w, taken_w)

    def taken_wh(self, before: "Battery") -> float:
        """What the meter has counted since it was as `before`."""
        return self._metered_wh(self.stored_wh - before.stored_wh)

    def charged(self, limit_w: float, seconds: float) -> "Battery":
        """The battery after `seconds` of power from a charger that gives `limit_w` at the most."""
        for until_wh in self._phases(limit_w):
            needed_s = self._seconds_within(limit_w, until_wh)
            if seconds < needed_s:
                return self._after(limit_w, seconds)
            seconds -= needed_s
            self = replace(self, stored_wh=until_wh)
        return self

    def seconds_to(self, limit_w: float, energy_wh: float) -> float:
        """How long until the meter has counted `energy_wh` more; infinite if they do not fit or no power flows."""
        goal_wh = self.stored_wh + energy_wh * (1.0 - self.losses)
        if goal_wh > self.capacity_wh + NEGLIGIBLE_WH:
            return math.inf
        total_s = 0.0
        battery = self
        for until_wh in self._phases(limit_w):
            step_wh = min(until_wh, goal_wh)
            total_s += battery._seconds_within(limit_w, step_wh)
            if goal_wh <= until_wh:
                break
            battery = replace(battery, stored_wh=until_wh)
        return total_s

    def _metered_wh(self, stored_wh: float) -> float:
        return stored_wh / (1.0 - self.losses)

    def _taper_wh(self, limit_w: float) -> float:
        """From here on the battery, and nothing else, says how much it takes."""
        rate = min(limit_w, self.most_w) / self.capacity_wh
        return self.capacity_wh * (1.0 - (rate - RATE_WHEN_FULL) / RATE_MORE_WHEN_EMPTY)

    def _phases(self, limit_w: float) -> list[float]:
        """The amounts at which the law of charging changes, from here to full."""
        taper_wh = self._taper_wh(limit_w)
        return [wh for wh in (taper_wh, self.capacity_wh) if self.stored_wh < wh <= self.capacity_wh]

    def _tapers(self, limit_w: float) -> bool:
        return self.stored_wh >= self._taper_wh(limit_w)

    def _equivalent_wh(self, stored_wh: float) -> float:
        """In the taper power is in proportion to this: what is missing, and what keeps the end from nothing."""
        return self.capacity_wh - stored_wh + self.capacity_wh * RATE_WHEN_FULL / RATE_MORE_WHEN_EMPTY

    @property
    def _decay_per_hour(self) -> float:
        return RATE_MORE_WHEN_EMPTY * (1.0 - self.losses)

    def _seconds_within(self, limit_w: float, until_wh: float) -> float:
        """Time to get to `until_wh` in the present phase."""
        power_w = self.power_w(limit_w)
        if until_wh <= self.stored_wh + NEGLIGIBLE_WH:
            return 0.0
        if power_w <= 0.0:
            return math.inf
        if not self._tapers(limit_w):
            return self._metered_wh(until_wh - self.stored_wh) / power_w * SECONDS_PER_HOUR
        then_wh = self._equivalent_wh(until_wh)
        passed = math.log1p((until_wh - self.stored_wh) / then_wh)
        return passed / self._decay_per_hour * SECONDS_PER_HOUR

    def _after(self, limit_w: float, seconds: float) -> "Battery":
        """After `seconds` that end within the present phase."""
        hours = seconds / SECONDS_PER_HOUR
        if not self._tapers(limit_w):
            gained_wh = self.power_w(limit_w) * (1.0 - self.losses) * hours
        else:
            gained_wh = self._equivalent_wh(self.stored_wh) * -math.expm1(-self._decay_per_hour * hours)
        return replace(self, stored_wh=min(self.capacity_wh, self.stored_wh + gained_wh))
