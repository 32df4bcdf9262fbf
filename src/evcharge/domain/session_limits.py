"""What follows from the limits of a session: its target, and its end when its hours are over."""

from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

from evcharge.domain.ceilings import amount_in
from evcharge.domain.decisions import Record
from evcharge.domain.driver import Limits
from evcharge.domain.instant import Instant
from evcharge.domain.replies import status_of
from evcharge.domain.session import Session
from evcharge.domain.stopping import request_stop
from evcharge.domain.tariff import WH_PER_KWH
from evcharge.errors import LimitTooLow
from evcharge.protocol.messages import derived_id

if TYPE_CHECKING:
    from evcharge.domain.network import Network


def target_wh(asked_wh: int | None, limits: Limits, price_per_kwh: Decimal, currency: str) -> int | None:
    """The least of what is asked for and what the limits allow; None: until the battery is full.

    Raises `LimitTooLow` if that is nothing.
    """
    bounds = [bound for bound in (asked_wh, limits.energy_wh) if bound is not None]
    if limits.cost is not None and price_per_kwh > 0:
        most = amount_in(currency, limits.cost)
        affordable_wh = int(most * WH_PER_KWH // price_per_kwh)
        if affordable_wh < 1:
            raise LimitTooLow(
                f"a charge may cost {most} {currency} at the most, which buys nothing at"
                f" {price_per_kwh} {currency}/kWh; an operator sets the limit"
            )
        bounds.append(affordable_wh)
    return min(bounds, default=None)


def watch_hours(net: "Network", session: Session, now: Instant) -> None:
    """By the wall clock, so that the hours go on while Central is away."""
    if session.max_hours is not None:
        left_s = (session.requested_at + timedelta(hours=session.max_hours) - now.utc).total_seconds()
        net.look_at_hours_when(session, now.monotonic_s + max(0.0, left_s))


def look_at_hours(net: "Network", session_id: UUID, now: Instant) -> None:
    """They are over: have the charge stopped, and tell its driver."""
    session = net.sessions.get(session_id)
    if session is None or session.stop_requested:
        return
    net.note(
        "session_hours_over",
        session_id=session.session_id,
        cp_id=session.cp_id,
        driver_id=session.driver_id,
        hours=session.max_hours,
    )
    request_stop(net, session, now)
    own_id = derived_id(session.session_id, "hours over")
    notice = f"{session.cp_id} is told to stop: a charge may last {session.max_hours:g} h at the most"
    update = msgspec.structs.replace(status_of(session, None, now), message_id=own_id, notice=notice)
    net.out.records.append(Record(session.driver_id, update))
