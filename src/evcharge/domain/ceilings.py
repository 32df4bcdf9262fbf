"""The most that a Monitor may register: its operator's word, or Central's defaults."""

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from evcharge.domain.charge_point import ChargePoint
from evcharge.errors import AboveCeiling
from evcharge.protocol.currencies import digits_of

if TYPE_CHECKING:
    from evcharge.domain.network import Policy


@dataclass(frozen=True, slots=True)
class Ceilings:
    """Of one charge point; None: Central's default, of the currency: any.

    `price_per_kwh` is of `currency`; without one, of a currency with two digits, and of another as many of its
    smallest unit.
    """

    price_per_kwh: Decimal | None = None
    currency: str | None = None
    power_w: int | None = None


def amount_in(currency: str, amount: Decimal) -> Decimal:
    """`amount` is of a currency with two digits; this is as many of the smallest unit of `currency`."""
    digits = digits_of(currency)
    return amount if digits == 2 else amount * Decimal(10) ** (2 - digits)


def above_ceiling(
    cp_id: str,
    own: Ceilings,
    policy: "Policy",
    price_per_kwh: Decimal | None,
    currency: str | None,
    power_w: int,
) -> AboveCeiling | None:
    """Why an operator has not allowed this price and power; None if he has. A price of None is not known."""
    mend = f"register less, or have an operator allow it: evcharge cp set {cp_id}"
    if price_per_kwh is not None and currency is not None:
        if own.currency not in (None, currency):
            return AboveCeiling(
                f"{cp_id} registers a price in {currency}, its operator allows {own.currency} alone;"
                f" {mend} --currency"
            )
        if own.price_per_kwh is None:
            most = amount_in(currency, policy.max_price_per_kwh)
        else:
            most = own.price_per_kwh if own.currency is not None else amount_in(currency, own.price_per_kwh)
        if price_per_kwh > most:
            return AboveCeiling(
                f"{cp_id} registers {price_per_kwh} {currency}/kWh, the ceiling is {most} {currency}/kWh;"
                f" {mend} --max-price"
            )
    most_w = own.power_w if own.power_w is not None else policy.max_power_w
    if power_w > most_w:
        return AboveCeiling(
            f"{cp_id} registers {_kw(power_w)} kW, the ceiling is {_kw(most_w)} kW; {mend} --max-power"
        )
    return None


def _kw(power_w: int) -> Decimal:
    return Decimal(power_w) / 1000


def registered_above(cp: ChargePoint, policy: "Policy") -> AboveCeiling | None:
    """The same of what it has registered, should the ceiling be lower since."""
    price_per_kwh, currency = cp.own_price_per_kwh, cp.own_currency
    if price_per_kwh is None and not cp.price_by_operator:
        price_per_kwh, currency = cp.price_per_kwh, cp.currency  # As an older database has it.
    return above_ceiling(cp.cp_id, ceilings_of(cp), policy, price_per_kwh, currency, cp.max_power_w)


def ceilings_of(cp: ChargePoint) -> Ceilings:
    return Ceilings(cp.ceiling_price_per_kwh, cp.ceiling_currency, cp.ceiling_power_w)
