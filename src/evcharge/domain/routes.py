"""The tables of who may say what to Central, and which function takes it."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from evcharge.domain.commands import (
    Actor,
    CloseSession,
    Correct,
    Reread,
    SetPrice,
    SetService,
    Settle,
    StartCharge,
    StopCharge,
)
from evcharge.domain.instant import Instant
from evcharge.protocol.messages import (
    AuthRequest,
    AvailableCpsRequest,
    ChargeCompletion,
    ChargeRequest,
    ChargingData,
    ChargingHistoryRequest,
    ChargingStatusRequest,
    CommandResponse,
    ErrorResponse,
    FaultNotification,
    HeartbeatRequest,
    Message,
    RecoveryNotification,
    RegisterRequest,
    StatusUpdate,
    StopChargingRequest,
)
from evcharge.protocol.topics import Topic

if TYPE_CHECKING:
    from evcharge.domain.network import Network
from evcharge.domain.from_drivers import (
    on_available_cps,
    on_charge_request,
    on_history_request,
    on_status_request,
    on_stop_request,
)
from evcharge.domain.from_meters import on_completion, on_reading
from evcharge.domain.from_monitors import (
    on_auth,
    on_command_response,
    on_error,
    on_fault,
    on_heartbeat,
    on_recovery,
    on_register,
    on_status,
)
from evcharge.domain.from_operators import on_close, on_reread, on_set_price, on_set_service, on_start, on_stop
from evcharge.domain.settling import on_correct, on_settle

Routes = dict[type[Message], Callable[["Network", Any, Any, Instant], None]]

MONITOR_ROUTES: Routes = {
    AuthRequest: on_auth,
    RegisterRequest: on_register,
    HeartbeatRequest: on_heartbeat,
    StatusUpdate: on_status,
    FaultNotification: on_fault,
    RecoveryNotification: on_recovery,
    CommandResponse: on_command_response,
    ChargingData: on_reading,
    ChargeCompletion: on_completion,
    ChargeRequest: on_charge_request,
    ErrorResponse: on_error,
}

KAFKA_ROUTES: dict[str, Routes] = {
    Topic.CHARGE_REQUESTS: {ChargeRequest: on_charge_request},
    Topic.STOP_REQUESTS: {StopChargingRequest: on_stop_request},
    Topic.CPS_REQUESTS: {
        AvailableCpsRequest: on_available_cps,
        ChargingStatusRequest: on_status_request,
        ChargingHistoryRequest: on_history_request,
    },
    Topic.SESSION_DATA: {ChargingData: on_reading},
    Topic.SESSION_COMPLETE: {ChargeCompletion: on_completion},
}

OPERATOR_ROUTES: dict[type[Any], Callable[["Network", Any, Actor, Instant], object]] = {
    StartCharge: on_start,
    StopCharge: on_stop,
    CloseSession: on_close,
    Settle: on_settle,
    Correct: on_correct,
    SetService: on_set_service,
    SetPrice: on_set_price,
    Reread: on_reread,
}
