"""Stopping a charge. A stop that is refused, or not answered, is told, and asked again until the charge ends."""

from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

from evcharge.domain.decisions import Record
from evcharge.domain.instant import Instant
from evcharge.domain.replies import status_of, stop_command
from evcharge.domain.session import Session
from evcharge.protocol import messages
from evcharge.protocol.messages import CommandResponse, derived_id

if TYPE_CHECKING:
    from evcharge.domain.network import Network

PATIENCE_S = 5.0
"""For an answer; and the least between two stop commands for the same charge that nobody has asked for."""
AGAIN_S = 30.0


@dataclass(slots=True)
class AskedToStop:
    """The last stop command for a session, on the monotonic clock."""

    at_s: float
    answered: bool = False
    told: bool = False
    again: bool = False
    """Whether something has changed since at the charge point, so that it may obey now."""

    @property
    def due_s(self) -> float:
        """When to look whether it was answered, or when to ask again."""
        soon = self.again or not (self.answered or self.told)
        return self.at_s + (PATIENCE_S if soon else AGAIN_S)


def request_stop(net: "Network", session: Session, now: Instant) -> str | None:
    """Have the session stopped; why that is not at once, or None."""
    session.stop_requested = True
    net.store(session)
    ask_to_stop(net, session, now)
    cp = net.charge_points[session.cp_id]
    return None if cp.connection is not None else f"{cp.cp_id} is offline; it stops when it is back"


def ask_to_stop(net: "Network", session: Session, now: Instant) -> None:
    """Send the command; to a charge point that is offline, it is sent when that has given its account."""
    cp = net.charge_points[session.cp_id]
    if cp.connection is None:
        return
    net.command(cp, stop_command(session, now))
    asked = net.stops.get(session.session_id)
    if asked is None:
        net.stops[session.session_id] = AskedToStop(now.monotonic_s)
        net.look_at_stop_when(session, now.monotonic_s + PATIENCE_S)
    else:
        asked.at_s, asked.answered, asked.again = now.monotonic_s, False, False


def may_obey_now(net: "Network", session: Session, now: Instant) -> None:
    """Something has changed at the charge point: a fault is gone, say."""
    asked = net.stops.get(session.session_id)
    if asked is None or not asked.answered:
        return
    if now.monotonic_s >= asked.at_s + PATIENCE_S:
        ask_to_stop(net, session, now)
    else:
        asked.again = True


def obeyed(net: "Network", session: Session) -> None:
    net.stops.pop(session.session_id, None)
    if session.stop_refused is not None:
        session.stop_refused = None
        net.store(session)


def refused(net: "Network", session: Session, response: CommandResponse, now: Instant) -> None:
    asked = net.stops.get(session.session_id)
    if asked is None or asked.answered:
        return  # It has been asked once, and has answered.
    asked.answered = asked.told = True
    why = " ".join(part for part in (response.reason, f"({response.code})" if response.code else None) if part)
    _tell(net, session, "stop_refused", why or "without a reason", response, now)


def look_at_stop(net: "Network", session_id: UUID, now: Instant) -> None:
    """Whether it is time to say that the command was not answered, or to ask again."""
    session, asked = net.sessions.get(session_id), net.stops.get(session_id)
    if session is None or asked is None:
        return
    if net.charge_points[session.cp_id].connection is None:
        del net.stops[session_id]
        return
    if now.monotonic_s >= asked.due_s:
        if asked.again or asked.answered or asked.told:
            ask_to_stop(net, session, now)
        else:
            asked.told = True
            why = f"it has not answered within {PATIENCE_S:g} s"
            _tell(net, session, "stop_unanswered", why, None, now)
    net.look_at_stop_when(session, asked.due_s)


def _tell(
    net: "Network", session: Session, event: str, why: str, response: CommandResponse | None, now: Instant
) -> None:
    """Once for each reason: log and operators by a note and in the session, the driver by an update."""
    why = messages.shown(why)
    if session.stop_refused == why:
        return
    session.stop_refused = why
    net.store(session)
    net.note(
        event,
        session_id=session.session_id,
        cp_id=session.cp_id,
        driver_id=session.driver_id,
        code=response.code if response is not None else None,
        reason=why,
    )
    own_id = derived_id(session.session_id, f"{event}: {why}")
    update = msgspec.structs.replace(status_of(session, None, now), message_id=own_id)
    net.out.records.append(Record(session.driver_id, update))
