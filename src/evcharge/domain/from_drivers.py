"""How Central takes what a driver asks for, over Kafka or at the charge point itself."""

from bisect import bisect_right
from typing import TYPE_CHECKING

from evcharge.domain.ceilings import registered_above
from evcharge.domain.charge_point import ChargePoint
from evcharge.domain.driver import KnownDriver
from evcharge.domain.instant import Instant
from evcharge.domain.replies import start_command, status_of
from evcharge.domain.session import Session
from evcharge.domain.session_limits import target_wh
from evcharge.domain.status import Status
from evcharge.domain.stopping import request_stop
from evcharge.errors import (
    AuthenticationFailed,
    ChargePointBusy,
    ChargePointFaulty,
    ChargePointUnavailable,
    DriverBusy,
    InvalidField,
    NoOpenSession,
    NotConfirmed,
    NotYours,
    OutOfService,
    RequestExpired,
    UnknownChargePoint,
    UnknownDriver,
    WireError,
)
from evcharge.protocol import messages
from evcharge.protocol.messages import (
    NO_ID,
    AvailableCpsRequest,
    AvailableCpsResponse,
    ChargeRequest,
    ChargeRequestResponse,
    ChargingHistoryRequest,
    ChargingStatusRequest,
    CpInfo,
    DriverRequest,
    Message,
    StopChargingRequest,
    StopChargingResponse,
    derived_id,
    is_new_id,
)
from evcharge.protocol.records import SIGNATURE_HEADER, Received, is_confirmed, is_signed

if TYPE_CHECKING:
    from evcharge.domain.network import Network

STRANGER = KnownDriver()
TO_END = (StopChargingRequest, ChargingStatusRequest, ChargingHistoryRequest)
"""What a driver who has been removed may still ask for: how it stands, its end, and what it came to."""


def impostor(net: "Network", record: Received, request: DriverRequest) -> WireError | None:
    """Why this record is not taken for the driver's word; None if it is.

    A charge that is asked for at a charge point does not come here: the charge point vouches for its driver.
    """
    driver_id = request.driver_id
    driver = net.known.drivers.get(driver_id, STRANGER)
    if driver.removed and not isinstance(request, TO_END):
        return UnknownDriver(f"there is no driver {driver_id}")
    if driver.key is not None:
        if is_signed(record, driver.key):
            return None
        if driver.removed:
            return UnknownDriver(f"there is no driver {driver_id}")
        if record.header(SIGNATURE_HEADER) is None:
            return AuthenticationFailed(
                f"the record is not signed: {driver_id} has a key to sign it with (`evcharge driver --key`),"
                f" in the header {SIGNATURE_HEADER}"
            )
        return AuthenticationFailed(f"the signature is not {driver_id}'s: its key, or what was signed, is another")
    if net.policy.open_registration:
        return None
    if driver_id in net.known.drivers and not driver.removed:
        return AuthenticationFailed(
            f"{driver_id} was added without a key; its operator must remove {driver_id} and add it again"
        )
    return UnknownDriver(f"there is no driver {driver_id}")


def check_id(net: "Network", request: ChargeRequest | StopChargingRequest) -> None:
    """Raises `NotYours` if the `message_id` is that of another request, whose answer is nobody else's business."""
    answer = net.known.answers.get(request.message_id)
    match request:
        case ChargeRequest(driver_id=driver_id, cp_id=cp_id):
            session = session_of_request(net, request)
            fits = session is None or (session.driver_id, session.cp_id) == (driver_id, cp_id)
            if isinstance(answer, ChargeRequestResponse):
                fits = fits and (answer.driver_id, answer.cp_id) == (driver_id, cp_id)
            else:
                fits = fits and answer is None
        case StopChargingRequest(driver_id=driver_id, session_id=session_id):
            if isinstance(answer, StopChargingResponse):
                fits = (answer.driver_id, answer.session_id) == (driver_id, session_id)
            else:
                fits = answer is None
    if not fits:
        raise NotYours(f"the message_id {request.message_id} is that of another request; give each its own")


def on_charge_request(net: "Network", request: ChargeRequest, connection: int | None, now: Instant) -> None:
    if net.repeated(request, connection):
        return
    already = session_of_request(net, request)
    if already is not None:
        # The answer has been forgotten, the session has not; it must not begin again.
        net.reply(_acceptance(request, already, now), connection, request.driver_id)
        return
    _check_age(net, request, now)
    if connection is not None:
        _check_confirmation(net, request)
    session = authorise(net, request, now)
    net.answer(request, _acceptance(request, session, now), connection)


def session_of_request(net: "Network", request: ChargeRequest) -> Session | None:
    """The session that this very request has begun before."""
    session_id = derived_id(request.message_id, "session")
    return net.sessions.get(session_id) or net.known.sessions.get(session_id)


def authorise(net: "Network", request: ChargeRequest, now: Instant) -> Session:
    """Begin the session that is asked for, or raise why it cannot begin."""
    cp = charge_point(net, request.cp_id)
    error = unavailable(net, cp)
    if error is not None:
        raise error
    running = net.session_of.get(request.driver_id)
    if running is not None:
        raise DriverBusy(f"{request.driver_id} is already charging at {running.cp_id}")
    driver = _served(net, request.driver_id)
    limits = driver.limits.before(net.policy.limits)
    session = Session(
        number=next(net.session_numbers),
        session_id=derived_id(request.message_id, "session"),
        request_id=request.message_id,
        cp_id=cp.cp_id,
        driver_id=request.driver_id,
        target_energy_wh=target_wh(request.energy_wh, limits, cp.price_per_kwh, cp.currency),
        price_per_kwh=cp.price_per_kwh,
        currency=cp.currency,
        requested_at=now.utc,
        limit_w=cp.max_power_w,
        limit_since=now.utc,
        max_hours=limits.hours,
    )
    net.keep(session, now)
    net.store(session)
    net.note("session_authorised", session_id=session.session_id, cp_id=cp.cp_id, driver_id=request.driver_id)
    net.command(cp, start_command(session, now))
    return session


def _acceptance(request: ChargeRequest, session: Session, now: Instant) -> ChargeRequestResponse:
    return ChargeRequestResponse(
        **messages.answering(request, now),
        driver_id=session.driver_id,
        cp_id=session.cp_id,
        accepted=True,
        session_id=session.session_id,
        price_per_kwh=session.price_per_kwh,
        currency=session.currency,
        target_energy_wh=session.target_energy_wh,
    )


def _check_confirmation(net: "Network", request: ChargeRequest) -> None:
    """Raises `NotConfirmed` for a charge at the charge point itself in the name of one who has to confirm each."""
    driver = net.known.drivers.get(request.driver_id, STRANGER)
    if not driver.signed_only or driver.removed:
        return
    if driver.key is None or not is_confirmed(request, driver.key):
        raise NotConfirmed(
            f"{request.driver_id} confirms each charge: give `confirmation`, which the card or app makes with its"
            " key, or ask for the charge from the driver's own program"
        )


def _check_age(net: "Network", request: Message, now: Instant) -> None:
    age_s, limit_s = (now.utc - request.timestamp).total_seconds(), net.policy.request_max_age_s
    if age_s > limit_s:
        raise RequestExpired(
            f"the request was made {age_s:.0f} s ago; older than {limit_s:g} s is refused (if it was made"
            " just now, the clock of its sender, or Central's, is wrong)"
        )
    if -age_s > limit_s:
        raise RequestExpired(f"the request is dated {-age_s:.0f} s ahead of Central's clock; set the clock right")


def _served(net: "Network", driver_id: str) -> KnownDriver:
    """Raises `UnknownDriver`."""
    driver = net.known.drivers.get(driver_id)
    if driver is None and net.policy.open_registration:
        if not is_new_id(driver_id):
            raise InvalidField(f"`driver_id` {driver_id} {NO_ID}")
        driver = net.known.drivers[driver_id] = STRANGER
        net.out.drivers.add(driver_id)
    if driver is None or driver.removed:
        raise UnknownDriver(f"there is no driver {driver_id}")
    return driver


def charge_point(net: "Network", cp_id: str) -> ChargePoint:
    """Raises `UnknownChargePoint`."""
    cp = net.charge_points.get(cp_id)
    if cp is None or cp.removed:
        raise UnknownChargePoint(f"there is no charge point {cp_id}")
    return cp


def unavailable(net: "Network", cp: ChargePoint) -> WireError | None:
    """Why nobody can start a charge at this charge point now; None if one can."""
    if cp.removed:
        return UnknownChargePoint(f"there is no charge point {cp.cp_id}")
    if cp.out_of_service:
        return OutOfService(f"{cp.cp_id} has been taken out of service by its operator")
    if cp.cp_id in net.session_at:
        return ChargePointBusy(f"{cp.cp_id} is taken by another charge")
    if cp.status is Status.FAULTY:
        return ChargePointFaulty(f"{cp.cp_id} is faulty: {', '.join(sorted(cp.faults))}")
    if cp.status is not Status.ACTIVE:
        return ChargePointUnavailable(f"{cp.cp_id} is not connected")
    return registered_above(cp, net.policy)


def on_stop_request(net: "Network", request: StopChargingRequest, connection: int | None, now: Instant) -> None:
    if net.repeated(request, connection):
        return
    session = net.sessions.get(request.session_id)
    if session is None:
        raise NoOpenSession(f"no session {request.session_id} is open")
    if session.driver_id != request.driver_id:
        raise NotYours(f"the session {request.session_id} is another driver's")
    answer = StopChargingResponse(
        **messages.answering(request, now),
        driver_id=request.driver_id,
        cp_id=session.cp_id,
        session_id=session.session_id,
        accepted=True,
        reason=request_stop(net, session, now),
    )
    net.answer(request, answer, connection)


def on_available_cps(net: "Network", request: AvailableCpsRequest, connection: int | None, now: Instant) -> None:
    _check_age(net, request, now)
    page: list[CpInfo] = []
    next_after = None
    for cp_id in net.cp_ids[bisect_right(net.cp_ids, request.after) :]:
        cp = net.charge_points[cp_id]
        available = unavailable(net, cp) is None
        if cp.removed or not (available or (request.all and cp.has_registered)):
            continue
        if len(page) == request.limit:
            next_after = page[-1].cp_id
            break
        page.append(
            CpInfo(
                cp_id=cp_id,
                location=cp.location,
                status=cp.status,
                available=available,
                price_per_kwh=cp.price_per_kwh,
                currency=cp.currency,
                max_power_w=cp.max_power_w,
            )
        )
    response = AvailableCpsResponse(
        **messages.answering(request, now),
        driver_id=request.driver_id,
        charge_points=page,
        next_after=next_after,
    )
    net.reply(response, connection, request.driver_id)


def on_status_request(
    net: "Network", request: ChargingStatusRequest, connection: int | None, now: Instant
) -> None:
    _check_age(net, request, now)
    session = net.session_of.get(request.driver_id)
    if session is None:
        raise NoOpenSession(f"{request.driver_id} has no charge running")
    net.reply(status_of(session, request.message_id, now), connection, request.driver_id)


def on_history_request(
    net: "Network", request: ChargingHistoryRequest, connection: int | None, now: Instant
) -> None:
    _check_age(net, request, now)
    net.out.histories.append(request)
