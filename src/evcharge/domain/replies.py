"""What follows from a session, or from a refusal, as messages."""

from typing import Any
from uuid import UUID

from evcharge.domain.instant import Instant
from evcharge.domain.session import Session
from evcharge.domain.status import Status
from evcharge.errors import (
    WireError,
)
from evcharge.protocol import messages
from evcharge.protocol.messages import (
    AuthRequest,
    AuthResponse,
    ChargeCompletionResponse,
    ChargeRequest,
    ChargeRequestResponse,
    ChargingStatusUpdate,
    DriverRequest,
    ErrorResponse,
    Message,
    RegisterRequest,
    RegisterResponse,
    StartChargingCommand,
    StopChargingCommand,
    StopChargingRequest,
    StopChargingResponse,
    derived_id,
)


def start_command(session: Session, now: Instant) -> StartChargingCommand:
    return StartChargingCommand(
        message_id=derived_id(session.session_id, "start"),
        timestamp=now.utc,
        cp_id=session.cp_id,
        session_id=session.session_id,
        driver_id=session.driver_id,
        energy_wh=session.target_energy_wh,
    )


def stop_command(session: Session, now: Instant) -> StopChargingCommand:
    return StopChargingCommand(
        message_id=derived_id(session.session_id, "stop"),
        timestamp=now.utc,
        cp_id=session.cp_id,
        session_id=session.session_id,
    )


def status_of(session: Session, in_reply_to: UUID | None, now: Instant) -> ChargingStatusUpdate:
    """How the session stands after its last reading; for one who asked, or for its driver."""
    return ChargingStatusUpdate(
        message_id=(
            derived_id(in_reply_to, "answer")
            if in_reply_to is not None
            else messages.numbered_id(session.session_id, session.last_seq + 2)
        ),
        timestamp=now.utc,
        in_reply_to=in_reply_to,
        driver_id=session.driver_id,
        cp_id=session.cp_id,
        session_id=session.session_id,
        status=session.status,
        energy_wh=session.energy_wh,
        power_w=session.power_w,
        cost=session.cost,
        currency=session.currency,
        target_energy_wh=session.target_energy_wh,
        soc_percent=session.soc_percent,
        started_at=session.started_at,
        notice=_notice_of(session),
    )


def _notice_of(session: Session) -> str | None:
    if session.stop_refused is None:
        return None
    return messages.shown(f"{session.cp_id} does not stop: {session.stop_refused}")


def receipt_of(session: Session, in_reply_to: UUID | None, now: Instant) -> ChargeCompletionResponse:
    """The receipt of an ended session; the same `message_id` for the same content, however often it is sent."""
    if session.end_reason is None or session.ended_at is None:
        raise ValueError(f"the session {session.session_id} has not ended")
    content: dict[str, Any] = {
        "cp_id": session.cp_id,
        "session_id": session.session_id,
        "driver_id": session.driver_id,
        "status": session.status,
        "end_reason": session.end_reason,
        "energy_wh": session.energy_wh,
        "price_per_kwh": session.price_per_kwh,
        "cost": session.cost,
        "currency": session.currency,
        "requested_at": session.requested_at,
        "started_at": session.started_at,
        "ended_at": session.ended_at,
        "booked_at": session.booked_at,
        "revision": session.revision,
    }
    # By its content, and not by its revision alone: that is given twice where an older database was restored.
    message_id = derived_id(session.session_id, f"receipt {' '.join(map(str, content.values()))}")
    return ChargeCompletionResponse(message_id=message_id, timestamp=now.utc, in_reply_to=in_reply_to, **content)


def refusal_of(message: Message, error: WireError, now: Instant) -> Message:
    """The reply that says no, of the type that the sender of `message` waits for."""
    refused: dict[str, Any] = {
        **messages.answering(message, now),
        "code": error.code,
        "reason": messages.shown(str(error)),
    }
    match message:
        case AuthRequest():
            return AuthResponse(accepted=False, **refused)
        case RegisterRequest():
            return RegisterResponse(accepted=False, status=Status.DISCONNECTED, **refused)
        case ChargeRequest():
            return ChargeRequestResponse(
                accepted=False, driver_id=message.driver_id, cp_id=message.cp_id, **refused
            )
        case StopChargingRequest():
            return StopChargingResponse(
                accepted=False,
                driver_id=message.driver_id,
                cp_id=message.cp_id,
                session_id=message.session_id,
                **refused,
            )
        case DriverRequest():
            return ErrorResponse(**refused, driver_id=message.driver_id)
        case _:
            return ErrorResponse(**refused)
