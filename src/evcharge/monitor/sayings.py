"""The messages that a Monitor makes itself, for Central and for its Engine."""

from collections.abc import Mapping
from uuid import UUID

from evcharge.domain.instant import Instant
from evcharge.domain.session import EndReason
from evcharge.domain.status import Status
from evcharge.errors import ChargePointUnavailable, EngineUnavailable
from evcharge.monitor.config import MonitorConfig
from evcharge.protocol import messages
from evcharge.protocol.messages import (
    AuthRequest,
    ChargeRequest,
    ChargeRequestResponse,
    CommandResponse,
    FaultNotification,
    HealthCheckRequest,
    HealthCheckResponse,
    HeartbeatRequest,
    InitCpId,
    RecoveryNotification,
    RegisterRequest,
    StartChargingCommand,
    StatusUpdate,
    StopChargingCommand,
    derived_id,
    new_id,
)


def auth_request(config: MonitorConfig, now: Instant) -> AuthRequest:
    return AuthRequest(message_id=new_id(), timestamp=now.utc, cp_id=config.cp_id, key=config.key)


def register_request(config: MonitorConfig, now: Instant) -> RegisterRequest:
    return RegisterRequest(
        message_id=new_id(),
        timestamp=now.utc,
        cp_id=config.cp_id,
        location=config.location,
        price_per_kwh=config.price_per_kwh,
        currency=config.currency,
        max_power_w=config.max_power_w,
    )


def heartbeat(config: MonitorConfig, now: Instant) -> HeartbeatRequest:
    return HeartbeatRequest(message_id=new_id(), timestamp=now.utc, cp_id=config.cp_id)


def status_update(
    config: MonitorConfig,
    status: Status,
    account: HealthCheckResponse | None,
    faults: Mapping[str, str],
    now: Instant,
) -> StatusUpdate:
    """`account`: None if the Engine is not connected."""
    return StatusUpdate(
        message_id=new_id(),
        timestamp=now.utc,
        cp_id=config.cp_id,
        status=status,
        engine_connected=account is not None,
        session_id=account.session_id if account is not None else None,
        unsettled_session_ids=account.unsettled_session_ids if account is not None else [],
        reason=messages.shown("; ".join(faults.values())) or None,
    )


def fault(config: MonitorConfig, code: str, description: str, now: Instant) -> FaultNotification:
    return FaultNotification(
        message_id=new_id(),
        timestamp=now.utc,
        cp_id=config.cp_id,
        fault_code=code,
        description=messages.shown(description),
    )


def recovery(config: MonitorConfig, code: str, description: str, now: Instant) -> RecoveryNotification:
    return RecoveryNotification(
        message_id=new_id(), timestamp=now.utc, cp_id=config.cp_id, fault_code=code, description=description
    )


def engine_is_away(
    config: MonitorConfig, command: StartChargingCommand | StopChargingCommand, now: Instant
) -> CommandResponse:
    return CommandResponse(
        **messages.answering(command, now),
        cp_id=config.cp_id,
        session_id=command.session_id,
        accepted=False,
        code=EngineUnavailable.code,
        reason="the Engine is not connected",
    )


def central_is_away(request: ChargeRequest, now: Instant) -> ChargeRequestResponse:
    return ChargeRequestResponse(
        **messages.answering(request, now),
        driver_id=request.driver_id,
        cp_id=request.cp_id,
        accepted=False,
        code=ChargePointUnavailable.code,
        reason="Central cannot be reached",
    )


def init_cp_id(config: MonitorConfig, now: Instant) -> InitCpId:
    return InitCpId(message_id=new_id(), timestamp=now.utc, cp_id=config.cp_id, max_power_w=config.max_power_w)


def health_check(config: MonitorConfig, now: Instant) -> HealthCheckRequest:
    return HealthCheckRequest(message_id=new_id(), timestamp=now.utc, cp_id=config.cp_id)


def stop_as_central_is_lost(config: MonitorConfig, session_id: UUID, now: Instant) -> StopChargingCommand:
    return StopChargingCommand(
        message_id=derived_id(session_id, "central lost"),
        timestamp=now.utc,
        cp_id=config.cp_id,
        session_id=session_id,
        end_reason=EndReason.CENTRAL_LOST,
    )
