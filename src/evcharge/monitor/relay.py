"""What a Monitor decides: it stands between Central and an Engine, passes on, watches both, and reports.

Pure: each method takes what happened and the time, and returns what to do. `service.py` does it.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from evcharge.domain.faults import ENGINE_LOST, ENGINE_SILENT, SEEN_FROM_OUTSIDE
from evcharge.domain.instant import Instant
from evcharge.domain.status import Event, Status
from evcharge.errors import (
    ConnectionReplaced,
    InvalidField,
    PeerSilent,
    TlsRequired,
    TooManyConnections,
    TooManyFailures,
    UsageError,
    WireError,
)
from evcharge.monitor import sayings
from evcharge.monitor.actions import (
    Action,
    CentralSettled,
    DropCentral,
    DropEngine,
    EngineSettled,
    GiveWay,
    HoldBackCentral,
    Note,
    ToCentral,
    ToEngine,
)
from evcharge.monitor.config import MonitorConfig
from evcharge.monitor.faults import Faults
from evcharge.monitor.sides import CentralSide, EngineSide, ToCentralIs, ToEngineIs
from evcharge.monitor.state import State
from evcharge.protocol import messages
from evcharge.protocol.messages import (
    AuthResponse,
    ChargeCompletion,
    ChargeCompletionResponse,
    ChargeRequest,
    ChargeRequestResponse,
    ChargingData,
    CommandResponse,
    ErrorResponse,
    FaultNotification,
    HealthCheckResponse,
    HeartbeatResponse,
    Message,
    RecoveryNotification,
    RegisterResponse,
    StartChargingCommand,
    StopChargingCommand,
)

UNHEALTHY = "unhealthy"
"""The fault of an Engine that says it is not healthy, but not why."""
AT_THE_DOOR = {TlsRequired.code, TooManyConnections.code, TooManyFailures.code}
"""What Central says to connections that it does not let in."""


class Relay:
    """One charge point's Monitor. Owned by the event loop."""

    def __init__(self, config: MonitorConfig, now: Instant) -> None:
        self.config = config
        self.state = State()
        self.faults = Faults()
        self.central = CentralSide(now.monotonic_s)
        self.engine = EngineSide(now.monotonic_s)

    # Central

    def central_opened(self, now: Instant) -> list[Action]:
        self._listen_again(now)
        self.central.link = ToCentralIs.OPEN
        self.central.heard_s = now.monotonic_s
        return [ToCentral(sayings.auth_request(self.config, now))]

    def central_unreachable(self, reason: str, now: Instant) -> list[Action]:
        """An attempt to connect has failed."""
        if self.state.status is not Status.DISCONNECTED:
            return []
        return [self.state.take(Event.CENTRAL_LOST, reason, now)]

    def central_closed(self, reason: str, now: Instant) -> list[Action]:
        stop = self._stop_if_wanted(now)
        self.central.link = ToCentralIs.CLOSED
        return [*self.state.move_to(Status.DISCONNECTED, reason, now), *stop]

    def central_received(self, message: Message, now: Instant) -> list[Action]:
        self.central.heard_s = now.monotonic_s
        handler = FROM_CENTRAL.get(type(message))
        if handler is None:
            error = messages.refusal(message, FROM_CENTRAL)
            return [ToCentral(messages.error_response(error.code, str(error), message.message_id, now))]
        return handler(self, message, now)

    def _on_auth_response(self, response: AuthResponse, now: Instant) -> list[Action]:
        if not response.accepted:
            return self._refused(response)
        self.central.refusals.pop(AuthResponse, None)
        self.central.link = max(self.central.link, ToCentralIs.ADMITTED)
        return [ToCentral(sayings.register_request(self.config, now))]

    def _on_register_response(self, response: RegisterResponse, now: Instant) -> list[Action]:
        if not response.accepted:
            refused = self._refused(response)
            # What was registered before stands. If nothing was: come again, ever more rarely, until it is mended.
            return refused if self.central.registered else [*refused, DropCentral(None)]
        self.central.refusals.clear()
        if self.central.registered:
            return [Note("registered_anew", {"location": self.config.location})]
        self.central.link = ToCentralIs.REGISTERED
        self.central.next_heartbeat_s = now.monotonic_s + self.config.heartbeat_interval_s
        actions: list[Action] = [CentralSettled()]
        actions += self.state.move_to(Status.ACTIVE, "registered with Central", now)
        actions += [
            ToCentral(sayings.fault(self.config, code, text, now)) for code, text in self.faults.all.items()
        ]
        if not self.engine.ready and ENGINE_LOST not in self.faults.all:
            actions += self._find_fault(ENGINE_LOST, "the Engine is not connected", now)
        actions += self._show_status("registered with Central", now)
        actions += self._tell_status(now)
        for reading in self.central.waiting:
            actions += self._pass_up(reading)
        self.central.waiting.clear()
        return actions

    def _on_heartbeat_response(self, response: HeartbeatResponse, now: Instant) -> list[Action]:
        self.central.heartbeat.answered_s = now.monotonic_s
        return []

    def _on_command(self, command: StartChargingCommand | StopChargingCommand, now: Instant) -> list[Action]:
        if self.engine.ready:
            return self._pass_down(command, now)
        return [ToCentral(sayings.engine_is_away(self.config, command, now))]

    def _on_error_of_central(self, error: ErrorResponse, now: Instant) -> list[Action]:
        if error.code in AT_THE_DOOR:
            return [*self._refused(error), HoldBackCentral()]
        note = Note("central_refuses", {"code": error.code, "reason": error.reason}, problem=True)
        if error.code == ConnectionReplaced.code:
            return [note, *self._stop_if_wanted(now), *self._give_way()]
        return [note, *self._pass_down(error, now)]

    def _refused(self, response: AuthResponse | RegisterResponse | ErrorResponse) -> list[Action]:
        """Central says no. Said once, not at each of the attempts that follow."""
        kind = type(response)
        # The sentence of `too_many_failures` counts the seconds, and would always be a new one.
        said = response.code if response.code == TooManyFailures.code else response.reason
        refusals = self.central.refusals
        if kind in refusals and refusals[kind] == said:
            return []
        refusals[kind] = said
        return [Note("central_refuses_charge_point", {"reason": response.reason}, problem=True)]

    def _stop_if_wanted(self, now: Instant) -> list[Action]:
        """Central is lost: end the charge, if it is not to go on without."""
        session_id = self.engine.session_id
        wanted = self.config.stop_on_central_loss and self.central.registered and self.engine.ready
        if not wanted or session_id is None:
            return []
        return [ToEngine(sayings.stop_as_central_is_lost(self.config, session_id, now))]

    def _give_way(self) -> list[Action]:
        self.engine.heard_s = float("inf")
        return [GiveWay()]

    def _listen_again(self, now: Instant) -> None:
        self.engine.heard_s = min(self.engine.heard_s, now.monotonic_s)

    def _pass_down(self, message: Message, now: Instant) -> list[Action]:
        if not self.engine.ready:
            return []
        self.engine.passed_down += 1
        return [ToEngine(message)]

    # Engine

    def engine_opened(self, now: Instant) -> list[Action]:
        self._listen_again(now)
        self.engine.link = ToEngineIs.OPEN
        self.engine.patience_from_s = now.monotonic_s
        request = sayings.init_cp_id(self.config, now)
        self.engine.init_id = request.message_id
        return [ToEngine(request)]

    def engine_closed(self, reason: str, now: Instant) -> list[Action]:
        was_ready = self.engine.ready
        self.engine.link = ToEngineIs.CLOSED
        if not was_ready:
            return []
        actions = self._find_fault(ENGINE_LOST, f"the Engine is gone: {reason}", now)
        return [*actions, *self._show_status(reason, now), *self._tell_status(now)]

    def engine_received(self, message: Message, now: Instant) -> list[Action]:
        self.engine.heard_s = self.engine.patience_from_s = now.monotonic_s
        handler = FROM_ENGINE.get(type(message))
        if handler is None:
            return self._answer_engine(messages.refusal(message, FROM_ENGINE), message, now)
        return handler(self, message, now)

    def _answer_engine(self, error: WireError, to: Message, now: Instant) -> list[Action]:
        return [ToEngine(messages.error_response(error.code, str(error), to.message_id, now))]

    def _on_command_response(self, response: CommandResponse, now: Instant) -> list[Action]:
        if response.in_reply_to != self.engine.init_id:
            return self._pass_up(response)
        if not response.accepted:
            return [Note("engine_refuses_charge_point", {"reason": response.reason}, problem=True)]
        return [EngineSettled(), self._check_health(now)]

    def _on_account(self, account: HealthCheckResponse, now: Instant) -> list[Action]:
        """The Engine's account of itself: the first of a connection makes it ready; what changed is passed on."""
        engine = self.engine
        changed = not engine.ready or engine.account is None or _gist(account) != _gist(engine.account)
        engine.link = ToEngineIs.READY
        engine.account = account
        if account.in_reply_to is not None:
            engine.health_check.answered_s = now.monotonic_s
        actions: list[Action] = []
        # First what is wrong now, then what no longer is: it must not look healthy in between.
        fault_code = account.fault_code or (None if account.healthy else UNHEALTHY)
        if fault_code is not None and fault_code not in SEEN_FROM_OUTSIDE:
            actions += self._find_fault(fault_code, "the Engine says that it is faulty", now)
        gone = [code for code in self.faults.found if code != fault_code or code in SEEN_FROM_OUTSIDE]
        actions += self._tell_recoveries(self.faults.no_longer_find(gone), "the Engine answers", now)
        if changed:
            actions += self._show_status(_account_of(account), now)
            actions += self._tell_status(now)
        return actions

    def _on_reading(self, reading: ChargingData, now: Instant) -> list[Action]:
        self.engine.reading = (reading, now.monotonic_s)
        if not self.central.registered:
            self.central.waiting.append(reading)
        return self._pass_up(reading)

    def _on_completion(self, completion: ChargeCompletion, now: Instant) -> list[Action]:
        self.engine.completion = completion
        return self._pass_up(completion)  # If Central is away: the Engine sends it until it has a receipt.

    def _on_fault(self, fault: FaultNotification, now: Instant) -> list[Action]:
        if fault.fault_code in SEEN_FROM_OUTSIDE:
            return self._answer_engine(_reserved(fault.fault_code), fault, now)
        actions = self._find_fault(fault.fault_code, fault.description, now)
        return [*actions, *self._show_status(fault.description, now)]

    def _on_recovery(self, recovery: RecoveryNotification, now: Instant) -> list[Action]:
        if recovery.fault_code in SEEN_FROM_OUTSIDE:
            return self._answer_engine(_reserved(recovery.fault_code), recovery, now)
        over = self.faults.no_longer_find([recovery.fault_code])
        return self._tell_recoveries(over, recovery.description, now)

    def _on_charge_request(self, request: ChargeRequest, now: Instant) -> list[Action]:
        if self.central.registered:
            return self._pass_up(request)
        return [ToEngine(sayings.central_is_away(request, now))]

    def _on_error_of_engine(self, error: ErrorResponse, now: Instant) -> list[Action]:
        note = Note("engine_refuses", {"code": error.code, "reason": error.reason}, problem=True)
        return [note, *self._give_way()] if error.code == ConnectionReplaced.code else [note]

    def _pass_up(self, message: Message) -> list[Action]:
        if not self.central.registered:
            return []
        self.central.passed_up += 1
        return [ToCentral(message)]

    # A technician

    def report_fault(self, code: str, description: str, now: Instant) -> list[Action]:
        """A person reports a fault here; it lasts, whatever the Engine says, until it is cleared here."""
        if not self.faults.report(code, description):
            return []
        return [*self._tell_fault(code, description, now), *self._show_status(description, now)]

    def clear_fault(self, code: str, now: Instant) -> list[Action]:
        """Clear a fault that was reported here; raises `UsageError` for any other, which says who can."""
        if not self.faults.clear(code):
            return []
        return [*self._tell_recoveries([code], "cleared at the Monitor", now), *self._tell_status(now)]

    def relocate(self, location: str, now: Instant) -> list[Action]:
        """The charge point stands elsewhere: tell Central, now and at each registration to come."""
        if not location or not location.isprintable() or not messages.fits(location, messages.Text):
            raise UsageError(
                f"a location has 1 to {messages.MAX_TEXT} characters, none of them a control character"
            )
        self.config = replace(self.config, location=location)
        if self.central.link < ToCentralIs.ADMITTED:
            return []
        return [ToCentral(sayings.register_request(self.config, now))]

    # Time

    def tick(self, now: Instant) -> list[Action]:
        """Whatever is due at `now`."""
        return [*self._tick_central(now), *self._tick_engine(now)]

    def next_due_s(self) -> float:
        known_silent = ENGINE_SILENT in self.faults.all
        due_s = [*self.central.due_s(self.config), *self.engine.due_s(self.config, known_silent)]
        return min(due_s, default=float("inf"))

    def _tick_central(self, now: Instant) -> list[Action]:
        central = self.central
        if central.link is ToCentralIs.CLOSED:
            return []
        patience_s = central.patience_s(self.config)
        if now.monotonic_s >= central.heard_s + patience_s:
            central.heard_s = now.monotonic_s
            return [DropCentral(PeerSilent(f"nothing was heard from Central for {patience_s:g} s"))]
        if central.registered and now.monotonic_s >= central.next_heartbeat_s:
            central.next_heartbeat_s = now.monotonic_s + self.config.heartbeat_interval_s
            central.heartbeat.asked_s = now.monotonic_s
            return [ToCentral(sayings.heartbeat(self.config, now))]
        return []

    def _tick_engine(self, now: Instant) -> list[Action]:
        engine, timeout_s = self.engine, self.config.health_timeout_s
        error = PeerSilent(f"nothing was heard from the Engine for {timeout_s:g} s")
        actions: list[Action] = []
        if ENGINE_SILENT not in self.faults.all and now.monotonic_s >= engine.heard_s + timeout_s:
            actions += self._find_fault(ENGINE_SILENT, str(error), now)
            actions += self._show_status(str(error), now)
        if engine.link is not ToEngineIs.CLOSED and now.monotonic_s >= engine.patience_from_s + timeout_s:
            engine.patience_from_s = now.monotonic_s
            actions.append(DropEngine(error))
        elif engine.ready and now.monotonic_s >= engine.next_check_s:
            actions.append(self._check_health(now))
        return actions

    def _check_health(self, now: Instant) -> Action:
        self.engine.next_check_s = now.monotonic_s + self.config.health_interval_s
        self.engine.health_check.asked_s = now.monotonic_s
        return ToEngine(sayings.health_check(self.config, now))

    # Status and faults

    def _show_status(self, reason: str, now: Instant) -> list[Action]:
        """Bring the state in line with what is known of link, faults and charge."""
        if not self.central.registered:
            return []
        charging = Status.CHARGING if self.engine.session_id is not None else Status.ACTIVE
        return [*self.state.move_to(Status.FAULTY if self.faults.all else charging, reason, now)]

    def _tell_status(self, now: Instant) -> list[Action]:
        if not self.central.registered:
            return []
        account = self.engine.account if self.engine.ready else None
        update = sayings.status_update(self.config, self.state.status, account, self.faults.all, now)
        return [ToCentral(update)]

    def _find_fault(self, code: str, description: str, now: Instant) -> list[Action]:
        """The Engine says it, or it is seen here."""
        return self._tell_fault(code, description, now) if self.faults.find(code, description) else []

    def _tell_fault(self, code: str, description: str, now: Instant) -> list[Action]:
        note = Note("fault", {"code": code, "description": description}, problem=True)
        if not self.central.registered:
            return [note]
        return [note, ToCentral(sayings.fault(self.config, code, description, now))]

    def _tell_recoveries(self, codes: list[str], description: str, now: Instant) -> list[Action]:
        if not codes:
            return []
        actions: list[Action] = [Note("recovery", {"code": code, "description": description}) for code in codes]
        if self.central.registered:
            actions += [ToCentral(sayings.recovery(self.config, code, description, now)) for code in codes]
        return [*actions, *self._show_status(description, now)]


Routes = dict[type[Message], Callable[[Relay, Any, Instant], list[Action]]]

FROM_CENTRAL: Routes = {
    AuthResponse: Relay._on_auth_response,
    RegisterResponse: Relay._on_register_response,
    HeartbeatResponse: Relay._on_heartbeat_response,
    StartChargingCommand: Relay._on_command,
    StopChargingCommand: Relay._on_command,
    ChargeCompletionResponse: Relay._pass_down,
    ChargeRequestResponse: Relay._pass_down,
    ErrorResponse: Relay._on_error_of_central,
}
FROM_ENGINE: Routes = {
    CommandResponse: Relay._on_command_response,
    HealthCheckResponse: Relay._on_account,
    ChargingData: Relay._on_reading,
    ChargeCompletion: Relay._on_completion,
    FaultNotification: Relay._on_fault,
    RecoveryNotification: Relay._on_recovery,
    ChargeRequest: Relay._on_charge_request,
    ErrorResponse: Relay._on_error_of_engine,
}


def _reserved(fault_code: str) -> InvalidField:
    return InvalidField(f"`fault_code` {fault_code} is not for an Engine to use")


def _account_of(account: HealthCheckResponse) -> str:
    """The reason for a new state, where the Engine's account is."""
    if account.session_id is None:
        return "the Engine's account: no charge runs"
    return "the Engine's account: a charge runs" if account.vehicle_connected else "the Engine waits for a vehicle"


def _gist(account: HealthCheckResponse) -> tuple[object, ...]:
    """What of an account is worth telling Central when it changes."""
    return account.healthy, account.session_id, account.unsettled_session_ids, account.fault_code
