"""Central's decisions: what came in -> what to store, send and publish. In memory, without I/O.

`Network.decide` takes a batch of inputs in order. The tables of `routes.py` say which function handles which
message from where; a handler (in the modules `from_…`) checks first and changes after, and says no by raising a
`WireError`, which only the router turns into the reply that the sender understands. Ids of what follows from a
request are derived from the request's, so that deciding the same input again after a crash leads to the very same
messages.
"""

import heapq
import traceback
from bisect import insort
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import Enum, auto
from itertools import count, takewhile
from uuid import UUID

from evcharge.domain import plausibility, settling
from evcharge.domain.admission import Guesses
from evcharge.domain.charge_point import ChargePoint
from evcharge.domain.commands import AuditEntry, Correct, Reread, Settle, StartCharge
from evcharge.domain.decisions import (
    BILLED_WH,
    Answer,
    Closing,
    DeadLetter,
    Decisions,
    EntriesChanged,
    FaultCleared,
    FaultOpened,
    Frame,
    FromKafka,
    FromMonitor,
    FromOperator,
    Input,
    Known,
    MeterValue,
    MonitorCame,
    MonitorGone,
    Note,
    Outcome,
    Record,
    Wanted,
    ended_as,
)
from evcharge.domain.driver import NO_LIMITS, Limits
from evcharge.domain.faults import CONNECTION_LOST
from evcharge.domain.floods import Floods
from evcharge.domain.from_drivers import check_id, impostor
from evcharge.domain.instant import Instant
from evcharge.domain.leaving import reread, send_away
from evcharge.domain.replies import receipt_of, refusal_of, status_of, stop_command
from evcharge.domain.routes import KAFKA_ROUTES, MONITOR_ROUTES, OPERATOR_ROUTES, Routes
from evcharge.domain.session import OWED, EndReason, Session, SessionStatus
from evcharge.domain.session_limits import look_at_hours, watch_hours
from evcharge.domain.status import Event, Status
from evcharge.domain.stopping import AskedToStop, look_at_stop
from evcharge.errors import (
    AuthenticationFailed,
    EvchargeError,
    InternalError,
    NotAuthenticated,
    NotRegistered,
    NotYours,
    PeerSilent,
    TooManyFailures,
    TooManyMessages,
    UnexpectedType,
    WireError,
)
from evcharge.limits import Rate
from evcharge.protocol import messages
from evcharge.protocol.messages import (
    AuthRequest,
    AvailableCpsRequest,
    ChargeCompletion,
    ChargeCompletionResponse,
    ChargeRequest,
    ChargingData,
    ChargingHistoryRequest,
    ChargingStatusRequest,
    DriverRequest,
    ErrorResponse,
    Message,
    RegisterRequest,
    StopChargingRequest,
    derived_id,
)
from evcharge.protocol.records import Received

UPDATES_AT_LEAST_APART_S = 0.05
QUERIES = (AvailableCpsRequest, ChargingStatusRequest, ChargingHistoryRequest)
QUERIES_PER_S = 50.0
QUERIES_AT_ONCE = 1000
"""Of one driver: so many pages have the longest list and the longest history."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What an operator may set. Times in seconds."""

    registration_timeout_s: float = 10.0
    heartbeat_timeout_s: float = 90.0
    start_timeout_s: float = 10.0
    silent_session_s: float = 3600.0
    request_max_age_s: float = 300.0
    meter_value_interval_s: float = 15.0
    driver_update_interval_s: float = 0.9
    """A little less than a second, so that each of the readings that come once a second is told."""
    time_scale: float = 1.0
    open_registration: bool = False
    max_price_per_kwh: Decimal = Decimal(10)
    """Of a currency with two digits; of another, as many of its smallest unit."""
    max_power_w: int = 1_000_000
    limits: Limits = NO_LIMITS
    """Of each session whose driver has none of its own."""


class Timer(Enum):
    REGISTRATION = auto()
    HEARTBEAT = auto()
    START = auto()
    SESSIONS = auto()
    UPDATES = auto()
    STOP = auto()
    HOURS = auto()


def _is_for_a_person(error: WireError, message: Message) -> bool:
    """Whether a refused record says that a program is wrong, or is about money; the others have been answered."""
    return isinstance(error, UnexpectedType | InternalError) or isinstance(message, ChargeCompletion)


class Network:
    """The charge points, and the sessions that are open. Not thread-safe: one worker owns it."""

    def __init__(
        self,
        policy: Policy,
        charge_points: Iterable[ChargePoint],
        open_sessions: Iterable[Session],
        now: Instant,
        sessions_before: int = 0,
    ) -> None:
        """`sessions_before`: the number of the last session there has been."""
        self.policy = policy
        self.meter_value_interval = timedelta(seconds=policy.meter_value_interval_s)
        self.charge_points = {cp.cp_id: cp for cp in charge_points}
        self.sessions: dict[UUID, Session] = {}
        self.session_at: dict[str, Session] = {}
        self.session_of: dict[str, Session] = {}
        self.refused: dict[UUID, settling.Refused] = {}
        """The readings of open sessions that were beyond belief."""
        self.session_numbers = count(sessions_before + 1)
        self.stops: dict[UUID, AskedToStop] = {}
        """Of open sessions, until the charge point has obeyed."""
        self.cp_ids = sorted(self.charge_points)
        self.came: dict[int, MonitorCame] = {}
        self.guesses = Guesses()
        self._floods = Floods()
        self._now_s = now.monotonic_s
        self._queries = Rate(QUERIES_PER_S, QUERIES_AT_ONCE)
        self.admitted: dict[int, str] = {}
        self.unregistered: set[int] = set()
        self._watched: set[str] = set()  # One look at a heartbeat is due at a time, however often it reconnects.
        self.registered: dict[int, ChargePoint] = {}
        self._deadlines: list[tuple[float, int, Timer, int | str | UUID]] = []
        self._deadline_count = 0
        self._looks_at_sessions = False
        self._tells_untold = False
        self.moved: dict[str, Session] = {}
        """Whose meters have moved in this batch, by their charge points."""
        self._untold: dict[str, Session] = {}
        self.touched = set(self.charge_points)
        """The charge points that may look otherwise than when this was last emptied, for whoever watches."""
        self.known = Known()
        self.out = Decisions()
        for session in open_sessions:
            self.keep(session, now)

    # The batch

    def wanted(self, inputs: Iterable[Input]) -> Wanted:
        """What `decide` will have to be told about these inputs."""
        wanted = Wanted()
        for item in inputs:
            match item:
                case FromKafka(message=message):  # First, as the most frequent by far.
                    if type(message) is ChargingData:
                        continue  # All that it needs is in memory.
                    self._want(message, wanted)
                    if isinstance(message, DriverRequest):
                        wanted.drivers.add(message.driver_id)
                case FromMonitor(message=message):
                    self._want(message, wanted)
                case FromOperator(command=StartCharge(request)):
                    self._want(request, wanted)
                case FromOperator(command=Reread(cp_id)):
                    wanted.charge_points.add(cp_id)
                case FromOperator(command=Settle(number)):
                    wanted.set_aside_as.add(number)
                case FromOperator(command=Correct(session_id)):
                    wanted.sessions.add(session_id)
                    wanted.set_aside.add(session_id)
                case EntriesChanged(cp_ids):
                    wanted.charge_points |= cp_ids
        return wanted

    def _want(self, message: Message, wanted: Wanted) -> None:
        match message:
            case ChargeRequest():
                wanted.answers.add(message.message_id)
                wanted.drivers.add(message.driver_id)
                wanted.sessions.add(derived_id(message.message_id, "session"))
            case StopChargingRequest():
                wanted.answers.add(message.message_id)
            case AuthRequest():
                wanted.charge_points.add(message.cp_id)
            case ChargeCompletion() if message.session_id not in self.sessions:
                wanted.sessions.add(message.session_id)
                wanted.set_aside.add(message.session_id)
                wanted.orphans.add(message.cp_id)

    def decide(self, inputs: Iterable[Input], known: Known, now: Instant) -> Decisions:
        """Handle the inputs in order, then the deadlines that have passed."""
        self.known, self._now_s = known, now.monotonic_s
        for item in inputs:
            match item:
                case FromKafka():  # First, as the most frequent by far.
                    self._take_record(item.record, item.message, now)
                case FromMonitor(connection, message):
                    self._route(MONITOR_ROUTES, message, connection, now)
                case MonitorCame(connection):
                    self.unregistered.add(connection)
                    self.came[connection] = item
                    deadline_s = now.monotonic_s + self.policy.registration_timeout_s
                    self._set_deadline(deadline_s, Timer.REGISTRATION, connection)
                case MonitorGone(connection, reason):
                    self.connection_ended(connection, reason, now)
                case FromOperator():
                    self.out.outcomes.append(Outcome(item.ticket, self._obey(item, now)))
                case EntriesChanged(cp_ids):
                    for cp_id in sorted(cp_ids):
                        reread(self, cp_id, now)
        self._pass_deadlines(now)
        self._settle_moved(now)
        out, self.out = self.out, Decisions()
        return out

    def republish_receipts(self, ended: Iterable[Session], now: Instant) -> Decisions:
        """The receipts of sessions that ended before a crash kept their drivers from hearing of it."""
        for session in ended:
            self.publish_receipt(session, None, now)
        out, self.out = self.out, Decisions()
        return out

    @property
    def next_deadline_s(self) -> float | None:
        return self._deadlines[0][0] if self._deadlines else None

    def _take_record(self, record: Received, message: Message, now: Instant) -> None:
        if isinstance(message, DriverRequest):
            error = impostor(self, record, message) or self._too_many_queries(message, now)
            if error is not None:
                self._turn_away(record, message, error, now)
                return
        refused = self._route(KAFKA_ROUTES[record.topic], message, None, now)
        if refused is not None and _is_for_a_person(refused, message):
            self.out.dead_letters.append(DeadLetter(record, refused))

    def _too_many_queries(self, request: DriverRequest, now: Instant) -> WireError | None:
        """One driver's program that has run wild must not keep all others from an answer."""
        if not isinstance(request, QUERIES) or not self._queries.wait_s(request.driver_id, now.monotonic_s):
            return None
        return TooManyMessages(
            f"{request.driver_id} asks more than {QUERIES_PER_S:g} times a second; ask less often"
        )

    def _turn_away(self, record: Received, request: DriverRequest, error: WireError, now: Instant) -> None:
        """Answered, but not remembered, as with a stranger on TCP; nor is what was remembered repeated."""
        self.count(error.code)
        fields: dict[str, object] = {
            "code": error.code,
            "reason": str(error),
            "message": messages.type_name(request),
            "record": record.place,
        }
        self.out.notes.append(Note("refused", fields, kind=(error.code, request.driver_id)))
        self.out.records.append(Record(request.driver_id, refusal_of(request, error, now)))

    def _route(self, routes: "Routes", message: Message, connection: int | None, now: Instant) -> WireError | None:
        """Have the message handled; why it was refused, which the sender has been told by then."""
        if connection is not None:
            stranger = self._check_sender(message, connection, now)
            if stranger is not None:
                # Answered, but not remembered: the ids of requests belong to those whom we know.
                self.count(stranger.code)
                self.out.frames.append(Frame(connection, refusal_of(message, stranger, now)))
                return stranger
        refused: WireError
        try:
            handler = routes.get(type(message))
            if handler is None:
                raise messages.refusal(message, routes)
            handler(self, message, connection, now)
            return None
        except WireError as error:
            refused = error
        except Exception as bug:  # noqa: BLE001  # a bug met by one message must not harm the others
            whose = {"cp_id": self.admitted[connection]} if connection in self.admitted else {}
            self.note("bug", message=messages.type_name(message), traceback=traceback.format_exc(), **whose)
            refused = InternalError(f"Central failed at this message: {bug!r}")
        self._refuse(message, refused, connection, now)
        return refused

    def _obey(self, order: FromOperator, now: Instant) -> object:
        name = type(order.command).__name__
        try:
            return OPERATOR_ROUTES[type(order.command)](self, order.command, order.actor, now)
        except WireError as error:
            self.count(error.code)
            self.note("refused", code=error.code, reason=str(error), message=name, operator=order.actor.name)
            return error
        except EvchargeError as error:
            self.note("refused", reason=str(error), message=name, operator=order.actor.name)
            return error
        except Exception as bug:  # noqa: BLE001  # as with messages
            self.note("bug", message=name, traceback=traceback.format_exc())
            return InternalError(f"Central failed at this command: {bug!r}")

    def _check_sender(self, message: Message, connection: int, now: Instant) -> WireError | None:
        """Why this connection may not send this message; None if it may, which is a sign of life."""
        if connection not in self.came:
            return NotAuthenticated("this connection has been ended")
        if isinstance(message, AuthRequest | ErrorResponse):
            return None
        cp_id = self.admitted.get(connection)
        if cp_id is None:
            return NotAuthenticated("send an auth_request first")
        if getattr(message, "cp_id", cp_id) != cp_id:
            return NotYours(f"this connection speaks for {cp_id} alone")
        cp = self.registered.get(connection)
        if cp is not None:
            cp.last_heard_s = now.monotonic_s
            self.touched.add(cp_id)
        elif not isinstance(message, RegisterRequest):
            return NotRegistered("send a register_request first")
        return None

    def _refuse(self, message: Message, error: WireError, connection: int | None, now: Instant) -> None:
        self.count(error.code)
        reply = refusal_of(message, error, now)
        driver_id = getattr(message, "driver_id", None)
        fields: dict[str, object] = {
            "code": error.code,
            "reason": str(error),
            "message": messages.type_name(message),
        }
        # What a charge point is refused may come with each of its messages; what a driver is, the operators see.
        cp_id = self.admitted.get(connection) if connection is not None else None
        if connection is not None and not isinstance(message, ChargeRequest):
            if not isinstance(error, TooManyFailures):  # Told when the wait began.
                self.out.notes.append(Note("refused", fields, (error.code, cp_id)))
        else:
            whose = {"cp_id": cp_id} if cp_id is not None else {"driver_id": driver_id}
            self.note("refused", **fields, **whose)
        # What is not the sender's may be under the id of another's request, which must keep its own answer.
        forgotten = isinstance(error, UnexpectedType | NotYours)
        if isinstance(message, ChargeRequest | StopChargingRequest) and not forgotten:
            self.answer(message, reply, connection)
        elif connection is not None:
            self.out.frames.append(Frame(connection, reply))
            if isinstance(error, AuthenticationFailed | TooManyFailures):
                self.out.closings.append(Closing(connection, error))
        elif driver_id is not None and not isinstance(message, ChargingData | ChargeCompletion):
            self.out.records.append(Record(driver_id, reply))

    # What handlers build on

    def note(self, event: str, **fields: object) -> None:
        """For the log. Of one charge point (`cp_id`), or one driver, so much as makes no flood."""
        who = fields.get("cp_id") or fields.get("driver_id")
        if isinstance(who, str):
            silenced = self._floods.line(who, self._now_s)
            if silenced is None:
                self.count("event_left_out")
                self.out.notes.append(Note("events_left_out", {"of": who}, kind=("events_left_out", who)))
                return
            if silenced:
                fields["silenced_before"] = silenced
        self.out.notes.append(Note(event, fields))

    def open_fault(self, cp: ChargePoint, code: str, description: str, now: Instant) -> None:
        """Give it a row, unless this charge point has had so many of late."""
        if self._floods.lists_fault(cp.cp_id, now.monotonic_s):
            self.out.faults.append(FaultOpened(cp.cp_id, code, description, now.utc))
        else:
            self.count("fault_left_out")
            fields: dict[str, object] = {"cp_id": cp.cp_id, "fault": code}
            self.out.notes.append(Note("faults_left_out", fields, kind=("faults_left_out", cp.cp_id)))

    def count(self, what: str, by: int = 1) -> None:
        self.out.counts[what] = self.out.counts.get(what, 0) + by

    def reply(self, message: Message, connection: int | None, driver_id: str | None = None) -> None:
        """Send `message` back the way the request came."""
        if connection is not None:
            self.out.frames.append(Frame(connection, message))
        elif driver_id is not None:
            self.out.records.append(Record(driver_id, message))

    def answer(
        self, request: ChargeRequest | StopChargingRequest, answer: Message, connection: int | None
    ) -> None:
        """Reply, and remember the answer, so that the same request gets it again."""
        self.known.answers[request.message_id] = answer
        self.out.answers.append(Answer(request.message_id, answer))
        self.reply(answer, connection, request.driver_id)

    def repeated(self, request: ChargeRequest | StopChargingRequest, connection: int | None) -> bool:
        """Whether it has been answered before, as it is again; raises `NotYours` if it was another request."""
        check_id(self, request)
        answer = self.known.answers.get(request.message_id)
        if answer is None:
            return False
        self.count("repeated_request")
        self.reply(answer, connection, request.driver_id)
        return True

    def audit(self, entry: AuditEntry) -> None:
        self.out.audit.append(entry)
        self.note("operator", by=entry.actor.name, via=entry.actor.via, action=entry.action, target=entry.target)

    def command(self, cp: ChargePoint, command: Message) -> None:
        if cp.connection is not None:
            self.out.frames.append(Frame(cp.connection, command))

    def store(self, session: Session) -> None:
        self.out.sessions[session.session_id] = session
        self.touched.add(session.cp_id)

    def add_charge_point(self, cp: ChargePoint) -> None:
        self.charge_points[cp.cp_id] = cp
        self.touched.add(cp.cp_id)
        insort(self.cp_ids, cp.cp_id)

    def store_charge_point(self, cp: ChargePoint) -> None:
        self.out.charge_points[cp.cp_id] = cp
        self.touched.add(cp.cp_id)

    def take(self, cp: ChargePoint, event: Event, **fields: object) -> None:
        before = cp.status
        cp.take(event)
        self.store_charge_point(cp)
        self.note("state", cp_id=cp.cp_id, before=before, now=cp.status, cause=event, **fields)

    def _set_deadline(self, at_s: float, timer: Timer, key: int | str | UUID) -> None:
        self._deadline_count += 1
        heapq.heappush(self._deadlines, (at_s, self._deadline_count, timer, key))

    # Sessions

    def keep(self, session: Session, now: Instant) -> None:
        """Hold an open session in memory, with the deadline that its status has."""
        self.sessions[session.session_id] = session
        self.session_at[session.cp_id] = session
        self.session_of[session.driver_id] = session
        session.last_heard_s = now.monotonic_s
        plausibility.hold(session, self.charge_points[session.cp_id].max_power_w, now)
        if session.status is SessionStatus.AUTHORISED:
            self._set_deadline(now.monotonic_s + self.policy.start_timeout_s, Timer.START, session.session_id)
        self._look_at_sessions_when(now.monotonic_s)
        watch_hours(self, session, now)

    def begin(self, session: Session, at: datetime, now: Instant) -> None:
        """The charge point has started to charge, `at` this time of its clock."""
        session.start(at, now.utc)
        session.last_heard_s = now.monotonic_s
        self.store(session)
        self.show_charging(session)
        self.moved[session.cp_id] = session
        self.note("session_started", session_id=session.session_id, cp_id=session.cp_id)

    def look_at_stop_when(self, session: Session, at_s: float) -> None:
        self._set_deadline(at_s, Timer.STOP, session.session_id)

    def look_at_hours_when(self, session: Session, at_s: float) -> None:
        self._set_deadline(at_s, Timer.HOURS, session.session_id)

    def show_charging(self, session: Session) -> None:
        cp = self.charge_points[session.cp_id]
        if cp.status is Status.ACTIVE:
            self.take(cp, Event.CHARGING_STARTED, session_id=session.session_id)

    def end(
        self,
        session: Session,
        reason: EndReason,
        at: datetime,
        now: Instant,
        in_reply_to: UUID | None = None,
        disputed: bool = False,
    ) -> None:
        """Close the session with what was metered, free charge point and driver, and write the receipt.

        `at`: when it ended by the clock of whoever tells; it is booked now.
        """
        self.keep_last_reading(session, now)
        settling.tell_refused(self, session, now)
        session.end(reason, at, now.utc, disputed)
        self.store(session)
        del self.sessions[session.session_id]
        del self.session_at[session.cp_id]
        del self.session_of[session.driver_id]
        self.stops.pop(session.session_id, None)
        self.known.sessions[session.session_id] = session
        self.count(ended_as(session.status))
        self.count(BILLED_WH, session.energy_wh)
        cp = self.charge_points[session.cp_id]
        if cp.status is Status.CHARGING:
            self.take(cp, Event.CHARGING_COMPLETED, session_id=session.session_id)
        self.note(
            "session_ended",
            session_id=session.session_id,
            cp_id=session.cp_id,
            driver_id=session.driver_id,
            status=session.status,
            reason=reason,
            energy_wh=session.energy_wh,
            cost=f"{session.cost} {session.currency}",
        )
        receipt = self.publish_receipt(session, in_reply_to, now)
        self.command(cp, receipt)
        if cp.removed and reason not in OWED:
            send_away(self, cp, now)

    def keep_last_reading(self, session: Session, now: Instant) -> None:
        """Of each session the last one is kept."""
        if session.measured_at is not None and session.last_seq != session.stored_seq:
            self.store_meter_value(session, session.measured_at, now)

    def store_meter_value(self, session: Session, at: datetime, now: Instant) -> None:
        """Keep what the session's meter says, and said `at` this time of the charge point's clock."""
        session.stored_at, session.stored_seq = at, session.last_seq
        session.told_until = session.believed_measured_at(at, now.utc)
        self.out.meter_values.append(
            MeterValue(
                session.number,
                session.last_seq,
                session.energy_wh,
                session.power_w,
                session.soc_percent,
                session.told_until,
            )
        )

    def publish_receipt(
        self, session: Session, in_reply_to: UUID | None, now: Instant
    ) -> ChargeCompletionResponse:
        receipt = receipt_of(session, in_reply_to, now)
        self.out.records.append(Record(session.driver_id, receipt))
        return receipt

    def _settle_moved(self, now: Instant) -> None:
        """Store the meters, and tell the drivers: once a batch, however many readings it had."""
        self.out.metered += self.moved.values()
        self.touched.update(self.moved)
        for session in self.moved.values():
            if self._update_due_s(session) <= now.monotonic_s:
                self._tell_driver(session, now)
            else:
                self._tell_driver_soon(session)
        self.moved.clear()

    def _update_due_s(self, session: Session) -> float:
        return session.told_s + self.policy.driver_update_interval_s

    def _tell_driver(self, session: Session, now: Instant) -> None:
        self._untold.pop(session.cp_id, None)
        if session.is_open:  # Else the receipt tells more.
            session.told_s = now.monotonic_s
            self.out.records.append(Record(session.driver_id, status_of(session, None, now), droppable=True))

    def _tell_driver_soon(self, session: Session) -> None:
        """Where readings come faster than anybody reads them: after a time without Kafka, say."""
        self._untold[session.cp_id] = session
        self._tell_untold_when(self._update_due_s(session))

    def _tell_untold_when(self, at_s: float) -> None:
        if not self._tells_untold:
            self._tells_untold = True
            self._set_deadline(at_s, Timer.UPDATES, 0)

    def _tell_untold(self, now: Instant) -> None:
        """Those whose time has come, and not all at once, which would hold up whoever asks for something."""
        self._tells_untold = False
        due = list(takewhile(lambda s: self._update_due_s(s) <= now.monotonic_s, self._untold.values()))
        for session in due:
            del self._untold[session.cp_id]
            if session.cp_id not in self.moved:  # Else it is told with what has just come.
                self._tell_driver(session, now)
        if self._untold:
            first_due_s = self._update_due_s(next(iter(self._untold.values())))
            self._tell_untold_when(max(first_due_s, now.monotonic_s + UPDATES_AT_LEAST_APART_S))

    # Connections and deadlines

    def connection_ended(self, connection: int, reason: str, now: Instant) -> None:
        self.unregistered.discard(connection)
        self.admitted.pop(connection, None)
        self.came.pop(connection, None)
        cp = self.registered.pop(connection, None)
        if cp is None or cp.connection != connection:
            return
        cp.connection = None
        cp.settling = False
        for code in sorted(cp.faults):
            self.out.faults.append(FaultCleared(cp.cp_id, code, now.utc))
        cp.faults.clear()
        if cp.status is not Status.FAULTY:
            self.take(cp, Event.FAULT_DETECTED, reason=reason)
        self.take(cp, Event.CONNECTION_LOST, reason=reason)
        self.open_fault(cp, CONNECTION_LOST, reason, now)

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
                case Timer.SESSIONS, _:
                    self._check_sessions(now)
                case Timer.UPDATES, _:
                    self._tell_untold(now)
                case Timer.STOP, UUID():
                    look_at_stop(self, key, now)
                case Timer.HOURS, UUID():
                    look_at_hours(self, key, now)

    def _check_registration(self, connection: int) -> None:
        if connection in self.unregistered:
            self.unregistered.discard(connection)
            seconds = f"{self.policy.registration_timeout_s:g} s"
            error = NotRegistered(f"no charge point was authenticated and registered within {seconds}")
            self.count(error.code)
            self.out.closings.append(Closing(connection, error))

    def watch_heartbeat(self, cp: ChargePoint, now: Instant) -> None:
        if cp.cp_id not in self._watched:
            self._watched.add(cp.cp_id)
            self._set_deadline(now.monotonic_s + self.policy.heartbeat_timeout_s, Timer.HEARTBEAT, cp.cp_id)

    def _check_heartbeat(self, cp_id: str, now: Instant) -> None:
        cp = self.charge_points[cp_id]
        if cp.connection is None:
            self._watched.discard(cp_id)
            return
        due_s = cp.last_heard_s + self.policy.heartbeat_timeout_s
        if due_s > now.monotonic_s:
            self._set_deadline(due_s, Timer.HEARTBEAT, cp_id)
            return
        error = PeerSilent(f"nothing was heard from {cp_id} for {self.policy.heartbeat_timeout_s:g} s")
        self._watched.discard(cp_id)
        self.count(error.code)
        self.out.closings.append(Closing(cp.connection, error))
        self.connection_ended(cp.connection, str(error), now)

    def _check_start(self, session_id: UUID, now: Instant) -> None:
        session = self.sessions.get(session_id)
        if session is None or session.status is not SessionStatus.AUTHORISED:
            return
        self.end(session, EndReason.START_TIMEOUT, now.utc, now)
        # In case the command still arrives, or its answer was lost: nobody waits for this charge any more.
        self.command(self.charge_points[session.cp_id], stop_command(session, now))

    def _check_sessions(self, now: Instant) -> None:
        """Close what has been silent too long. One look at all that are open, so that ended ones cost nothing."""
        # Added up as the deadline was: a float may be over by addition and not by subtraction.
        limit_s = self.policy.silent_session_s
        for session in [s for s in self.sessions.values() if s.last_heard_s + limit_s <= now.monotonic_s]:
            self.end(session, EndReason.NO_SIGN_OF_LIFE, now.utc, now)
            self.command(self.charge_points[session.cp_id], stop_command(session, now))
        self._looks_at_sessions = False
        if self.sessions:
            self._look_at_sessions_when(min(session.last_heard_s for session in self.sessions.values()))

    def _look_at_sessions_when(self, silent_since_s: float) -> None:
        if not self._looks_at_sessions:
            self._looks_at_sessions = True
            self._set_deadline(silent_since_s + self.policy.silent_session_s, Timer.SESSIONS, 0)
