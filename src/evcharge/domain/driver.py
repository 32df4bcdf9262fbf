"""A driver as Central knows it."""

from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that one session may come to; None: as much as there is.

    `cost` is an amount of a currency with two digits; of another it is as many of its smallest unit.
    """

    energy_wh: int | None = None
    cost: Decimal | None = None
    hours: float | None = None

    def before(self, others: "Limits") -> "Limits":
        """These, and the others' where there is none here."""
        return Limits(
            self.energy_wh if self.energy_wh is not None else others.energy_wh,
            self.cost if self.cost is not None else others.cost,
            self.hours if self.hours is not None else others.hours,
        )


NO_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class KnownDriver:
    """Without a key it was admitted by open registration. One that was removed may still end what it has begun."""

    key: str | None = None
    removed: bool = False
    limits: Limits = NO_LIMITS
    """Its own, which hold before those that Central has for all."""
    signed_only: bool = False
    """Whether a charge in its name has to be confirmed, also one that is asked for at a charge point."""
