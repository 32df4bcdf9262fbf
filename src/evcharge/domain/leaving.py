"""A charge point that its operator has removed: it ends and accounts for what it has begun, and begins nothing."""

from typing import TYPE_CHECKING

from evcharge.domain.ceilings import registered_above
from evcharge.domain.charge_point import ChargePoint
from evcharge.domain.decisions import Closing
from evcharge.domain.instant import Instant
from evcharge.errors import AuthenticationFailed, WireError

if TYPE_CHECKING:
    from evcharge.domain.network import Network


def may_account(net: "Network", cp_id: str) -> bool:
    """Whether a session of this removed charge point is open, or was closed for want of its account."""
    return cp_id in net.session_at or cp_id in net.known.owing


def take_entry(net: "Network", cp: ChargePoint, row: ChargePoint) -> None:
    """What operators have written into the database holds for what is in memory."""
    cp.key_hash, cp.removed = row.key_hash, row.removed
    cp.ceiling_price_per_kwh, cp.ceiling_currency = row.ceiling_price_per_kwh, row.ceiling_currency
    cp.ceiling_power_w = row.ceiling_power_w
    net.touched.add(cp.cp_id)


def reread(net: "Network", cp_id: str, now: Instant) -> None:
    """The database's entry of this charge point has changed: act on it."""
    row = net.known.charge_points.get(cp_id)
    if row is None:
        return
    cp = net.charge_points.get(cp_id)
    if cp is None:
        cp = row
        net.add_charge_point(cp)
    take_entry(net, cp, row)
    if cp.removed:
        if not may_account(net, cp_id):
            send_away(net, cp, now)
        return
    above = registered_above(cp, net.policy)
    if above is not None and cp.connection is not None and cp_id not in net.session_at:
        _close(net, cp_id, above, now)  # It registers anew, and is told why it cannot.


def send_away(net: "Network", cp: ChargePoint, now: Instant) -> None:
    _close(net, cp.cp_id, AuthenticationFailed(f"{cp.cp_id} has been removed"), now)


def _close(net: "Network", cp_id: str, error: WireError, now: Instant) -> None:
    for connection in [number for number, admitted in net.admitted.items() if admitted == cp_id]:
        net.out.closings.append(Closing(connection, error))
        net.connection_ended(connection, str(error), now)
