"""How Central settles sessions that have ended: by one completion of the charge point, or by an operator.

Whatever cannot be billed without a person is set aside, where it waits for an operator's verdict. Until then the
session stays as it is; no claim closes it beyond correction.
"""

from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

from evcharge.domain import plausibility
from evcharge.domain.charge_point import ChargePoint
from evcharge.domain.commands import Actor, AuditEntry, Bill, Correct, Settle
from evcharge.domain.decisions import BILLED_WH, Frame, MeterValue, Note
from evcharge.domain.instant import Instant
from evcharge.domain.replies import receipt_of
from evcharge.domain.session import CUT_SHORT, Session
from evcharge.domain.set_aside import Kind, SetAside, Settlement
from evcharge.errors import AlreadyThere, ImplausibleMeter, InvalidField, NotThere, StillOpen
from evcharge.protocol.messages import ChargeCompletion, ChargingData, derived_id, fits, shown
from evcharge.protocol.operators import Remark

if TYPE_CHECKING:
    from evcharge.domain.network import Network

MAX_ORPHANS = 100
"""That wait of one charge point: whoever may write to Kafka could make up any number."""
BY_COMPLETION = "completion"


@dataclass(slots=True)
class Refused:
    """The readings of an open session that were refused and not told yet, and the one that claims most."""

    reading: ChargingData
    reason: str
    times: int = 0


# What is set aside


def _set_aside(
    net: "Network",
    kind: Kind,
    message: ChargeCompletion | ChargingData,
    energy_wh: int,
    reason: str,
    now: Instant,
    times: int = 1,
) -> None:
    item = SetAside(
        session_id=message.session_id,
        cp_id=message.cp_id,
        kind=kind,
        energy_wh=energy_wh,
        reason=shown(reason),
        evidence=msgspec.to_builtins(message),
        set_aside_at=now.utc,
        times=times,
    )
    net.out.set_aside.append(item)
    net.known.set_aside.setdefault(item.session_id, []).append(item)
    fields: dict[str, object] = {
        "what": kind,
        "session_id": item.session_id,
        "cp_id": item.cp_id,
        "energy_wh": energy_wh,
        "reason": item.reason,
    }
    net.out.notes.append(Note("set_aside", fields, kind=("set_aside", kind, item.cp_id)))


def refuse_reading(
    net: "Network", session: Session, reading: ChargingData, error: ImplausibleMeter, now: Instant
) -> None:
    """Set the first one aside at once, the others when the session ends: there may be a hundred a second."""
    refused = net.refused.get(session.session_id)
    if refused is None:
        _set_aside(net, Kind.IMPLAUSIBLE_READING, reading, reading.energy_wh, str(error), now)
        net.refused[session.session_id] = Refused(reading, str(error))
        return
    refused.times += 1
    if reading.energy_wh > refused.reading.energy_wh:
        refused.reading, refused.reason = reading, str(error)


def tell_refused(net: "Network", session: Session, now: Instant) -> None:
    """The session ends: set aside what was refused since the first."""
    refused = net.refused.pop(session.session_id, None)
    if refused is not None and refused.times:
        reading = refused.reading
        _set_aside(
            net, Kind.IMPLAUSIBLE_READING, reading, reading.energy_wh, refused.reason, now, times=refused.times
        )


def readings_are_settled(net: "Network", session: Session) -> None:
    """A completion that is believed tells what readings beyond belief could not."""
    settlement = Settlement(
        session.session_id, Kind.IMPLAUSIBLE_READING, BY_COMPLETION, session.energy_wh, "a completion was believed"
    )
    net.out.settlements.append(settlement)


def refuse_completion(
    net: "Network", session: Session, completion: ChargeCompletion, error: ImplausibleMeter, now: Instant
) -> None:
    """It is the charge point's word all the same: another one will not be believed without a person either."""
    session.completion_id = completion.message_id
    _set_aside(net, Kind.IMPLAUSIBLE_COMPLETION, completion, completion.energy_wh, str(error), now)


def stands_below(net: "Network", session: Session, completion: ChargeCompletion, now: Instant) -> bool:
    """Whether what was metered stands against a completion with less; if it does not, it is set aside."""
    if completion.energy_wh >= session.energy_wh:
        return False
    if completion.end_reason in CUT_SHORT:
        return True
    reason = (
        f"{session.energy_wh} Wh had been metered; the completion says {completion.energy_wh} Wh, which is billed"
    )
    _set_aside(net, Kind.COMPLETION_BELOW_READING, completion, session.energy_wh, reason, now)
    return False


def keep_orphan(net: "Network", completion: ChargeCompletion, now: Instant) -> None:
    cp_id, session_id = completion.cp_id, completion.session_id
    before = net.known.set_aside.get(session_id, [])
    if any(not row.waits and row.came_as(completion.message_id) for row in before):
        return  # A person has looked at it.
    waiting = [row for row in before if row.waits]
    full = net.known.orphans.get(cp_id, 0) >= MAX_ORPHANS
    if cp_id not in net.charge_points or any(row.cp_id != cp_id for row in waiting) or (full and not waiting):
        net.count("orphan_not_kept")
        return
    if not waiting:
        net.known.orphans[cp_id] = net.known.orphans.get(cp_id, 0) + 1
    reason = f"there is no session {session_id}; was an older copy of the database restored?"
    _set_aside(net, Kind.ORPHAN, completion, completion.energy_wh, reason, now)


# By a completion


def complete_again(
    net: "Network", session: Session, completion: ChargeCompletion, connection: int | None, now: Instant
) -> None:
    """A completion of an ended session: by its other way, again, another one, or after Central gave it up."""
    before = net.known.set_aside.get(session.session_id, [])
    rows = [row for row in before if row.came_as(completion.message_id)]
    for row in rows:
        if row.waits and row.kind is Kind.IMPLAUSIBLE_COMPLETION:
            raise ImplausibleMeter(row.reason)
    if not session.has_had_its_word:
        _settle(net, session, completion, now)
    elif (
        completion.message_id != session.completion_id
        and completion.energy_wh != session.energy_wh
        and all(row.waits for row in rows)
    ):
        reason = (
            f"{session.energy_wh} Wh were billed by the word of {session.cp_id} before,"
            f" and another completion says {completion.energy_wh} Wh"
        )
        _set_aside(net, Kind.SECOND_COMPLETION, completion, completion.energy_wh, reason, now)
    cp = net.charge_points.get(session.cp_id)
    to = connection if connection is not None else (cp.connection if cp is not None else None)
    if to is not None:
        net.out.frames.append(Frame(to, receipt_of(session, completion.message_id, now)))


def _settle(net: "Network", session: Session, completion: ChargeCompletion, now: Instant) -> None:
    """The first word of the charge point on a session that Central has closed without it."""
    net.store(session)
    limit_w = net.charge_points[session.cp_id].max_power_w
    scale = net.policy.time_scale
    try:
        plausibility.check_late_completion(session, limit_w, completion.energy_wh, completion.ended_at, scale, now)
    except ImplausibleMeter as error:
        refuse_completion(net, session, completion, error, now)
        raise
    billed_wh = session.energy_wh
    session.completion_id = completion.message_id
    if not stands_below(net, session, completion, now) and session.settle(
        completion.seq,
        completion.energy_wh,
        completion.end_reason,
        completion.started_at,
        completion.ended_at,
        now.utc,
    ):
        net.out.meter_values.append(
            MeterValue(
                session.number,
                session.last_seq,
                session.energy_wh,
                0,
                completion.soc_percent,
                session.believed_measured_at(completion.ended_at, now.utc),
            )
        )
        _tell_settled(net, session, billed_wh, completion.message_id, now)
    readings_are_settled(net, session)


def _tell_settled(
    net: "Network", session: Session, billed_wh: int, in_reply_to: UUID | None, now: Instant
) -> None:
    """`billed_wh` on the receipt before."""
    net.publish_receipt(session, in_reply_to, now)
    net.count(BILLED_WH, max(0, session.energy_wh - billed_wh))  # A counter, which only rises.
    net.note(
        "session_settled",
        session_id=session.session_id,
        cp_id=session.cp_id,
        driver_id=session.driver_id,
        energy_wh=session.energy_wh,
        cost=f"{session.cost} {session.currency}",
        revision=session.revision,
    )


# By an operator


def on_settle(net: "Network", command: Settle, actor: Actor, now: Instant) -> None:
    """Raises `NotThere`, `AlreadyThere` if it was settled before, `StillOpen`, or `InvalidField`."""
    _check(command.bill, command.remark)
    row = net.known.set_aside_as.get(command.number)
    if row is None:
        raise NotThere(f"nothing was set aside under the number {command.number}")
    if not row.waits:
        raise AlreadyThere(
            f"number {row.number} was settled by {row.settled_by}; settle its session if it is wrong"
        )
    session = _session(net, row.session_id)
    if session is None and row.kind is not Kind.ORPHAN:
        raise NotThere(f"there is no session {row.session_id}")
    if session is not None and session.is_open and command.bill != "nothing":
        raise StillOpen(f"the session {row.session_id} is still open; close it first, or wait for its end")
    before = _bill_of(session) if session is not None else None
    if session is None:
        session = _adopt(net, row, command.bill, now)
    elif not session.is_open:
        _correct(net, session, _energy_wh(command.bill, session, row.energy_wh), now)
    billed_wh = session.energy_wh if session is not None else 0
    net.out.settlements.append(Settlement(row.session_id, row.kind, actor.name, billed_wh, command.remark))
    after = (_bill_of(session) if session is not None else {"energy_wh": 0}) | {
        "number": row.number,
        "what": row.kind,
        "claimed_wh": row.energy_wh,
        "remark": command.remark,
    }
    net.audit(AuditEntry(actor, "settle", str(row.session_id), before, after))


def on_correct(net: "Network", command: Correct, actor: Actor, now: Instant) -> None:
    """Raises `NotThere`, `StillOpen`, or `InvalidField`."""
    _check(command.bill, command.remark)
    session = _session(net, command.session_id)
    if session is None:
        raise NotThere(f"there is no session {command.session_id}")
    if session.is_open:
        raise StillOpen(f"the session {session.session_id} is still open; close it first, or wait for its end")
    waiting = [row for row in net.known.set_aside.get(session.session_id, []) if row.waits]
    if not waiting and isinstance(command.bill, str):
        raise InvalidField(f"nothing was set aside of session {session.session_id}; say how many kWh to bill")
    before = _bill_of(session)
    claimed_wh = max((row.energy_wh for row in waiting), default=0)
    _correct(net, session, _energy_wh(command.bill, session, claimed_wh), now)
    for kind in {row.kind: None for row in waiting}:
        net.out.settlements.append(
            Settlement(session.session_id, kind, actor.name, session.energy_wh, command.remark)
        )
    after = _bill_of(session) | {"remark": command.remark}
    net.audit(AuditEntry(actor, "settle", str(session.session_id), before, after))


def _check(bill: Bill, remark: str) -> None:
    if not fits(remark, Remark):
        raise InvalidField("`remark` says why, in 1 to 500 characters on one line")
    if bill not in ("all", "nothing") and not (isinstance(bill, int) and 0 <= bill <= 10**9):
        raise InvalidField("`energy_wh` must be a whole number from 0 to 1000000000, `all` or `nothing`")


def _session(net: "Network", session_id: UUID) -> Session | None:
    return net.sessions.get(session_id) or net.known.sessions.get(session_id)


def _energy_wh(bill: Bill, session: Session, claimed_wh: int) -> int:
    """Of the whole session; nothing of a claim leaves it as it was billed."""
    if isinstance(bill, int):
        return bill
    return claimed_wh if bill == "all" else session.energy_wh


def _bill_of(session: Session) -> dict[str, object]:
    return {
        "energy_wh": session.energy_wh,
        "cost": str(session.cost),
        "currency": session.currency,
        "status": session.status,
        "revision": session.revision,
    }


def _correct(net: "Network", session: Session, energy_wh: int, now: Instant) -> None:
    billed_wh = session.energy_wh
    if session.completion_id is None:
        # An operator's word is final: no completion that is still to come changes it.
        session.completion_id = derived_id(session.session_id, "an operator's verdict")
    net.store(session)
    if session.correct(energy_wh):
        _tell_settled(net, session, billed_wh, None, now)
        cp = net.charge_points.get(session.cp_id)
        if cp is not None:
            net.command(cp, receipt_of(session, None, now))


def _adopt(net: "Network", row: SetAside, bill: Bill, now: Instant) -> Session | None:
    """The session of an orphan, as far as an operator bills it; None if that is nothing."""
    energy_wh = bill if isinstance(bill, int) else row.energy_wh if bill == "all" else 0
    if energy_wh == 0:
        return None
    completion = msgspec.convert(row.evidence, ChargeCompletion)
    session = _orphan(net, net.charge_points[row.cp_id], completion, now)
    session.energy_wh = energy_wh
    session.end(completion.end_reason, completion.ended_at, now.utc)
    net.out.drivers.add(session.driver_id)
    net.store(session)
    net.known.sessions[session.session_id] = session
    net.out.meter_values.append(
        MeterValue(
            session.number,
            session.last_seq,
            energy_wh,
            0,
            completion.soc_percent,
            session.believed_measured_at(completion.ended_at, now.utc),
        )
    )
    _tell_settled(net, session, 0, completion.message_id, now)
    return session


def _orphan(net: "Network", cp: ChargePoint, completion: ChargeCompletion, now: Instant) -> Session:
    started_at = min(completion.started_at, now.utc).astimezone(UTC)
    session = Session(
        number=next(net.session_numbers),
        session_id=completion.session_id,
        request_id=completion.session_id,  # The request's own id has been lost.
        cp_id=cp.cp_id,
        driver_id=completion.driver_id,
        target_energy_wh=None,
        price_per_kwh=cp.price_per_kwh,
        currency=cp.currency,
        requested_at=started_at,
        last_seq=completion.seq,
        completion_id=completion.message_id,
        limit_w=cp.max_power_w,
    )
    session.start(completion.started_at, now.utc)
    return session
