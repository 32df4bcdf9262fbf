"""How a vehicle takes power: constant at first, then tapering, as a lithium-ion battery does.

Up to `taper_from` of its capacity a battery takes all that charger and vehicle allow. From there the power falls
in proportion to what is still missing, down to `END_POWER` of the limit, where the battery counts as full.
Everything is solved in closed form, so that a step of an hour ends where 3,600 steps of a second do.
"""

import math
from dataclasses import dataclass, replace

END_POWER = 0.05
SECONDS_PER_HOUR = 3600.0
NEGLIGIBLE_WH = 1e-9


@dataclass(frozen=True, slots=True)
class Battery:
    """`capacity_wh` is usable energy, `stored_wh` of it is in it; `max_power_w` is what the vehicle accepts."""

    capacity_wh: float
    stored_wh: float
    max_power_w: float
    taper_from: float = 0.8

    @property
    def soc_percent(self) -> float:
        """State of charge."""
        return 100.0 * min(1.0, self.stored_wh / self.capacity_wh)

    @property
    def is_full(self) -> bool:
        return self.stored_wh >= self.capacity_wh - NEGLIGIBLE_WH

    @property
    def _taper_wh(self) -> float:
        return self.capacity_wh * self.taper_from

    def power_w(self, limit_w: float) -> float:
        """The power it takes now from a charger that offers `limit_w`."""
        if self.is_full:
            return 0.0
        most_w = min(limit_w, self.max_power_w)
        if self.stored_wh < self._taper_wh:
            return most_w
        missing = (self.capacity_wh - self.stored_wh) / (self.capacity_wh - self._taper_wh)
        return most_w * max(END_POWER, min(1.0, missing))

    def charged(self, limit_w: float, seconds: float) -> "Battery":
        """The battery after `seconds` at a charger that offers `limit_w`."""
        for until_wh in self._phases():
            needed_s = self._seconds_within(limit_w, until_wh)
            if seconds < needed_s:
                return self._after(limit_w, seconds)
            seconds -= needed_s
            self = replace(self, stored_wh=until_wh)
        return self

    def seconds_to(self, limit_w: float, energy_wh: float) -> float:
        """How long it takes to store `energy_wh` more; infinite if they do not fit or no power flows."""
        goal_wh = self.stored_wh + energy_wh
        if goal_wh > self.capacity_wh + NEGLIGIBLE_WH:
            return math.inf
        total_s = 0.0
        battery = self
        for until_wh in self._phases():
            step_wh = min(until_wh, goal_wh)
            total_s += battery._seconds_within(limit_w, step_wh)
            if goal_wh <= until_wh:
                break
            battery = replace(battery, stored_wh=until_wh)
        return total_s

    @property
    def _end_wh(self) -> float:
        """Where the taper has come down to its end power; from there to full the power is constant again."""
        return self.capacity_wh - END_POWER * (self.capacity_wh - self._taper_wh)

    def _phases(self) -> list[float]:
        """The amounts at which the law of charging changes, from here to full."""
        return [wh for wh in (self._taper_wh, self._end_wh, self.capacity_wh) if wh > self.stored_wh]

    def _tapers(self) -> bool:
        return self._taper_wh <= self.stored_wh < self._end_wh

    def _seconds_within(self, limit_w: float, until_wh: float) -> float:
        """Time to get to `until_wh` in the present phase."""
        power_w = self.power_w(limit_w)
        if until_wh <= self.stored_wh + NEGLIGIBLE_WH:
            return 0.0
        if power_w <= 0.0:
            return math.inf
        if not self._tapers():
            return (until_wh - self.stored_wh) / power_w * SECONDS_PER_HOUR
        missing_wh = self.capacity_wh - self.stored_wh
        missing_then_wh = self.capacity_wh - until_wh
        return missing_wh / power_w * SECONDS_PER_HOUR * math.log(missing_wh / missing_then_wh)

    def _after(self, limit_w: float, seconds: float) -> "Battery":
        """After `seconds` that end within the present phase."""
        power_w = self.power_w(limit_w)
        hours = seconds / SECONDS_PER_HOUR
        if not self._tapers():
            return replace(self, stored_wh=self.stored_wh + power_w * hours)
        missing_wh = self.capacity_wh - self.stored_wh
        return replace(self, stored_wh=self.capacity_wh - missing_wh * math.exp(-power_w / missing_wh * hours))
