"""What a Monitor decides: it stands between Central and an Engine, passes on, watches both, and reports.

Pure: each method takes what happened and the time, and returns what to do. `service.py` does it.
"""

from collections import deque
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from evcharge.domain import status
from evcharge.domain.faults import ENGINE_LOST, ENGINE_SILENT, SEEN_FROM_OUTSIDE
from evcharge.domain.instant import Instant
from evcharge.domain.session import EndReason
from evcharge.domain.status import Event, Status
from evcharge.errors import (
    ChargePointUnavailable,
    ConnectionReplaced,
    EngineUnavailable,
    InvalidField,
    PeerSilent,
    TlsRequired,
    TooManyConnections,
    TooManyFailures,
    UsageError,
    WireError,
)
from evcharge.protocol import messages
from evcharge.protocol.messages import (
    AuthRequest,
    AuthResponse,
    ChargeCompletion,
    ChargeCompletionResponse,
    ChargeRequest,
    ChargeRequestResponse,
    ChargingData,
    CommandResponse,
    ErrorResponse,
    FaultNotification,
    HealthCheckRequest,
    HealthCheckResponse,
    HeartbeatRequest,
    HeartbeatResponse,
    InitCpId,
    Message,
    RecoveryNotification,
    RegisterRequest,
    RegisterResponse,
    StartChargingCommand,
    StatusUpdate,
    StopChargingCommand,
    derived_id,
    new_id,
)

UNHEALTHY = "unhealthy"
"""The fault of an Engine that says it is not healthy, but not why."""
MAX_WAITING_READINGS = 10_000
TRANSITIONS_KEPT = 20
HEARTBEATS_MISSED = 3
AT_THE_DOOR = {TlsRequired.code, TooManyConnections.code, TooManyFailures.code}
"""What Central says to connections that it does not let in."""


@dataclass(frozen=True, slots=True)
class MonitorConfig:
    cp_id: str
    key: str
    location: str
    price_per_kwh: Decimal
    currency: str
    max_power_w: int
    heartbeat_interval_s: float = 30.0
    health_interval_s: float = 30.0
    health_timeout_s: float = 90.0
    answer_timeout_s: float = 10.0
    stop_on_central_loss: bool = False


@dataclass(frozen=True, slots=True)
class ToCentral:
    message: Message


@dataclass(frozen=True, slots=True)
class ToEngine:
    message: Message


@dataclass(frozen=True, slots=True)
class DropCentral:
    error: WireError


@dataclass(frozen=True, slots=True)
class DropEngine:
    error: WireError


@dataclass(frozen=True, slots=True)
class CentralSettled:
    """Central has accepted us."""


@dataclass(frozen=True, slots=True)
class HoldBackCentral:
    """Do not connect again soon."""


@dataclass(frozen=True, slots=True)
class EngineSettled:
    """The Engine has accepted us."""


@dataclass(frozen=True, slots=True)
class GiveWay:
    """Another Monitor has our place. Leave it both links: one each would be a charge point that nobody serves."""


@dataclass(frozen=True, slots=True)
class Note:
    """Something that happened, for the log."""

    event: str
    fields: dict[str, object] = field(default_factory=dict)
    problem: bool = False


Action = (
    ToCentral
    | ToEngine
    | DropCentral
    | DropEngine
    | CentralSettled
    | HoldBackCentral
    | EngineSettled
    | GiveWay
    | Note
)


@dataclass(frozen=True, slots=True)
class Transition:
    at: datetime
    before: Status
    now: Status
    reason: str


@dataclass(slots=True)
class Exchange:
    """When something was last asked, and last answered, on the monotonic clock."""

    asked_s: float | None = None
    answered_s: float | None = None


class Relay:
    """One charge point's Monitor."""

    def __init__(self, config: MonitorConfig, now: Instant) -> None:
        self.config = config
        self.status: Status = status.INITIAL
        self.registered = False
        self.engine_ready = False
        self.account: HealthCheckResponse | None = None
        self.reading: ChargingData | None = None
        self.reading_heard_s = now.monotonic_s
        self.completion: ChargeCompletion | None = None
        self.transitions: deque[Transition] = deque(maxlen=TRANSITIONS_KEPT)
        self.heartbeat = Exchange()
        self.health_check = Exchange()
        self.passed_up = 0
        self.passed_down = 0
        self._found_faults: dict[str, str] = {}
        self._reported_faults: dict[str, str] = {}
        self._central_open = False
        self._admitted = False
        self._central_heard_s = now.monotonic_s
        self._next_heartbeat_s = now.monotonic_s
        self._engine_open = False
        self._engine_heard_s = now.monotonic_s
        self._engine_patience_from_s = now.monotonic_s
        self._next_check_s = now.monotonic_s
        self._init_id: UUID | None = None
        self._refusals: dict[type[Message], str | None] = {}
        self._waiting: deque[ChargingData] = deque(maxlen=MAX_WAITING_READINGS)

    @property
    def faults(self) -> dict[str, str]:
        """All that is wrong: what the Engine says, what is seen here, and what a technician has reported here."""
        return self._reported_faults | self._found_faults

    @property
    def reported_faults(self) -> list[str]:
        """The codes that can be cleared here."""
        return list(self._reported_faults)

    @property
    def waiting_readings(self) -> int:
        return len(self._waiting)

    # Central

    def central_opened(self, now: Instant) -> list[Action]:
        self._listen_again(now)
        self._central_open = True
        self._central_heard_s = now.monotonic_s
        request = AuthRequest(message_id=new_id(), timestamp=now.utc, cp_id=self.config.cp_id, key=self.config.key)
        return [ToCentral(request)]

    def central_unreachable(self, reason: str, now: Instant) -> list[Action]:
        """An attempt to connect has failed."""
        if self.status is not Status.DISCONNECTED:
            return []
        return self._take(Event.CENTRAL_LOST, reason, now)

    def central_closed(self, reason: str, now: Instant) -> list[Action]:
        self._central_open = self._admitted = False
        stop = self._stop_if_wanted(now)
        self.registered = False
        return [*self._move_to(Status.DISCONNECTED, reason, now), *stop]

    def _give_way(self) -> list[Action]:
        self._engine_heard_s = float("inf")  # Who does not listen cannot say that an Engine is silent.
        return [GiveWay()]

    def _listen_again(self, now: Instant) -> None:
        self._engine_heard_s = min(self._engine_heard_s, now.monotonic_s)

    def _stop_if_wanted(self, now: Instant) -> list[Action]:
        """Central is lost: end the charge, if it is not to go on without."""
        session_id = self.account.session_id if self.account is not None else None
        if not (self.registered and self.config.stop_on_central_loss and self.engine_ready) or session_id is None:
            return []
        stop = StopChargingCommand(
            message_id=derived_id(session_id, "central lost"),
            timestamp=now.utc,
            cp_id=self.config.cp_id,
            session_id=session_id,
            end_reason=EndReason.CENTRAL_LOST,
        )
        return [ToEngine(stop)]

    def central_received(self, message: Message, now: Instant) -> list[Action]:
        self._central_heard_s = now.monotonic_s
        match message:
            case AuthResponse():
                return self._authenticated(message, now)
            case RegisterResponse():
                return self._registered(message, now)
            case HeartbeatResponse():
                self.heartbeat.answered_s = now.monotonic_s
                return []
            case StartChargingCommand() | StopChargingCommand():
                return self._command(message, now)
            case ChargeCompletionResponse() | ChargeRequestResponse():
                return self._pass_down(message)
            case ErrorResponse() if message.code in AT_THE_DOOR:
                return [*self._refused(message), HoldBackCentral()]
            case ErrorResponse():
                note = Note("central_refuses", {"code": message.code, "reason": message.reason}, problem=True)
                if message.code == ConnectionReplaced.code:
                    return [note, *self._stop_if_wanted(now), *self._give_way()]
                return [note, *self._pass_down(message)]
            case _:
                error = messages.refusal(message, _FROM_CENTRAL)
                reply = messages.error_response(error.code, str(error), message.message_id, now)
                return [ToCentral(reply)]

    def _authenticated(self, response: AuthResponse, now: Instant) -> list[Action]:
        if not response.accepted:
            return self._refused(response)
        self._refusals.pop(AuthResponse, None)
        self._admitted = True
        return [self._register_request(now)]

    def _register_request(self, now: Instant) -> Action:
        request = RegisterRequest(
            message_id=new_id(),
            timestamp=now.utc,
            cp_id=self.config.cp_id,
            location=self.config.location,
            price_per_kwh=self.config.price_per_kwh,
            currency=self.config.currency,
            max_power_w=self.config.max_power_w,
        )
        return ToCentral(request)

    def _refused(self, response: AuthResponse | RegisterResponse | ErrorResponse) -> list[Action]:
        """Central says no. Said once, not at each of the attempts that follow."""
        kind = type(response)
        said = (
            response.code if response.code == TooManyFailures.code else response.reason
        )  # It counts the seconds.
        if kind in self._refusals and self._refusals[kind] == said:
            return []
        self._refusals[kind] = said
        return [Note("central_refuses_charge_point", {"reason": response.reason}, problem=True)]

    def _registered(self, response: RegisterResponse, now: Instant) -> list[Action]:
        if not response.accepted:
            return self._refused(response)
        self._refusals.clear()
        if self.registered:
            return [Note("registered_anew", {"location": self.config.location})]
        self.registered = True
        self._next_heartbeat_s = now.monotonic_s + self.config.heartbeat_interval_s
        actions: list[Action] = [CentralSettled()]
        actions += self._move_to(Status.ACTIVE, "registered with Central", now)
        actions += [self._fault(code, text, now) for code, text in self.faults.items()]
        if not self.engine_ready and ENGINE_LOST not in self.faults:
            actions += self._report_fault(ENGINE_LOST, "the Engine is not connected", now)
        actions += self._show_status("registered with Central", now)
        actions.append(self._status_update(now))
        for reading in self._waiting:
            actions += self._pass_up(reading)
        self._waiting.clear()
        return actions

    def _command(self, command: StartChargingCommand | StopChargingCommand, now: Instant) -> list[Action]:
        if self.engine_ready:
            return self._pass_down(command)
        response = CommandResponse(
            **messages.answering(command, now),
            cp_id=self.config.cp_id,
            session_id=command.session_id,
            accepted=False,
            code=EngineUnavailable.code,
            reason="the Engine is not connected",
        )
        return [ToCentral(response)]

    def _pass_down(self, message: Message) -> list[Action]:
        if not self.engine_ready:
            return []
        self.passed_down += 1
        return [ToEngine(message)]

    # Engine

    def engine_opened(self, now: Instant) -> list[Action]:
        self._listen_again(now)
        self._engine_open = True
        self._engine_patience_from_s = now.monotonic_s
        self._init_id = new_id()
        request = InitCpId(
            message_id=self._init_id,
            timestamp=now.utc,
            cp_id=self.config.cp_id,
            max_power_w=self.config.max_power_w,
        )
        return [ToEngine(request)]

    def engine_closed(self, reason: str, now: Instant) -> list[Action]:
        self._engine_open = False
        was_ready, self.engine_ready = self.engine_ready, False
        if not was_ready:
            return []
        actions = self._report_fault(ENGINE_LOST, f"the Engine is gone: {reason}", now)
        return [*actions, *self._show_status(reason, now), *self._tell_status(now)]

    def engine_received(self, message: Message, now: Instant) -> list[Action]:
        self._engine_heard_s = self._engine_patience_from_s = now.monotonic_s
        match message:
            case CommandResponse() if message.in_reply_to == self._init_id:
                return self._initialised(message, now)
            case CommandResponse():
                return self._pass_up(message)
            case HealthCheckResponse():
                return self._checked(message, now)
            case ChargingData():
                self.reading = message
                self.reading_heard_s = now.monotonic_s
                if not self.registered:
                    self._waiting.append(message)
                return self._pass_up(message)
            case ChargeCompletion():
                self.completion = message
                return self._pass_up(message)  # If Central is away: the Engine sends it until it has a receipt.
            case FaultNotification() | RecoveryNotification() if message.fault_code in SEEN_FROM_OUTSIDE:
                reserved = InvalidField(f"`fault_code` {message.fault_code} is not for an Engine to use")
                return [ToEngine(messages.error_response(reserved.code, str(reserved), message.message_id, now))]
            case FaultNotification():
                actions = self._report_fault(message.fault_code, message.description, now)
                return [*actions, *self._show_status(message.description, now)]
            case RecoveryNotification():
                return self._clear_faults([message.fault_code], message.description, now)
            case ChargeRequest():
                return self._ask_central(message, now)
            case ErrorResponse():
                note = Note("engine_refuses", {"code": message.code, "reason": message.reason}, problem=True)
                return [note, *self._give_way()] if message.code == ConnectionReplaced.code else [note]
            case _:
                error = messages.refusal(message, _FROM_ENGINE)
                return [ToEngine(messages.error_response(error.code, str(error), message.message_id, now))]

    def _initialised(self, response: CommandResponse, now: Instant) -> list[Action]:
        if not response.accepted:
            return [Note("engine_refuses_charge_point", {"reason": response.reason}, problem=True)]
        return [EngineSettled(), self._health_check(now)]

    def _checked(self, account: HealthCheckResponse, now: Instant) -> list[Action]:
        """The Engine's account of itself: the first of a connection makes it ready; what changed is passed on."""
        changed = not self.engine_ready or self.account is None or _gist(account) != _gist(self.account)
        self.engine_ready = True
        self.account = account
        if account.in_reply_to is not None:
            self.health_check.answered_s = now.monotonic_s
        actions: list[Action] = []
        # First what is wrong now, then what no longer is: it must not look healthy in between.
        fault_code = account.fault_code or (None if account.healthy else UNHEALTHY)
        if fault_code is not None and fault_code not in SEEN_FROM_OUTSIDE:
            actions += self._report_fault(fault_code, "the Engine says that it is faulty", now)
        gone = [code for code in self._found_faults if code != fault_code or code in SEEN_FROM_OUTSIDE]
        actions += self._clear_faults(gone, "the Engine answers", now)
        if changed:
            actions += self._show_status(_account_of(account), now)
            actions += self._tell_status(now)
        return actions

    def _pass_up(self, message: Message) -> list[Action]:
        if not self.registered:
            return []
        self.passed_up += 1
        return [ToCentral(message)]

    def _ask_central(self, request: ChargeRequest, now: Instant) -> list[Action]:
        if self.registered:
            return self._pass_up(request)
        refusal = ChargeRequestResponse(
            **messages.answering(request, now),
            driver_id=request.driver_id,
            cp_id=request.cp_id,
            accepted=False,
            code=ChargePointUnavailable.code,
            reason="Central cannot be reached",
        )
        return [ToEngine(refusal)]

    # A technician

    def report_fault(self, code: str, description: str, now: Instant) -> list[Action]:
        """A person reports a fault here; it lasts, whatever the Engine says, until it is cleared here."""
        if not messages.is_id(code):
            raise UsageError(f"{code!a} is no code; a code has 1 to 64 letters, digits or . _ : -")
        if code in SEEN_FROM_OUTSIDE:
            raise UsageError(f"the fault {code} is for evcharge itself to report")
        if code in self._reported_faults:
            raise UsageError(f"the fault {code} is reported already")
        known = code in self.faults
        self._reported_faults[code] = description
        if known:
            return []
        return [*self._tell_fault(code, description, now), *self._show_status(description, now)]

    def clear_fault(self, code: str, now: Instant) -> list[Action]:
        """Clear a fault that was reported here; raises `UsageError` for any other, which says who can."""
        if code not in self._reported_faults:
            if code not in self._found_faults:
                raise UsageError(f"there is no fault {code!a}")
            if code in SEEN_FROM_OUTSIDE:
                raise UsageError(f"the fault {code} ends by itself when the Engine answers")
            raise UsageError(f"the fault {code} is the Engine's own: it ends when it is repaired there")
        del self._reported_faults[code]
        if code in self._found_faults:
            return []
        return [*self._tell_recoveries([code], "cleared at the Monitor", now), *self._tell_status(now)]

    def relocate(self, location: str, now: Instant) -> list[Action]:
        """The charge point stands elsewhere: tell Central, now and at each registration to come."""
        if not location or not location.isprintable() or not messages.fits(location, messages.Text):
            raise UsageError(
                f"a location has 1 to {messages.MAX_TEXT} characters, none of them a control character"
            )
        self.config = replace(self.config, location=location)
        return [self._register_request(now)] if self._admitted else []

    # Time

    def tick(self, now: Instant) -> list[Action]:
        """Whatever is due at `now`."""
        return [*self._tick_central(now), *self._tick_engine(now)]

    def next_due_s(self) -> float:
        due_s = [float("inf")]
        if ENGINE_SILENT not in self.faults:
            due_s.append(self._engine_heard_s + self.config.health_timeout_s)
        if self._engine_open:
            due_s.append(self._engine_patience_from_s + self.config.health_timeout_s)
        if self._central_open:
            due_s.append(self._central_heard_s + self._central_patience_s())
        if self.registered:
            due_s.append(self._next_heartbeat_s)
        if self.engine_ready:
            due_s.append(self._next_check_s)
        return min(due_s)

    def _central_patience_s(self) -> float:
        if not self.registered:
            return self.config.answer_timeout_s
        return HEARTBEATS_MISSED * self.config.heartbeat_interval_s

    def _tick_central(self, now: Instant) -> list[Action]:
        if not self._central_open:
            return []
        patience_s = self._central_patience_s()
        if now.monotonic_s >= self._central_heard_s + patience_s:
            self._central_heard_s = now.monotonic_s
            return [DropCentral(PeerSilent(f"nothing was heard from Central for {patience_s:g} s"))]
        if self.registered and now.monotonic_s >= self._next_heartbeat_s:
            self._next_heartbeat_s = now.monotonic_s + self.config.heartbeat_interval_s
            self.heartbeat.asked_s = now.monotonic_s
            beat = HeartbeatRequest(message_id=new_id(), timestamp=now.utc, cp_id=self.config.cp_id)
            return [ToCentral(beat)]
        return []

    def _tick_engine(self, now: Instant) -> list[Action]:
        timeout_s = self.config.health_timeout_s
        error = PeerSilent(f"nothing was heard from the Engine for {timeout_s:g} s")
        actions: list[Action] = []
        if ENGINE_SILENT not in self.faults and now.monotonic_s >= self._engine_heard_s + timeout_s:
            actions += self._report_fault(ENGINE_SILENT, str(error), now)
            actions += self._show_status(str(error), now)
        if self._engine_open and now.monotonic_s >= self._engine_patience_from_s + timeout_s:
            self._engine_patience_from_s = now.monotonic_s
            actions.append(DropEngine(error))
        elif self.engine_ready and now.monotonic_s >= self._next_check_s:
            actions.append(self._health_check(now))
        return actions

    def _health_check(self, now: Instant) -> Action:
        self._next_check_s = now.monotonic_s + self.config.health_interval_s
        self.health_check.asked_s = now.monotonic_s
        return ToEngine(HealthCheckRequest(message_id=new_id(), timestamp=now.utc, cp_id=self.config.cp_id))

    # Status and faults

    def _take(self, event: Event, reason: str, now: Instant) -> list[Action]:
        before, self.status = self.status, status.after(self.status, event)
        self.transitions.append(Transition(now.utc, before, self.status, reason))
        return [Note("state", {"before": before, "now": self.status, "cause": event, "reason": reason})]

    def _move_to(self, then: Status, reason: str, now: Instant) -> list[Action]:
        events = status.events_between(self.status, then)
        return [action for event in events for action in self._take(event, reason, now)]

    def _show_status(self, reason: str, now: Instant) -> list[Action]:
        """Bring the state in line with what is known of link, faults and charge."""
        if not self.registered:
            return []
        if self.faults:
            return self._move_to(Status.FAULTY, reason, now)
        charging = self.account is not None and self.account.session_id is not None
        return self._move_to(Status.CHARGING if charging else Status.ACTIVE, reason, now)

    def _tell_status(self, now: Instant) -> list[Action]:
        return [self._status_update(now)] if self.registered else []

    def _status_update(self, now: Instant) -> Action:
        account = self.account if self.engine_ready else None
        return ToCentral(
            StatusUpdate(
                message_id=new_id(),
                timestamp=now.utc,
                cp_id=self.config.cp_id,
                status=self.status,
                engine_connected=account is not None,
                session_id=account.session_id if account is not None else None,
                unsettled_session_ids=account.unsettled_session_ids if account is not None else [],
                reason=messages.shown("; ".join(self.faults.values())) or None,
            )
        )

    def _report_fault(self, code: str, description: str, now: Instant) -> list[Action]:
        """The Engine says it, or it is seen here."""
        known = code in self.faults
        self._found_faults.setdefault(code, description)
        return [] if known else self._tell_fault(code, description, now)

    def _tell_fault(self, code: str, description: str, now: Instant) -> list[Action]:
        note = Note("fault", {"code": code, "description": description}, problem=True)
        return [note, self._fault(code, description, now)] if self.registered else [note]

    def _fault(self, code: str, description: str, now: Instant) -> Action:
        return ToCentral(
            FaultNotification(
                message_id=new_id(),
                timestamp=now.utc,
                cp_id=self.config.cp_id,
                fault_code=code,
                description=messages.shown(description),
            )
        )

    def _clear_faults(self, codes: list[str], description: str, now: Instant) -> list[Action]:
        """They are no longer found; one that a technician has reported as well lasts."""
        gone = [code for code in codes if self._found_faults.pop(code, None) is not None]
        over = [code for code in gone if code not in self._reported_faults]
        return self._tell_recoveries(over, description, now)

    def _tell_recoveries(self, codes: list[str], description: str, now: Instant) -> list[Action]:
        actions: list[Action] = [Note("recovery", {"code": code, "description": description}) for code in codes]
        if self.registered:
            actions += [
                ToCentral(
                    RecoveryNotification(
                        message_id=new_id(),
                        timestamp=now.utc,
                        cp_id=self.config.cp_id,
                        fault_code=code,
                        description=description,
                    )
                )
                for code in codes
            ]
        return [*actions, *self._show_status(description, now)] if codes else actions


def _account_of(account: HealthCheckResponse) -> str:
    """The reason for a new state, where the Engine's account is."""
    if account.session_id is None:
        return "the Engine's account: no charge runs"
    return "the Engine's account: a charge runs" if account.vehicle_connected else "the Engine waits for a vehicle"


def _gist(account: HealthCheckResponse) -> tuple[object, ...]:
    """What of an account is worth telling Central when it changes."""
    return account.healthy, account.session_id, account.unsettled_session_ids, account.fault_code


_FROM_CENTRAL = (
    AuthResponse,
    RegisterResponse,
    HeartbeatResponse,
    StartChargingCommand,
    StopChargingCommand,
    ChargeCompletionResponse,
    ChargeRequestResponse,
    ErrorResponse,
)
_FROM_ENGINE = (
    CommandResponse,
    HealthCheckResponse,
    ChargingData,
    ChargeCompletion,
    FaultNotification,
    RecoveryNotification,
    ChargeRequest,
    ErrorResponse,
)
