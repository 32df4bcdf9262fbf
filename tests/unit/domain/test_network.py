"""Central's decisions, scenario by scenario: messages and instants in, decisions out; nothing is waited for."""

import signal
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from itertools import count, pairwise
from typing import Any, TypeVar
from uuid import UUID

import msgspec
import pytest
from kafka_records import key_of, published

from evcharge.domain.charge_point import ChargePoint, hash_key
from evcharge.domain.decisions import (
    Closing,
    Decisions,
    FaultCleared,
    FaultOpened,
    FromMonitor,
    Input,
    Known,
    MonitorCame,
    MonitorGone,
    Wanted,
)
from evcharge.domain.driver import KnownDriver
from evcharge.domain.faults import CONNECTION_LOST, ENGINE_LOST, ENGINE_SILENT
from evcharge.domain.from_monitors import MAX_FAULTS
from evcharge.domain.instant import Instant
from evcharge.domain.network import Network, Policy
from evcharge.domain.session import EndReason, Session, SessionStatus
from evcharge.domain.set_aside import Kind, SetAside, Settlement
from evcharge.domain.status import Status
from evcharge.errors import (
    AuthenticationFailed,
    ConnectionReplaced,
    EngineUnavailable,
    NotRegistered,
    PeerSilent,
    UnknownSession,
    VehicleMissing,
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

START = datetime(2026, 5, 4, 8, 0, tzinfo=UTC)
PRICE = Decimal("0.45")

M = TypeVar("M", bound=Message)
T = TypeVar("T")

replace_fields = msgspec.structs.replace


def only(items: Sequence[T]) -> T:
    assert len(items) == 1, f"exactly one was expected: {items}"
    return items[0]


def frames(decisions: Decisions, kind: type[M], to: int | None = None) -> list[M]:
    """The messages of this type for Monitors, or for the one at the connection `to`."""
    found = [frame for frame in decisions.frames if to in (None, frame.connection)]
    return [frame.message for frame in found if isinstance(frame.message, kind)]


def records(decisions: Decisions, kind: type[M], to: str | None = None) -> list[M]:
    """The messages of this type for drivers, or for the driver `to`."""
    found = [record for record in decisions.records if to in (None, record.driver_id)]
    return [record.message for record in found if isinstance(record.message, kind)]


def closed(decisions: Decisions) -> list[tuple[int, type[WireError]]]:
    return [(closing.connection, type(closing.error)) for closing in decisions.closings]


def moves(decisions: Decisions, cp_id: str) -> list[str]:
    """The states that a charge point went through, each after the one before."""
    notes = [note.fields for note in decisions.notes if note.event == "state" and note.fields["cp_id"] == cp_id]
    for one, following in pairwise(notes):
        assert one["now"] == following["before"]
    return [str(note["now"]) for note in notes]


def nothing_happened(decisions: Decisions) -> bool:
    """Whether nothing is to be stored, sent, published or closed."""
    spoken = decisions.frames or decisions.closings or decisions.records or decisions.histories
    return decisions.nothing_to_store and not spoken


class World:
    """Central's decider, a database of dicts, and a clock that stands until `wait`.

    What the decider hands over to be stored is copied, as a database does, so that it can be asked for later,
    and so that `restart` finds what was stored and nothing more.
    """

    def __init__(
        self,
        policy: Policy | None = None,
        charge_points: Iterable[ChargePoint] | None = None,
        drivers: Iterable[str] = ("D1", "D2"),
    ) -> None:
        self.policy = policy or Policy()
        self.seconds = 0.0
        if charge_points is None:
            charge_points = [ChargePoint(f"CP{i}", hash_key(f"key of CP{i}"), "A", PRICE) for i in (1, 2)]
        self.charge_points = {cp.cp_id: replace(cp) for cp in charge_points}
        self.drivers = set(drivers)
        self.removed_drivers: set[str] = set()
        self.without_key: set[str] = set()
        self.settings: dict[str, KnownDriver] = {}
        """Limits and the like, of those drivers that have some."""
        self.owing: set[str] = set()
        self.sessions: dict[UUID, Session] = {}
        self.answers: dict[UUID, Message] = {}
        self.set_aside: list[SetAside] = []
        self.settlements: list[Settlement] = []
        self.everything = Decisions()
        self.bug_expected = False
        self._numbers = count(1)
        self._ids = count(1)
        self.net = self._network()

    # The clock

    @property
    def now(self) -> Instant:
        return Instant(START + timedelta(seconds=self.seconds), 5000.0 + self.seconds)

    def wait(self, seconds: float) -> Decisions:
        """Let time pass, then ask what is due."""
        self.seconds += seconds
        return self.give()

    # The database

    def _network(self) -> Network:
        charge_points = [replace(cp, status=Status.DISCONNECTED) for cp in self.charge_points.values()]
        open_sessions = [replace(session) for session in self.sessions.values() if session.is_open]
        last_number = max((session.number for session in self.sessions.values()), default=0)
        return Network(self.policy, charge_points, open_sessions, self.now, sessions_before=last_number)

    def restart(self) -> None:
        """Central has been killed and is started again; every connection is gone."""
        self.net = self._network()

    def _known(self, wanted: Wanted) -> Known:
        return Known(
            answers={key: self.answers[key] for key in wanted.answers if key in self.answers},
            sessions={key: replace(self.sessions[key]) for key in wanted.sessions if key in self.sessions},
            charge_points={
                key: replace(self.charge_points[key]) for key in wanted.charge_points if key in self.charge_points
            },
            owing=wanted.charge_points & self.owing,
            drivers={driver_id: self._driver(driver_id) for driver_id in wanted.drivers & self._entries()},
            set_aside={
                key: [item for item in self.set_aside if item.session_id == key] for key in wanted.set_aside
            },
            set_aside_as={item.number: item for item in self.set_aside if item.number in wanted.set_aside_as},
            orphans={cp_id: len(self.waiting(Kind.ORPHAN, cp_id)) for cp_id in wanted.orphans},
        )

    def _entries(self) -> set[str]:
        return self.drivers | self.removed_drivers

    def _driver(self, driver_id: str) -> KnownDriver:
        key = None if driver_id in self.without_key else key_of(driver_id)
        removed = driver_id in self.removed_drivers
        return replace(self.settings.get(driver_id, KnownDriver()), key=key, removed=removed)

    def _store(self, decisions: Decisions) -> None:
        for cp in decisions.charge_points.values():
            self.charge_points[cp.cp_id] = replace(
                cp, connection=None, last_heard_s=0.0, faults=set(), settling=False
            )
        self.drivers |= decisions.drivers
        for session in (*decisions.sessions.values(), *decisions.metered):
            self.sessions[session.session_id] = replace(session, last_heard_s=0.0, peak_w=0, sure_wh=0.0)
        for answer in decisions.answers:
            self.answers.setdefault(answer.request_id, answer.message)
        for item in decisions.set_aside:
            self._store_set_aside(item)
        self.settlements += decisions.settlements
        for settlement in decisions.settlements:
            self.set_aside = [
                replace(item, settled_at=self.now.utc, settled_by=settlement.settled_by)
                if (item.session_id, item.kind, item.waits) == (settlement.session_id, settlement.kind, True)
                else item
                for item in self.set_aside
            ]

    def _store_set_aside(self, item: SetAside) -> None:
        for place, before in enumerate(self.set_aside):
            if before.waits and (before.session_id, before.kind) == (item.session_id, item.kind):
                highest = max(before, item, key=lambda claim: claim.energy_wh)
                self.set_aside[place] = replace(highest, number=before.number, times=before.times + item.times)
                return
        self.set_aside.append(replace(item, number=len(self.set_aside) + 1))

    def waiting(self, kind: Kind | None = None, cp_id: str | None = None) -> list[SetAside]:
        """What was set aside and waits for a person."""
        found = [item for item in self.set_aside if item.waits]
        return [item for item in found if kind in (None, item.kind) and cp_id in (None, item.cp_id)]

    # What comes in

    def give(self, *inputs: Input) -> Decisions:
        """One batch."""
        wanted = self.net.wanted(inputs)
        wanted.sessions |= {item.session_id for item in self.set_aside if item.number in wanted.set_aside_as}
        known = self._known(wanted)
        decisions = self.net.decide(inputs, known, self.now)
        bugs = [note.fields["traceback"] for note in decisions.notes if note.event == "bug"]
        assert self.bug_expected or not bugs, bugs[0]
        self._store(decisions)
        self.everything.records += decisions.records
        self.everything.frames += decisions.frames
        self.everything.meter_values += decisions.meter_values
        self.everything.notes += decisions.notes
        return decisions

    def make(self, kind: type[M], **fields: Any) -> M:
        fields = {"message_id": UUID(int=next(self._ids)), "timestamp": self.now.utc, **fields}
        return kind(**fields)

    def came(self) -> int:
        """A new connection, about which nothing is known yet."""
        connection = next(self._numbers)
        self.give(MonitorCame(connection))
        return connection

    def say(self, connection: int, *said: Message) -> Decisions:
        return self.give(*(FromMonitor(connection, message) for message in said))

    def gone(self, connection: int) -> Decisions:
        return self.give(MonitorGone(connection, "the peer has closed"))

    def kafka(self, topic: Topic, *said: Message) -> Decisions:
        return self.give(*(published(topic, message) for message in said))

    def auth(self, cp_id: str, key: str | None = None) -> AuthRequest:
        return self.make(AuthRequest, cp_id=cp_id, key=f"key of {cp_id}" if key is None else key)

    def registration(self, cp_id: str, **fields: Any) -> RegisterRequest:
        own = {"location": "Calle Mayor 1", "price_per_kwh": PRICE, "currency": "EUR", "max_power_w": 22_000}
        return self.make(RegisterRequest, cp_id=cp_id, **(own | fields))

    def connect(self, cp_id: str = "CP1") -> int:
        """A new connection, authenticated and registered; the charge point has not said yet what runs at it."""
        connection = self.came()
        self.say(connection, self.auth(cp_id))
        response = only(frames(self.say(connection, self.registration(cp_id)), RegisterResponse))
        assert response.accepted
        return connection

    def account(self, cp_id: str = "CP1", **fields: Any) -> StatusUpdate:
        """The charge point's account of itself; unless told otherwise: nothing runs, nothing is unsettled."""
        return self.make(
            StatusUpdate, **({"cp_id": cp_id, "status": Status.ACTIVE, "engine_connected": True} | fields)
        )

    def settled(self, cp_id: str = "CP1") -> int:
        """As `connect`, and the charge point has said that nothing runs."""
        connection = self.connect(cp_id)
        self.say(connection, self.account(cp_id))
        return connection

    def request(self, driver_id: str = "D1", cp_id: str = "CP1", energy_wh: int | None = None) -> ChargeRequest:
        return self.make(ChargeRequest, driver_id=driver_id, cp_id=cp_id, energy_wh=energy_wh)

    def ask(self, driver_id: str = "D1", cp_id: str = "CP1") -> ChargeRequestResponse:
        decisions = self.kafka(Topic.CHARGE_REQUESTS, self.request(driver_id, cp_id))
        return only(records(decisions, ChargeRequestResponse, driver_id))

    def authorised(self, driver_id: str = "D1", cp_id: str = "CP1") -> UUID:
        """A session whose start has been commanded."""
        answer = self.ask(driver_id, cp_id)
        assert answer.session_id is not None, answer
        return answer.session_id

    def begun(self, connection: int, session_id: UUID) -> Decisions:
        """The charge point says yes to the start command."""
        return self.say(connection, self.verdict(session_id, "start"))

    def charging(self, connection: int, driver_id: str = "D1", cp_id: str = "CP1") -> UUID:
        """A session that has begun."""
        session_id = self.authorised(driver_id, cp_id)
        self.begun(connection, session_id)
        return session_id

    def verdict(self, session_id: UUID, command: str, error: type[WireError] | None = None) -> CommandResponse:
        """The charge point's answer to a command."""
        return self.make(
            CommandResponse,
            cp_id=self.sessions[session_id].cp_id,
            session_id=session_id,
            in_reply_to=derived_id(session_id, command),
            accepted=error is None,
            code=error.code if error else None,
            reason="no" if error else None,
        )

    def reading(self, session_id: UUID, seq: int, energy_wh: int, **fields: Any) -> ChargingData:
        own = {"power_w": 7_000, "soc_percent": 50.0, **self._whose(session_id)}
        return self.make(ChargingData, session_id=session_id, seq=seq, energy_wh=energy_wh, **(own | fields))

    def completion(
        self, session_id: UUID, seq: int, energy_wh: int, reason: EndReason = EndReason.STOPPED, **fields: Any
    ) -> ChargeCompletion:
        own = {"started_at": self.now.utc, "ended_at": self.now.utc, **self._whose(session_id)}
        return self.make(
            ChargeCompletion,
            session_id=session_id,
            seq=seq,
            energy_wh=energy_wh,
            end_reason=reason,
            **(own | fields),
        )

    def _whose(self, session_id: UUID) -> dict[str, Any]:
        session = self.sessions[session_id]
        return {"cp_id": session.cp_id, "driver_id": session.driver_id}

    def fault(self, code: str, cp_id: str = "CP1") -> FaultNotification:
        return self.make(FaultNotification, cp_id=cp_id, fault_code=code, description=f"{code}, it says")

    def recovery(self, code: str, cp_id: str = "CP1") -> RecoveryNotification:
        return self.make(RecoveryNotification, cp_id=cp_id, fault_code=code, description=f"no {code} any more")

    def stop(self, session_id: UUID, driver_id: str = "D1", cp_id: str = "CP1") -> StopChargingRequest:
        return self.make(StopChargingRequest, driver_id=driver_id, cp_id=cp_id, session_id=session_id)

    # What can be seen of it

    def status(self, cp_id: str = "CP1") -> Status:
        """As stored, and as held in memory."""
        assert self.net.charge_points[cp_id].status is self.charge_points[cp_id].status
        return self.charge_points[cp_id].status

    def is_free(self, cp_id: str = "CP1") -> bool:
        """Whether Central offers it to drivers."""
        request = self.make(AvailableCpsRequest, driver_id="D2")
        page = only(records(self.kafka(Topic.CPS_REQUESTS, request), AvailableCpsResponse))
        return cp_id in [info.cp_id for info in page.charge_points]

    def receipts(self, session_id: UUID) -> list[ChargeCompletionResponse]:
        """All that were ever published of this session."""
        found = records(self.everything, ChargeCompletionResponse)
        return [receipt for receipt in found if receipt.session_id == session_id]


# Authentication


def test_the_right_key_is_accepted() -> None:
    world = World()
    connection = world.came()
    request = world.auth("CP1")
    decisions = world.say(connection, request)
    answer = only(frames(decisions, AuthResponse, connection))
    assert (answer.accepted, answer.code, answer.in_reply_to) == (True, None, request.message_id)
    assert decisions.closings == []


@pytest.mark.parametrize(
    ("cp_id", "key"),
    [("CP1", "key of CP2"), ("CP1", ""), ("CP9", "key of CP9"), ("REMOVED", "key of REMOVED"), ("KEYLESS", "")],
)
@pytest.mark.parametrize("open_registration", [False, True])
def test_another_key_is_refused_and_the_connection_closed(cp_id: str, key: str, open_registration: bool) -> None:
    world = World(
        Policy(open_registration=open_registration),
        [
            ChargePoint("CP1", hash_key("key of CP1")),
            ChargePoint("REMOVED", None, removed=True),
            ChargePoint("KEYLESS", None),
        ],
    )
    connection = world.came()
    decisions = world.say(connection, world.auth(cp_id, key))
    answer = only(frames(decisions, AuthResponse, connection))
    if open_registration and cp_id in ("CP9", "KEYLESS"):
        assert answer.accepted
        assert decisions.closings == []
    else:
        assert not answer.accepted
        assert answer.code == AuthenticationFailed.code
        assert closed(decisions) == [(connection, AuthenticationFailed)]
        refused = world.say(connection, world.registration(cp_id))
        assert not only(frames(refused, RegisterResponse)).accepted


def test_an_unknown_charge_point_and_a_wrong_key_cannot_be_told_apart() -> None:
    world = World()
    unknown = only(frames(world.say(world.came(), world.auth("CP9", "k")), AuthResponse)).reason
    wrong = only(frames(world.say(world.came(), world.auth("CP1", "k")), AuthResponse)).reason
    assert unknown is not None
    assert wrong == unknown.replace("CP9", "CP1")


def test_a_charge_point_that_was_added_while_central_runs_is_accepted() -> None:
    world = World()
    world.charge_points["CP3"] = ChargePoint("CP3", hash_key("key of CP3"))
    world.settled("CP3")
    assert world.status("CP3") is Status.ACTIVE
    assert world.is_free("CP3")
    assert world.ask("D1", "CP3").accepted


def test_a_charge_point_that_was_added_is_what_the_database_says_of_it() -> None:
    world = World()
    world.charge_points["CP3"] = ChargePoint("CP3", hash_key("key of CP3"), out_of_service=True)
    world.settled("CP3")
    assert world.ask("D1", "CP3").code == "out_of_service"


def test_a_removed_charge_point_comes_back_with_its_new_key() -> None:
    world = World(charge_points=[ChargePoint("CP1", None, removed=True)])
    assert world.ask().code == "unknown_charge_point"
    world.charge_points["CP1"] = ChargePoint("CP1", hash_key("key of CP1"))
    world.settled("CP1")
    assert world.ask().accepted


def test_a_charge_point_that_was_removed_is_gone_once_it_has_been_refused() -> None:
    world = World()
    world.gone(world.settled())
    world.charge_points["CP1"] = replace(world.charge_points["CP1"], key_hash=None, removed=True)
    world.say(world.came(), world.auth("CP1"))
    assert world.ask().code == "unknown_charge_point"
    request = world.make(AvailableCpsRequest, driver_id="D1", all=True)
    page = only(records(world.kafka(Topic.CPS_REQUESTS, request), AvailableCpsResponse))
    assert [info.cp_id for info in page.charge_points] == ["CP2"]


def test_in_open_registration_a_charge_point_and_a_driver_need_only_come() -> None:
    world = World(Policy(open_registration=True), charge_points=[], drivers=[])
    connection = world.settled("NEW")
    assert world.charge_points["NEW"].location == "Calle Mayor 1"
    session_id = world.charging(connection, "WHO", "NEW")
    assert world.drivers == {"WHO"}
    assert world.sessions[session_id].status is SessionStatus.CHARGING


def test_open_registration_does_not_bring_a_removed_driver_back() -> None:
    world = World(Policy(open_registration=True), drivers=[])
    world.settled()
    world.removed_drivers = {"D1"}
    assert world.ask("D1").code == "unknown_driver"
    assert world.drivers == set()


def test_the_first_word_of_a_connection_is_its_auth_request() -> None:
    world = World()
    connection = world.came()
    beat = world.make(HeartbeatRequest, cp_id="CP1")
    decisions = world.say(connection, beat)
    error = only(frames(decisions, ErrorResponse, connection))
    assert (error.code, error.in_reply_to) == ("not_authenticated", beat.message_id)
    assert decisions.counts == {"not_authenticated": 1}
    refused = only(frames(world.say(connection, world.registration("CP1")), RegisterResponse))
    assert (refused.accepted, refused.code) == (False, "not_authenticated")
    assert world.status() is Status.DISCONNECTED


def test_the_second_word_is_its_register_request() -> None:
    world = World()
    connection = world.came()
    world.say(connection, world.auth("CP1"))
    decisions = world.say(connection, world.make(HeartbeatRequest, cp_id="CP1"), world.account())
    assert [error.code for error in frames(decisions, ErrorResponse)] == ["not_registered"] * 2
    assert decisions.nothing_to_store


def test_a_stranger_s_charge_request_is_refused_and_leaves_no_trace_in_the_database() -> None:
    world = World()
    connection = world.came()
    decisions = world.say(connection, world.request())
    assert only(frames(decisions, ChargeRequestResponse, connection)).code == "not_authenticated"
    assert decisions.nothing_to_store


def test_a_connection_speaks_for_its_own_charge_point_alone() -> None:
    world = World()
    one = world.settled("CP1")
    world.settled("CP2")
    for message in (
        world.fault("ground_fault", "CP2"),
        world.account("CP2"),
        world.make(HeartbeatRequest, cp_id="CP2"),
    ):
        decisions = world.say(one, message)
        assert only(frames(decisions, ErrorResponse, one)).code == "not_yours"
        assert decisions.nothing_to_store
    refused = only(frames(world.say(one, world.registration("CP2")), RegisterResponse, one))
    assert (refused.accepted, refused.code) == (False, "not_yours")
    assert world.status("CP2") is Status.ACTIVE


def test_a_connection_of_one_charge_point_does_not_become_another_s() -> None:
    world = World()
    connection = world.settled("CP1")
    answer = only(frames(world.say(connection, world.auth("CP2")), AuthResponse))
    assert not answer.accepted
    world.say(connection, world.registration("CP2"))
    assert (world.status("CP1"), world.status("CP2")) == (Status.ACTIVE, Status.DISCONNECTED)
    world.gone(connection)
    assert (world.status("CP1"), world.status("CP2")) == (Status.DISCONNECTED, Status.DISCONNECTED)


def test_a_message_of_the_wrong_type_is_refused_by_name() -> None:
    world = World()
    connection = world.settled()
    page = world.make(AvailableCpsRequest, driver_id="D1")
    error = only(frames(world.say(connection, page), ErrorResponse, connection))
    assert error.code == "unexpected_type"
    assert error.reason.startswith("available_cps_request may not be sent here")
    error = only(records(world.kafka(Topic.SESSION_DATA, page), ErrorResponse, "D1"))
    assert (error.code, error.in_reply_to) == ("unexpected_type", page.message_id)


def test_a_record_of_the_wrong_type_that_names_no_driver_is_counted_and_answered_to_nobody() -> None:
    world = World()
    decisions = world.kafka(Topic.CHARGE_REQUESTS, world.make(HeartbeatRequest, cp_id="CP1"))
    assert nothing_happened(decisions)
    assert decisions.counts == {"unexpected_type": 1}


def test_an_error_response_is_noted_and_never_answered() -> None:
    world = World()
    error = world.make(ErrorResponse, code="bad_json", reason="you sent rubbish")
    for connection, told_each_time in ((world.settled(), True), (world.came(), False)):
        decisions = world.say(connection, error)
        assert nothing_happened(decisions)
        assert [note.event for note in decisions.notes] == ["error_received"]
        assert (only(decisions.notes).kind is None) == told_each_time
        assert decisions.counts == {"error_received": 1}


# Registration, heartbeat, silence


def test_registration_makes_a_charge_point_active_and_stores_what_it_says_of_itself() -> None:
    world = World()
    connection = world.came()
    world.say(connection, world.auth("CP1"))
    request = world.registration(
        "CP1", location="Port", price_per_kwh=Decimal("0.61"), currency="SEK", max_power_w=50_000
    )
    decisions = world.say(connection, request)
    answer = only(frames(decisions, RegisterResponse, connection))
    assert (answer.accepted, answer.status, answer.in_reply_to) == (True, Status.ACTIVE, request.message_id)
    assert moves(decisions, "CP1") == ["ACTIVE"]
    assert decisions.closings == []
    assert decisions.faults == [FaultCleared("CP1", CONNECTION_LOST, world.now.utc)]
    stored = world.charge_points["CP1"]
    assert (stored.location, stored.price_per_kwh, stored.currency, stored.max_power_w) == (
        "Port",
        Decimal("0.61"),
        "SEK",
        50_000,
    )


def test_registering_again_on_the_same_connection_renews_the_particulars_alone() -> None:
    world = World()
    connection = world.settled()
    session_id = world.charging(connection)
    decisions = world.say(connection, world.registration("CP1", price_per_kwh=Decimal("0.99")))
    assert only(frames(decisions, RegisterResponse)).status is Status.CHARGING
    assert decisions.closings == []
    assert moves(decisions, "CP1") == []
    assert decisions.faults == []
    assert world.charge_points["CP1"].price_per_kwh == Decimal("0.99")
    assert world.sessions[session_id].price_per_kwh == PRICE, "a charge keeps the price that its driver was told"


def test_registering_anew_after_a_lost_connection() -> None:
    world = World()
    world.gone(world.settled())
    assert world.status() is Status.DISCONNECTED
    world.settled()
    assert world.status() is Status.ACTIVE
    assert world.is_free()


def test_a_second_connection_replaces_the_first_only_when_it_registers() -> None:
    world = World()
    first = world.settled()
    second = world.came()
    assert world.say(second, world.auth("CP1")).closings == []
    beat = world.say(first, world.make(HeartbeatRequest, cp_id="CP1"))
    assert frames(beat, HeartbeatResponse, first)

    decisions = world.say(second, world.registration("CP1"))
    assert closed(decisions) == [(first, ConnectionReplaced)]
    assert only(frames(decisions, RegisterResponse, second)).status is Status.ACTIVE
    assert moves(decisions, "CP1") == ["FAULTY", "DISCONNECTED", "ACTIVE"]

    late = world.say(first, world.make(HeartbeatRequest, cp_id="CP1"))
    assert only(frames(late, ErrorResponse, first)).code == "not_authenticated"
    assert nothing_happened(world.gone(first))
    assert world.status() is Status.ACTIVE
    world.authorised()
    assert world.net.charge_points["CP1"].connection == second


def test_a_second_connection_without_the_key_replaces_nobody() -> None:
    world = World()
    first = world.settled()
    second = world.came()
    decisions = world.say(second, world.auth("CP1", "guessed"), world.registration("CP1"))
    assert closed(decisions) == [(second, AuthenticationFailed)]
    assert world.status() is Status.ACTIVE
    assert frames(world.say(first, world.make(HeartbeatRequest, cp_id="CP1")), HeartbeatResponse, first)


def test_a_connection_that_ends_before_it_registered_changes_nothing() -> None:
    world = World()
    world.settled()
    stranger = world.came()
    world.say(stranger, world.auth("CP1"))
    assert nothing_happened(world.gone(stranger))
    assert world.status() is Status.ACTIVE


@pytest.mark.parametrize("authenticated", [False, True])
def test_who_does_not_register_within_ten_seconds_is_disconnected(authenticated: bool) -> None:
    world = World()
    connection = world.came()
    if authenticated:
        world.say(connection, world.auth("CP1"))
    assert nothing_happened(world.wait(9.9))
    decisions = world.wait(0.1)
    assert closed(decisions) == [(connection, NotRegistered)]
    assert decisions.nothing_to_store
    assert decisions.counts == {"not_registered": 1}


def test_who_registers_within_ten_seconds_stays() -> None:
    world = World()
    connection = world.came()
    world.wait(9.9)
    world.say(connection, world.auth("CP1"), world.registration("CP1"))
    assert world.wait(0.2).closings == []
    assert world.status() is Status.ACTIVE


def test_a_connection_that_has_ended_has_no_registration_to_miss() -> None:
    world = World()
    world.gone(world.settled())
    world.gone(world.came())
    decisions = world.wait(10)
    assert decisions.closings == []
    assert decisions.counts == {}


def test_heartbeats_are_answered_and_keep_a_charge_point_alive() -> None:
    world = World()
    connection = world.settled()
    for _ in range(10):
        assert world.wait(89.9).closings == []
        beat = world.make(HeartbeatRequest, cp_id="CP1")
        assert only(frames(world.say(connection, beat), HeartbeatResponse)).in_reply_to == beat.message_id
    assert world.status() is Status.ACTIVE


def test_any_message_is_a_sign_of_life_even_a_refused_one() -> None:
    world = World()
    connection = world.settled()
    world.wait(60)
    world.say(connection, world.make(AvailableCpsRequest, driver_id="D1"))
    assert world.wait(60).closings == []
    assert world.status() is Status.ACTIVE


def test_silence_for_ninety_seconds_passes_through_faulty_to_disconnected() -> None:
    world = World()
    connection = world.settled()
    assert nothing_happened(world.wait(89.9))
    decisions = world.wait(0.1)
    assert closed(decisions) == [(connection, PeerSilent)]
    assert decisions.counts == {"peer_silent": 1}
    assert moves(decisions, "CP1") == ["FAULTY", "DISCONNECTED"]
    assert [(f.code, type(f)) for f in decisions.faults] == [(CONNECTION_LOST, FaultOpened)]
    assert world.status() is Status.DISCONNECTED
    assert not world.is_free()
    assert nothing_happened(world.gone(connection))
    assert nothing_happened(world.wait(1000))


def silent_in_the_end(world: World) -> bool:
    """Whether ninety seconds of silence, and no less, end the connection of the charge point."""
    assert world.wait(89.9).closings == []
    assert world.status() is not Status.DISCONNECTED
    return [kind for _, kind in closed(world.wait(0.1))] == [PeerSilent]


def test_silence_after_heartbeats_is_noticed() -> None:
    world = World()
    connection = world.settled()
    for _ in range(3):
        world.wait(40)
        world.say(connection, world.make(HeartbeatRequest, cp_id="CP1"))
    assert silent_in_the_end(world)


@pytest.mark.parametrize("away_s", [0, 5, 89.9, 90, 200])
def test_silence_after_a_reconnect_is_noticed_and_no_sooner_than_after_the_first(away_s: float) -> None:
    world = World()
    connection = world.settled()
    world.wait(30)
    world.gone(connection)
    world.wait(away_s)
    connection = world.came()
    world.say(connection, world.auth("CP1"))
    world.say(connection, world.registration("CP1"))  # and not a word more
    assert silent_in_the_end(world)


def test_silence_is_noticed_each_time() -> None:
    world = World()
    for _ in range(3):
        world.settled()
        assert silent_in_the_end(world)


def test_a_sign_of_life_in_the_very_batch_of_the_deadline_counts() -> None:
    world = World()
    connection = world.settled()
    world.seconds += 90
    assert world.say(connection, world.make(HeartbeatRequest, cp_id="CP1")).closings == []
    assert world.status() is Status.ACTIVE


def test_a_step_of_the_wall_clock_ends_nothing() -> None:
    world = World()
    world.settled()
    later = Instant(world.now.utc + timedelta(days=1), world.now.monotonic_s)
    assert nothing_happened(world.net.decide([], Known(), later))


@pytest.mark.parametrize("charges", [False, True])
def test_a_lost_connection_passes_through_faulty_and_leaves_the_session_open(charges: bool) -> None:
    world = World()
    connection = world.settled()
    session_id = world.charging(connection) if charges else None
    decisions = world.gone(connection)
    assert moves(decisions, "CP1") == ["FAULTY", "DISCONNECTED"]
    assert only(decisions.faults) == FaultOpened("CP1", CONNECTION_LOST, "the peer has closed", world.now.utc)
    assert decisions.sessions == {}
    assert decisions.records == []
    if session_id is not None:
        assert world.sessions[session_id].status is SessionStatus.CHARGING
        assert world.ask("D2").code == "charge_point_busy"
    assert nothing_happened(world.wait(200)), "nobody waits for the heartbeat of one who is gone"


def test_the_faults_of_a_lost_connection_end_with_it() -> None:
    world = World()
    connection = world.settled()
    world.say(connection, world.fault("ground_fault"), world.fault("over_temperature"))
    decisions = world.gone(connection)
    assert moves(decisions, "CP1") == ["DISCONNECTED"]
    assert decisions.faults == [
        FaultCleared("CP1", "ground_fault", world.now.utc),
        FaultCleared("CP1", "over_temperature", world.now.utc),
        FaultOpened("CP1", CONNECTION_LOST, "the peer has closed", world.now.utc),
    ]
    connection = world.settled()
    assert world.is_free()
    world.say(connection, world.fault("fan_slow"))
    world.say(connection, world.recovery("fan_slow"))
    assert world.is_free(), "the faults of before are forgotten"


def test_a_charge_point_that_reconnects_often_costs_no_more_than_one_that_stays() -> None:
    """However often it came back, at most one look at its heartbeat is due in 90 seconds."""
    world = World()
    for _ in range(50):
        connection = world.settled()
        world.wait(1)
        world.gone(connection)
    connection = world.settled()
    world.wait(15)
    world.say(connection, world.make(HeartbeatRequest, cp_id="CP1"))
    until_s = world.now.monotonic_s + 89
    looks = 0
    while world.net.next_deadline_s is not None and world.net.next_deadline_s <= until_s:
        world.wait(world.net.next_deadline_s - world.now.monotonic_s)
        looks += 1
    assert looks <= 2


# A charge is asked for


def test_a_charge_request_is_answered_commanded_and_stored_at_once() -> None:
    world = World()
    connection = world.settled()
    request = world.request("D1", "CP1", energy_wh=20_000)
    decisions = world.kafka(Topic.CHARGE_REQUESTS, request)

    answer = only(records(decisions, ChargeRequestResponse, "D1"))
    assert (answer.accepted, answer.in_reply_to, answer.code) == (True, request.message_id, None)
    assert (answer.cp_id, answer.price_per_kwh, answer.currency) == ("CP1", PRICE, "EUR")
    assert only(decisions.answers).message is answer

    command = only(frames(decisions, StartChargingCommand, connection))
    assert (command.cp_id, command.driver_id, command.energy_wh) == ("CP1", "D1", 20_000)

    session = only(list(decisions.sessions.values()))
    assert session.session_id == answer.session_id == command.session_id
    assert (session.status, session.request_id) == (SessionStatus.AUTHORISED, request.message_id)
    assert (session.cp_id, session.driver_id, session.target_energy_wh) == ("CP1", "D1", 20_000)
    assert (session.energy_wh, session.revision, session.requested_at) == (0, 0, world.now.utc)
    assert world.status() is Status.ACTIVE, "it charges once the charge point says so"
    assert not world.is_free()


def test_a_charge_may_be_asked_for_at_the_charge_point_itself() -> None:
    world = World()
    connection = world.settled()
    decisions = world.say(connection, world.request())
    assert only(frames(decisions, ChargeRequestResponse, connection)).accepted
    assert only(frames(decisions, StartChargingCommand, connection)).driver_id == "D1"
    assert records(decisions, ChargeRequestResponse) == []


def test_a_charge_point_cannot_ask_for_a_charge_elsewhere() -> None:
    world = World()
    connection = world.settled("CP1")
    world.settled("CP2")
    decisions = world.say(connection, world.request("D1", "CP2"))
    assert only(frames(decisions, ChargeRequestResponse, connection)).code == "not_yours"
    assert decisions.sessions == {}


REFUSALS = [
    "unknown_charge_point",
    "charge_point_busy",
    "driver_busy",
    "charge_point_faulty",
    "charge_point_unavailable",
    "out_of_service",
    "request_expired",
]


@pytest.mark.parametrize("code", REFUSALS)
def test_a_refusal_says_why_and_starts_nothing(code: str) -> None:
    world = World(
        charge_points=[
            ChargePoint("CP1", hash_key("key of CP1"), out_of_service=code == "out_of_service"),
            ChargePoint("CP2", hash_key("key of CP2")),
        ]
    )
    request = world.request("D1", "CP1")
    connection = world.settled("CP1") if code != "charge_point_unavailable" else world.came()
    match code:
        case "unknown_charge_point":
            request = world.request("D1", "CP9")
        case "charge_point_busy":
            world.charging(connection, "D2", "CP1")
        case "driver_busy":
            world.charging(world.settled("CP2"), "D1", "CP2")
        case "charge_point_faulty":
            world.say(connection, world.fault("ground_fault"))
        case "request_expired":
            world.seconds += 300.1
            world.say(connection, world.account())
    sessions_before = set(world.sessions)
    decisions = world.kafka(Topic.CHARGE_REQUESTS, request)
    answer = only(records(decisions, ChargeRequestResponse, request.driver_id))
    assert (answer.accepted, answer.code, answer.session_id) == (False, code, None)
    assert answer.in_reply_to == request.message_id
    assert answer.reason
    assert only(decisions.answers).message is answer
    assert decisions.counts == {code: 1}
    assert frames(decisions, StartChargingCommand) == []
    assert set(world.sessions) == sessions_before


def test_a_refusal_can_be_read_again_however_many_faults_it_names() -> None:
    """It is kept as JSON; one that cannot be decoded would stop Central when the request comes again."""
    world = World()
    connection = world.settled()
    world.say(connection, *(world.fault(f"{number}" + "x" * 60) for number in range(10, 30)))
    answer = world.ask()
    assert answer.code == "charge_point_faulty"
    assert messages.decode(messages.encode(answer)) == answer


def test_a_request_at_the_limit_of_its_age_is_still_good() -> None:
    world = World()
    request = world.request()
    world.wait(300)
    world.settled()
    decisions = world.kafka(Topic.CHARGE_REQUESTS, request)
    assert only(records(decisions, ChargeRequestResponse)).accepted


def test_a_driver_whom_nobody_admits_is_not_registered_by_a_refused_request() -> None:
    world = World(drivers=[])
    world.settled()
    decisions = world.kafka(Topic.CHARGE_REQUESTS, world.request("D9"))
    assert only(records(decisions, ChargeRequestResponse)).code == "unknown_driver"
    assert world.drivers == set()


def test_two_drivers_at_the_same_moment_get_one_charge_and_one_clear_refusal() -> None:
    world = World()
    connection = world.settled()
    decisions = world.kafka(Topic.CHARGE_REQUESTS, world.request("D1"), world.request("D2"))
    first, second = records(decisions, ChargeRequestResponse)
    assert (first.driver_id, first.accepted) == ("D1", True)
    assert (second.driver_id, second.accepted, second.code) == ("D2", False, "charge_point_busy")
    assert second.reason == "CP1 is taken by another charge"
    assert only(frames(decisions, StartChargingCommand, connection)).driver_id == "D1"
    assert len(decisions.sessions) == 1


def test_one_driver_at_two_charge_points_gets_one_charge() -> None:
    world = World()
    world.settled("CP1")
    world.settled("CP2")
    decisions = world.kafka(Topic.CHARGE_REQUESTS, world.request("D1", "CP1"), world.request("D1", "CP2"))
    first, second = records(decisions, ChargeRequestResponse)
    assert first.accepted
    assert (second.code, second.reason) == ("driver_busy", "D1 is already charging at CP1")


def test_a_request_that_comes_twice_in_a_batch_is_answered_twice_and_begun_once() -> None:
    world = World()
    connection = world.settled()
    request = world.request()
    decisions = world.kafka(Topic.CHARGE_REQUESTS, request, request)
    first, second = records(decisions, ChargeRequestResponse, "D1")
    assert first == second
    assert first.accepted
    assert len(frames(decisions, StartChargingCommand, connection)) == 1
    assert len(decisions.answers) == len(decisions.sessions) == 1
    assert decisions.counts == {"repeated_request": 1}


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("accepted", [True, False])
def test_a_request_that_comes_again_later_gets_its_first_answer(accepted: bool, restarted: bool) -> None:
    world = World()
    if accepted:
        world.settled()
    request = world.request()
    first = world.kafka(Topic.CHARGE_REQUESTS, request)
    if restarted:
        world.restart()
    if not accepted:
        world.settled()  # it would be accepted now
    again = world.kafka(Topic.CHARGE_REQUESTS, request)
    answer = only(records(again, ChargeRequestResponse, "D1"))
    assert answer == only(records(first, ChargeRequestResponse, "D1"))
    assert answer.accepted == accepted
    assert again.nothing_to_store
    assert again.frames == []


def test_a_request_that_comes_again_after_its_session_ended_begins_nothing() -> None:
    world = World()
    connection = world.settled()
    request = world.request()
    answer = only(records(world.kafka(Topic.CHARGE_REQUESTS, request), ChargeRequestResponse))
    assert answer.session_id is not None
    world.say(connection, world.completion(answer.session_id, 3, 500))
    world.restart()
    world.settled()
    again = world.kafka(Topic.CHARGE_REQUESTS, request)
    assert only(records(again, ChargeRequestResponse)) == answer
    assert again.frames == []
    assert again.nothing_to_store


def test_a_repeated_request_is_answered_even_when_it_has_grown_old() -> None:
    world = World()
    world.settled()
    request = world.request()
    first = only(records(world.kafka(Topic.CHARGE_REQUESTS, request), ChargeRequestResponse))
    world.wait(10_000)
    assert only(records(world.kafka(Topic.CHARGE_REQUESTS, request), ChargeRequestResponse)) == first


def test_a_crash_before_the_commit_leads_to_the_very_same_messages() -> None:
    world = World()
    world.settled()
    request = world.request()
    lost = world.net.decide(
        [published(Topic.CHARGE_REQUESTS, request)], Known(drivers={"D1": KnownDriver(key_of("D1"))}), world.now
    )
    world.restart()
    world.settled()
    again = world.kafka(Topic.CHARGE_REQUESTS, request)
    assert [record.message for record in again.records] == [record.message for record in lost.records]
    assert frames(again, StartChargingCommand) == frames(lost, StartChargingCommand)
    assert list(again.sessions) == list(lost.sessions)


# The start


def test_an_accepted_start_is_charging() -> None:
    world = World()
    connection = world.settled()
    session_id = world.authorised()
    world.wait(2)
    decisions = world.begun(connection, session_id)
    assert moves(decisions, "CP1") == ["CHARGING"]
    session = world.sessions[session_id]
    assert (session.status, session.started_at) == (SessionStatus.CHARGING, world.now.utc)
    update = only(records(decisions, ChargingStatusUpdate, "D1"))
    assert (update.session_id, update.status, update.energy_wh) == (session_id, SessionStatus.CHARGING, 0)
    assert nothing_happened(world.begun(connection, session_id)), "said twice, it changes nothing"


@pytest.mark.parametrize(
    ("error", "reason"),
    [(EngineUnavailable, EndReason.START_REJECTED), (VehicleMissing, EndReason.NO_VEHICLE)],
)
def test_a_rejected_start_fails_the_session_and_frees_charge_point_and_driver(
    error: type[WireError], reason: EndReason
) -> None:
    world = World()
    connection = world.settled()
    session_id = world.authorised()
    decisions = world.say(connection, world.verdict(session_id, "start", error))
    receipt = only(world.receipts(session_id))
    assert (receipt.status, receipt.end_reason) == (SessionStatus.FAILED, reason)
    assert (receipt.energy_wh, receipt.cost, receipt.revision) == (0, Decimal(0), 1)
    assert moves(decisions, "CP1") == []
    assert world.sessions[session_id].ended_at == world.now.utc
    assert world.is_free()
    assert nothing_happened(world.wait(10)), "its ten seconds are over with it"
    assert world.ask("D1").accepted


def test_a_start_without_an_answer_fails_after_ten_seconds() -> None:
    world = World()
    connection = world.settled()
    session_id = world.authorised()
    assert nothing_happened(world.wait(9.9))
    decisions = world.wait(0.1)
    session = world.sessions[session_id]
    assert (session.status, session.end_reason) == (SessionStatus.FAILED, EndReason.START_TIMEOUT)
    receipt = only(records(decisions, ChargeCompletionResponse, "D1"))
    assert (receipt.session_id, receipt.energy_wh, receipt.revision) == (session_id, 0, 1)
    assert len(decisions.records) == 1
    stop = only(frames(decisions, StopChargingCommand, connection))
    assert stop.session_id == session_id
    assert world.status() is Status.ACTIVE
    assert world.is_free()
    assert nothing_happened(world.begun(connection, session_id)), "an answer that comes too late changes nothing"


def test_a_start_that_was_answered_in_time_does_not_fail_later() -> None:
    world = World()
    connection = world.settled()
    session_id = world.charging(connection)
    world.wait(11)
    assert world.sessions[session_id].status is SessionStatus.CHARGING


def test_after_a_restart_central_waits_ten_seconds_again() -> None:
    world = World()
    world.settled()
    session_id = world.authorised()
    world.seconds += 9
    world.restart()
    world.wait(9.9)
    assert world.sessions[session_id].status is SessionStatus.AUTHORISED
    world.wait(0.1)
    assert world.sessions[session_id].status is SessionStatus.FAILED


def test_a_rejection_of_a_start_that_is_already_charging_changes_nothing() -> None:
    world = World()
    connection = world.settled()
    session_id = world.charging(connection)
    assert nothing_happened(world.say(connection, world.verdict(session_id, "start", VehicleMissing)))


# Readings


def test_the_first_reading_begins_a_session_whose_answer_is_still_under_way() -> None:
    world = World()
    connection = world.settled()
    session_id = world.authorised()
    world.wait(3)
    decisions = world.kafka(Topic.SESSION_DATA, world.reading(session_id, 0, 0))
    assert moves(decisions, "CP1") == ["CHARGING"]
    assert world.sessions[session_id].started_at == world.now.utc
    assert nothing_happened(world.begun(connection, session_id))


def test_a_reading_tells_the_driver_how_the_charge_stands() -> None:
    world = World()
    connection = world.settled()
    session_id = world.charging(connection)
    world.wait(1)
    decisions = world.say(connection, world.reading(session_id, 1, 1_234, power_w=11_000, soc_percent=61.5))
    update = only(records(decisions, ChargingStatusUpdate, "D1"))
    assert (update.energy_wh, update.power_w, update.soc_percent) == (1_234, 11_000, 61.5)
    assert (update.cost, update.currency) == (Decimal("0.56"), "EUR")
    stored = world.sessions[session_id]
    assert (stored.energy_wh, stored.last_seq) == (1_234, 1)


@pytest.mark.parametrize("kafka_first", [True, False])
def test_a_reading_that_comes_both_ways_counts_once(kafka_first: bool) -> None:
    world = World()
    connection = world.settled()
    session_id = world.charging(connection)
    reading = world.reading(session_id, 1, 100)
    both: list[Input] = [published(Topic.SESSION_DATA, reading), FromMonitor(connection, reading)]
    first, second = both if kafka_first else both[::-1]
    assert only(world.give(first).meter_values).energy_wh == 100
    decisions = world.give(second)
    assert nothing_happened(decisions)
    assert decisions.counts == {"repeated_reading": 1}


def test_readings_out_of_order_are_ignored() -> None:
    world = World()
    session_id = world.charging(world.settled())
    world.kafka(Topic.SESSION_DATA, world.reading(session_id, 5, 500))
    late = [
        world.reading(session_id, 3, 300),
        world.reading(session_id, 4, 400),
        world.reading(session_id, 5, 490),
    ]
    decisions = world.kafka(Topic.SESSION_DATA, *late)
    assert nothing_happened(decisions)
    assert decisions.counts == {"repeated_reading": 3}
    assert world.sessions[session_id].energy_wh == 500


def test_a_charge_point_has_so_many_faults_and_no_more() -> None:
    world = World()
    connection = world.settled()
    for number in range(MAX_FAULTS):
        assert frames(world.say(connection, world.fault(f"fault_{number}")), ErrorResponse) == []
    one_more = world.say(connection, world.fault("one_more"))
    assert only(frames(one_more, ErrorResponse)).code == "invalid_field"
    assert one_more.nothing_to_store
    assert frames(world.say(connection, world.fault("fault_0")), ErrorResponse) == [], "it is known"
    world.say(connection, world.recovery("fault_0"))
    assert frames(world.say(connection, world.fault("one_more")), ErrorResponse) == []


def test_a_meter_that_runs_backwards_is_refused() -> None:
    world = World()
    connection = world.settled()
    session_id = world.charging(connection)
    world.say(connection, world.reading(session_id, 1, 500))
    backwards = world.reading(session_id, 2, 499)
    decisions = world.say(connection, backwards)
    error = only(frames(decisions, ErrorResponse, connection))
    assert (error.code, error.in_reply_to) == ("invalid_field", backwards.message_id)
    assert decisions.nothing_to_store
    assert world.kafka(Topic.SESSION_DATA, backwards).records == [], "no driver hears of it"
    assert world.sessions[session_id].energy_wh == 500


def test_a_reading_or_a_completion_of_a_session_elsewhere_is_refused() -> None:
    world = World()
    session_id = world.charging(world.settled("CP1"))
    other = world.settled("CP2")
    for message in (
        world.reading(session_id, 1, 900, cp_id="CP2"),
        world.completion(session_id, 1, 900, cp_id="CP2"),
    ):
        decisions = world.say(other, message)
        assert only(frames(decisions, ErrorResponse, other)).code == "not_yours"
        assert decisions.nothing_to_store
    assert world.sessions[session_id].energy_wh == 0


def test_a_command_response_about_a_session_elsewhere_is_refused() -> None:
    world = World()
    world.settled("CP1")
    session_id = world.authorised("D1", "CP1")
    other = world.settled("CP2")
    for error_class in (None, UnknownSession):
        verdict = world.make(
            CommandResponse,
            cp_id="CP2",
            session_id=session_id,
            in_reply_to=derived_id(session_id, "start"),
            accepted=error_class is None,
            code=error_class.code if error_class else None,
        )
        decisions = world.say(other, verdict)
        assert only(frames(decisions, ErrorResponse, other)).code == "not_yours"
        assert decisions.nothing_to_store


def test_of_the_readings_the_first_every_fifteenth_second_and_the_last_are_kept() -> None:
    world = World()
    connection = world.settled()
    session_id = world.charging(connection)
    for seq in range(40):
        world.say(connection, world.reading(session_id, seq, 10 * seq))
        world.wait(1)
    world.say(connection, world.completion(session_id, 40, 400))
    kept = [(value.seq, value.energy_wh) for value in world.everything.meter_values]
    assert kept == [(0, 0), (15, 150), (30, 300), (40, 400)]
    number = world.sessions[session_id].number
    assert all(value.session_number == number for value in world.everything.meter_values)


@pytest.mark.parametrize("end", ["engine silent", "lost", "no sign of life", "a completion with less"])
def test_the_last_reading_is_kept_however_the_session_ends(end: str) -> None:
    world = World()
    connection = world.settled()
    session_id = world.charging(connection)
    for seq in range(4):
        world.say(connection, world.reading(session_id, seq, 100 * seq))
        world.wait(1)
    match end:
        case "engine silent":
            world.say(connection, world.fault(ENGINE_SILENT))
        case "lost":
            world.say(connection, world.verdict(session_id, "stop", UnknownSession))
        case "no sign of life":
            world.wait(3600)
        case "a completion with less":
            world.say(connection, world.completion(session_id, 4, 250, EndReason.ENGINE_RESTARTED))
    assert not world.sessions[session_id].is_open
    assert [(value.seq, value.energy_wh) for value in world.everything.meter_values] == [(0, 0), (3, 300)]


def test_a_last_reading_that_was_kept_already_is_not_kept_twice() -> None:
    world = World()
    connection = world.settled()
    session_id = world.charging(connection)
    world.say(connection, world.reading(session_id, 0, 0))
    world.say(connection, world.fault(ENGINE_SILENT))
    assert [value.seq for value in world.everything.meter_values] == [0]


def test_sessions_are_numbered_in_order_of_their_requests_also_after_a_restart() -> None:
    world = World()
    one = world.charging(world.settled("CP1"), "D1", "CP1")
    world.restart()
    world.settled("CP2")
    two = world.authorised("D2", "CP2")
    assert [world.sessions[session_id].number for session_id in (one, two)] == [1, 2]


def test_a_batch_of_readings_makes_one_status_update_a_session() -> None:
    world = World()
    one, two = world.settled("CP1"), world.settled("CP2")
    first, second = world.charging(one, "D1", "CP1"), world.charging(two, "D2", "CP2")
    world.wait(1)
    batch = [world.reading(of, seq, 10 * seq) for seq in range(1, 20) for of in (first, second)]
    decisions = world.kafka(Topic.SESSION_DATA, *batch)
    updates = records(decisions, ChargingStatusUpdate)
    assert [(update.session_id, update.energy_wh) for update in updates] == [(first, 190), (second, 190)]


def test_readings_that_come_faster_than_anybody_reads_them_are_told_about_once_a_second() -> None:
    world = World()
    session_id = world.charging(world.settled())
    world.wait(1)
    told = []
    for seq in range(1, 41):
        decisions = world.kafka(Topic.SESSION_DATA, world.reading(session_id, seq, 10 * seq))
        assert [session.energy_wh for session in decisions.metered] == [10 * seq], "each is stored at once"
        told += records(decisions, ChargingStatusUpdate) + records(world.wait(0.0625), ChargingStatusUpdate)
    assert [update.energy_wh for update in told] == [10, 150, 300]
    told = records(world.wait(0.9), ChargingStatusUpdate)
    assert [update.energy_wh for update in told] == [400], "the last one is told, whatever comes after it"
    assert records(world.wait(60), ChargingStatusUpdate) == []


def test_those_who_wait_to_be_told_are_told_each_at_their_own_time() -> None:
    """Not all at once, which in a large network would hold up whoever asks for something."""
    world = World()
    sessions = {cp_id: world.charging(world.settled(cp_id), f"D{cp_id[2:]}", cp_id) for cp_id in ("CP1", "CP2")}

    def reading(cp_id: str, seq: int) -> list[ChargingStatusUpdate]:
        said = world.kafka(Topic.SESSION_DATA, world.reading(sessions[cp_id], seq, 10 * seq))
        return records(said, ChargingStatusUpdate)

    def after(seconds: float) -> list[tuple[str, int]]:
        return [(told.cp_id, told.energy_wh) for told in records(world.wait(seconds), ChargingStatusUpdate)]

    world.wait(1)
    assert len(reading("CP1", 1)) == 1
    world.wait(0.5)
    assert len(reading("CP2", 1)) == 1
    assert reading("CP1", 2) == reading("CP2", 2) == []
    assert after(0.375) == []
    assert after(0.0625) == [("CP1", 20)]
    assert after(0.375) == []
    assert after(0.125) == [("CP2", 20)]
    assert after(60) == []


def test_what_was_to_be_told_of_a_session_that_has_ended_meanwhile_is_not() -> None:
    world = World()
    session_id = world.charging(world.settled())
    world.wait(1)
    for seq in (1, 2):
        world.kafka(Topic.SESSION_DATA, world.reading(session_id, seq, 10 * seq))
    world.kafka(Topic.SESSION_COMPLETE, world.completion(session_id, 3, 30))
    assert records(world.wait(60), ChargingStatusUpdate) == []


def test_a_session_that_ends_in_the_batch_gets_its_receipt_and_no_status_update() -> None:
    world = World()
    session_id = world.charging(world.settled())
    decisions = world.give(
        published(Topic.SESSION_DATA, world.reading(session_id, 1, 100)),
        published(Topic.SESSION_COMPLETE, world.completion(session_id, 2, 150)),
    )
    assert [type(record.message) for record in decisions.records] == [ChargeCompletionResponse]


def test_a_reading_of_a_session_that_has_ended_is_only_counted() -> None:
    world = World()
    connection = world.settled()
    session_id = world.charging(connection)
    world.say(connection, world.completion(session_id, 5, 500))
    decisions = world.kafka(Topic.SESSION_DATA, world.reading(session_id, 4, 400))
    assert nothing_happened(decisions)
    assert decisions.counts == {"late_reading": 1}


# The completion


def test_a_completion_ends_the_session_and_writes_the_receipt() -> None:
    world = World()
    connection = world.settled()
    session_id = world.charging(connection)
    started_at = world.now.utc
    world.wait(60)
    completion = world.completion(session_id, 9, 1_234, EndReason.TARGET_REACHED, soc_percent=80.0)
    decisions = world.kafka(Topic.SESSION_COMPLETE, completion)

    receipt = only(records(decisions, ChargeCompletionResponse, "D1"))
    assert (receipt.session_id, receipt.driver_id, receipt.cp_id) == (session_id, "D1", "CP1")
    assert (receipt.status, receipt.end_reason) == (SessionStatus.COMPLETED, EndReason.TARGET_REACHED)
    assert (receipt.energy_wh, receipt.price_per_kwh, receipt.cost) == (1_234, PRICE, Decimal("0.56"))
    assert (receipt.requested_at, receipt.started_at, receipt.ended_at) == (started_at, started_at, world.now.utc)
    assert (receipt.revision, receipt.in_reply_to) == (1, completion.message_id)
    assert len(decisions.records) == 1
    assert only(frames(decisions, ChargeCompletionResponse, connection)) == receipt
    assert moves(decisions, "CP1") == ["ACTIVE"]
    assert world.is_free()
    assert world.ask("D1").accepted


def test_a_completion_by_kafka_and_by_the_monitor_is_billed_once_and_acknowledged_twice() -> None:
    world = World()
    connection = world.settled()
    session_id = world.charging(connection)
    completion = world.completion(session_id, 9, 500)
    first = world.kafka(Topic.SESSION_COMPLETE, completion)
    second = world.say(connection, completion)
    receipts = [only(frames(d, ChargeCompletionResponse, connection)) for d in (first, second)]
    assert receipts[0] == receipts[1]
    assert second.records == []
    assert second.nothing_to_store
    assert len(world.receipts(session_id)) == 1


def test_the_same_within_one_batch() -> None:
    world = World()
    connection = world.settled()
    session_id = world.charging(connection)
    completion = world.completion(session_id, 9, 500)
    decisions = world.give(FromMonitor(connection, completion), published(Topic.SESSION_COMPLETE, completion))
    assert len(frames(decisions, ChargeCompletionResponse, connection)) == 2
    assert len(decisions.records) == len(world.receipts(session_id)) == 1


def test_a_completion_that_is_sent_again_after_a_restart_is_acknowledged_and_not_billed() -> None:
    world = World()
    connection = world.settled()
    session_id = world.charging(connection)
    completion = world.completion(session_id, 9, 500)
    world.kafka(Topic.SESSION_COMPLETE, completion)
    world.restart()
    connection = world.connect()
    decisions = world.say(connection, completion)
    assert only(frames(decisions, ChargeCompletionResponse, connection)).energy_wh == 500
    assert decisions.records == []
    assert decisions.nothing_to_store


def test_a_completion_that_overtakes_the_command_response() -> None:
    world = World()
    connection = world.settled()
    session_id = world.authorised()
    started_at = world.now.utc
    completion = world.completion(session_id, 3, 700, EndReason.UNPLUGGED)
    decisions = world.kafka(Topic.SESSION_COMPLETE, completion)
    assert moves(decisions, "CP1") == ["CHARGING", "ACTIVE"]
    receipt = only(world.receipts(session_id))
    assert (receipt.status, receipt.energy_wh, receipt.started_at) == (SessionStatus.COMPLETED, 700, started_at)
    assert nothing_happened(world.begun(connection, session_id))


def test_a_charge_for_which_no_vehicle_came_has_failed() -> None:
    world = World()
    session_id = world.charging(world.settled())
    world.kafka(Topic.SESSION_COMPLETE, world.completion(session_id, 1, 0, EndReason.NO_VEHICLE))
    receipt = only(world.receipts(session_id))
    assert (receipt.status, receipt.end_reason, receipt.energy_wh) == (
        SessionStatus.FAILED,
        EndReason.NO_VEHICLE,
        0,
    )


def test_a_completion_that_overtakes_the_command_response_of_a_charge_that_broke_off() -> None:
    world = World()
    world.settled()
    session_id = world.authorised()
    world.kafka(Topic.SESSION_COMPLETE, world.completion(session_id, 3, 700, EndReason.FAULT))
    receipt = only(world.receipts(session_id))
    assert (receipt.status, receipt.energy_wh) == (SessionStatus.INTERRUPTED, 700)
    assert receipt.started_at is not None


@pytest.mark.parametrize(
    ("reason", "status", "started"),
    [
        (EndReason.STOPPED, SessionStatus.COMPLETED, True),
        (EndReason.NO_VEHICLE, SessionStatus.FAILED, False),
        (EndReason.FAULT, SessionStatus.FAILED, False),
    ],
)
def test_a_completion_over_nothing_of_a_session_that_had_not_begun(
    reason: EndReason, status: SessionStatus, started: bool
) -> None:
    world = World()
    world.settled()
    session_id = world.authorised()
    world.kafka(Topic.SESSION_COMPLETE, world.completion(session_id, 0, 0, reason))
    receipt = only(world.receipts(session_id))
    assert (receipt.status, receipt.end_reason, receipt.cost) == (status, reason, Decimal(0))
    assert (receipt.started_at is not None) == started
    assert world.is_free()


def test_what_the_meter_had_already_said_stands_against_a_completion_with_less() -> None:
    world = World()
    connection = world.settled()
    session_id = world.charging(connection)
    world.say(connection, world.reading(session_id, 7, 700))
    world.say(connection, world.completion(session_id, 7, 690, EndReason.ENGINE_RESTARTED))
    receipt = only(world.receipts(session_id))
    assert (receipt.energy_wh, receipt.status) == (700, SessionStatus.INTERRUPTED)


@pytest.mark.parametrize("way", ["monitor", "kafka"])
def test_a_completion_of_an_unknown_session(way: str) -> None:
    world = World()
    connection = world.settled()
    session_id = UUID(int=77)
    completion = world.make(
        ChargeCompletion,
        cp_id="CP1",
        session_id=session_id,
        driver_id="D1",
        seq=3,
        energy_wh=100,
        end_reason=EndReason.STOPPED,
        started_at=world.now.utc,
        ended_at=world.now.utc,
    )
    if way == "monitor":
        decisions = world.say(connection, completion)
        error = only(frames(decisions, ErrorResponse, connection))
        assert (error.code, error.in_reply_to) == ("unknown_session", completion.message_id)
    else:
        decisions = world.kafka(Topic.SESSION_COMPLETE, completion)
        assert decisions.frames == []
    assert decisions.records == []
    assert decisions.sessions == {}
    assert decisions.counts == {"unknown_session": 1}


@pytest.mark.parametrize("begun", [True, False])
@pytest.mark.parametrize(
    "reason",
    [
        EndReason.START_REJECTED,
        EndReason.START_TIMEOUT,
        EndReason.ENGINE_LOST,
        EndReason.LOST_BY_CHARGE_POINT,
        EndReason.NO_SIGN_OF_LIFE,
    ],
)
def test_a_completion_with_a_reason_that_is_not_the_charge_point_s_is_refused(
    reason: EndReason, begun: bool
) -> None:
    """These are Central's, for want of a completion. The session stays as it was, for one that makes sense."""
    world = World()
    connection = world.settled()
    session_id = world.authorised()
    if begun:
        world.begun(connection, session_id)
    before = replace(world.sessions[session_id])
    decisions = world.say(connection, world.completion(session_id, 9, 500, reason))
    assert only(frames(decisions, ErrorResponse, connection)).code == "invalid_field"
    assert decisions.nothing_to_store
    assert replace(world.net.sessions[session_id], last_heard_s=0.0) == before


def test_a_completed_session_is_final_and_a_greater_completion_is_no_bug_of_ours() -> None:
    world = World()
    connection = world.settled()
    session_id = world.charging(connection)
    world.say(connection, world.completion(session_id, 9, 500, EndReason.TARGET_REACHED))
    decisions = world.say(connection, world.completion(session_id, 10, 900, EndReason.TARGET_REACHED))
    assert only(frames(decisions, ChargeCompletionResponse, connection)).energy_wh == 500
    assert decisions.records == []
    assert decisions.sessions == {}


# Settling what Central had given up


def gave_up(world: World, reason: EndReason) -> tuple[int, UUID]:
    """A session of 1,000 Wh that Central has closed as `engine_lost`, or of none, closed as `start_timeout`."""
    connection = world.settled()
    if reason is EndReason.ENGINE_LOST:
        session_id = world.charging(connection)
        world.say(connection, world.reading(session_id, 4, 1_000), world.fault(ENGINE_SILENT))
    else:
        session_id = world.authorised()
        world.wait(10)
    assert world.sessions[session_id].end_reason is reason
    return connection, session_id


GIVEN_UP = [(EndReason.ENGINE_LOST, SessionStatus.INTERRUPTED), (EndReason.START_TIMEOUT, SessionStatus.FAILED)]


@pytest.mark.parametrize(("reason", "status"), GIVEN_UP)
@pytest.mark.parametrize("restarted", [False, True])
def test_a_late_completion_with_more_energy_is_billed_once_on_a_second_revision(
    reason: EndReason, status: SessionStatus, restarted: bool
) -> None:
    world = World()
    connection, session_id = gave_up(world, reason)
    if restarted:
        world.restart()
        connection = world.connect()
    completion = world.completion(session_id, 9, 1_800, EndReason.TARGET_REACHED)
    decisions = world.say(connection, completion)
    receipt = only(records(decisions, ChargeCompletionResponse, "D1"))
    assert (receipt.revision, receipt.energy_wh, receipt.cost) == (2, 1_800, Decimal("0.81"))
    assert (receipt.status, receipt.end_reason) == (SessionStatus.INTERRUPTED, EndReason.TARGET_REACHED)
    assert only(frames(decisions, ChargeCompletionResponse, connection)) == receipt
    assert only(decisions.meter_values).energy_wh == 1_800
    assert world.sessions[session_id].revision == 2

    for again in (world.kafka(Topic.SESSION_COMPLETE, completion), world.say(connection, completion)):
        assert only(frames(again, ChargeCompletionResponse, connection)).revision == 2
        assert again.records == []
        assert again.nothing_to_store
    first, second = world.receipts(session_id)
    assert first.status is status
    assert first.message_id != second.message_id


@pytest.mark.parametrize(("reason", "status"), GIVEN_UP)
def test_a_late_completion_with_no_more_energy_changes_nothing(reason: EndReason, status: SessionStatus) -> None:
    world = World()
    connection, session_id = gave_up(world, reason)
    before = replace(world.sessions[session_id])
    completion = world.completion(session_id, 5, before.energy_wh, EndReason.ENGINE_RESTARTED)
    for decisions in (world.say(connection, completion), world.kafka(Topic.SESSION_COMPLETE, completion)):
        receipt = only(frames(decisions, ChargeCompletionResponse, connection))
        assert (receipt.revision, receipt.status) == (1, status)
        assert decisions.records == []
    assert world.sessions[session_id] == replace(before, completion_id=completion.message_id)


def test_a_late_completion_does_not_touch_the_charge_that_runs_meanwhile() -> None:
    world = World()
    connection, late_id = gave_up(world, EndReason.START_TIMEOUT)
    running_id = world.charging(connection, "D2")
    decisions = world.say(connection, world.completion(late_id, 9, 1_800))
    assert only(records(decisions, ChargeCompletionResponse)).session_id == late_id
    assert len(decisions.records) == 1
    assert moves(decisions, "CP1") == []
    assert world.status() is Status.CHARGING
    assert world.sessions[running_id].is_open
    world.say(connection, world.reading(running_id, 1, 10))
    assert world.sessions[running_id].energy_wh == 10


def test_a_settled_session_is_the_late_one_s_own_driver_s() -> None:
    world = World()
    connection, late_id = gave_up(world, EndReason.START_TIMEOUT)
    world.charging(connection, "D2")
    decisions = world.say(connection, world.completion(late_id, 9, 1_800, driver_id="D2"))
    assert only(decisions.records).driver_id == "D1"


def test_receipts_that_a_crash_kept_back_are_published_again_the_same() -> None:
    world = World()
    connection = world.settled()
    session_id = world.charging(connection)
    world.say(connection, world.completion(session_id, 9, 500))
    world.restart()
    decisions = world.net.republish_receipts([replace(world.sessions[session_id])], world.now)
    record = only(decisions.records)
    first = only(world.receipts(session_id))
    assert isinstance(record.message, ChargeCompletionResponse)
    assert (record.driver_id, record.message.session_id) == ("D1", session_id)
    assert (record.message.message_id, record.message.cost) == (first.message_id, first.cost)
    assert decisions.nothing_to_store
    assert decisions.frames == []
    assert world.give().records == []


# The charge point's account of itself, after it was away


def test_a_session_that_still_runs_goes_on() -> None:
    world = World()
    connection = world.settled()
    session_id = world.charging(connection)
    world.gone(connection)
    connection = world.connect()
    decisions = world.say(connection, world.account(session_id=session_id))
    assert moves(decisions, "CP1") == ["CHARGING"]
    assert decisions.frames == []
    assert decisions.records == []
    assert world.sessions[session_id].status is SessionStatus.CHARGING


def test_a_session_whose_start_was_taken_before_the_connection_broke_has_begun() -> None:
    world = World()
    connection = world.settled()
    session_id = world.authorised()
    world.gone(connection)
    connection = world.connect()
    decisions = world.say(connection, world.account(session_id=session_id))
    assert moves(decisions, "CP1") == ["CHARGING"]
    assert decisions.frames == []
    assert world.sessions[session_id].status is SessionStatus.CHARGING


@pytest.mark.parametrize("begun", [True, False])
def test_a_session_that_is_unsettled_waits_for_its_completion(begun: bool) -> None:
    world = World()
    connection = world.settled()
    session_id = world.charging(connection) if begun else world.authorised()
    world.gone(connection)
    connection = world.connect()
    decisions = world.say(connection, world.account(unsettled_session_ids=[UUID(int=3), session_id]))
    assert nothing_happened(decisions)
    world.say(connection, world.completion(session_id, 9, 500))
    assert only(world.receipts(session_id)).energy_wh == 500


def test_a_session_that_the_charge_point_does_not_know_any_more_is_closed() -> None:
    world = World()
    connection = world.settled()
    session_id = world.charging(connection)
    world.say(connection, world.reading(session_id, 4, 1_000))
    world.gone(connection)
    connection = world.connect()
    decisions = world.say(connection, world.account())
    receipt = only(records(decisions, ChargeCompletionResponse, "D1"))
    assert (receipt.end_reason, receipt.energy_wh) == (EndReason.LOST_BY_CHARGE_POINT, 1_000)
    assert receipt.status is SessionStatus.INTERRUPTED
    assert world.status() is Status.ACTIVE
    assert world.is_free()


def test_a_start_command_that_was_lost_is_sent_again_the_same() -> None:
    world = World()
    connection = world.settled()
    decisions = world.kafka(Topic.CHARGE_REQUESTS, world.request(energy_wh=9_000))
    lost = only(frames(decisions, StartChargingCommand, connection))
    world.gone(connection)
    connection = world.connect()
    again = only(frames(world.say(connection, world.account()), StartChargingCommand, connection))
    assert again == lost
    world.begun(connection, lost.session_id)
    assert world.status() is Status.CHARGING


def test_the_account_counts_only_while_the_engine_is_connected() -> None:
    world = World()
    connection = world.settled()
    session_id = world.charging(connection)
    world.gone(connection)
    connection = world.connect()
    assert nothing_happened(world.say(connection, world.account(engine_connected=False)))
    assert world.sessions[session_id].is_open
    world.say(connection, world.account(session_id=session_id))
    assert world.status() is Status.CHARGING


def test_only_the_first_account_settles() -> None:
    """A later one may be older than the command that is on its way."""
    world = World()
    connection = world.settled()
    session_id = world.charging(connection)
    assert nothing_happened(world.say(connection, world.account()))
    assert world.sessions[session_id].status is SessionStatus.CHARGING


def test_after_a_restart_of_central_the_session_is_settled_likewise() -> None:
    world = World()
    connection = world.settled()
    session_id = world.charging(connection)
    world.restart()
    connection = world.connect()
    world.say(connection, world.account(session_id=session_id))
    assert world.status() is Status.CHARGING
    world.say(connection, world.completion(session_id, 9, 500))
    assert only(world.receipts(session_id)).status is SessionStatus.COMPLETED


@pytest.mark.parametrize("settling", [True, False])
@pytest.mark.parametrize("known", [True, False])
def test_a_charge_for_no_open_session_is_stopped(known: bool, settling: bool) -> None:
    world = World()
    connection = world.settled()
    session_id = UUID(int=99)
    if known:
        session_id = world.authorised()
        world.wait(10)
    if settling:
        world.gone(connection)
        connection = world.connect()
    decisions = world.say(connection, world.account(session_id=session_id))
    stop = only(frames(decisions, StopChargingCommand, connection))
    assert (stop.session_id, stop.cp_id) == (session_id, "CP1")
    assert decisions.nothing_to_store


# Faults


def test_a_fault_makes_a_charge_point_faulty_until_it_is_cleared() -> None:
    world = World()
    connection = world.settled()
    decisions = world.say(connection, world.fault("ground_fault"))
    assert moves(decisions, "CP1") == ["FAULTY"]
    assert only(decisions.faults) == FaultOpened("CP1", "ground_fault", "ground_fault, it says", world.now.utc)
    assert not world.is_free()
    decisions = world.say(connection, world.recovery("ground_fault"))
    assert moves(decisions, "CP1") == ["ACTIVE"]
    assert only(decisions.faults) == FaultCleared("CP1", "ground_fault", world.now.utc)
    assert world.is_free()


def test_of_two_faults_both_must_be_cleared() -> None:
    world = World()
    connection = world.settled()
    world.say(connection, world.fault("ground_fault"))
    decisions = world.say(connection, world.fault("over_temperature"))
    assert moves(decisions, "CP1") == []
    assert only(decisions.faults) == FaultOpened(
        "CP1", "over_temperature", "over_temperature, it says", world.now.utc
    )
    decisions = world.say(connection, world.recovery("ground_fault"))
    assert moves(decisions, "CP1") == []
    assert only(decisions.faults) == FaultCleared("CP1", "ground_fault", world.now.utc)
    assert world.status() is Status.FAULTY
    assert moves(world.say(connection, world.recovery("over_temperature")), "CP1") == ["ACTIVE"]


def test_a_fault_told_twice_is_one_and_an_unknown_recovery_is_none() -> None:
    world = World()
    connection = world.settled()
    decisions = world.say(connection, world.fault("ground_fault"), world.fault("ground_fault"))
    assert len(decisions.faults) == 1
    assert nothing_happened(world.say(connection, world.recovery("over_temperature")))
    assert world.status() is Status.FAULTY
    world.say(connection, world.recovery("ground_fault"))
    assert nothing_happened(world.say(connection, world.recovery("ground_fault")))
    assert world.status() is Status.ACTIVE


def test_central_s_own_fault_is_no_monitor_s_to_report() -> None:
    world = World()
    connection = world.settled()
    decisions = world.say(connection, world.fault(CONNECTION_LOST))
    assert only(frames(decisions, ErrorResponse, connection)).code == "invalid_field"
    assert decisions.nothing_to_store
    assert world.is_free()


def test_a_charge_that_has_not_begun_is_not_shown_as_charging_after_a_fault() -> None:
    world = World()
    connection = world.settled()
    session_id = world.authorised()
    world.say(connection, world.fault("fan_slow"))
    world.say(connection, world.account(session_id=None, unsettled_session_ids=[session_id]))
    assert moves(world.say(connection, world.recovery("fan_slow")), "CP1") == ["ACTIVE"]


def test_a_refusal_at_a_faulty_charge_point_names_its_faults() -> None:
    world = World()
    world.say(world.settled(), world.fault("over_temperature"), world.fault("ground_fault"))
    assert world.ask().reason == "CP1 is faulty: ground_fault, over_temperature"


@pytest.mark.parametrize("begun", [True, False])
def test_a_silent_engine_closes_the_session_with_its_last_reading(begun: bool) -> None:
    world = World()
    connection = world.settled()
    session_id = world.charging(connection) if begun else world.authorised()
    if begun:
        world.say(connection, world.reading(session_id, 4, 1_000))
    decisions = world.say(connection, world.fault(ENGINE_SILENT))
    assert moves(decisions, "CP1") == ["FAULTY"]
    receipt = only(records(decisions, ChargeCompletionResponse, "D1"))
    assert receipt.end_reason is EndReason.ENGINE_LOST
    assert (receipt.status, receipt.energy_wh) == (
        (SessionStatus.INTERRUPTED, 1_000) if begun else (SessionStatus.FAILED, 0)
    )
    assert world.status() is Status.FAULTY
    assert moves(world.say(connection, world.recovery(ENGINE_SILENT)), "CP1") == ["ACTIVE"]
    assert world.is_free()


def test_a_silent_engine_without_a_session_closes_none() -> None:
    world = World()
    decisions = world.say(world.settled(), world.fault(ENGINE_SILENT))
    assert decisions.sessions == {}
    assert decisions.records == []


def test_a_charge_outlives_an_engine_that_is_lost_and_found_in_time() -> None:
    world = World()
    connection = world.settled()
    session_id = world.charging(connection)
    assert moves(world.say(connection, world.fault(ENGINE_LOST)), "CP1") == ["FAULTY"]
    assert world.sessions[session_id].is_open
    world.say(connection, world.account(engine_connected=False, status=Status.FAULTY))
    recovered = world.say(connection, world.recovery(ENGINE_LOST))
    assert moves(recovered, "CP1") == ["ACTIVE"], "whether it still charges is not known yet"
    decisions = world.say(connection, world.account(session_id=session_id))
    assert moves(decisions, "CP1") == ["CHARGING"]
    assert decisions.records == []


def test_an_engine_that_comes_back_empty_has_lost_the_session() -> None:
    world = World()
    connection = world.settled()
    session_id = world.charging(connection)
    world.say(connection, world.fault(ENGINE_LOST))
    world.say(connection, world.recovery(ENGINE_LOST), world.account())
    assert only(world.receipts(session_id)).end_reason is EndReason.LOST_BY_CHARGE_POINT


def test_a_charge_that_outlived_its_fault_is_shown_whatever_was_told_first() -> None:
    """The account may come before the recovery; the state shown is the state that is."""
    world = World()
    connection = world.settled()
    session_id = world.charging(connection)
    world.say(connection, world.fault("fan_slow"))
    world.say(connection, world.account(session_id=session_id, status=Status.FAULTY))
    world.say(connection, world.recovery("fan_slow"))
    assert world.sessions[session_id].status is SessionStatus.CHARGING
    assert world.status() is Status.CHARGING


def test_a_completion_at_a_faulty_charge_point_leaves_it_faulty() -> None:
    world = World()
    connection = world.settled()
    session_id = world.charging(connection)
    world.say(connection, world.fault("ground_fault"))
    decisions = world.say(connection, world.completion(session_id, 9, 500, EndReason.FAULT))
    assert moves(decisions, "CP1") == []
    assert only(world.receipts(session_id)).status is SessionStatus.INTERRUPTED
    assert world.status() is Status.FAULTY


# A driver asks to stop


def test_a_stop_request_is_answered_and_commanded() -> None:
    world = World()
    connection = world.settled()
    session_id = world.charging(connection)
    request = world.stop(session_id)
    decisions = world.kafka(Topic.STOP_REQUESTS, request)
    answer = only(records(decisions, StopChargingResponse, "D1"))
    assert (answer.accepted, answer.session_id, answer.in_reply_to) == (True, session_id, request.message_id)
    assert answer.reason is None
    command = only(frames(decisions, StopChargingCommand, connection))
    assert (command.session_id, command.end_reason) == (session_id, EndReason.STOPPED)
    assert world.sessions[session_id].is_open, "it ends with the charge point's completion"

    again = world.kafka(Topic.STOP_REQUESTS, request)
    assert only(records(again, StopChargingResponse, "D1")) == answer
    assert again.frames == []
    assert again.nothing_to_store


@pytest.mark.parametrize("code", ["not_yours", "no_open_session"])
def test_a_stop_request_is_refused(code: str) -> None:
    world = World()
    connection = world.settled()
    session_id = world.charging(connection)
    request = world.stop(session_id)
    match code:
        case "not_yours":
            request = world.stop(session_id, "D2")
        case "no_open_session":
            world.say(connection, world.completion(session_id, 9, 500))
    decisions = world.kafka(Topic.STOP_REQUESTS, request)
    answer = only(records(decisions, StopChargingResponse, request.driver_id))
    assert (answer.accepted, answer.code, answer.session_id) == (False, code, session_id)
    assert frames(decisions, StopChargingCommand) == []
    assert decisions.sessions == {}


def test_a_stop_is_taken_at_any_age() -> None:
    """It names one session, so it can stop no other; and a driver who asked for it was promised nothing yet."""
    world = World(Policy(heartbeat_timeout_s=10_000))
    connection = world.settled()
    session_id = world.charging(connection)
    request = world.stop(session_id)
    world.wait(2_000)
    decisions = world.kafka(Topic.STOP_REQUESTS, request)
    assert only(records(decisions, StopChargingResponse)).accepted
    assert only(frames(decisions, StopChargingCommand, connection)).session_id == session_id


def test_a_request_on_the_wrong_topic_does_not_spoil_the_right_one() -> None:
    world = World()
    world.settled()
    request = world.request()
    astray = only(records(world.kafka(Topic.STOP_REQUESTS, request), ChargeRequestResponse))
    assert astray.code == "unexpected_type"
    assert only(records(world.kafka(Topic.CHARGE_REQUESTS, request), ChargeRequestResponse)).accepted


def test_readings_are_sampled_though_the_clock_of_the_charge_point_is_set_back() -> None:
    world = World()
    connection = world.settled()
    session_id = world.charging(connection)
    for seq in range(61):
        back = timedelta(hours=1) if seq > 30 else timedelta(0)
        at = world.now.utc - back
        world.say(connection, world.reading(session_id, seq, seq, timestamp=at))
        world.seconds += 1
    assert len(world.everything.meter_values) >= 5


def test_a_settled_session_has_the_times_of_its_completion() -> None:
    world = World()
    connection = world.settled()
    session_id = world.authorised()
    began = world.now.utc
    world.wait(10)
    assert only(world.receipts(session_id)).started_at is None
    world.wait(60)
    world.say(connection, world.completion(session_id, 9, 1_800, started_at=began, ended_at=world.now.utc))
    settled = world.receipts(session_id)[-1]
    assert (settled.started_at, settled.ended_at, settled.revision) == (began, world.now.utc, 2)


def test_a_stop_for_a_charge_point_that_is_away_is_told_on_its_return() -> None:
    world = World()
    connection = world.settled()
    session_id = world.charging(connection)
    world.gone(connection)
    decisions = world.kafka(Topic.STOP_REQUESTS, world.stop(session_id))
    answer = only(records(decisions, StopChargingResponse, "D1"))
    assert answer.accepted
    assert answer.reason == "CP1 is offline; it stops when it is back"
    assert decisions.frames == []
    world.restart()  # and it is not forgotten
    connection = world.connect()
    decisions = world.say(connection, world.account(session_id=session_id))
    assert only(frames(decisions, StopChargingCommand, connection)).session_id == session_id


@pytest.mark.parametrize("runs", [False, True])
def test_a_charge_that_was_stopped_before_it_began_does_not_begin_on_return(runs: bool) -> None:
    world = World()
    connection = world.settled()
    session_id = world.authorised()
    world.gone(connection)
    world.kafka(Topic.STOP_REQUESTS, world.stop(session_id))
    connection = world.connect()
    decisions = world.say(connection, world.account(session_id=session_id if runs else None))
    assert frames(decisions, StartChargingCommand) == []
    if runs:
        assert only(frames(decisions, StopChargingCommand, connection)).session_id == session_id
        assert world.sessions[session_id].is_open
    else:
        receipt = only(world.receipts(session_id))
        assert (receipt.status, receipt.end_reason) == (SessionStatus.FAILED, EndReason.STOPPED)
        assert world.is_free()


def test_a_stop_that_was_asked_for_does_not_hide_that_the_charge_was_lost() -> None:
    world = World()
    connection = world.settled()
    session_id = world.charging(connection)
    world.gone(connection)
    world.kafka(Topic.STOP_REQUESTS, world.stop(session_id))
    world.say(world.connect(), world.account())
    receipt = only(world.receipts(session_id))
    assert (receipt.status, receipt.end_reason) == (SessionStatus.INTERRUPTED, EndReason.LOST_BY_CHARGE_POINT)


def test_a_charge_point_that_does_not_know_the_session_to_stop_has_lost_it() -> None:
    world = World()
    connection = world.settled()
    session_id = world.charging(connection)
    world.kafka(Topic.STOP_REQUESTS, world.stop(session_id))
    world.say(connection, world.verdict(session_id, "stop", UnknownSession))
    receipt = only(world.receipts(session_id))
    assert (receipt.status, receipt.end_reason) == (SessionStatus.INTERRUPTED, EndReason.LOST_BY_CHARGE_POINT)
    assert world.is_free()


def test_a_stop_command_that_is_obeyed_waits_for_the_completion() -> None:
    world = World()
    connection = world.settled()
    session_id = world.charging(connection)
    world.kafka(Topic.STOP_REQUESTS, world.stop(session_id))
    assert nothing_happened(world.say(connection, world.verdict(session_id, "stop")))
    assert world.sessions[session_id].is_open


# Silence of a session


def test_a_session_without_a_sign_of_life_for_an_hour_is_closed() -> None:
    world = World()
    connection = world.settled()
    session_id = world.charging(connection)
    world.say(connection, world.reading(session_id, 4, 1_000))
    world.gone(connection)
    world.wait(3599.9)
    assert world.sessions[session_id].is_open
    decisions = world.wait(0.1)
    receipt = only(records(decisions, ChargeCompletionResponse, "D1"))
    assert (receipt.end_reason, receipt.energy_wh) == (EndReason.NO_SIGN_OF_LIFE, 1_000)
    assert receipt.status is SessionStatus.INTERRUPTED
    assert nothing_happened(world.wait(10_000))


def test_readings_by_kafka_are_a_sign_of_life() -> None:
    world = World()
    connection = world.settled()
    session_id = world.charging(connection)
    world.gone(connection)
    for seq in range(1, 4):
        world.wait(3599)
        world.kafka(Topic.SESSION_DATA, world.reading(session_id, seq, 0))
    assert world.sessions[session_id].is_open
    world.wait(3600)
    assert not world.sessions[session_id].is_open


def test_the_begin_of_a_charge_is_a_sign_of_life() -> None:
    world = World()
    connection = world.settled()
    session_id = world.authorised()
    world.wait(9)
    world.begun(connection, session_id)
    world.wait(3599.9)
    assert world.sessions[session_id].is_open
    world.wait(0.1)
    assert not world.sessions[session_id].is_open


def test_each_session_has_its_own_hour() -> None:
    world = World()
    one, two = world.settled("CP1"), world.settled("CP2")
    first = world.charging(one, "D1", "CP1")
    world.wait(60)
    second = world.charging(two, "D2", "CP2")
    world.wait(3540)
    assert (world.sessions[first].is_open, world.sessions[second].is_open) == (False, True)
    world.wait(59.9)
    assert world.sessions[second].is_open
    world.wait(0.1)
    assert not world.sessions[second].is_open


@contextmanager
def at_most(seconds: int) -> Iterator[None]:
    """Raises `TimeoutError` in what would else loop for ever."""

    def ring(*_: object) -> None:
        raise TimeoutError(f"not done after {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def test_a_session_is_closed_at_the_very_instant_of_its_deadline() -> None:
    """A float may say that the hour is over by addition, and that it is not by subtraction."""
    for hundredth in range(1, 100):
        world = World()
        world.seconds = hundredth / 100
        session_id = world.charging(world.settled())
        due = Instant(world.now.utc, world.now.monotonic_s + world.policy.silent_session_s)
        with at_most(5):
            decisions = world.net.decide([], Known(), due)
        assert decisions.sessions[session_id].end_reason is EndReason.NO_SIGN_OF_LIFE


def test_sessions_that_have_ended_cost_no_more_time() -> None:
    world = World(Policy(heartbeat_timeout_s=1_000_000))
    connection = world.settled()
    for _ in range(50):
        world.say(connection, world.completion(world.charging(connection), 1, 10))
        world.wait(1)
    world.wait(10)
    looks = 0
    until_s = world.now.monotonic_s + 7200
    while world.net.next_deadline_s is not None and world.net.next_deadline_s <= until_s:
        world.wait(world.net.next_deadline_s - world.now.monotonic_s)
        looks += 1
        assert looks <= 2


def test_the_hour_begins_anew_with_central() -> None:
    world = World()
    session_id = world.charging(world.settled())
    world.seconds += 3000
    world.restart()
    world.wait(3599)
    assert world.sessions[session_id].is_open
    world.wait(1)
    assert not world.sessions[session_id].is_open


def test_a_charge_point_whose_session_was_closed_in_silence_is_told_to_stop() -> None:
    """It is connected and is shown as free from now on; so it must not go on with a charge that nobody pays."""
    world = World(Policy(heartbeat_timeout_s=10_000))
    connection = world.settled()
    session_id = world.charging(connection)
    decisions = world.wait(3600)
    assert world.sessions[session_id].end_reason is EndReason.NO_SIGN_OF_LIFE
    assert world.status() is Status.ACTIVE
    assert only(frames(decisions, StopChargingCommand, connection)).session_id == session_id


# Questions


def fleet(*cp_ids: str) -> World:
    """Charge points, of which all but those called OFF... are connected."""
    world = World(charge_points=[ChargePoint(cp_id, hash_key(f"key of {cp_id}"), "here") for cp_id in cp_ids])
    for cp_id in cp_ids:
        if not cp_id.startswith("OFF"):
            world.settled(cp_id)
    return world


def pages(world: World, *, limit: int, everything: bool) -> list[list[str]]:
    found: list[list[str]] = []
    after: str | None = ""
    while after is not None:
        request = world.make(AvailableCpsRequest, driver_id="D1", all=everything, after=after, limit=limit)
        page = only(records(world.kafka(Topic.CPS_REQUESTS, request), AvailableCpsResponse, "D1"))
        assert page.in_reply_to == request.message_id
        found.append([info.cp_id for info in page.charge_points])
        assert len(found) < 20
        after = page.next_after
    return found


def test_a_charge_point_that_never_registered_has_no_price_and_is_in_no_drivers_list() -> None:
    world = World(charge_points=[ChargePoint(cp_id, hash_key(f"key of {cp_id}")) for cp_id in ("NEW", "OLD")])
    connection = world.settled("OLD")
    assert pages(world, limit=5, everything=True) == [["OLD"]]
    assert world.charge_points["NEW"].known_price_per_kwh is None
    world.gone(connection)
    assert pages(world, limit=5, everything=True) == [["OLD"]]
    world.settled("NEW")
    assert pages(world, limit=5, everything=True) == [["NEW", "OLD"]]
    assert world.charge_points["NEW"].known_price_per_kwh == world.charge_points["NEW"].price_per_kwh


def test_a_price_of_nothing_that_was_registered_or_set_is_a_price() -> None:
    assert ChargePoint("CP1").known_price_per_kwh is None
    assert ChargePoint("CP1", price_by_operator=True).known_price_per_kwh == 0
    assert ChargePoint("CP1", own_price_per_kwh=Decimal(0)).known_price_per_kwh == 0
    before_0_2 = ChargePoint("CP1", location="Harbour", max_power_w=22000)
    assert before_0_2.known_price_per_kwh == 0


@pytest.mark.parametrize(
    ("limit", "everything", "expected"),
    [
        (2, True, [["A", "B"], ["C", "OFF1"], ["OFF2"]]),
        (5, True, [["A", "B", "C", "OFF1", "OFF2"]]),
        (3, False, [["A", "B", "C"]]),
        (2, False, [["A", "B"], ["C"]]),
        (1, False, [["A"], ["B"], ["C"]]),
        (100, False, [["A", "B", "C"]]),
    ],
)
def test_charge_points_come_in_pages_in_order_of_their_ids(
    limit: int, everything: bool, expected: list[list[str]]
) -> None:
    assert pages(fleet("B", "OFF1", "A", "C", "OFF2"), limit=limit, everything=everything) == expected


def test_a_page_may_begin_after_an_id_that_is_gone() -> None:
    world = fleet("A", "C")
    request = world.make(AvailableCpsRequest, driver_id="D1", after="B")
    page = only(records(world.kafka(Topic.CPS_REQUESTS, request), AvailableCpsResponse))
    assert [info.cp_id for info in page.charge_points] == ["C"]


def test_without_charge_points_the_page_is_empty_and_the_last() -> None:
    assert pages(World(charge_points=[]), limit=10, everything=True) == [[]]


def test_the_list_says_of_each_what_a_driver_needs_to_know() -> None:
    world = World(
        charge_points=[
            ChargePoint("BUSY", hash_key("key of BUSY")),
            ChargePoint("CLOSED", hash_key("key of CLOSED"), out_of_service=True),
            ChargePoint("FREE", hash_key("key of FREE")),
            ChargePoint("GONE", removed=True),
            ChargePoint("SICK", hash_key("key of SICK")),
            ChargePoint("TAKEN", hash_key("key of TAKEN")),
        ]
    )
    busy = world.settled("BUSY")
    for cp_id in ("CLOSED", "FREE", "TAKEN"):
        world.settled(cp_id)
    world.say(world.settled("SICK"), world.fault("ground_fault", "SICK"))
    world.charging(busy, "D1", "BUSY")
    world.authorised("D2", "TAKEN")
    request = world.make(AvailableCpsRequest, driver_id="D1", all=True)
    page = only(records(world.kafka(Topic.CPS_REQUESTS, request), AvailableCpsResponse))
    assert [(info.cp_id, info.status.value, info.available) for info in page.charge_points] == [
        ("BUSY", "CHARGING", False),
        ("CLOSED", "ACTIVE", False),
        ("FREE", "ACTIVE", True),
        ("SICK", "FAULTY", False),
        ("TAKEN", "ACTIVE", False),
    ]
    free = page.charge_points[2]
    assert (free.location, free.price_per_kwh, free.currency, free.max_power_w) == (
        "Calle Mayor 1",
        PRICE,
        "EUR",
        22_000,
    )


def test_a_driver_asks_how_the_charge_stands() -> None:
    world = World()
    connection = world.settled()
    session_id = world.charging(connection)
    world.say(connection, world.reading(session_id, 4, 2_000, power_w=9_000))
    request = world.make(ChargingStatusRequest, driver_id="D1")
    decisions = world.kafka(Topic.CPS_REQUESTS, request)
    update = only(records(decisions, ChargingStatusUpdate, "D1"))
    assert (update.in_reply_to, update.session_id) == (request.message_id, session_id)
    assert (update.energy_wh, update.power_w, update.cost) == (2_000, 9_000, Decimal("0.90"))
    assert decisions.nothing_to_store


def test_a_driver_who_charges_nowhere_is_told_so() -> None:
    world = World()
    session_id = world.charging(world.settled(), "D2")
    request = world.make(ChargingStatusRequest, driver_id="D1")
    error = only(records(world.kafka(Topic.CPS_REQUESTS, request), ErrorResponse, "D1"))
    assert (error.code, error.in_reply_to) == ("no_open_session", request.message_id)
    assert str(session_id) not in error.reason


def test_a_question_about_the_past_is_handed_on_to_who_can_read_the_database() -> None:
    world = World()
    request = world.make(ChargingHistoryRequest, driver_id="D1", limit=5)
    decisions = world.kafka(Topic.CPS_REQUESTS, request)
    assert decisions.histories == [request]
    assert decisions.records == []
    assert decisions.nothing_to_store


# One bad message harms nobody else


def test_a_message_that_meets_a_bug_harms_no_other_of_its_batch() -> None:
    """No timestamp from the wire is without a zone; this one stands for whatever we have not thought of."""
    world = World()
    world.bug_expected = True
    connection = world.settled("CP1")
    world.settled("CP2")
    poison = world.make(ChargeRequest, driver_id="D1", cp_id="CP1", timestamp=datetime(2026, 5, 4, 8, 0))
    decisions = world.give(
        FromMonitor(connection, world.fault("ground_fault")),
        published(Topic.CHARGE_REQUESTS, poison),
        published(Topic.CHARGE_REQUESTS, world.request("D2", "CP2")),
    )
    bad, good = records(decisions, ChargeRequestResponse)
    assert (bad.driver_id, bad.accepted, bad.code) == ("D1", False, "internal_error")
    assert (good.driver_id, good.accepted) == ("D2", True)
    assert world.status("CP1") is Status.FAULTY
    bug = only([note for note in decisions.notes if note.event == "bug"])
    assert bug.fields["message"] == "charge_request"
    assert "TypeError" in str(bug.fields["traceback"])


def test_what_is_wanted_of_the_database_is_what_the_batch_will_ask_for() -> None:
    world = World()
    connection = world.settled()
    open_id = world.charging(connection)
    request, stop, auth = world.request("D2"), world.stop(open_id), world.auth("CP2")
    ended = replace(world.sessions[open_id], session_id=UUID(int=5))
    world.sessions[ended.session_id] = ended
    wanted = world.net.wanted(
        [
            MonitorCame(7),
            FromMonitor(7, auth),
            published(Topic.CHARGE_REQUESTS, request),
            published(Topic.STOP_REQUESTS, stop),
            FromMonitor(connection, world.completion(open_id, 9, 500)),
            published(Topic.SESSION_COMPLETE, world.completion(ended.session_id, 9, 500)),
            published(Topic.SESSION_DATA, world.reading(open_id, 8, 400)),
            MonitorGone(7, "over"),
        ]
    )
    assert wanted == Wanted(
        answers={request.message_id, stop.message_id},
        sessions={ended.session_id, derived_id(request.message_id, "session")},
        charge_points={"CP2"},
        drivers={"D1", "D2"},
        set_aside={ended.session_id},
        orphans={"CP1"},
    )


def test_a_request_whose_answer_has_been_forgotten_begins_no_second_session() -> None:
    world = World()
    connection = world.settled()
    request = world.request()
    first = only(records(world.kafka(Topic.CHARGE_REQUESTS, request), ChargeRequestResponse))
    assert first.session_id is not None
    world.begun(connection, first.session_id)
    world.say(connection, world.completion(first.session_id, 3, 900))
    billed = replace(world.sessions[first.session_id])
    world.answers.clear()
    again = replace_fields(request, timestamp=world.now.utc)
    decisions = world.kafka(Topic.CHARGE_REQUESTS, again)
    second = only(records(decisions, ChargeRequestResponse))
    assert (second.accepted, second.session_id) == (True, first.session_id)
    assert decisions.nothing_to_store
    assert decisions.frames == []
    assert world.sessions[first.session_id] == billed


def test_the_energy_of_a_completion_counts_whatever_its_number() -> None:
    world = World()
    connection = world.settled()
    session_id = world.charging(connection)
    world.say(connection, world.reading(session_id, 5, 300))
    world.say(connection, world.completion(session_id, 5, 500))
    assert only(world.receipts(session_id)).energy_wh == 500


WRONG_CLOCKS: dict[str, datetime | timedelta] = {
    "1970": datetime(1970, 1, 1, 0, 30, 12, tzinfo=UTC),
    "9 hours behind": timedelta(hours=-9),
    "9 hours ahead": timedelta(hours=9),
    "400 days ahead": timedelta(days=400),
}


@pytest.mark.parametrize("clock", WRONG_CLOCKS)
@pytest.mark.parametrize("way", ["Monitor", "Kafka"])
def test_a_wrong_clock_of_a_charge_point_neither_dates_its_bill_nor_its_session(clock: str, way: str) -> None:
    world = World()
    connection = world.settled()
    session_id = world.authorised()
    requested_at = world.now.utc
    wrong = WRONG_CLOCKS[clock]

    def says(minutes: float) -> datetime:
        begins = wrong if isinstance(wrong, datetime) else requested_at + wrong
        return begins + timedelta(minutes=minutes)

    def say(message: Message, last: bool = False) -> None:
        if way == "Kafka":
            world.kafka(Topic.SESSION_COMPLETE if last else Topic.SESSION_DATA, message)
        else:
            world.say(connection, message)

    for minute in range(30):
        say(world.reading(session_id, minute, minute * 100, timestamp=says(minute)))
        world.wait(60)
    say(world.completion(session_id, 30, 3_000, started_at=says(0), ended_at=says(30)), last=True)
    session = world.sessions[session_id]
    receipt = world.receipts(session_id)[-1]
    now = world.now.utc
    assert session.booked_at == receipt.booked_at == now
    assert session.started_at is not None
    assert session.ended_at is not None
    assert requested_at <= session.started_at <= session.ended_at <= now
    assert (receipt.started_at, receipt.ended_at) == (session.started_at, session.ended_at)
    assert says(0) == session.said_started_at or "ahead" in clock
    assert says(30) == session.said_ended_at
    measured = [value.measured_at for value in world.everything.meter_values]
    assert measured == sorted(measured)
    assert requested_at <= measured[0] <= measured[-1] <= now


def test_a_charge_that_ended_offline_hours_ago_ended_then_and_is_booked_now() -> None:
    world = World()
    connection = world.settled()
    session_id = world.charging(connection)
    began = world.now.utc
    world.wait(3 * 3600)  # given up in the meantime
    closed = world.sessions[session_id]
    booked_at = closed.booked_at
    assert booked_at is not None
    ended = began + timedelta(minutes=20)
    world.say(world.settled(), world.completion(session_id, 9, 3_000, started_at=began, ended_at=ended))
    session = world.sessions[session_id]
    receipt = world.receipts(session_id)[-1]
    assert (session.started_at, session.ended_at, session.revision) == (began, ended, 2)
    assert (session.said_started_at, session.said_ended_at) == (None, None)
    assert session.booked_at == receipt.booked_at == booked_at, "a revision does not move it to another day"


def test_honest_clocks_that_differ_by_minutes_are_bounded_and_accused_of_nothing() -> None:
    world = World()
    connection = world.settled()
    session_id = world.authorised()
    ahead = timedelta(minutes=4)
    world.say(connection, world.reading(session_id, 0, 0, timestamp=world.now.utc + ahead))
    world.wait(60)
    world.say(connection, world.completion(session_id, 1, 500, ended_at=world.now.utc + ahead))
    session = world.sessions[session_id]
    assert (session.said_started_at, session.said_ended_at) == (None, None)
    assert session.ended_at == world.now.utc


def test_times_of_another_zone_are_told_in_utc() -> None:
    world = World()
    connection = world.settled()
    session_id = world.authorised()
    elsewhere = world.now.utc.astimezone(timezone(timedelta(hours=2)))
    completion = world.completion(session_id, 1, 5, started_at=elsewhere, ended_at=elsewhere)
    world.say(connection, completion)
    receipt = only(world.receipts(session_id))
    assert receipt.ended_at.utcoffset() == timedelta(0)
    assert receipt.started_at is not None
    assert receipt.started_at.utcoffset() == timedelta(0)


def test_the_log_tells_the_story_of_a_charge() -> None:
    world = World()
    connection = world.settled()
    session_id = world.charging(connection)
    world.say(connection, world.completion(session_id, 9, 1_234))
    world.ask("D9")
    told = [(note.event, note.fields) for note in world.everything.notes]
    assert [event for event, _ in told] == [
        "state",
        "session_authorised",
        "state",
        "session_started",
        "state",
        "session_ended",
        "refused",
    ]
    ended = told[-2][1]
    assert (ended["session_id"], ended["driver_id"], ended["cost"]) == (session_id, "D1", "0.56 EUR")
    assert told[-1][1]["code"] == "unknown_driver"


def test_a_closing_tells_the_peer_why() -> None:
    world = World()
    connection = world.came()
    closing = only(world.wait(10).closings)
    assert isinstance(closing, Closing)
    assert closing.connection == connection
    assert str(closing.error) == "no charge point was authenticated and registered within 10 s"
