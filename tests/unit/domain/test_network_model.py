"""Central's decider under messages in any order, over connections that come and go, while time passes.

Two machines. In the first the charge points obey nobody: they say anything at any time, true or not, so whatever
holds there holds against broken and hostile ones too. In the second they are honest but their wires are not; when
all is mended, every Wh that they delivered must have been billed once. In both Central is killed at the three
moments that matter, and Kafka delivers again what had not been finished with.
"""

import math
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum, auto
from typing import Any, TypeVar
from uuid import UUID

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, precondition, rule
from kafka_records import key_of, published

from evcharge.domain import tariff
from evcharge.domain.charge_point import ChargePoint, hash_key
from evcharge.domain.commands import (
    Actor,
    Bill,
    CloseSession,
    Command,
    Correct,
    Reread,
    SetPrice,
    SetService,
    Settle,
    StartCharge,
    StopCharge,
)
from evcharge.domain.decisions import (
    Decisions,
    FromKafka,
    FromMonitor,
    FromOperator,
    Input,
    Known,
    MonitorCame,
    MonitorGone,
    Wanted,
)
from evcharge.domain.driver import KnownDriver
from evcharge.domain.instant import Instant
from evcharge.domain.network import Network, Policy
from evcharge.domain.session import OWED, EndReason, Session, SessionStatus
from evcharge.domain.set_aside import SetAside
from evcharge.domain.status import Status
from evcharge.errors import ChargePointBusy, EngineUnavailable, UnknownSession
from evcharge.protocol import messages
from evcharge.protocol.messages import (
    AuthRequest,
    AvailableCpsRequest,
    ChargeCompletion,
    ChargeCompletionResponse,
    ChargeRequest,
    ChargeRequestResponse,
    ChargingData,
    ChargingHistoryRequest,
    ChargingStatusRequest,
    CommandResponse,
    FaultNotification,
    HeartbeatRequest,
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
from evcharge.protocol.topics import TO_CENTRAL, Topic

START = datetime(2026, 5, 4, 8, 0, tzinfo=UTC)
CP_IDS = ["CP1", "CP2", "CP3"]
DRIVER_IDS = ["D1", "D2", "D3"]
ARROWS = {
    ("DISCONNECTED", "ACTIVE"),
    ("ACTIVE", "CHARGING"),
    ("CHARGING", "ACTIVE"),
    ("ACTIVE", "FAULTY"),
    ("FAULTY", "ACTIVE"),
    ("DISCONNECTED", "FAULTY"),
    ("CHARGING", "FAULTY"),
    ("FAULTY", "DISCONNECTED"),
}
MANY_FAULTS = [f"{number}" + "x" * 60 for number in range(10)]
OPERATOR = Actor("maria", "http")
AT_THE_DOOR = ("not_authenticated", "not_registered", "not_yours", "unexpected_type", "unknown_driver")


class Kill(Enum):
    """When Central is killed: nothing in hand, decided but not on disk, on disk but not said."""

    IDLE = auto()
    BEFORE_COMMIT = auto()
    BEFORE_ACT = auto()


cp_ids = st.sampled_from(CP_IDS)
driver_ids = st.sampled_from(DRIVER_IDS)
BROKEN_METER_WH = 10**9
fault_codes = st.sampled_from(["engine_lost", "engine_silent", "ground_fault"])
energies_wh = st.sampled_from([0, 100, 200, 300, 400, 500, BROKEN_METER_WH])
seqs = st.integers(0, 5)
bills: st.SearchStrategy[Bill] = st.sampled_from([0, 300, 700, "all", "nothing"])
prices = st.sampled_from([Decimal(0), Decimal("0.45"), Decimal("0.333333")])

kills = st.sampled_from([None] * 6 + list(Kill))

M = TypeVar("M", bound=Message)


def forgetful(cp: ChargePoint) -> ChargePoint:
    """As the database keeps it."""
    return replace(cp, connection=None, last_heard_s=0.0, faults=set(), settling=False)


def as_stored(session: Session) -> Session:
    return replace(session, last_heard_s=0.0, held_since_s=math.inf, peak_w=0, sure_wh=0.0)


class CentralMachine(RuleBasedStateMachine):
    """Central with a database of dicts, and what must hold of it whatever comes in."""

    policy = Policy()

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0
        self.last_id = 0
        self.last_connection = 0
        self.connections: list[int] = []
        # The database.
        self.charge_points = {cp_id: ChargePoint(cp_id, hash_key(cp_id)) for cp_id in CP_IDS}
        self.stored: dict[UUID, Session] = {}
        self.answers: dict[UUID, Message] = {}
        self.set_aside: list[SetAside] = []
        self.removed_drivers: set[str] = set()
        self.has_owed: set[str] = set()
        """Charge points of which Central has ever closed a session for want of its account."""
        # What was said.
        self.receipts: Counter[tuple[UUID, int]] = Counter()
        self.verdicts: dict[UUID, Message] = {}
        self.statuses = dict.fromkeys(CP_IDS, "DISCONNECTED")
        self.meter_values: dict[tuple[int, int], int] = {}
        # What operators have set, as the audit has it.
        self.out_of_service: set[str] = set()
        self.set_prices: dict[str, Decimal] = {}
        self.by_verdict: dict[UUID, int] = {}
        """session -> Wh"""
        self.net = self.network()

    @property
    def now(self) -> Instant:
        return Instant(START + timedelta(seconds=self.seconds), self.seconds)

    # Central: decide, commit, act

    def network(self) -> Network:
        charge_points = [replace(cp, status=Status.DISCONNECTED) for cp in self.charge_points.values()]
        open_sessions = [replace(session) for session in self.stored.values() if session.is_open]
        last_number = max((session.number for session in self.stored.values()), default=0)
        return Network(self.policy, charge_points, open_sessions, self.now, sessions_before=last_number)

    def known(self, wanted: Wanted) -> Known:
        numbered = {item.number: item for item in self.set_aside if item.number in wanted.set_aside_as}
        wanted.sessions |= {item.session_id for item in numbered.values()}
        waiting = Counter(item.cp_id for item in self.set_aside if item.waits and item.kind == "orphan")
        return Known(
            set_aside={
                key: [item for item in self.set_aside if item.session_id == key] for key in wanted.set_aside
            },
            set_aside_as=numbered,
            orphans={cp_id: waiting[cp_id] for cp_id in wanted.orphans},
            answers={key: self.answers[key] for key in wanted.answers & set(self.answers)},
            sessions={key: replace(self.stored[key]) for key in wanted.sessions & set(self.stored)},
            charge_points={key: replace(self.charge_points[key]) for key in wanted.charge_points},
            owing={
                cp_id for cp_id in wanted.charge_points if self.charge_points[cp_id].removed and self.owes(cp_id)
            },
            drivers={
                driver_id: KnownDriver(key_of(driver_id), removed=driver_id in self.removed_drivers)
                for driver_id in wanted.drivers & set(DRIVER_IDS)
            },
        )

    def owes(self, cp_id: str) -> bool:
        """Whether Central has closed a session of this charge point for want of its account."""
        return any(
            s.end_reason in OWED for s in self.stored.values() if s.cp_id == cp_id and s.completion_id is None
        )

    def decide(self, inputs: list[Input]) -> Decisions:
        decisions = self.net.decide(inputs, self.known(self.net.wanted(inputs)), self.now)
        bugs = [note.fields for note in decisions.notes if note.event == "bug"]
        assert not bugs, bugs[0]["traceback"]
        said = [item.message for item in decisions.frames]
        said += [item.message for item in decisions.records]
        said += [item.message for item in decisions.answers]
        for message in said:
            assert messages.decode(messages.encode(message)) == message
        for closing in decisions.closings:
            assert closing.error.code
        tickets = [item.ticket for item in inputs if isinstance(item, FromOperator)]
        assert [outcome.ticket for outcome in decisions.outcomes] == tickets
        return decisions

    def commit(self, decisions: Decisions) -> None:
        for cp in decisions.charge_points.values():
            row = self.charge_points[cp.cp_id]
            self.charge_points[cp.cp_id] = replace(forgetful(cp), key_hash=row.key_hash, removed=row.removed)
        for session in (*decisions.sessions.values(), *decisions.metered):
            before = self.stored.get(session.session_id)
            if before is not None:
                assert session.energy_wh >= before.energy_wh or not session.is_open
                assert session.revision >= before.revision
                assert (
                    session.revision > before.revision or session.energy_wh == before.energy_wh or before.is_open
                )
                assert before.completion_id in (None, session.completion_id), "one completion counts"
                if before.completion_id is not None and session.energy_wh != before.energy_wh:
                    assert session.energy_wh == self.verdicts_of(decisions)[session.session_id]
                assert session.last_seq >= before.last_seq
                assert before.is_open or not session.is_open
                for name in ("number", "cp_id", "driver_id", "price_per_kwh", "currency", "target_energy_wh"):
                    assert getattr(session, name) == getattr(before, name)
            self.stored[session.session_id] = as_stored(session)
            if session.end_reason in OWED:
                self.has_owed.add(session.cp_id)
        assert len({session.number for session in self.stored.values()}) == len(self.stored)
        for value in decisions.meter_values:
            assert (value.session_number, value.seq) not in self.meter_values
            self.meter_values[value.session_number, value.seq] = value.energy_wh
        for answer in decisions.answers:
            self.answers.setdefault(answer.request_id, answer.message)
        for item in decisions.set_aside:
            self.put_aside(item)
        for settlement in decisions.settlements:
            self.set_aside = [
                replace(item, settled_at=self.now.utc, settled_by=settlement.settled_by)
                if (item.session_id, item.kind, item.waits) == (settlement.session_id, settlement.kind, True)
                else item
                for item in self.set_aside
            ]
        self.by_verdict |= self.verdicts_of(decisions)
        for entry in decisions.audit:
            assert entry.before != entry.after
            match entry.action, entry.after:
                case "out of service", _:
                    self.out_of_service.add(entry.target)
                case "in service", _:
                    self.out_of_service.remove(entry.target)
                case "price", {"price_per_kwh": price, "price_by_operator": True}:
                    self.set_prices[entry.target] = Decimal(price)
                case "price", _:
                    del self.set_prices[entry.target]
        for note in decisions.notes:
            if note.event == "state":
                cp_id, before_status, now_status = (str(note.fields[name]) for name in ("cp_id", "before", "now"))
                assert (before_status, now_status) in ARROWS
                assert self.statuses[cp_id] == before_status
                self.statuses[cp_id] = now_status

    def put_aside(self, item: SetAside) -> None:
        for place, before in enumerate(self.set_aside):
            if before.waits and (before.session_id, before.kind) == (item.session_id, item.kind):
                assert before.cp_id == item.cp_id
                highest = max(before, item, key=lambda claim: claim.energy_wh)
                self.set_aside[place] = replace(highest, number=before.number, times=before.times + item.times)
                return
        self.set_aside.append(replace(item, number=len(self.set_aside) + 1))

    @staticmethod
    def verdicts_of(decisions: Decisions) -> dict[UUID, int]:
        """What operators have billed, as the audit has it: of each session in Wh."""
        entries = [entry for entry in decisions.audit if entry.action == "settle" and entry.after is not None]
        return {UUID(entry.target): entry.after["energy_wh"] for entry in entries if entry.after is not None}

    def act(self, decisions: Decisions) -> None:
        for frame in decisions.frames:
            self.heard(frame.message)
        for record in decisions.records:
            self.heard(record.message)
            assert getattr(record.message, "driver_id", record.driver_id) == record.driver_id
            if isinstance(record.message, ChargeCompletionResponse):
                receipt = record.message
                assert receipt.cost == tariff.cost(receipt.energy_wh, receipt.price_per_kwh, receipt.currency)
                self.receipts[receipt.session_id, receipt.revision] += 1

    def heard(self, message: Message) -> None:
        """A request gets one answer, however often it is asked; a stranger at the door has asked nothing yet."""
        if isinstance(message, ChargeRequestResponse | StopChargingResponse) and message.code not in AT_THE_DOOR:
            assert message.in_reply_to is not None
            assert self.verdicts.setdefault(message.in_reply_to, message) == message

    def handle(self, inputs: list[Input]) -> None:
        decisions = self.decide(inputs)
        self.commit(decisions)
        self.act(decisions)

    def be_killed(self, when: Kill, batch: list[Input]) -> None:
        """Die with `batch` in hand, and start again. Kafka delivers once more what was not finished with."""
        if when is not Kill.IDLE:
            decisions = self.decide(batch)
            if when is Kill.BEFORE_ACT:
                self.commit(decisions)
        self.connections.clear()
        self.statuses = dict.fromkeys(CP_IDS, "DISCONNECTED")
        for cp in self.charge_points.values():
            cp.status = Status.DISCONNECTED
        self.net = self.network()
        owed = [
            replace(session)
            for key, session in self.stored.items()
            if not session.is_open and not self.receipts[key, session.revision]
        ]
        self.act(self.net.republish_receipts(owed, self.now))
        self.handle([item for item in batch if isinstance(item, FromKafka)])

    def make(self, kind: type[M], **fields: Any) -> M:
        self.last_id += 1
        return kind(message_id=UUID(int=self.last_id), timestamp=self.now.utc, **fields)

    def registration(self, cp_id: str, price: Decimal) -> RegisterRequest:
        return self.make(
            RegisterRequest, cp_id=cp_id, location="A", price_per_kwh=price, currency="EUR", max_power_w=22_000
        )

    # What must always hold

    @invariant()
    def indexes_agree(self) -> None:
        net = self.net
        for session in net.sessions.values():
            assert session.is_open
            assert net.session_at[session.cp_id] is session
            assert net.session_of[session.driver_id] is session
            assert session.cp_id in CP_IDS
            assert session.driver_id in DRIVER_IDS
        assert len(net.sessions) == len(net.session_at) == len(net.session_of)

    @invariant()
    def what_is_in_memory_is_on_disk(self) -> None:
        in_memory = {key: as_stored(session) for key, session in self.net.sessions.items()}
        assert in_memory == {key: session for key, session in self.stored.items() if session.is_open}
        assert {key: forgetful(cp) for key, cp in self.net.charge_points.items()} == self.charge_points

    @invariant()
    def states_are_what_they_say(self) -> None:
        for cp in self.net.charge_points.values():
            session = self.net.session_at.get(cp.cp_id)
            charges = session is not None and session.status is SessionStatus.CHARGING
            assert (cp.status is Status.DISCONNECTED) == (cp.connection is None)
            assert (cp.status is Status.FAULTY) == bool(cp.faults)
            assert charges or cp.status is not Status.CHARGING
            if cp.removed and cp.connection is not None:  # It has something to account for.
                assert cp.cp_id in self.has_owed or session is not None

    @invariant()
    def what_operators_have_set_holds(self) -> None:
        charge_points = self.net.charge_points
        assert {cp_id for cp_id, cp in charge_points.items() if cp.out_of_service} == self.out_of_service
        by_operator = {cp_id: cp.price_per_kwh for cp_id, cp in charge_points.items() if cp.price_by_operator}
        assert by_operator == self.set_prices

    @invariant()
    def bills_are_right(self) -> None:
        for key, session in self.stored.items():
            assert session.cost == tariff.cost(session.energy_wh, session.price_per_kwh, session.currency)
            assert session.is_open == (session.revision == 0)
            assert session.energy_wh < BROKEN_METER_WH or self.by_verdict[key] == BROKEN_METER_WH
            if session.is_open:
                assert session.ended_at is None
                assert session.end_reason is None
            else:
                assert session.ended_at is not None
                assert session.power_w == 0
                assert self.receipts[key, session.revision] == 1
        assert all(sent == 1 for sent in self.receipts.values())
        energy_of = {session.number: session.energy_wh for key, session in self.stored.items()}
        disputed = {self.stored[key].number for key in self.by_verdict if key in self.stored}
        disputed |= {
            self.stored[item.session_id].number for item in self.set_aside if item.session_id in self.stored
        }
        for (number, _), energy_wh in self.meter_values.items():
            assert energy_wh <= energy_of[number] or number in disputed

    @invariant()
    def what_waits_for_a_person_is_bounded(self) -> None:
        waiting = [(item.session_id, item.kind) for item in self.set_aside if item.waits]
        assert len(waiting) == len(set(waiting))
        assert all(item.energy_wh <= BROKEN_METER_WH for item in self.set_aside)


class LawlessMachine(CentralMachine):
    """Anyone says anything."""

    sessions: Bundle[UUID] = Bundle("sessions")

    def __init__(self) -> None:
        super().__init__()
        self.batch_size = 1
        self.waiting: list[Input] = []
        self.given: list[Input] = []
        self.whose: dict[UUID, tuple[str, str]] = {}

    def give(self, *inputs: Input) -> None:
        self.waiting += inputs
        self.given += inputs
        if len(self.waiting) >= self.batch_size:
            batch, self.waiting, self.batch_size = self.waiting, [], 1
            self.handle(batch)

    def line_of(self, cp_id: str) -> int | None:
        """The connection that is registered for this charge point."""
        connection = self.net.charge_points[cp_id].connection
        return connection if connection in self.connections else None

    def say(self, cp_id: str, message: Message) -> None:
        """As the charge point `cp_id`, if it is connected."""
        connection = self.line_of(cp_id)
        if connection is not None:
            self.give(FromMonitor(connection, message))

    def send(self, message: Message, topic: Topic, over_kafka: bool, cp_id: str) -> None:
        connection = None if over_kafka else self.line_of(cp_id)
        self.give(published(topic, message) if connection is None else FromMonitor(connection, message))

    def account(self, cp_id: str, **fields: Any) -> StatusUpdate:
        return self.make(StatusUpdate, cp_id=cp_id, status=Status.ACTIVE, **fields)

    def open(self) -> int:
        self.last_connection += 1
        self.connections.append(self.last_connection)
        self.give(MonitorCame(self.last_connection))
        return self.last_connection

    def be_ready(self, cp_id: str) -> None:
        """Be connected and without faults."""
        if self.line_of(cp_id) is None:
            self.come(cp_id, Decimal("0.45"))
        for code in sorted(self.net.charge_points[cp_id].faults):
            self.recover(cp_id, code)

    # Time and Central itself

    @rule(size=st.integers(2, 4))
    def let_some_wait(self, size: int) -> None:
        """The next inputs come in one batch."""
        self.batch_size = size

    @rule(seconds=st.sampled_from([0.5, 5.0, 10.0, 10.0, 40.0, 91.0, 3601.0]))
    def time_passes(self, seconds: float) -> None:
        batch, self.waiting = self.waiting, []
        self.seconds += seconds
        self.handle(batch)

    @rule(when=st.sampled_from(Kill))
    def kill(self, when: Kill) -> None:
        batch, self.waiting = self.waiting, []
        self.be_killed(when, batch)

    # Connections

    @rule(cp_id=cp_ids, price=prices)
    def come(self, cp_id: str, price: Decimal) -> None:
        """Connect, authenticate and register at once."""
        connection = self.open()
        self.give(FromMonitor(connection, self.make(AuthRequest, cp_id=cp_id, key=cp_id)))
        self.give(FromMonitor(connection, self.registration(cp_id, price)))

    @rule(cp_id=cp_ids)
    def lose_connection(self, cp_id: str) -> None:
        connection = self.line_of(cp_id)
        if connection is not None:
            self.connections.remove(connection)
            self.give(MonitorGone(connection, "closed"))

    @rule(
        what=st.sampled_from(["auth", "register", "beat", "fault", "run", "open", "close"]),
        cp_id=cp_ids,
        data=st.data(),
    )
    def say_something_on_any_line(self, what: str, cp_id: str, data: st.DataObject) -> None:
        if what == "open" or not self.connections:
            self.open()
            return
        connection = data.draw(st.sampled_from(self.connections))
        if what == "close":
            self.connections.remove(connection)
            self.give(MonitorGone(connection, "closed"))
            return
        message: Message
        match what:
            case "auth":
                message = self.make(AuthRequest, cp_id=cp_id, key=data.draw(cp_ids))
            case "register":
                message = self.registration(cp_id, data.draw(prices))
            case "beat":
                message = self.make(HeartbeatRequest, cp_id=cp_id)
            case "fault":
                message = self.make(FaultNotification, cp_id=cp_id, fault_code="engine_silent", description="")
            case _:
                message = self.account(cp_id, engine_connected=True, session_id=UUID(int=1))
        self.give(FromMonitor(connection, message))

    # Drivers

    @initialize(target=sessions, cp_id=cp_ids, driver_id=driver_ids)
    def begin(self, cp_id: str, driver_id: str) -> UUID:
        for present in CP_IDS:
            self.be_ready(present)
            self.say(present, self.account(present, engine_connected=True))
        return self.ask(driver_id, cp_id, over_kafka=True)

    def ask(self, driver_id: str, cp_id: str, *, over_kafka: bool, age_s: int = 0) -> UUID:
        self.last_id += 1
        message = ChargeRequest(
            message_id=UUID(int=self.last_id),
            timestamp=self.now.utc - timedelta(seconds=age_s),
            driver_id=driver_id,
            cp_id=cp_id,
        )
        self.send(message, Topic.CHARGE_REQUESTS, over_kafka or cp_id not in CP_IDS, cp_id)
        session_id = derived_id(message.message_id, "session")
        self.whose[session_id] = (cp_id, driver_id)
        return session_id

    @rule(target=sessions, driver_id=driver_ids, cp_id=cp_ids, over_kafka=st.booleans(), ready=st.booleans())
    def ask_for_a_charge(self, driver_id: str, cp_id: str, over_kafka: bool, ready: bool) -> Any:
        if ready:
            self.be_ready(cp_id)
        session_id = self.ask(driver_id, cp_id, over_kafka=over_kafka)
        return session_id if session_id in self.net.sessions or self.waiting else multiple()

    @rule(
        driver_id=driver_ids | st.just("STRANGER"),
        cp_id=cp_ids | st.just("CP9"),
        age_s=st.sampled_from([0, 301]),
    )
    def ask_in_vain(self, driver_id: str, cp_id: str, age_s: int) -> None:
        if age_s or driver_id == "STRANGER" or cp_id == "CP9":
            self.ask(driver_id, cp_id, over_kafka=True, age_s=age_s)

    @rule(session_id=sessions, driver_id=st.none() | driver_ids)
    def stop(self, session_id: UUID, driver_id: str | None) -> None:
        cp_id, own_driver_id = self.whose[session_id]
        request = self.make(
            StopChargingRequest, driver_id=driver_id or own_driver_id, cp_id=cp_id, session_id=session_id
        )
        self.give(published(Topic.STOP_REQUESTS, request))

    @rule(driver_id=driver_ids, limit=st.integers(1, 3), after=st.just("") | cp_ids, everything=st.booleans())
    def look_around(self, driver_id: str, limit: int, after: str, everything: bool) -> None:
        for question in (
            self.make(AvailableCpsRequest, driver_id=driver_id, limit=limit, after=after, all=everything),
            self.make(ChargingStatusRequest, driver_id=driver_id),
            self.make(ChargingHistoryRequest, driver_id=driver_id),
        ):
            self.give(published(Topic.CPS_REQUESTS, question))

    # Operators

    def order(self, command: Command) -> None:
        self.last_id += 1
        self.give(FromOperator(self.last_id, OPERATOR, command))

    @rule(target=sessions, driver_id=driver_ids, cp_id=cp_ids, ready=st.booleans())
    def start_for_a_driver(self, driver_id: str, cp_id: str, ready: bool) -> Any:
        if ready:
            self.be_ready(cp_id)
        request = self.make(ChargeRequest, driver_id=driver_id, cp_id=cp_id)
        session_id = derived_id(request.message_id, "session")
        self.whose[session_id] = (cp_id, driver_id)
        self.order(StartCharge(request))
        return session_id if session_id in self.net.sessions or self.waiting else multiple()

    @rule(session_id=sessions)
    def stop_for_a_driver(self, session_id: UUID) -> None:
        self.order(StopCharge(session_id))

    @rule(session_id=sessions)
    def close_for_a_driver(self, session_id: UUID) -> None:
        self.order(CloseSession(session_id))

    @rule(number=st.integers(1, 4), bill=bills)
    def settle(self, number: int, bill: Bill) -> None:
        self.order(Settle(number, bill, "as it must have been"))

    @rule(session_id=sessions, bill=bills)
    def correct(self, session_id: UUID, bill: Bill) -> None:
        self.order(Correct(session_id, bill, "as it must have been"))

    @rule(cp_id=cp_ids, driver_id=driver_ids, energy_wh=energies_wh, over_kafka=st.booleans())
    def complete_what_nobody_knows(self, cp_id: str, driver_id: str, energy_wh: int, over_kafka: bool) -> None:
        completion = self.make(
            ChargeCompletion,
            cp_id=cp_id,
            session_id=UUID(int=10**9),
            driver_id=driver_id,
            seq=3,
            energy_wh=energy_wh,
            end_reason=EndReason.STOPPED,
            started_at=self.now.utc - timedelta(days=1),
            ended_at=self.now.utc,
        )
        self.send(completion, Topic.SESSION_COMPLETE, over_kafka, cp_id)

    @rule(cp_id=st.none() | cp_ids, out_of_service=st.sampled_from([True, False, False]))
    def set_service(self, cp_id: str | None, out_of_service: bool) -> None:
        self.order(SetService(cp_id, out_of_service))

    @rule(driver_id=driver_ids, back=st.booleans())
    def remove_driver(self, driver_id: str, back: bool) -> None:
        """And add it again, perhaps."""
        self.removed_drivers.add(driver_id)
        if back:
            self.removed_drivers.discard(driver_id)

    @rule(cp_id=cp_ids, price=st.none() | prices)
    def set_price(self, cp_id: str, price: Decimal | None) -> None:
        self.order(SetPrice(cp_id, price, None))

    @rule(cp_id=cp_ids, back=st.sampled_from([True, True, False]), told=st.booleans(), at_the_door=st.booleans())
    def remove(self, cp_id: str, back: bool, told: bool, at_the_door: bool) -> None:
        """And add it again, perhaps; between the two Central may be told, or not. Meanwhile it may connect."""
        if at_the_door:
            connection = self.open()
            self.give(FromMonitor(connection, self.make(AuthRequest, cp_id=cp_id, key=cp_id)))
        steps = [True, False] if back else [True]
        for removed in steps:
            self.charge_points[cp_id] = replace(self.charge_points[cp_id], removed=removed)
            if told or removed == steps[-1]:
                self.batch_size = 1
                self.order(Reread(cp_id))
        if at_the_door:
            self.give(FromMonitor(connection, self.registration(cp_id, Decimal("0.45"))))

    # Charge points

    @rule(
        session_id=sessions,
        command=st.sampled_from(["start", "start", "stop"]),
        code=st.sampled_from([None, None, None, "unknown_session", "vehicle_missing"]),
    )
    def answer_command(self, session_id: UUID, command: str, code: str | None) -> None:
        cp_id, _ = self.whose[session_id]
        response = self.make(
            CommandResponse,
            in_reply_to=derived_id(session_id, command),
            cp_id=cp_id,
            session_id=session_id,
            accepted=code is None,
            code=code,
        )
        self.say(cp_id, response)

    @rule(session_id=sessions, cp_id=st.none() | cp_ids, seq=seqs, energy_wh=energies_wh, over_kafka=st.booleans())
    def meter(self, session_id: UUID, cp_id: str | None, seq: int, energy_wh: int, over_kafka: bool) -> None:
        own_cp_id, driver_id = self.whose[session_id]
        reading = self.make(
            ChargingData,
            cp_id=cp_id or own_cp_id,
            session_id=session_id,
            driver_id=driver_id,
            seq=seq,
            energy_wh=energy_wh,
            power_w=7_000,
        )
        self.send(reading, Topic.SESSION_DATA, over_kafka, reading.cp_id)

    @rule(
        session_id=sessions,
        cp_id=st.none() | cp_ids,
        seq=seqs,
        energy_wh=energies_wh,
        reason=st.sampled_from(EndReason),
        over_kafka=st.booleans(),
    )
    def complete(
        self, session_id: UUID, cp_id: str | None, seq: int, energy_wh: int, reason: EndReason, over_kafka: bool
    ) -> None:
        own_cp_id, driver_id = self.whose[session_id]
        completion = self.make(
            ChargeCompletion,
            cp_id=cp_id or own_cp_id,
            session_id=session_id,
            driver_id=driver_id,
            seq=seq,
            energy_wh=energy_wh,
            end_reason=reason,
            started_at=self.now.utc,
            ended_at=self.now.utc,
        )
        self.send(completion, Topic.SESSION_COMPLETE, over_kafka, completion.cp_id)

    @rule(
        cp_id=cp_ids,
        running=st.none() | sessions,
        unsettled=st.lists(sessions, max_size=2),
        engine_connected=st.sampled_from([True, True, False]),
    )
    def say_what_runs(
        self, cp_id: str, running: UUID | None, unsettled: list[UUID], engine_connected: bool
    ) -> None:
        account = self.account(
            cp_id, session_id=running, unsettled_session_ids=unsettled, engine_connected=engine_connected
        )
        self.say(cp_id, account)

    @rule(session_id=sessions)
    def come_back_and_say_that_it_runs(self, session_id: UUID) -> None:
        cp_id, _ = self.whose[session_id]
        self.come(cp_id, Decimal("0.45"))
        self.say(cp_id, self.account(cp_id, session_id=session_id, engine_connected=True))

    @rule(cp_id=cp_ids, codes=fault_codes.map(lambda code: [code]) | st.just(MANY_FAULTS))
    def fail(self, cp_id: str, codes: list[str]) -> None:
        for code in codes:
            self.say(cp_id, self.make(FaultNotification, cp_id=cp_id, fault_code=code, description="it broke"))

    @rule(cp_id=cp_ids, code=fault_codes)
    def recover(self, cp_id: str, code: str) -> None:
        self.say(cp_id, self.make(RecoveryNotification, cp_id=cp_id, fault_code=code, description="it works"))

    # The wires

    @rule(number=st.integers(0, 200))
    def repeat(self, number: int) -> None:
        """Something comes again, as it was: a record redelivered, a frame or a command sent twice."""
        item = self.given[-1 - number % len(self.given)]
        on_a_line = isinstance(item, FromMonitor) and item.connection in self.connections
        if isinstance(item, FromKafka | FromOperator) or on_a_line:
            self.give(item)

    @rule(topic=st.sampled_from(TO_CENTRAL), number=st.integers(0, 200))
    def go_astray(self, topic: Topic, number: int) -> None:
        """A message that came once, on a topic where it may have no business."""
        said = [item.message for item in self.given if isinstance(item, FromKafka | FromMonitor)]
        self.give(published(topic, said[-1 - number % len(said)]))


class HonestChargePoint:
    """A Monitor and an Engine that do what they should; what they say may get lost with the connection."""

    def __init__(self, cp_id: str) -> None:
        self.cp_id = cp_id
        self.connection: int | None = None
        self.from_central: list[Message] = []
        self.to_central: list[Message] = []
        self.engine_seen = True
        self.running: StartChargingCommand | None = None
        self.energy_wh = 0
        self.seq = 0
        self.unsettled: dict[UUID, ChargeCompletion] = {}


def charges(machine: "HonestMachine") -> bool:
    return any(point.running is not None for point in machine.points.values())


class HonestMachine(CentralMachine):
    """Charge points do as they are told and tell the truth; connections, Kafka and Central itself may fail."""

    policy = Policy(time_scale=10)  # As they deliver without waiting.

    def __init__(self) -> None:
        super().__init__()
        self.points = {cp_id: HonestChargePoint(cp_id) for cp_id in CP_IDS}
        self.log: list[Input] = []  # what Kafka has and Central has not read yet
        self.delivered_wh: Counter[UUID] = Counter()

    # What Central says

    def act(self, decisions: Decisions) -> None:
        super().act(decisions)
        by_connection = {point.connection: point for point in self.points.values() if point.connection is not None}
        for frame in decisions.frames:
            if frame.connection in by_connection:
                by_connection[frame.connection].from_central.append(frame.message)
        for closing in decisions.closings:
            if closing.connection in by_connection:
                self.cut(by_connection[closing.connection].cp_id)

    # What a charge point does

    def tell(self, point: HonestChargePoint, message: Message) -> None:
        if point.connection is not None:
            point.to_central.append(message)

    def tell_what_runs(self, point: HonestChargePoint) -> None:
        account = self.make(
            StatusUpdate,
            cp_id=point.cp_id,
            status=Status.ACTIVE,
            engine_connected=point.engine_seen,
            session_id=point.running.session_id if point.running is not None else None,
            unsettled_session_ids=list(point.unsettled),
        )
        self.tell(point, account)

    def take(self, point: HonestChargePoint, message: Message) -> None:
        match message:
            case RegisterResponse(accepted=True):
                if not point.engine_seen:
                    self.tell_fault(point)
                self.tell_what_runs(point)
            case StartChargingCommand() | StopChargingCommand():
                code = self.obey(point, message) if point.engine_seen else EngineUnavailable.code
                response = self.make(
                    CommandResponse,
                    in_reply_to=message.message_id,
                    cp_id=point.cp_id,
                    session_id=message.session_id,
                    accepted=code is None,
                    code=code,
                )
                self.tell(point, response)
            case ChargeCompletionResponse() if point.engine_seen:
                completion = point.unsettled.get(message.session_id)
                if completion is not None and completion.message_id == message.in_reply_to:
                    del point.unsettled[message.session_id]

    def obey(self, point: HonestChargePoint, command: StartChargingCommand | StopChargingCommand) -> str | None:
        """The code of the refusal, if it is one."""
        runs = point.running is not None and point.running.session_id == command.session_id
        if isinstance(command, StopChargingCommand):
            if runs:
                self.finish(point, EndReason.STOPPED, over_kafka=True)
            return None if runs or command.session_id in point.unsettled else UnknownSession.code
        if runs:
            return None
        if point.running is not None or command.session_id in point.unsettled:
            return ChargePointBusy.code
        assert not self.delivered_wh[command.session_id], "a charge that was over has begun again"
        point.running, point.energy_wh, point.seq = command, 0, 0
        return None

    def tell_fault(self, point: HonestChargePoint) -> None:
        self.tell(
            point, self.make(FaultNotification, cp_id=point.cp_id, fault_code="engine_silent", description="")
        )

    def publish(self, message: ChargingData | ChargeCompletion, topic: Topic) -> None:
        self.log.append(published(topic, message))

    def one_that_charges(self, which: int) -> HonestChargePoint:
        charging = [point for point in self.points.values() if point.running is not None]
        return charging[which % len(charging)]

    @precondition(charges)
    @rule(which=st.integers(0, 2), over_kafka=st.booleans())
    def deliver(self, which: int, over_kafka: bool) -> None:
        point = self.one_that_charges(which)
        assert point.running is not None
        point.energy_wh += 100
        self.delivered_wh[point.running.session_id] += 100
        reading = self.make(
            ChargingData,
            cp_id=point.cp_id,
            session_id=point.running.session_id,
            driver_id=point.running.driver_id,
            seq=point.seq,
            energy_wh=point.energy_wh,
            power_w=7_000,
        )
        point.seq += 1
        if point.engine_seen:
            self.tell(point, reading)
        if over_kafka:
            self.publish(reading, Topic.SESSION_DATA)

    @precondition(charges)
    @rule(
        which=st.integers(0, 2),
        reason=st.sampled_from([EndReason.TARGET_REACHED, EndReason.UNPLUGGED, EndReason.ENGINE_RESTARTED]),
        last_wh=st.sampled_from([0, 50]),
        over_kafka=st.booleans(),
    )
    def finish_one(self, which: int, reason: EndReason, last_wh: int, over_kafka: bool) -> None:
        point = self.one_that_charges(which)
        assert point.running is not None
        point.energy_wh += last_wh
        self.delivered_wh[point.running.session_id] += last_wh
        self.finish(point, reason, over_kafka)

    def finish(self, point: HonestChargePoint, reason: EndReason, over_kafka: bool) -> None:
        assert point.running is not None
        completion = self.make(
            ChargeCompletion,
            cp_id=point.cp_id,
            session_id=point.running.session_id,
            driver_id=point.running.driver_id,
            seq=point.seq,
            energy_wh=point.energy_wh,
            end_reason=reason,
            started_at=self.now.utc,
            ended_at=self.now.utc,
        )
        point.running = None
        point.unsettled[completion.session_id] = completion
        if point.engine_seen:
            self.tell(point, completion)
            self.tell_what_runs(point)
        if over_kafka:
            self.publish(completion, Topic.SESSION_COMPLETE)

    @rule(cp_id=cp_ids)
    def send_again(self, cp_id: str) -> None:
        point = self.points[cp_id]
        if point.engine_seen:
            for completion in point.unsettled.values():
                self.tell(point, completion)

    @rule(cp_id=cp_ids)
    def lose_sight_of_the_engine(self, cp_id: str) -> None:
        point = self.points[cp_id]
        if point.engine_seen:
            point.engine_seen = False
            self.tell_fault(point)
        else:
            self.see_the_engine_again(cp_id)

    def see_the_engine_again(self, cp_id: str) -> None:
        point = self.points[cp_id]
        if not point.engine_seen:
            point.engine_seen = True
            recovery = self.make(
                RecoveryNotification, cp_id=cp_id, fault_code="engine_silent", description="it answers"
            )
            self.tell(point, recovery)
            self.tell_what_runs(point)

    # What drivers do

    @rule(driver_id=driver_ids, cp_id=cp_ids, how_far=st.integers(0, 3))
    def ask(self, driver_id: str, cp_id: str, how_far: int) -> None:
        """Ask for a charge; which is decided, begun and known to be begun, as far as it gets."""
        if how_far:
            self.link(cp_id)
            self.see_the_engine_again(cp_id)
            self.carry(cp_id)
        request = self.make(ChargeRequest, driver_id=driver_id, cp_id=cp_id)
        self.log.append(published(Topic.CHARGE_REQUESTS, request))
        if how_far >= 1:
            self.read_kafka(len(self.log))
        for _ in range(how_far - 1):
            self.carry(cp_id)

    @rule(driver_id=driver_ids)
    def stop(self, driver_id: str) -> None:
        session = self.net.session_of.get(driver_id)
        if session is not None:
            request = self.make(
                StopChargingRequest, driver_id=driver_id, cp_id=session.cp_id, session_id=session.session_id
            )
            self.log.append(published(Topic.STOP_REQUESTS, request))

    # What the wires do

    @initialize()
    def begin(self) -> None:
        for cp_id in CP_IDS:
            self.link(cp_id)
            self.carry(cp_id)

    @rule(cp_id=cp_ids)
    def link(self, cp_id: str) -> None:
        point = self.points[cp_id]
        if point.connection is None:
            self.last_connection += 1
            point.connection = self.last_connection
            self.connections.append(point.connection)
            auth = self.make(AuthRequest, cp_id=cp_id, key=cp_id)
            said = [
                FromMonitor(point.connection, item) for item in (auth, self.registration(cp_id, Decimal("0.45")))
            ]
            self.handle([MonitorCame(point.connection), *said])

    @rule(cp_id=cp_ids)
    def cut(self, cp_id: str) -> None:
        """What was on its way, either way, is lost."""
        point = self.points[cp_id]
        connection, point.connection = point.connection, None
        point.from_central.clear()
        point.to_central.clear()
        if connection in self.connections:
            self.connections.remove(connection)
            self.handle([MonitorGone(connection, "cut")])

    @rule(cp_id=cp_ids, kill=kills)
    def carry(self, cp_id: str, kill: Kill | None = None) -> None:
        """What is on its way arrives; Central may die of it."""
        point = self.points[cp_id]
        heard, point.from_central = point.from_central, []
        for message in heard:
            self.take(point, message)
        said, point.to_central = point.to_central, []
        if point.connection is not None:
            self.give([FromMonitor(point.connection, message) for message in said], kill)

    @rule(count=st.integers(1, 5), kill=kills)
    def read_kafka(self, count: int, kill: Kill | None = None) -> None:
        batch, self.log = self.log[:count], self.log[count:]
        self.give(batch, kill)

    @rule(count=st.integers(1, 3))
    def deliver_kafka_twice(self, count: int) -> None:
        self.log[:0] = self.log[:count]

    def give(self, batch: list[Input], kill: Kill | None) -> None:
        if kill is None:
            self.handle(batch)
            return
        for point in self.points.values():
            point.connection = None
            point.from_central.clear()
            point.to_central.clear()
        self.be_killed(kill, batch)

    @rule(seconds=st.sampled_from([1.0, 1.0, 10.0, 10.0, 10.0, 95.0, 3601.0]))
    def time_passes(self, seconds: float) -> None:
        self.seconds += seconds
        self.handle([])

    # In the end

    def teardown(self) -> None:
        """All is mended, and every charge ends: what was delivered is what was billed, and nobody is stuck."""
        for _ in range(8):
            for cp_id in CP_IDS:
                self.link(cp_id)
                self.see_the_engine_again(cp_id)
                self.tell(self.points[cp_id], self.make(HeartbeatRequest, cp_id=cp_id))
                self.carry(cp_id)
                if self.points[cp_id].running is not None:
                    self.finish(self.points[cp_id], EndReason.UNPLUGGED, over_kafka=False)
                self.send_again(cp_id)
                self.carry(cp_id)
            self.read_kafka(len(self.log))
            self.time_passes(5.0)
        for cp_id, point in self.points.items():
            assert point.running is None
            assert not point.unsettled
            assert self.net.charge_points[cp_id].status is Status.ACTIVE
        assert not self.net.sessions
        assert not self.set_aside, "who is honest needs no person"
        assert set(self.delivered_wh) <= set(self.stored)
        for key, session in self.stored.items():
            assert session.energy_wh == self.delivered_wh[key]
        self.bills_are_right()
        self.indexes_agree()
        self.what_is_in_memory_is_on_disk()


TestLawlessNetwork = LawlessMachine.TestCase
TestLawlessNetwork.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestHonestNetwork = HonestMachine.TestCase
TestHonestNetwork.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)
