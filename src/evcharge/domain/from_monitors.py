"""How Central takes what a Monitor says: who it is, how it fares, what came of commands."""

import math
from typing import TYPE_CHECKING
from uuid import UUID

from evcharge.domain import plausibility
from evcharge.domain.ceilings import above_ceiling, ceilings_of
from evcharge.domain.charge_point import ChargePoint
from evcharge.domain.decisions import (
    Closing,
    FaultCleared,
    Frame,
    MonitorCame,
    Note,
)
from evcharge.domain.faults import CONNECTION_LOST, ENGINE_SILENT
from evcharge.domain.instant import Instant
from evcharge.domain.leaving import may_account, send_away, take_entry
from evcharge.domain.replies import start_command
from evcharge.domain.session import EndReason, Session, SessionStatus
from evcharge.domain.status import Event, Status
from evcharge.domain.stopping import ask_to_stop, may_obey_now, obeyed, refused
from evcharge.errors import (
    AuthenticationFailed,
    ConnectionReplaced,
    InvalidField,
    NotYours,
    TooManyFailures,
    UnknownSession,
    VehicleMissing,
)
from evcharge.protocol import messages
from evcharge.protocol.messages import (
    NO_ID,
    AuthRequest,
    AuthResponse,
    CommandResponse,
    ErrorResponse,
    FaultNotification,
    HeartbeatRequest,
    HeartbeatResponse,
    RecoveryNotification,
    RegisterRequest,
    RegisterResponse,
    StatusUpdate,
    StopChargingCommand,
    derived_id,
    is_new_id,
)

if TYPE_CHECKING:
    from evcharge.domain.network import Network

MAX_FAULTS = 50
"""That a charge point may have at a time: a broken or hostile one must not fill memory and tables."""


def on_auth(net: "Network", request: AuthRequest, connection: int, now: Instant) -> None:
    came = net.came[connection]
    try:
        _check_identity(net, request, came)
    except AuthenticationFailed:
        wait_s = net.guesses.wait_s(came.origin, request.cp_id, now.monotonic_s)
        if wait_s > 0:
            raise TooManyFailures(
                f"too many failures to authenticate before; try again in {math.ceil(wait_s)} s"
            ) from None
        wait_s = net.guesses.failed(came.origin, request.cp_id, now.monotonic_s)
        if wait_s > 0:
            held_back = {"cp_id": request.cp_id, "origin": came.origin, "wait_s": round(wait_s)}
            net.out.notes.append(Note("authentication_held_back", held_back, kind=("held back", came.origin)))
        raise
    net.guesses.succeeded(came.origin, request.cp_id)
    row = net.known.charge_points.get(request.cp_id)
    if net.admitted.get(connection, request.cp_id) != request.cp_id:
        raise NotYours(f"this connection speaks for {net.admitted[connection]} alone")
    if request.cp_id not in net.charge_points and row is not None:
        net.add_charge_point(row)
    net.admitted[connection] = request.cp_id
    net.out.frames.append(
        Frame(
            connection,
            AuthResponse(
                **messages.answering(request, now),
                accepted=True,
            ),
        )
    )


def _check_identity(net: "Network", request: AuthRequest, came: MonitorCame) -> None:
    """Raises `AuthenticationFailed` unless certificate and key are those of this charge point."""
    row = net.known.charge_points.get(request.cp_id)
    key_fits = (row or ChargePoint(request.cp_id)).admits(request.key)
    keyless = row is None or row.key_hash is None
    known = net.charge_points.get(request.cp_id)
    if known is not None and row is not None:
        take_entry(net, known, row)
    gone = row is not None and row.removed and not may_account(net, request.cp_id)
    if came.certified not in (None, request.cp_id):
        cn = f"{(came.certified or '')[:64]!a}"
        raise AuthenticationFailed(f"the client certificate is not that of {request.cp_id}: its CN is {cn}")
    if gone or not (net.policy.open_registration if keyless else key_fits):
        raise AuthenticationFailed(f"there is no charge point {request.cp_id}, or its key is another")
    if row is None and known is None and not is_new_id(request.cp_id):
        raise InvalidField(f"`cp_id` {request.cp_id} {NO_ID}")


def on_register(net: "Network", request: RegisterRequest, connection: int, now: Instant) -> None:
    cp = net.charge_points.get(request.cp_id) or ChargePoint(request.cp_id)
    above = above_ceiling(
        cp.cp_id, ceilings_of(cp), net.policy, request.price_per_kwh, request.currency, request.max_power_w
    )
    if above is not None:
        raise above  # Whatever was registered before stands.
    if cp.cp_id not in net.charge_points:
        net.add_charge_point(cp)
    if cp.connection is not None and cp.connection != connection:
        replaced = ConnectionReplaced(f"{cp.cp_id} has connected anew")
        net.out.closings.append(Closing(cp.connection, replaced))
        net.connection_ended(cp.connection, str(replaced), now)
    cp.location = request.location
    cp.own_price_per_kwh, cp.own_currency = request.price_per_kwh, request.currency
    if not cp.price_by_operator:
        cp.price_per_kwh = request.price_per_kwh
        cp.currency = request.currency
    cp.max_power_w = request.max_power_w
    session = net.session_at.get(cp.cp_id)
    if session is not None and session.limit_w != cp.max_power_w:
        plausibility.change_limit(session, cp.max_power_w, now)
        net.store(session)
    net.store_charge_point(cp)
    if cp.connection is None:
        cp.connection = connection
        cp.settling = True
        cp.last_heard_s = now.monotonic_s
        net.unregistered.discard(connection)
        net.registered[connection] = cp
        net.take(cp, Event.REGISTERED)
        net.out.faults.append(FaultCleared(cp.cp_id, CONNECTION_LOST, now.utc))
        net.watch_heartbeat(cp, now)
    net.out.frames.append(
        Frame(
            connection,
            RegisterResponse(
                **messages.answering(request, now),
                accepted=True,
                status=cp.status,
                out_of_service=cp.out_of_service,
            ),
        )
    )


def on_heartbeat(net: "Network", request: HeartbeatRequest, connection: int, now: Instant) -> None:
    net.out.frames.append(
        Frame(
            connection,
            HeartbeatResponse(
                **messages.answering(request, now),
            ),
        )
    )


def on_status(net: "Network", update: StatusUpdate, connection: int, now: Instant) -> None:
    if not update.engine_connected:
        return
    cp = net.registered[connection]
    session = net.session_at.get(cp.cp_id)
    if cp.settling:
        cp.settling = False
        if session is not None:
            _settle(net, cp, session, update, now)
    elif session is not None and session.stop_requested:
        may_obey_now(net, session, now)
    if cp.removed and cp.cp_id not in net.session_at and not (update.session_id or update.unsettled_session_ids):
        send_away(net, cp, now)
        return
    if update.session_id is not None and update.session_id not in net.sessions:
        # It charges for a session that Central has closed: its completion will say what is still to be billed.
        net.command(
            cp,
            StopChargingCommand(
                message_id=derived_id(update.session_id, "stop"),
                timestamp=now.utc,
                cp_id=cp.cp_id,
                session_id=update.session_id,
            ),
        )


def _settle(net: "Network", cp: ChargePoint, session: Session, update: StatusUpdate, now: Instant) -> None:
    """Bring the session that Central holds open in line with what the charge point says of it."""
    if update.session_id == session.session_id:
        if session.status is SessionStatus.AUTHORISED:
            net.begin(session, now.utc, now)
        else:
            net.show_charging(session)
        if session.stop_requested:
            ask_to_stop(net, session, now)
    elif session.session_id in update.unsettled_session_ids:
        pass  # Its completion is on the way.
    elif session.status is SessionStatus.AUTHORISED and session.stop_requested:
        net.end(session, EndReason.STOPPED, now.utc, now)
    elif session.status is SessionStatus.AUTHORISED:
        net.command(cp, start_command(session, now))
    else:
        net.end(session, EndReason.LOST_BY_CHARGE_POINT, now.utc, now)


def on_fault(net: "Network", fault: FaultNotification, connection: int, now: Instant) -> None:
    cp = net.registered[connection]
    if fault.fault_code == CONNECTION_LOST:
        raise InvalidField(f"`fault_code` {CONNECTION_LOST} is for Central alone to use")
    if fault.fault_code not in cp.faults:
        if len(cp.faults) >= MAX_FAULTS:
            raise InvalidField(f"{cp.cp_id} has {MAX_FAULTS} faults already; clear some before it reports another")
        cp.faults.add(fault.fault_code)
        net.open_fault(cp, fault.fault_code, fault.description, now)
    cp.settling = True
    if cp.status is not Status.FAULTY:
        net.take(cp, Event.FAULT_DETECTED, fault=fault.fault_code, description=fault.description)
    session = net.session_at.get(cp.cp_id)
    if fault.fault_code == ENGINE_SILENT and session is not None:
        net.end(session, EndReason.ENGINE_LOST, now.utc, now)


def on_recovery(net: "Network", recovery: RecoveryNotification, connection: int, now: Instant) -> None:
    cp = net.registered[connection]
    if recovery.fault_code not in cp.faults:
        return
    cp.faults.discard(recovery.fault_code)
    net.out.faults.append(FaultCleared(cp.cp_id, recovery.fault_code, now.utc))
    if not cp.faults and cp.status is Status.FAULTY:
        net.take(cp, Event.FAULT_CLEARED, description=recovery.description)
        session = net.session_at.get(cp.cp_id)
        if session is not None and session.status is SessionStatus.CHARGING and not cp.settling:
            net.show_charging(session)  # The account that it goes on has come before.
        if session is not None and session.stop_requested:
            may_obey_now(net, session, now)


def on_command_response(net: "Network", response: CommandResponse, connection: int, now: Instant) -> None:
    if response.session_id is None:
        return
    session = net.sessions.get(response.session_id)
    if session is None:
        _answered_after_the_end(net, response, response.session_id)
        return
    if session.cp_id != response.cp_id:
        raise NotYours(f"the session {session.session_id} is at another charge point")
    if response.in_reply_to == derived_id(session.session_id, "start"):
        if session.status is not SessionStatus.AUTHORISED:
            return
        if response.accepted:
            net.begin(session, response.timestamp, now)
        else:
            net.note("start_rejected", session_id=session.session_id, cp_id=session.cp_id, reason=response.reason)
            no_vehicle = response.code == VehicleMissing.code
            reason = EndReason.NO_VEHICLE if no_vehicle else EndReason.START_REJECTED
            net.end(session, reason, now.utc, now)
    elif not response.accepted and response.code == UnknownSession.code:
        net.end(session, EndReason.LOST_BY_CHARGE_POINT, now.utc, now)
    elif response.in_reply_to == derived_id(session.session_id, "stop"):
        if response.accepted:
            obeyed(net, session)
        else:
            refused(net, session, response, now)


def _answered_after_the_end(net: "Network", response: CommandResponse, session_id: UUID) -> None:
    """As a rule the completion took the faster way. But what Central has closed may go on charging."""
    is_stop = response.in_reply_to == derived_id(session_id, "stop")
    if is_stop and not response.accepted and response.code != UnknownSession.code:
        fields = {
            "session_id": session_id,
            "cp_id": response.cp_id,
            "code": response.code,
            "reason": response.reason,
        }
        net.out.notes.append(Note("stop_refused", fields, kind=("stop_refused", response.cp_id)))


def on_error(net: "Network", error: ErrorResponse, connection: int, now: Instant) -> None:
    net.count("error_received")
    cp_id = net.admitted.get(connection)
    if cp_id is not None:
        net.note("error_received", cp_id=cp_id, code=error.code, reason=error.reason)
        return
    fields: dict[str, object] = {"code": error.code, "reason": error.reason}
    net.out.notes.append(Note("error_received", fields, kind="error of a stranger"))
