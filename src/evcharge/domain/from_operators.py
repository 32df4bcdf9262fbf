"""How Central carries out what an operator asks for. Each returns what to tell, or raises a `WireError`."""

from typing import TYPE_CHECKING
from uuid import UUID

from evcharge.domain.charge_point import ChargePoint
from evcharge.domain.commands import (
    Actor,
    AuditEntry,
    CloseSession,
    Reread,
    SetPrice,
    SetService,
    StartCharge,
    StopCharge,
)
from evcharge.domain.from_drivers import authorise, charge_point, check_id, session_of_request
from evcharge.domain.instant import Instant
from evcharge.domain.leaving import reread
from evcharge.domain.replies import stop_command
from evcharge.domain.session import EndReason
from evcharge.domain.stopping import request_stop
from evcharge.errors import InvalidField, NoOpenSession, NotYours
from evcharge.protocol.currencies import check_currency

if TYPE_CHECKING:
    from evcharge.domain.network import Network


def on_start(net: "Network", command: StartCharge, actor: Actor, now: Instant) -> UUID:
    """The id of the session that begins."""
    request = command.request
    check_id(net, request)
    already = session_of_request(net, request)
    if already is not None:
        return already.session_id
    if request.message_id in net.known.answers:
        raise NotYours(
            f"the driver's own request {request.message_id} was refused; give this one an id of its own"
        )
    session_id = authorise(net, request, now).session_id
    after = {"driver_id": request.driver_id, "cp_id": request.cp_id, "energy_wh": request.energy_wh}
    net.audit(AuditEntry(actor, "start", str(session_id), None, after))
    return session_id


def on_stop(net: "Network", command: StopCharge, actor: Actor, now: Instant) -> str | None:
    """Why it does not stop at once; None if it does."""
    session = net.sessions.get(command.session_id)
    if session is None:
        raise NoOpenSession(f"no session {command.session_id} is open")
    before = {"stop_requested": session.stop_requested, "energy_wh": session.energy_wh}
    reason = request_stop(net, session, now)
    net.audit(AuditEntry(actor, "stop", str(session.session_id), before, {"stop_requested": True}))
    return reason


def on_close(net: "Network", command: CloseSession, actor: Actor, now: Instant) -> None:
    session = net.sessions.get(command.session_id)
    if session is None:
        raise NoOpenSession(f"no session {command.session_id} is open")
    before: dict[str, object] = {"status": session.status}
    net.end(session, EndReason.CLOSED_BY_OPERATOR, now.utc, now)
    net.command(net.charge_points[session.cp_id], stop_command(session, now))  # In case it is there after all.
    after = {"status": session.status, "energy_wh": session.energy_wh, "cost": str(session.cost)}
    net.audit(AuditEntry(actor, "close", str(session.session_id), before, after))


def on_set_service(net: "Network", command: SetService, actor: Actor, now: Instant) -> list[str]:
    """The ids of the charge points for which it was otherwise before."""
    if command.cp_id is None:
        chosen = [cp for cp in net.charge_points.values() if not cp.removed]
    else:
        chosen = [charge_point(net, command.cp_id)]
    changed = [cp for cp in chosen if cp.out_of_service is not command.out_of_service]
    for cp in changed:
        cp.out_of_service = command.out_of_service
        net.store_charge_point(cp)
        action = "out of service" if command.out_of_service else "in service"
        before, after = ({"out_of_service": flag} for flag in (not command.out_of_service, command.out_of_service))
        net.audit(AuditEntry(actor, action, cp.cp_id, before, after))
    return [cp.cp_id for cp in changed]


def on_set_price(net: "Network", command: SetPrice, actor: Actor, now: Instant) -> None:
    cp = charge_point(net, command.cp_id)
    price_per_kwh, currency = cp.price_per_kwh, cp.currency
    if command.price_per_kwh is not None:
        price_per_kwh, currency = command.price_per_kwh, command.currency or currency
        try:
            check_currency(currency)
        except ValueError as problem:  # also what an older database has: the price needs a currency beside it
            raise InvalidField(str(problem)) from None
    elif cp.own_price_per_kwh is not None:
        price_per_kwh, currency = cp.own_price_per_kwh, cp.own_currency or currency
    wanted = (price_per_kwh, currency, command.price_per_kwh is not None)
    if wanted == (cp.price_per_kwh, cp.currency, cp.price_by_operator):
        return
    before = _price_of(cp)
    cp.price_per_kwh, cp.currency, cp.price_by_operator = wanted
    net.store_charge_point(cp)
    net.audit(AuditEntry(actor, "price", cp.cp_id, before, _price_of(cp)))


def _price_of(cp: ChargePoint) -> dict[str, object]:
    return {
        "price_per_kwh": None if cp.known_price_per_kwh is None else str(cp.price_per_kwh),
        "currency": cp.currency,
        "price_by_operator": cp.price_by_operator,
    }


def on_reread(net: "Network", command: Reread, actor: Actor, now: Instant) -> None:
    """Nothing to audit: whoever wrote to the database has."""
    reread(net, command.cp_id, now)
