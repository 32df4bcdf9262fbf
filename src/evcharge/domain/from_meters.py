"""How Central takes readings and completions, which come through Monitor and Kafka alike, and count once."""

from typing import TYPE_CHECKING

from evcharge.domain.decisions import (
    BILLED_WH,
    Frame,
    MeterValue,
)
from evcharge.domain.instant import Instant
from evcharge.domain.replies import receipt_of
from evcharge.domain.session import END_EVENTS, FROM_CHARGE_POINT, Session, SessionEvent, SessionStatus
from evcharge.errors import (
    ImplausibleMeter,
    InvalidField,
    NotYours,
    UnknownSession,
)
from evcharge.protocol.messages import (
    ChargeCompletion,
    ChargingData,
)

if TYPE_CHECKING:
    from evcharge.domain.network import Network

TOLERANCE = 1.1
SPARE_S = 3600.0
"""Clocks may be set by an hour in mid-charge, and nobody shall lose energy over that."""


def _check_plausible(net: "Network", session: Session, energy_wh: int, power_w: int, now: Instant) -> None:
    """Raises `ImplausibleMeter` for more than the charge point can have given since the charge was asked for."""
    most_w = net.charge_points[session.cp_id].max_power_w * TOLERANCE
    if power_w <= most_w and energy_wh <= most_w * net.policy.time_scale * SPARE_S / 3600:
        return  # Whatever the time is.
    by_wall_clock_s = (now.utc - session.requested_at).total_seconds()
    since_s = max(0.0, by_wall_clock_s, now.monotonic_s - session.held_since_s)  # whichever was not set back
    most_wh = most_w * net.policy.time_scale * (since_s + SPARE_S) / 3600
    if power_w > most_w or energy_wh > most_wh:
        raise ImplausibleMeter(
            f"{energy_wh} Wh at {power_w} W is more than {session.cp_id} can have given to session"
            f" {session.session_id}, {most_wh:.0f} Wh at {most_w:.0f} W at the most; if it is simulated faster"
            " than life, tell Central by --time-scale"
        )


def on_reading(net: "Network", reading: ChargingData, connection: int | None, now: Instant) -> None:
    session = net.session_at.get(reading.cp_id)
    # As numbers: a UUID compares itself in Python, which is felt at tens of thousands of readings a second.
    if session is None or session.session_id.int != reading.session_id.int:
        if reading.session_id in net.sessions:
            raise NotYours(f"the session {reading.session_id} is at another charge point")
        net.count("late_reading")
        return
    if reading.seq > session.last_seq and reading.energy_wh < session.energy_wh:
        raise InvalidField(f"the meter of session {session.session_id} ran backwards")
    _check_plausible(net, session, reading.energy_wh, reading.power_w, now)
    if session.status is SessionStatus.AUTHORISED:
        net.begin(session, reading.timestamp, now)
    if not session.meter(reading.seq, reading.energy_wh, reading.power_w, reading.soc_percent):
        net.count("repeated_reading")
        return
    session.last_heard_s = now.monotonic_s
    session.measured_at = reading.timestamp
    # The distance, as the charge point's clock may have been set back.
    if session.stored_at is None or abs(reading.timestamp - session.stored_at) >= net.meter_value_interval:
        net.store_meter_value(session, reading.timestamp)
    net.moved[session.cp_id] = session


def on_completion(net: "Network", completion: ChargeCompletion, connection: int | None, now: Instant) -> None:
    session = net.sessions.get(completion.session_id) or net.known.sessions.get(completion.session_id)
    if session is None:
        raise UnknownSession(f"there is no session {completion.session_id}")
    if session.cp_id != completion.cp_id:
        raise NotYours(f"the session {completion.session_id} is at another charge point")
    if completion.end_reason not in FROM_CHARGE_POINT:
        raise InvalidField(f"`end_reason` {completion.end_reason} is for Central alone to give")
    try:
        _check_plausible(net, session, completion.energy_wh, 0, now)
    except ImplausibleMeter:
        if session.is_open:  # What was metered before stands; the rest is for a person to look at.
            net.end(session, completion.end_reason, completion.ended_at, now)
        raise
    if not session.is_open:
        _complete_again(net, session, completion, connection, now)
        return
    if session.status is SessionStatus.AUTHORISED and (
        completion.energy_wh > 0 or END_EVENTS[completion.end_reason] is SessionEvent.ENDED
    ):
        net.begin(session, completion.started_at, now)
    # Its word counts whatever its number. A cut of power can cost the meter its last second; what it had already
    # told us stands.
    seq = max(completion.seq, session.last_seq + 1)
    if session.meter(seq, completion.energy_wh, 0, completion.soc_percent):
        net.store_meter_value(session, completion.ended_at)
    net.end(session, completion.end_reason, completion.ended_at, now, completion.message_id)


def _complete_again(
    net: "Network", session: Session, completion: ChargeCompletion, connection: int | None, now: Instant
) -> None:
    """A completion of a session that has ended: by its other way, again, or after Central gave it up."""
    billed_wh = session.energy_wh
    if session.status is not SessionStatus.COMPLETED and session.settle(
        completion.seq,
        completion.energy_wh,
        completion.end_reason,
        completion.started_at,
        completion.ended_at,
    ):
        net.store(session)
        net.out.meter_values.append(
            MeterValue(
                session.number,
                session.last_seq,
                session.energy_wh,
                0,
                completion.soc_percent,
                completion.ended_at,
            )
        )
        net.publish_receipt(session, completion.message_id, now)
        net.count(BILLED_WH, session.energy_wh - billed_wh)
        net.note(
            "session_settled",
            session_id=session.session_id,
            energy_wh=session.energy_wh,
            revision=session.revision,
        )
    cp = net.charge_points.get(session.cp_id)
    to = connection if connection is not None else (cp.connection if cp is not None else None)
    if to is not None:
        net.out.frames.append(Frame(to, receipt_of(session, completion.message_id, now)))
