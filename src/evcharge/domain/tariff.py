"""Money. Decimal throughout, rounded once, here, at the end."""

from decimal import ROUND_HALF_UP, Decimal

CENT = Decimal("0.01")
WH_PER_KWH = 1000


def cost(energy_wh: int, price_per_kwh: Decimal) -> Decimal:
    """What `energy_wh` costs, in whole cents of the price's currency, half a cent rounded up.

    Always computed from the whole energy of a session, never summed from parts, so that no rounding adds up.
    """
    return (energy_wh * price_per_kwh / WH_PER_KWH).quantize(CENT, ROUND_HALF_UP)
