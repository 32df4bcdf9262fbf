"""How Central takes readings and completions, which come through Monitor and Kafka alike, and count once."""

from typing import TYPE_CHECKING

from evcharge.domain import plausibility, settling
from evcharge.domain.instant import Instant
from evcharge.domain.session import END_EVENTS, FROM_CHARGE_POINT, SessionEvent, SessionStatus
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
    try:
        plausibility.check_reading(
            session, reading.energy_wh, reading.power_w, reading.timestamp, net.policy.time_scale, now
        )
    except ImplausibleMeter as error:
        settling.refuse_reading(net, session, reading, error, now)
        raise
    if session.status is SessionStatus.AUTHORISED:
        net.begin(session, reading.timestamp, now)
    if not session.meter(reading.seq, reading.energy_wh, reading.power_w, reading.soc_percent):
        net.count("repeated_reading")
        return
    session.last_heard_s = now.monotonic_s
    session.measured_at = reading.timestamp
    session.peak_w = session.limit_w or 0
    # The distance, as the charge point's clock may have been set back.
    if session.stored_at is None or abs(reading.timestamp - session.stored_at) >= net.meter_value_interval:
        net.store_meter_value(session, reading.timestamp, now)
    net.moved[session.cp_id] = session


def on_completion(net: "Network", completion: ChargeCompletion, connection: int | None, now: Instant) -> None:
    session = net.sessions.get(completion.session_id) or net.known.sessions.get(completion.session_id)
    if session is None:
        if completion.end_reason in FROM_CHARGE_POINT:
            settling.keep_orphan(net, completion, now)
        raise UnknownSession(f"there is no session {completion.session_id}")
    if session.cp_id != completion.cp_id:
        raise NotYours(f"the session {completion.session_id} is at another charge point")
    if completion.end_reason not in FROM_CHARGE_POINT:
        raise InvalidField(f"`end_reason` {completion.end_reason} is none that a charge point gives")
    if not session.is_open:
        settling.complete_again(net, session, completion, connection, now)
        return
    try:
        plausibility.check_reading(
            session, completion.energy_wh, 0, completion.ended_at, net.policy.time_scale, now
        )
    except ImplausibleMeter as error:
        # What was metered before stands; the rest is for a person to look at.
        settling.refuse_completion(net, session, completion, error, now)
        net.end(session, completion.end_reason, completion.ended_at, now, disputed=True)
        raise
    if session.status is SessionStatus.AUTHORISED and (
        completion.energy_wh > 0 or END_EVENTS[completion.end_reason] is SessionEvent.ENDED
    ):
        net.begin(session, completion.started_at, now)
    if settling.stands_below(net, session, completion, now):
        session.completion_id = completion.message_id
    else:
        if completion.energy_wh < session.energy_wh:
            net.keep_last_reading(session, now)
        session.take_last_word(completion.message_id, completion.seq, completion.energy_wh, completion.soc_percent)
        net.store_meter_value(session, completion.ended_at, now)
    net.end(session, completion.end_reason, completion.ended_at, now, completion.message_id)
    settling.readings_are_settled(net, session)
