"""Money. Decimal throughout, rounded once, here, at the end."""

from decimal import ROUND_HALF_UP, Decimal

from evcharge.protocol.currencies import MOST_DIGITS, digits_of

WH_PER_KWH = 1000
_SMALLEST = [Decimal(1).scaleb(-digits) for digits in range(MOST_DIGITS + 1)]


def cost(energy_wh: int, price_per_kwh: Decimal, currency: str) -> Decimal:
    """What `energy_wh` costs, in the digits that the currency has, half of its smallest unit rounded up.

    Always computed from the whole energy of a session, never summed from parts, so that no rounding adds up.
    """
    return (energy_wh * price_per_kwh / WH_PER_KWH).quantize(_SMALLEST[digits_of(currency)], ROUND_HALF_UP)
