"""Central's decisions: what came in -> what to store, send and publish. In memory, without I/O.

`Network.decide` takes a batch of inputs in order. One table says which function handles which message from
where; a handler checks first and changes after, and says no by raising a `WireError`, which only the router
turns into the reply that the sender understands. Ids of what follows from a request are derived from the
request's, so that deciding the same input again after a crash leads to the very same messages.
"""

import heapq
import traceback
from bisect import bisect_right, insort
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from typing import Any
from uuid import UUID

from evcharge.domain.charge_point import ChargePoint
from evcharge.domain.decisions import (
    Answer,
    Closing,
    Decisions,
    FaultCleared,
    FaultOpened,
    Frame,
    FromKafka,
    FromMonitor,
    Input,
    Known,
    MeterValue,
    MonitorCame,
    MonitorGone,
    Note,
    Record,
    Wanted,
)
from evcharge.domain.faults import CONNECTION_LOST, ENGINE_SILENT
from evcharge.domain.instant import Instant
from evcharge.domain.session import END_EVENTS, FROM_CHARGE_POINT, EndReason, Session, SessionEvent, SessionStatus
from evcharge.domain.status import Event, Status
from evcharge.errors import (
    AuthenticationFailed,
    ChargePointBusy,
    ChargePointFaulty,
    ChargePointUnavailable,
    ConnectionReplaced,
    DriverBusy,
    InternalError,
    InvalidField,
    NoOpenSession,
    NotAuthenticated,
    NotRegistered,
    NotYours,
    OutOfService,
    PeerSilent,
    RequestExpired,
    UnknownChargePoint,
    UnknownDriver,
    UnknownSession,
    WireError,
)
from evcharge.protocol import messages
from evcharge.protocol.messages import (
    AuthRequest,
    AuthResponse,
    AvailableCpsRequest,
    AvailableCpsResponse,
    ChargeCompletion,
    ChargeCompletionResponse,
    ChargeRequest,
    ChargeRequestResponse,
    ChargingData,
    ChargingHistoryRequest,
    ChargingStatusRequest,
    ChargingStatusUpdate,
    CommandResponse,
    CpInfo,
    ErrorResponse,
    FaultNotification,
    HeartbeatRequest,
    HeartbeatResponse,
    Message,
    RecoveryNotification,
    RegisterRequest,
    RegisterResponse,
    StartChargingCommand,
    StatusUpdate,
    StopChargingCommand,
    StopChargingRequest,
    StopChargingResponse,
    derived_id,
)
from evcharge.protocol.topics import Topic


@dataclass(frozen=True, slots=True)
class Policy:
    """What an operator may set. Times in seconds."""

    registration_timeout_s: float = 10.0
    heartbeat_timeout_s: float = 90.0
    start_timeout_s: float = 10.0
    silent_session_s: float = 3600.0
    request_max_age_s: float = 300.0
    meter_value_interval_s: float = 15.0
    open_registration: bool = False


class Timer(Enum):
    REGISTRATION = auto()
    HEARTBEAT = auto()
    START = auto()
    SESSION = auto()


class Network:
    """The charge points, and the sessions that are open. Not thread-safe: one worker owns it."""

    def __init__(
        self,
        policy: Policy,
        charge_points: Iterable[ChargePoint],
        open_sessions: Iterable[Session],
        now: Instant,
    ) -> None:
        self.policy = policy
        self.charge_points = {cp.cp_id: cp for cp in charge_points}
        self.sessions: dict[UUID, Session] = {}
        self.session_at: dict[str, Session] = {}
        self.session_of: dict[str, Session] = {}
        self._cp_ids = sorted(self.charge_points)
        self._admitted: dict[int, str] = {}
        self._unregistered: set[int] = set()
        self._watched: set[str] = set()  # One look at a heartbeat is due at a time, however often it reconnects.
        self._registered: dict[int, ChargePoint] = {}
        self._deadlines: list[tuple[float, int, Timer, int | str | UUID]] = []
        self._deadline_count = 0
        self._last_readings: dict[UUID, ChargingData] = {}
        self._stored_at: dict[UUID, datetime] = {}
        self._moved: dict[UUID, Session] = {}
        self._known = Known()
        self._out = Decisions()
        for session in open_sessions:
            self._keep(session, now)

    # The batch

    def wanted(self, inputs: Iterable[Input]) -> Wanted:
        """What `decide` will have to be told about these inputs."""
        wanted = Wanted()
        for item in inputs:
            match item:
                case FromMonitor(message=message) | FromKafka(message=message):
                    self._want(message, wanted)
        return wanted

    def _want(self, message: Message, wanted: Wanted) -> None:
        match message:
            case ChargeRequest():
                wanted.answers.add(message.message_id)
                wanted.drivers.add(message.driver_id)
            case StopChargingRequest():
                wanted.answers.add(message.message_id)
            case AuthRequest():
                wanted.charge_points.add(message.cp_id)
            case ChargeCompletion() if message.session_id not in self.sessions:
                wanted.sessions.add(message.session_id)

    def decide(self, inputs: Iterable[Input], known: Known, now: Instant) -> Decisions:
        """Handle the inputs in order, then the deadlines that have passed."""
        self._known = known
        for item in inputs:
            match item:
                case FromMonitor(connection, message):
                    self._route(MONITOR_ROUTES, message, connection, now)
                case FromKafka(topic, message):
                    self._route(KAFKA_ROUTES[topic], message, None, now)
                case MonitorCame(connection):
                    self._unregistered.add(connection)
                    deadline_s = now.monotonic_s + self.policy.registration_timeout_s
                    self._deadline(deadline_s, Timer.REGISTRATION, connection)
                case MonitorGone(connection, reason):
                    self._connection_ended(connection, reason, now)
        self._pass_deadlines(now)
        self._publish_moved(now)
        out, self._out = self._out, Decisions()
        return out

    def republish_receipts(self, ended: Iterable[Session], now: Instant) -> Decisions:
        """The receipts of sessions that ended before a crash kept their drivers from hearing of it."""
        for session in ended:
            self._publish_receipt(session, None, now)
        out, self._out = self._out, Decisions()
        return out

    @property
    def next_deadline_s(self) -> float | None:
        return self._deadlines[0][0] if self._deadlines else None

    def _route(self, routes: "Routes", message: Message, connection: int | None, now: Instant) -> None:
        if connection is not None:
            stranger = self._check_sender(message, connection, now)
            if stranger is not None:
                # Answered, but not remembered: the ids of requests belong to those whom we know.
                self._count(stranger.code)
                self._out.frames.append(Frame(connection, _refusal_of(message, stranger, now)))
                return
        try:
            handler = routes.get(type(message))
            if handler is None:
                raise messages.refusal(message, routes)
            handler(self, message, connection, now)
        except WireError as error:
            self._refuse(message, error, connection, now)
        except Exception as bug:  # noqa: BLE001  # a bug met by one message must not harm the others
            self._note("bug", message=messages.type_name(message), traceback=traceback.format_exc())
            self._refuse(message, InternalError(f"Central failed at this message: {bug!r}"), connection, now)

    def _check_sender(self, message: Message, connection: int, now: Instant) -> WireError | None:
        """Why this connection may not send this message; None if it may, which is a sign of life."""
        if isinstance(message, AuthRequest | ErrorResponse):
            return None
        cp_id = self._admitted.get(connection)
        if cp_id is None:
            return NotAuthenticated("send an auth_request first")
        if getattr(message, "cp_id", cp_id) != cp_id:
            return NotYours(f"this connection speaks for {cp_id} alone")
        cp = self._registered.get(connection)
        if cp is not None:
            cp.last_heard_s = now.monotonic_s
        elif not isinstance(message, RegisterRequest):
            return NotRegistered("send a register_request first")
        return None

    def _refuse(self, message: Message, error: WireError, connection: int | None, now: Instant) -> None:
        self._count(error.code)
        reply = _refusal_of(message, error, now)
        driver_id = getattr(message, "driver_id", None)
        self._note("refused", code=error.code, reason=str(error), message=messages.type_name(message))
        if isinstance(message, ChargeRequest | StopChargingRequest):
            self._answer(message, reply, connection)
        elif connection is not None:
            self._out.frames.append(Frame(connection, reply))
            if isinstance(error, AuthenticationFailed):
                self._out.closings.append(Closing(connection, error))
        elif driver_id is not None and not isinstance(message, ChargingData | ChargeCompletion):
            self._out.records.append(Record(driver_id, reply))

    # What handlers build on

    def _note(self, event: str, **fields: object) -> None:
        self._out.notes.append(Note(event, fields))

    def _count(self, what: str) -> None:
        self._out.counts[what] = self._out.counts.get(what, 0) + 1

    def _reply(self, message: Message, connection: int | None, driver_id: str | None = None) -> None:
        """Send `message` back the way the request came."""
        if connection is not None:
            self._out.frames.append(Frame(connection, message))
        elif driver_id is not None:
            self._out.records.append(Record(driver_id, message))

    def _answer(
        self, request: ChargeRequest | StopChargingRequest, answer: Message, connection: int | None
    ) -> None:
        """Reply, and remember the answer, so that the same request gets it again."""
        self._known.answers[request.message_id] = answer
        self._out.answers.append(Answer(request.message_id, answer))
        self._reply(answer, connection, request.driver_id)

    def _repeated(self, request: ChargeRequest | StopChargingRequest, connection: int | None) -> bool:
        answer = self._known.answers.get(request.message_id)
        if answer is None:
            return False
        self._count("repeated_request")
        self._reply(answer, connection, request.driver_id)
        return True

    def _command(self, cp: ChargePoint, command: Message) -> None:
        if cp.connection is not None:
            self._out.frames.append(Frame(cp.connection, command))

    def _store(self, session: Session) -> None:
        self._out.sessions[session.session_id] = session

    def _take(self, cp: ChargePoint, event: Event, **fields: object) -> None:
        before = cp.status
        cp.take(event)
        self._out.charge_points[cp.cp_id] = cp
        self._note("state", cp_id=cp.cp_id, before=before, now=cp.status, cause=event, **fields)

    def _deadline(self, at_s: float, timer: Timer, key: int | str | UUID) -> None:
        self._deadline_count += 1
        heapq.heappush(self._deadlines, (at_s, self._deadline_count, timer, key))

    # Sessions

    def _keep(self, session: Session, now: Instant) -> None:
        """Hold an open session in memory, with the deadline that its status has."""
        self.sessions[session.session_id] = session
        self.session_at[session.cp_id] = session
        self.session_of[session.driver_id] = session
        session.last_heard_s = now.monotonic_s
        if session.status is SessionStatus.AUTHORISED:
            self._deadline(now.monotonic_s + self.policy.start_timeout_s, Timer.START, session.session_id)
        self._deadline(now.monotonic_s + self.policy.silent_session_s, Timer.SESSION, session.session_id)

    def _begin(self, session: Session, at: datetime, now: Instant) -> None:
        """The charge point has started to charge."""
        session.start(at)
        session.last_heard_s = now.monotonic_s
        self._store(session)
        self._show_charging(session)
        self._moved[session.session_id] = session
        self._note("session_started", session_id=session.session_id, cp_id=session.cp_id)

    def _show_charging(self, session: Session) -> None:
        cp = self.charge_points[session.cp_id]
        if cp.status is Status.ACTIVE:
            self._take(cp, Event.CHARGING_STARTED, session_id=session.session_id)

    def _end(
        self, session: Session, reason: EndReason, at: datetime, now: Instant, in_reply_to: UUID | None = None
    ) -> None:
        """Close the session with what was metered, free charge point and driver, and write the receipt."""
        session.end(reason, at)
        self._store(session)
        del self.sessions[session.session_id]
        del self.session_at[session.cp_id]
        del self.session_of[session.driver_id]
        self._store_last_reading(session)
        self._known.sessions[session.session_id] = session
        cp = self.charge_points[session.cp_id]
        if cp.status is Status.CHARGING:
            self._take(cp, Event.CHARGING_COMPLETED, session_id=session.session_id)
        self._note(
            "session_ended",
            session_id=session.session_id,
            cp_id=session.cp_id,
            driver_id=session.driver_id,
            status=session.status,
            reason=reason,
            energy_wh=session.energy_wh,
            cost=f"{session.cost} {session.currency}",
        )
        receipt = self._publish_receipt(session, in_reply_to, now)
        self._command(cp, receipt)

    def _store_last_reading(self, session: Session) -> None:
        """Of each session the last reading is kept; the completion, if there is one, has brought it already."""
        last = self._last_readings.pop(session.session_id, None)
        stored_at = self._stored_at.pop(session.session_id, None)
        if last is not None and last.seq == session.last_seq and last.timestamp != stored_at:
            self._out.meter_values.append(MeterValue.of(last))

    def _publish_receipt(
        self, session: Session, in_reply_to: UUID | None, now: Instant
    ) -> ChargeCompletionResponse:
        receipt = receipt_of(session, in_reply_to, now)
        self._out.records.append(Record(session.driver_id, receipt, receipt_of=session.session_id))
        return receipt

    def _publish_moved(self, now: Instant) -> None:
        """Tell the drivers how their charges stand; once a batch, however many readings it had."""
        for session in self._moved.values():
            if session.is_open:
                update = status_of(session, None, now)
                self._out.records.append(Record(session.driver_id, update))
        self._moved.clear()

    # Connections and deadlines

    def _connection_ended(self, connection: int, reason: str, now: Instant) -> None:
        self._unregistered.discard(connection)
        self._admitted.pop(connection, None)
        cp = self._registered.pop(connection, None)
        if cp is None or cp.connection != connection:
            return
        cp.connection = None
        cp.settling = False
        for code in sorted(cp.faults):
            self._out.faults.append(FaultCleared(cp.cp_id, code, now.utc))
        cp.faults.clear()
        if cp.status is not Status.FAULTY:
            self._take(cp, Event.FAULT_DETECTED, reason=reason)
        self._take(cp, Event.CONNECTION_LOST, reason=reason)
        self._out.faults.append(FaultOpened(cp.cp_id, CONNECTION_LOST, reason, now.utc))

    def _pass_deadlines(self, now: Instant) -> None:
        while self._deadlines and self._deadlines[0][0] <= now.monotonic_s:
            _, _, timer, key = heapq.heappop(self._deadlines)
            match timer, key:
                case Timer.REGISTRATION, int():
                    self._check_registration(key)
                case Timer.HEARTBEAT, str():
                    self._check_heartbeat(key, now)
                case Timer.START, UUID():
                    self._check_start(key, now)
                case Timer.SESSION, UUID():
                    self._check_session(key, now)

    def _check_registration(self, connection: int) -> None:
        if connection in self._unregistered:
            self._unregistered.discard(connection)
            seconds = f"{self.policy.registration_timeout_s:g} s"
            error = NotRegistered(f"no charge point was authenticated and registered within {seconds}")
            self._count(error.code)
            self._out.closings.append(Closing(connection, error))

    def _check_heartbeat(self, cp_id: str, now: Instant) -> None:
        cp = self.charge_points[cp_id]
        if cp.connection is None:
            self._watched.discard(cp_id)
            return
        due_s = cp.last_heard_s + self.policy.heartbeat_timeout_s
        if due_s > now.monotonic_s:
            self._deadline(due_s, Timer.HEARTBEAT, cp_id)
            return
        error = PeerSilent(f"nothing was heard from {cp_id} for {self.policy.heartbeat_timeout_s:g} s")
        self._watched.discard(cp_id)
        self._count(error.code)
        self._out.closings.append(Closing(cp.connection, error))
        self._connection_ended(cp.connection, str(error), now)

    def _check_start(self, session_id: UUID, now: Instant) -> None:
        session = self.sessions.get(session_id)
        if session is None or session.status is not SessionStatus.AUTHORISED:
            return
        self._end(session, EndReason.START_TIMEOUT, now.utc, now)
        # In case the command still arrives, or its answer was lost: nobody waits for this charge any more.
        self._command(self.charge_points[session.cp_id], stop_command(session, now))

    def _check_session(self, session_id: UUID, now: Instant) -> None:
        session = self.sessions.get(session_id)
        if session is None:
            return
        due_s = session.last_heard_s + self.policy.silent_session_s
        if due_s > now.monotonic_s:
            self._deadline(due_s, Timer.SESSION, session_id)
            return
        self._end(session, EndReason.NO_SIGN_OF_LIFE, now.utc, now)
        self._command(self.charge_points[session.cp_id], stop_command(session, now))


# Handlers: from Monitors


def on_auth(net: Network, request: AuthRequest, connection: int, now: Instant) -> None:
    row = net._known.charge_points.get(request.cp_id)
    if row is None or (row.key_hash is None and not row.removed):
        admitted = net.policy.open_registration
    else:
        admitted = row.admits(request.key)
    known = net.charge_points.get(request.cp_id)
    if known is not None and row is not None:
        known.removed = row.removed
        known.key_hash = row.key_hash
    if not admitted:
        raise AuthenticationFailed(f"there is no charge point {request.cp_id}, or its key is another")
    if net._admitted.get(connection, request.cp_id) != request.cp_id:
        raise NotYours(f"this connection speaks for {net._admitted[connection]} alone")
    if known is None and row is not None:
        _add_charge_point(net, row)
    net._admitted[connection] = request.cp_id
    net._out.frames.append(
        Frame(
            connection,
            AuthResponse(
                message_id=derived_id(request.message_id, "answer"),
                timestamp=now.utc,
                in_reply_to=request.message_id,
                accepted=True,
            ),
        )
    )


def _add_charge_point(net: Network, cp: ChargePoint) -> None:
    net.charge_points[cp.cp_id] = cp
    insort(net._cp_ids, cp.cp_id)


def on_register(net: Network, request: RegisterRequest, connection: int, now: Instant) -> None:
    cp = net.charge_points.get(request.cp_id)
    if cp is None:
        cp = ChargePoint(request.cp_id)
        _add_charge_point(net, cp)
    if cp.connection is not None and cp.connection != connection:
        replaced = ConnectionReplaced(f"{cp.cp_id} has connected anew")
        net._out.closings.append(Closing(cp.connection, replaced))
        net._connection_ended(cp.connection, str(replaced), now)
    cp.location = request.location
    cp.price_per_kwh = request.price_per_kwh
    cp.currency = request.currency
    cp.max_power_w = request.max_power_w
    net._out.charge_points[cp.cp_id] = cp
    if cp.connection is None:
        cp.connection = connection
        cp.settling = True
        cp.last_heard_s = now.monotonic_s
        net._unregistered.discard(connection)
        net._registered[connection] = cp
        net._take(cp, Event.REGISTERED)
        net._out.faults.append(FaultCleared(cp.cp_id, CONNECTION_LOST, now.utc))
        if cp.cp_id not in net._watched:
            net._watched.add(cp.cp_id)
            net._deadline(now.monotonic_s + net.policy.heartbeat_timeout_s, Timer.HEARTBEAT, cp.cp_id)
    net._out.frames.append(
        Frame(
            connection,
            RegisterResponse(
                message_id=derived_id(request.message_id, "answer"),
                timestamp=now.utc,
                in_reply_to=request.message_id,
                accepted=True,
                status=cp.status,
                out_of_service=cp.out_of_service,
            ),
        )
    )


def on_heartbeat(net: Network, request: HeartbeatRequest, connection: int, now: Instant) -> None:
    net._out.frames.append(
        Frame(
            connection,
            HeartbeatResponse(
                message_id=derived_id(request.message_id, "answer"),
                timestamp=now.utc,
                in_reply_to=request.message_id,
            ),
        )
    )


def on_status(net: Network, update: StatusUpdate, connection: int, now: Instant) -> None:
    if not update.engine_connected:
        return
    cp = net._registered[connection]
    session = net.session_at.get(cp.cp_id)
    if cp.settling:
        cp.settling = False
        if session is not None:
            _settle(net, cp, session, update, now)
    if update.session_id is not None and update.session_id not in net.sessions:
        # It charges for a session that Central has closed: its completion will say what is still to be billed.
        net._command(
            cp,
            StopChargingCommand(
                message_id=derived_id(update.session_id, "stop"),
                timestamp=now.utc,
                cp_id=cp.cp_id,
                session_id=update.session_id,
            ),
        )


def _settle(net: Network, cp: ChargePoint, session: Session, update: StatusUpdate, now: Instant) -> None:
    """Bring the session that Central holds open in line with what the charge point says of it."""
    if update.session_id == session.session_id:
        if session.status is SessionStatus.AUTHORISED:
            net._begin(session, now.utc, now)
        else:
            net._show_charging(session)
        if session.stop_requested:
            net._command(cp, stop_command(session, now))
    elif session.session_id in update.unsettled_session_ids:
        pass  # Its completion is on the way.
    elif session.status is SessionStatus.AUTHORISED and session.stop_requested:
        net._end(session, EndReason.STOPPED, now.utc, now)
    elif session.status is SessionStatus.AUTHORISED:
        net._command(cp, start_command(session, now))
    else:
        net._end(session, EndReason.LOST_BY_CHARGE_POINT, now.utc, now)


def on_fault(net: Network, fault: FaultNotification, connection: int, now: Instant) -> None:
    cp = net._registered[connection]
    if fault.fault_code == CONNECTION_LOST:
        raise InvalidField(f"`fault_code` {CONNECTION_LOST} is for Central alone to use")
    if fault.fault_code not in cp.faults:
        cp.faults.add(fault.fault_code)
        net._out.faults.append(FaultOpened(cp.cp_id, fault.fault_code, fault.description, now.utc))
    cp.settling = True
    if cp.status is not Status.FAULTY:
        net._take(cp, Event.FAULT_DETECTED, fault=fault.fault_code, description=fault.description)
    session = net.session_at.get(cp.cp_id)
    if fault.fault_code == ENGINE_SILENT and session is not None:
        net._end(session, EndReason.ENGINE_LOST, now.utc, now)


def on_recovery(net: Network, recovery: RecoveryNotification, connection: int, now: Instant) -> None:
    cp = net._registered[connection]
    if recovery.fault_code not in cp.faults:
        return
    cp.faults.discard(recovery.fault_code)
    net._out.faults.append(FaultCleared(cp.cp_id, recovery.fault_code, now.utc))
    if not cp.faults and cp.status is Status.FAULTY:
        net._take(cp, Event.FAULT_CLEARED, description=recovery.description)
        session = net.session_at.get(cp.cp_id)
        if session is not None and session.status is SessionStatus.CHARGING and not cp.settling:
            net._show_charging(session)  # The account that it goes on has come before.


def on_command_response(net: Network, response: CommandResponse, connection: int, now: Instant) -> None:
    session = net.sessions.get(response.session_id) if response.session_id is not None else None
    if session is None:
        return  # The session has ended in the meantime; its completion took the faster way.
    if session.cp_id != response.cp_id:
        raise NotYours(f"the session {session.session_id} is at another charge point")
    if response.in_reply_to == derived_id(session.session_id, "start"):
        if session.status is not SessionStatus.AUTHORISED:
            return
        if response.accepted:
            net._begin(session, response.timestamp, now)
        else:
            net._note("start_rejected", session_id=session.session_id, reason=response.reason)
            net._end(session, EndReason.START_REJECTED, now.utc, now)
    elif not response.accepted and response.code == UnknownSession.code:
        net._end(session, EndReason.LOST_BY_CHARGE_POINT, now.utc, now)


def on_error(net: Network, error: ErrorResponse, connection: int | None, now: Instant) -> None:
    net._count("error_received")
    net._note("error_received", code=error.code, reason=error.reason)


# Handlers: from drivers


def on_charge_request(net: Network, request: ChargeRequest, connection: int | None, now: Instant) -> None:
    if net._repeated(request, connection):
        return
    _check_age(net, request, now)
    _check_driver(net, request.driver_id)
    cp = _available_charge_point(net, request.cp_id)
    running = net.session_of.get(request.driver_id)
    if running is not None:
        raise DriverBusy(f"{request.driver_id} is already charging at {running.cp_id}")
    session = Session(
        session_id=derived_id(request.message_id, "session"),
        request_id=request.message_id,
        cp_id=cp.cp_id,
        driver_id=request.driver_id,
        target_energy_wh=request.energy_wh,
        price_per_kwh=cp.price_per_kwh,
        currency=cp.currency,
        requested_at=now.utc,
    )
    net._keep(session, now)
    net._store(session)
    net._note("session_authorised", session_id=session.session_id, cp_id=cp.cp_id, driver_id=request.driver_id)
    answer = ChargeRequestResponse(
        message_id=derived_id(request.message_id, "answer"),
        timestamp=now.utc,
        in_reply_to=request.message_id,
        driver_id=request.driver_id,
        cp_id=cp.cp_id,
        accepted=True,
        session_id=session.session_id,
        price_per_kwh=session.price_per_kwh,
        currency=session.currency,
    )
    net._answer(request, answer, connection)
    net._command(cp, start_command(session, now))


def _check_age(net: Network, request: Message, now: Instant) -> None:
    age_s = (now.utc - request.timestamp).total_seconds()
    if age_s > net.policy.request_max_age_s:
        raise RequestExpired(
            f"the request was made {age_s:.0f} s ago; older than {net.policy.request_max_age_s:g} s is refused"
        )


def _check_driver(net: Network, driver_id: str) -> None:
    if driver_id in net._known.drivers:
        return
    if not net.policy.open_registration:
        raise UnknownDriver(f"there is no driver {driver_id}")
    net._known.drivers.add(driver_id)
    net._out.drivers.add(driver_id)


def _available_charge_point(net: Network, cp_id: str) -> ChargePoint:
    cp = net.charge_points.get(cp_id)
    if cp is None or cp.removed:
        raise UnknownChargePoint(f"there is no charge point {cp_id}")
    error = _unavailable(net, cp)
    if error is not None:
        raise error
    return cp


def _unavailable(net: Network, cp: ChargePoint) -> WireError | None:
    """Why nobody can start a charge at this charge point now; None if one can."""
    if cp.out_of_service:
        return OutOfService(f"{cp.cp_id} has been taken out of service by its operator")
    if cp.cp_id in net.session_at:
        return ChargePointBusy(f"{cp.cp_id} is taken by another charge")
    if cp.status is Status.FAULTY:
        return ChargePointFaulty(f"{cp.cp_id} is faulty: {', '.join(sorted(cp.faults))}")
    if cp.status is not Status.ACTIVE:
        return ChargePointUnavailable(f"{cp.cp_id} is not connected")
    return None


def on_stop_request(net: Network, request: StopChargingRequest, connection: int | None, now: Instant) -> None:
    if net._repeated(request, connection):
        return
    _check_age(net, request, now)
    session = net.sessions.get(request.session_id)
    if session is None:
        raise NoOpenSession(f"no session {request.session_id} is open")
    if session.driver_id != request.driver_id:
        raise NotYours(f"the session {request.session_id} is another driver's")
    cp = net.charge_points[session.cp_id]
    session.stop_requested = True
    net._store(session)
    answer = StopChargingResponse(
        message_id=derived_id(request.message_id, "answer"),
        timestamp=now.utc,
        in_reply_to=request.message_id,
        driver_id=request.driver_id,
        cp_id=session.cp_id,
        session_id=session.session_id,
        accepted=True,
        reason=None if cp.connection is not None else f"{cp.cp_id} is offline; it stops when it is back",
    )
    net._answer(request, answer, connection)
    net._command(cp, stop_command(session, now))


def on_available_cps(net: Network, request: AvailableCpsRequest, connection: int | None, now: Instant) -> None:
    page: list[CpInfo] = []
    next_after = None
    for cp_id in net._cp_ids[bisect_right(net._cp_ids, request.after) :]:
        cp = net.charge_points[cp_id]
        available = _unavailable(net, cp) is None
        if cp.removed or not (available or request.all):
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
        message_id=derived_id(request.message_id, "answer"),
        timestamp=now.utc,
        in_reply_to=request.message_id,
        driver_id=request.driver_id,
        charge_points=page,
        next_after=next_after,
    )
    net._reply(response, connection, request.driver_id)


def on_status_request(net: Network, request: ChargingStatusRequest, connection: int | None, now: Instant) -> None:
    session = net.session_of.get(request.driver_id)
    if session is None:
        raise NoOpenSession(f"{request.driver_id} has no charge running")
    net._reply(status_of(session, request.message_id, now), connection, request.driver_id)


def on_history_request(
    net: Network, request: ChargingHistoryRequest, connection: int | None, now: Instant
) -> None:
    net._out.histories.append(request)


# Handlers: from the meter, through Monitor and Kafka alike


def on_reading(net: Network, reading: ChargingData, connection: int | None, now: Instant) -> None:
    session = net.sessions.get(reading.session_id)
    if session is None:
        net._count("late_reading")
        return
    if session.cp_id != reading.cp_id:
        raise NotYours(f"the session {session.session_id} is at another charge point")
    if reading.seq > session.last_seq and reading.energy_wh < session.energy_wh:
        raise InvalidField(f"the meter of session {session.session_id} ran backwards")
    if session.status is SessionStatus.AUTHORISED:
        net._begin(session, reading.timestamp, now)
    if not session.meter(reading.seq, reading.energy_wh, reading.power_w, reading.soc_percent):
        net._count("repeated_reading")
        return
    session.last_heard_s = now.monotonic_s
    net._last_readings[session.session_id] = reading
    stored_at = net._stored_at.get(session.session_id)
    if stored_at is None or (reading.timestamp - stored_at).total_seconds() >= net.policy.meter_value_interval_s:
        net._stored_at[session.session_id] = reading.timestamp
        net._out.meter_values.append(MeterValue.of(reading))
    net._store(session)
    net._moved[session.session_id] = session


def on_completion(net: Network, completion: ChargeCompletion, connection: int | None, now: Instant) -> None:
    session = net.sessions.get(completion.session_id) or net._known.sessions.get(completion.session_id)
    if session is None:
        raise UnknownSession(f"there is no session {completion.session_id}")
    if session.cp_id != completion.cp_id:
        raise NotYours(f"the session {completion.session_id} is at another charge point")
    if completion.end_reason not in FROM_CHARGE_POINT:
        raise InvalidField(f"`end_reason` {completion.end_reason} is for Central alone to give")
    if not session.is_open:
        _complete_again(net, session, completion, connection, now)
        return
    if session.status is SessionStatus.AUTHORISED and (
        completion.energy_wh > 0 or END_EVENTS[completion.end_reason] is SessionEvent.ENDED
    ):
        net._begin(session, completion.started_at, now)
    # A cut of power can cost the meter its last second; what it had already told us stands.
    if session.meter(completion.seq, completion.energy_wh, 0, completion.soc_percent):
        net._out.meter_values.append(_last_value(session, completion))
    net._end(session, completion.end_reason, completion.ended_at, now, completion.message_id)


def _complete_again(
    net: Network, session: Session, completion: ChargeCompletion, connection: int | None, now: Instant
) -> None:
    """A completion of a session that has ended: by its other way, again, or after Central gave it up."""
    if session.status is not SessionStatus.COMPLETED and session.settle(
        completion.seq, completion.energy_wh, completion.end_reason
    ):
        net._store(session)
        net._out.meter_values.append(_last_value(session, completion))
        net._publish_receipt(session, completion.message_id, now)
        net._note(
            "session_settled",
            session_id=session.session_id,
            energy_wh=session.energy_wh,
            revision=session.revision,
        )
    cp = net.charge_points.get(session.cp_id)
    to = connection if connection is not None else (cp.connection if cp is not None else None)
    if to is not None:
        net._out.frames.append(Frame(to, receipt_of(session, completion.message_id, now)))


def _last_value(session: Session, completion: ChargeCompletion) -> MeterValue:
    return MeterValue(
        session.session_id,
        completion.seq,
        completion.energy_wh,
        0,
        completion.soc_percent,
        completion.ended_at,
    )


# What follows from a session, as messages


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
    return ChargingStatusUpdate(
        message_id=messages.new_id(),
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
    )


def receipt_of(session: Session, in_reply_to: UUID | None, now: Instant) -> ChargeCompletionResponse:
    """The receipt of an ended session; the same `message_id` for the same revision, however often it is sent."""
    if session.end_reason is None or session.ended_at is None:
        raise ValueError(f"the session {session.session_id} has not ended")
    return ChargeCompletionResponse(
        message_id=derived_id(session.session_id, f"receipt {session.revision}"),
        timestamp=now.utc,
        in_reply_to=in_reply_to,
        cp_id=session.cp_id,
        session_id=session.session_id,
        driver_id=session.driver_id,
        status=session.status,
        end_reason=session.end_reason,
        energy_wh=session.energy_wh,
        price_per_kwh=session.price_per_kwh,
        cost=session.cost,
        currency=session.currency,
        requested_at=session.requested_at,
        started_at=session.started_at,
        ended_at=session.ended_at,
        revision=session.revision,
    )


def _refusal_of(message: Message, error: WireError, now: Instant) -> Message:
    """The reply that says no, of the type that the sender of `message` waits for."""
    refused: dict[str, Any] = {
        "message_id": derived_id(message.message_id, "answer"),
        "timestamp": now.utc,
        "in_reply_to": message.message_id,
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
        case _:
            return ErrorResponse(**refused)


Routes = dict[type[Message], Callable[[Network, Any, Any, Instant], None]]

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

KAFKA_ROUTES: dict[Topic, Routes] = {
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
