"""What operators have set, in words."""

from evcharge.console.drawing import kw, kwh
from evcharge.protocol.operators import CeilingsNow, DriverRow


def ceilings_text(ceilings: CeilingsNow | None) -> str:
    """What a Monitor may register."""
    if ceilings is None:
        return "up to Central's ceilings"
    parts = []
    if ceilings.max_price_per_kwh is not None:
        parts.append(
            f"up to {ceilings.max_price_per_kwh}{f' {ceilings.currency}' if ceilings.currency else ''}/kWh"
        )
    elif ceilings.currency is not None:
        parts.append(f"a price in {ceilings.currency}")
    if ceilings.max_power_w is not None:
        parts.append(f"up to {kw(ceilings.max_power_w)} kW")
    return ", ".join(parts) or "up to Central's ceilings"


def limits_text(driver: DriverRow) -> str:
    """What a charge of this driver may come to."""
    parts = []
    if driver.max_energy_wh is not None:
        parts.append(f"up to {kwh(driver.max_energy_wh)} kWh")
    if driver.max_cost is not None:
        parts.append(f"up to {driver.max_cost}")
    if driver.max_hours is not None:
        parts.append(f"up to {driver.max_hours:g} h")
    limits = ", ".join(parts) or "Central's limits"
    return f"{limits}, confirmed by the driver" if driver.signed_only else limits
