"""What a Monitor decides, between Central and its Engine: whole scenarios, with the time as an argument."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, TypedDict, TypeVar
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evcharge.domain.faults import ENGINE_SILENT
from evcharge.domain.instant import Instant
from evcharge.domain.session import EndReason, SessionStatus
from evcharge.domain.status import TRANSITIONS, Status
from evcharge.errors import PeerSilent, UsageError
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
from evcharge.monitor.relay import AT_THE_DOOR, Relay
from evcharge.monitor.sides import MAX_WAITING_READINGS, Exchange
from evcharge.monitor.state import TRANSITIONS_KEPT
from evcharge.protocol.messages import (
    AuthRequest,
    AuthResponse,
    AvailableCpsRequest,
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
    decode,
    encode,
)

SESSION = UUID("8b7c1c80-1111-4111-8111-000000000001")
CONFIG = MonitorConfig(
    cp_id="CP001",
    key="secret",
    location="Main Street 1",
    price_per_kwh=Decimal("0.30"),
    currency="EUR",
    max_power_w=22_000,
)

M = TypeVar("M", bound=Message)


class Head(TypedDict):
    message_id: UUID
    timestamp: datetime


class Bench:
    """A Relay, its clock, and Central and Engine at its ends; what it does is kept until it is asked for."""

    def __init__(self, config: MonitorConfig = CONFIG, starts_at_s: float = 1000.0) -> None:
        self.at_s = starts_at_s
        self._started_at_s = starts_at_s
        self.relay = Relay(config, self.now)
        self.actions: list[Action] = []
        self.states: list[tuple[Status, Status]] = []

    @property
    def now(self) -> Instant:
        passed = timedelta(seconds=self.at_s - self._started_at_s)
        return Instant(datetime(2026, 1, 1, tzinfo=UTC) + passed, self.at_s)

    def does(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Note) and action.event == "state":
                before, then = Status(str(action.fields["before"])), Status(str(action.fields["now"]))
                assert then in TRANSITIONS[before].values(), f"{before} to {then} is no transition of the seed"
                self.states.append((before, then))
            if isinstance(action, ToCentral | ToEngine):
                assert decode(encode(action.message)) == action.message
        self.actions += actions

    def took(self) -> list[Action]:
        taken, self.actions = self.actions, []
        return taken

    def to_central(self) -> list[Message]:
        return [action.message for action in self.took() if isinstance(action, ToCentral)]

    def to_engine(self) -> list[Message]:
        return [action.message for action in self.took() if isinstance(action, ToEngine)]

    def notes(self) -> list[str]:
        return [action.event for action in self.took() if isinstance(action, Note)]

    # Time

    def wait(self, seconds: float) -> None:
        """Let time pass; the Relay gets its turn whenever it says that it wants one."""
        until_s = self.at_s + seconds
        while (turn_s := max(self.at_s, self.relay.next_due_s())) <= until_s:
            self.at_s = turn_s
            self.does(self.relay.tick(self.now))
            self.at_s += 0.001  # as no turn of a real clock takes no time at all
        self.at_s = max(self.at_s, until_s)

    # Central

    def central(self, message: Message) -> None:
        self.does(self.relay.central_received(message, self.now))

    def connect_central(self) -> None:
        self.does(self.relay.central_opened(self.now))

    def lose_central(self, reason: str = "the peer closed the connection") -> None:
        self.does(self.relay.central_closed(reason, self.now))

    def register(self) -> None:
        """Central connects, authenticates and registers the charge point."""
        self.connect_central()
        self.central(self.auth_response())
        self.central(self.register_response())

    def auth_response(self, accepted: bool = True, reason: str | None = None) -> AuthResponse:
        return AuthResponse(**self.head(), accepted=accepted, reason=reason)

    def register_response(self, accepted: bool = True, reason: str | None = None) -> RegisterResponse:
        return RegisterResponse(**self.head(), accepted=accepted, reason=reason, status=Status.ACTIVE)

    # A technician

    def report(self, code: str, description: str = "it is broken") -> None:
        self.does(self.relay.report_fault(code, description, self.now))

    def clear(self, code: str) -> None:
        self.does(self.relay.clear_fault(code, self.now))

    def relocate(self, location: str) -> None:
        self.does(self.relay.relocate(location, self.now))

    # Engine

    def engine(self, message: Message) -> None:
        self.does(self.relay.engine_received(message, self.now))

    def connect_engine(self) -> None:
        self.does(self.relay.engine_opened(self.now))

    def lose_engine(self, reason: str = "the peer closed the connection") -> None:
        self.does(self.relay.engine_closed(reason, self.now))

    def ready(self, **account: Any) -> None:
        """The Engine connects, takes the id, and gives its account."""
        self.connect_engine()
        self.accept_init()
        self.engine(self.account(**account))

    def accept_init(self, accepted: bool = True) -> None:
        init = [a.message for a in self.actions if isinstance(a, ToEngine) and isinstance(a.message, InitCpId)][-1]
        self.engine(
            CommandResponse(
                **self.head(), cp_id="CP001", in_reply_to=init.message_id, accepted=accepted, reason="no"
            )
        )

    def account(self, **changes: Any) -> HealthCheckResponse:
        fields: dict[str, Any] = {"cp_id": "CP001", "healthy": True, "vehicle_connected": True}
        return HealthCheckResponse(**self.head(), **fields | changes)

    def charging(self) -> None:
        self.engine(self.account(session_id=SESSION))

    def reading(self, seq: int) -> ChargingData:
        return ChargingData(
            **self.head(), cp_id="CP001", session_id=SESSION, driver_id="D1", seq=seq, energy_wh=seq, power_w=1
        )

    def completion(self) -> ChargeCompletion:
        return ChargeCompletion(
            **self.head(),
            cp_id="CP001",
            session_id=SESSION,
            driver_id="D1",
            seq=9,
            energy_wh=9,
            end_reason=EndReason.STOPPED,
            started_at=self.now.utc,
            ended_at=self.now.utc,
        )

    def fault(self, code: str) -> FaultNotification:
        return FaultNotification(**self.head(), cp_id="CP001", fault_code=code, description=f"{code} broke")

    def recovery(self, code: str) -> RecoveryNotification:
        return RecoveryNotification(**self.head(), cp_id="CP001", fault_code=code, description=f"{code} is whole")

    def head(self) -> Head:
        return {"message_id": uuid4(), "timestamp": self.now.utc}


def only(messages: list[Message], kind: type[M]) -> M:
    """The one message there is, which is of this kind."""
    assert [type(message) for message in messages] == [kind]
    (message,) = messages
    assert isinstance(message, kind)
    return message


def of(messages: list[Message], kind: type[M]) -> list[M]:
    return [message for message in messages if isinstance(message, kind)]


def working(config: MonitorConfig = CONFIG) -> Bench:
    """A Bench where all is well: registered, with an Engine, nothing under way."""
    bench = Bench(config)
    bench.ready()
    bench.register()
    bench.took()
    return bench


# Central: authenticate, register, heartbeat


def test_it_authenticates_as_soon_as_it_is_connected() -> None:
    bench = Bench()
    bench.connect_central()
    request = only(bench.to_central(), AuthRequest)
    assert (request.cp_id, request.key, request.timestamp) == ("CP001", "secret", bench.now.utc)


def test_it_registers_once_it_is_authenticated() -> None:
    bench = Bench()
    bench.connect_central()
    bench.took()
    bench.central(bench.auth_response())
    request = only(bench.to_central(), RegisterRequest)
    assert (request.cp_id, request.location, request.price_per_kwh, request.currency, request.max_power_w) == (
        "CP001",
        "Main Street 1",
        Decimal("0.30"),
        "EUR",
        22_000,
    )
    assert not bench.relay.central.registered
    assert bench.relay.state.status is Status.DISCONNECTED


def test_it_is_active_once_it_is_registered() -> None:
    bench = Bench()
    bench.ready()
    bench.register()
    assert bench.relay.central.registered
    assert bench.relay.state.status is Status.ACTIVE
    assert bench.states == [(Status.DISCONNECTED, Status.ACTIVE)]
    assert CentralSettled() in bench.took()


def test_it_tells_its_status_when_it_has_registered() -> None:
    bench = Bench()
    bench.ready(session_id=SESSION, unsettled_session_ids=[UUID(int=7)])
    bench.register()
    (update,) = of(bench.to_central(), StatusUpdate)
    assert update.cp_id == "CP001"
    assert update.status is Status.CHARGING
    assert update.engine_connected
    assert update.session_id == SESSION
    assert update.unsettled_session_ids == [UUID(int=7)]
    assert update.reason is None


def test_it_sends_a_heartbeat_each_30_seconds() -> None:
    bench = working(replace(CONFIG, health_interval_s=7))
    beats: list[float] = []
    for second in range(1, 301):
        bench.wait(1)
        for beat in of(bench.to_central(), HeartbeatRequest):
            assert beat.cp_id == "CP001"
            beats.append(second)
            bench.central(HeartbeatResponse(**bench.head(), in_reply_to=beat.message_id))
        bench.engine(bench.account())
    assert beats == [30, 60, 90, 120, 150, 180, 210, 240, 270, 300]


def test_no_heartbeat_before_it_is_registered() -> None:
    bench = Bench(MonitorConfig("CP001", "", "", Decimal(0), "EUR", 1, answer_timeout_s=1e6))
    bench.connect_central()
    bench.central(bench.auth_response())
    bench.took()
    bench.wait(80)
    assert of(bench.to_central(), HeartbeatRequest) == []


def test_a_refusal_of_the_key_is_said_once() -> None:
    bench = Bench()
    for _ in range(5):
        bench.connect_central()
        bench.central(bench.auth_response(accepted=False, reason="no such key"))
        bench.lose_central()
    assert bench.notes().count("central_refuses_charge_point") == 1
    assert not bench.relay.central.registered


def test_another_refusal_is_said_again() -> None:
    bench = Bench()
    bench.connect_central()
    bench.central(bench.auth_response(accepted=False, reason="no such key"))
    bench.central(bench.auth_response(accepted=False, reason="no such charge point"))
    assert bench.notes().count("central_refuses_charge_point") == 2


def test_a_refusal_without_a_reason_is_said_too() -> None:
    bench = Bench()
    bench.connect_central()
    bench.central(bench.auth_response(accepted=False))
    assert "central_refuses_charge_point" in bench.notes()


def test_a_refusal_of_the_registration_is_said_once() -> None:
    bench = Bench()
    for _ in range(5):
        bench.connect_central()
        bench.central(bench.auth_response())
        bench.central(bench.register_response(accepted=False, reason="out of order"))
        bench.lose_central()
    assert not bench.relay.central.registered
    assert bench.relay.state.status is Status.DISCONNECTED
    assert bench.notes().count("central_refuses_charge_point") == 1


def test_a_refusal_of_the_registration_is_said_again_after_it_had_been_accepted() -> None:
    bench = Bench()
    for accepted in (False, True, False):
        bench.connect_central()
        bench.central(bench.auth_response())
        bench.central(bench.register_response(accepted, reason="out of order"))
        bench.lose_central()
    assert bench.notes().count("central_refuses_charge_point") == 2


def test_a_refusal_is_said_again_after_it_had_been_accepted() -> None:
    bench = Bench()
    for accepted in (False, True, False):
        bench.connect_central()
        bench.central(bench.auth_response(accepted, reason="no such key"))
        if accepted:
            bench.central(bench.register_response())
        bench.lose_central()
    assert bench.notes().count("central_refuses_charge_point") == 2


# Central: silent, lost, unreachable


def test_a_central_that_is_silent_for_three_heartbeats_is_dropped() -> None:
    bench = working()
    bench.wait(89.9)
    assert drops_of_central(bench) == []
    bench.wait(0.1)
    (drop,) = drops_of_central(bench)
    assert isinstance(drop.error, PeerSilent)
    assert "90 s" in str(drop.error)
    bench.wait(5)  # as long as the link takes to close
    assert drops_of_central(bench) == []


def drops_of_central(bench: Bench) -> list[DropCentral]:
    return [action for action in bench.took() if isinstance(action, DropCentral)]


def drops_of_engine(bench: Bench) -> list[DropEngine]:
    return [action for action in bench.took() if isinstance(action, DropEngine)]


def test_anything_that_central_says_is_a_sign_of_life() -> None:
    bench = working()
    for _ in range(10):
        bench.wait(60)
        bench.central(ErrorResponse(**bench.head(), code="internal_error", reason="still here"))
        bench.engine(bench.account())
    assert drops_of_central(bench) == []


def test_a_central_that_does_not_answer_the_authentication_is_dropped_after_10_seconds() -> None:
    bench = Bench()
    bench.connect_central()
    bench.wait(9.9)
    assert drops_of_central(bench) == []
    bench.wait(0.1)
    (drop,) = drops_of_central(bench)
    assert isinstance(drop.error, PeerSilent)


def test_a_central_that_does_not_answer_the_registration_is_dropped_after_10_seconds() -> None:
    bench = Bench()
    bench.connect_central()
    bench.wait(5)
    bench.central(bench.auth_response())
    bench.wait(9.9)
    assert drops_of_central(bench) == []
    bench.wait(0.1)
    assert len(drops_of_central(bench)) == 1


def test_the_time_that_central_has_begins_when_it_is_connected() -> None:
    bench = Bench()
    bench.wait(60)
    assert drops_of_central(bench) == []
    bench.connect_central()
    bench.wait(9.9)
    assert drops_of_central(bench) == []


def test_a_central_that_is_gone_is_not_dropped() -> None:
    bench = working()
    bench.lose_central()
    bench.wait(80)
    assert drops_of_central(bench) == []
    assert of(bench.to_central(), HeartbeatRequest) == []


def replaced(bench: Bench) -> ErrorResponse:
    return ErrorResponse(**bench.head(), code="connection_replaced", reason="CP001 has connected anew")


def test_a_monitor_that_another_has_replaced_gives_way_at_either_end() -> None:
    at_central, at_the_engine = working(), working()
    at_central.central(replaced(at_central))
    at_the_engine.engine(replaced(at_the_engine))
    for bench in (at_central, at_the_engine):
        actions = bench.took()
        assert actions.count(GiveWay()) == 1
        assert [action for action in actions if isinstance(action, ToEngine | ToCentral)] == []
    at_the_engine.engine(ErrorResponse(**at_the_engine.head(), code="not_registered", reason="send an init_cp_id"))
    assert GiveWay() not in at_the_engine.took()


def test_a_monitor_that_gave_way_calls_no_engine_silent_until_it_listens_again() -> None:
    bench = working()
    bench.engine(replaced(bench))
    bench.lose_engine()
    bench.lose_central()
    bench.wait(3600)
    assert ENGINE_SILENT not in bench.relay.faults.all
    bench.connect_central()
    bench.wait(CONFIG.health_timeout_s - 0.1)
    assert ENGINE_SILENT not in bench.relay.faults.all
    bench.wait(0.2)
    assert ENGINE_SILENT in bench.relay.faults.all


def test_a_monitor_that_is_replaced_at_central_stops_the_charge_if_it_is_not_to_go_on_without(
    stopping: Bench,
) -> None:
    stopping.charging()
    stopping.took()
    stopping.central(replaced(stopping))
    actions = stopping.took()
    (stop,) = [action for action in actions if isinstance(action, ToEngine)]
    assert isinstance(stop.message, StopChargingCommand)
    assert actions.index(stop) < actions.index(GiveWay())


@pytest.mark.parametrize("code", sorted(AT_THE_DOOR))
def test_a_monitor_that_is_not_let_in_says_so_once_and_does_not_hurry_back(code: str) -> None:
    bench = Bench()
    told = 0
    for _ in range(3):
        bench.connect_central()
        bench.central(ErrorResponse(**bench.head(), code=code, reason="not like this"))
        bench.lose_central()
        actions = bench.took()
        assert HoldBackCentral() in actions
        told += Note("central_refuses_charge_point", {"reason": "not like this"}, problem=True) in actions
    assert told == 1


def test_no_other_error_of_central_holds_it_back() -> None:
    bench = working()
    bench.central(ErrorResponse(**bench.head(), code="internal_error", reason="oh"))
    assert HoldBackCentral() not in bench.took()


def test_a_lost_central_leads_through_faulty_to_disconnected() -> None:
    bench = working()
    bench.states.clear()
    bench.lose_central()
    assert bench.states == [(Status.ACTIVE, Status.FAULTY), (Status.FAULTY, Status.DISCONNECTED)]
    assert bench.relay.state.status is Status.DISCONNECTED
    assert not bench.relay.central.registered


def test_a_central_that_cannot_be_reached_makes_a_disconnected_charge_point_faulty() -> None:
    bench = Bench()
    bench.does(bench.relay.central_unreachable("Connection refused", bench.now))
    bench.does(bench.relay.central_unreachable("Connection refused", bench.now))
    assert bench.states == [(Status.DISCONNECTED, Status.FAULTY)]


def test_it_registers_from_faulty_when_central_can_be_reached_again() -> None:
    bench = Bench()
    bench.ready()
    bench.does(bench.relay.central_unreachable("Connection refused", bench.now))
    bench.register()
    assert bench.relay.state.status is Status.ACTIVE


def test_a_charge_goes_on_when_central_is_lost() -> None:
    bench = working()
    bench.charging()
    bench.took()
    bench.lose_central()
    assert bench.to_engine() == []


@pytest.fixture
def stopping() -> Bench:
    """A working Bench with `--on-central-loss stop`."""
    bench = Bench(MonitorConfig("CP001", "", "", Decimal(0), "EUR", 1, stop_on_central_loss=True))
    bench.ready()
    bench.register()
    bench.took()
    return bench


def test_with_stop_on_central_loss_the_charge_is_stopped(stopping: Bench) -> None:
    stopping.charging()
    stopping.took()
    stopping.lose_central()
    command = only(stopping.to_engine(), StopChargingCommand)
    assert (command.cp_id, command.session_id, command.end_reason) == ("CP001", SESSION, EndReason.CENTRAL_LOST)


def test_with_stop_on_central_loss_nothing_is_stopped_where_nothing_runs(stopping: Bench) -> None:
    stopping.lose_central()
    assert stopping.to_engine() == []


def test_with_stop_on_central_loss_a_failed_attempt_to_connect_stops_nothing(stopping: Bench) -> None:
    stopping.lose_central()
    stopping.charging()
    stopping.took()
    stopping.connect_central()
    stopping.lose_central()
    assert stopping.to_engine() == []


# Engine: initialise, check


def test_the_engine_is_told_whose_it_is_and_then_checked() -> None:
    bench = Bench()
    bench.connect_engine()
    init = only(bench.to_engine(), InitCpId)
    assert (init.cp_id, init.max_power_w) == ("CP001", 22_000)
    bench.engine(CommandResponse(**bench.head(), cp_id="CP001", in_reply_to=init.message_id, accepted=True))
    actions = bench.took()
    assert EngineSettled() in actions
    assert [type(action.message) for action in actions if isinstance(action, ToEngine)] == [HealthCheckRequest]
    assert not bench.relay.engine.ready
    bench.engine(bench.account())
    assert bench.relay.engine.ready


def test_an_engine_that_belongs_to_another_is_not_used() -> None:
    bench = Bench()
    bench.connect_engine()
    bench.accept_init(accepted=False)
    actions = bench.took()
    assert EngineSettled() not in actions
    assert [action for action in actions if isinstance(action, Note)] == [
        Note("engine_refuses_charge_point", {"reason": "no"}, problem=True)
    ]
    assert not bench.relay.engine.ready


def test_the_engine_is_checked_each_30_seconds() -> None:
    bench = working(replace(CONFIG, heartbeat_interval_s=7))
    bench.took()
    checks: list[float] = []
    for second in range(1, 151):
        bench.wait(1)
        for check in of(bench.to_engine(), HealthCheckRequest):
            checks.append(second)
            bench.engine(bench.account(in_reply_to=check.message_id))
        bench.central(HeartbeatResponse(**bench.head()))
    assert checks == [30, 60, 90, 120, 150]


def test_an_account_that_says_nothing_new_is_not_passed_on() -> None:
    bench = working()
    bench.engine(bench.account())
    assert bench.took() == []


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"session_id": SESSION}, Status.CHARGING),
        ({"unsettled_session_ids": [SESSION]}, Status.ACTIVE),
        ({"healthy": False, "fault_code": "overheated"}, Status.FAULTY),
    ],
)
def test_what_is_new_in_an_account_is_told_at_once(change: dict[str, Any], status: Status) -> None:
    bench = working()
    bench.engine(bench.account(**change))
    update = of(bench.to_central(), StatusUpdate)[-1]
    assert update.status is status is bench.relay.state.status
    assert update.engine_connected
    assert update.session_id == change.get("session_id")
    assert update.unsettled_session_ids == change.get("unsettled_session_ids", [])


def test_it_charges_and_is_active_again() -> None:
    bench = working()
    bench.states.clear()
    bench.charging()
    bench.engine(bench.account())
    assert bench.states == [(Status.ACTIVE, Status.CHARGING), (Status.CHARGING, Status.ACTIVE)]


# Engine: lost, silent, back


def test_a_lost_engine_is_reported_at_once() -> None:
    bench = working()
    bench.charging()
    bench.took()
    bench.lose_engine("the connection broke")
    fault, update = bench.to_central()
    assert isinstance(fault, FaultNotification)
    assert (fault.fault_code, fault.description) == ("engine_lost", "the Engine is gone: the connection broke")
    assert isinstance(update, StatusUpdate)
    assert update.status is Status.FAULTY
    assert not update.engine_connected
    assert update.session_id is None
    assert update.unsettled_session_ids == []
    assert update.reason == "the Engine is gone: the connection broke"


def test_an_engine_that_is_not_there_when_central_is_is_reported() -> None:
    bench = Bench()
    bench.register()
    sent = bench.to_central()
    assert [fault.fault_code for fault in of(sent, FaultNotification)] == ["engine_lost"]
    assert of(sent, StatusUpdate)[-1].status is Status.FAULTY
    assert not of(sent, StatusUpdate)[-1].engine_connected


def test_it_walks_to_faulty_through_active_when_it_registers_with_a_fault() -> None:
    bench = Bench()
    bench.register()
    assert bench.states == [(Status.DISCONNECTED, Status.ACTIVE), (Status.ACTIVE, Status.FAULTY)]


def test_an_engine_that_never_comes_is_silent_after_90_seconds() -> None:
    bench = Bench()
    bench.wait(89.9)
    assert bench.relay.faults.all == {}
    bench.wait(0.2)
    assert set(bench.relay.faults.all) == {"engine_silent"}
    assert drops_of_engine(bench) == []


def test_an_engine_that_is_gone_is_not_dropped() -> None:
    bench = working()
    bench.lose_engine()
    bench.wait(300)
    assert drops_of_engine(bench) == []


def test_a_lost_engine_is_reported_once() -> None:
    bench = working()
    bench.lose_engine()
    for _ in range(3):
        bench.connect_engine()
        bench.lose_engine()
    assert len(of(bench.to_central(), FaultNotification)) == 1


def test_a_lost_engine_is_silent_90_seconds_after_it_was_last_heard() -> None:
    bench = working()
    bench.wait(20)
    bench.lose_engine()
    bench.took()
    bench.wait(69.9)
    assert of(bench.to_central(), FaultNotification) == []
    bench.wait(0.1)
    fault = only(of_faults(bench), FaultNotification)
    assert (fault.fault_code, fault.description) == ("engine_silent", "nothing was heard from the Engine for 90 s")
    bench.wait(25)
    assert of(bench.to_central(), FaultNotification) == []


def of_faults(bench: Bench) -> list[Message]:
    return [message for message in bench.to_central() if isinstance(message, FaultNotification)]


def test_an_engine_that_does_not_answer_for_90_seconds_is_silent_and_dropped() -> None:
    bench = working()
    for _ in range(8):
        bench.wait(10)
        bench.central(HeartbeatResponse(**bench.head()))
    assert drops_of_engine(bench) == []
    bench.wait(10)
    actions = bench.took()
    (drop,) = [action for action in actions if isinstance(action, DropEngine)]
    assert isinstance(drop.error, PeerSilent)
    faults = of([action.message for action in actions if isinstance(action, ToCentral)], FaultNotification)
    assert [fault.fault_code for fault in faults] == ["engine_silent"]
    assert bench.relay.state.status is Status.FAULTY
    bench.lose_engine(str(drop.error))
    assert not of(bench.to_central(), StatusUpdate)[-1].engine_connected


def test_it_does_not_turn_in_circles_while_a_silent_engine_is_being_dropped() -> None:
    """A link takes a moment to close, and until then it asks for no turn that it has no use for."""
    bench = working()
    for _ in range(9):
        bench.wait(10)
        bench.central(HeartbeatResponse(**bench.head()))
    assert len(drops_of_engine(bench)) == 1
    bench.does(bench.relay.tick(bench.now))
    assert bench.relay.next_due_s() > bench.at_s


def test_an_engine_that_connects_but_never_answers_is_dropped_each_time() -> None:
    bench = Bench()
    for _ in range(3):
        bench.connect_engine()
        bench.wait(95)
        assert len(drops_of_engine(bench)) == 1
        bench.lose_engine("dropped")


def test_the_time_that_an_engine_has_begins_when_it_is_connected() -> None:
    bench = Bench()
    bench.wait(80)
    bench.connect_engine()
    bench.wait(80)
    assert drops_of_engine(bench) == []
    bench.wait(10.1)
    assert len(drops_of_engine(bench)) == 1


def test_an_engine_that_is_back_heals() -> None:
    bench = working()
    bench.wait(10)
    bench.lose_engine()
    bench.wait(85)
    assert set(bench.relay.faults.all) == {"engine_lost", "engine_silent"}
    bench.took()
    bench.ready(unsettled_session_ids=[SESSION])
    sent = bench.to_central()
    assert [recovery.fault_code for recovery in of(sent, RecoveryNotification)] == ["engine_lost", "engine_silent"]
    assert of(sent, StatusUpdate)[-1].engine_connected
    assert of(sent, StatusUpdate)[-1].unsettled_session_ids == [SESSION]
    assert bench.relay.state.status is Status.ACTIVE
    assert bench.relay.faults.all == {}


def test_an_engine_that_is_back_and_charges_heals_to_charging() -> None:
    bench = working()
    bench.lose_engine()
    bench.took()
    bench.ready(session_id=SESSION)
    assert bench.relay.state.status is Status.CHARGING
    assert of(bench.to_central(), StatusUpdate)[-1].status is Status.CHARGING


def test_an_engine_that_is_back_but_faulty_is_not_active_in_between() -> None:
    bench = working()
    bench.lose_engine()
    bench.states.clear()
    bench.ready(healthy=False, fault_code="overheated")
    assert bench.relay.state.status is Status.FAULTY
    assert bench.states == []


def test_whatever_an_engine_says_is_a_sign_of_life() -> None:
    bench = working()
    for seq in range(20):
        bench.wait(60)
        bench.engine(bench.reading(seq))
        bench.central(HeartbeatResponse(**bench.head()))
    assert drops_of_engine(bench) == []
    assert bench.relay.faults.all == {}


# Faults of the Engine's own


def test_a_fault_and_its_recovery_are_passed_on() -> None:
    bench = working()
    bench.states.clear()
    bench.engine(bench.fault("overheated"))
    fault = only(bench.to_central(), FaultNotification)
    assert (fault.cp_id, fault.fault_code, fault.description) == ("CP001", "overheated", "overheated broke")
    bench.engine(bench.recovery("overheated"))
    recovery = only(bench.to_central(), RecoveryNotification)
    assert (recovery.fault_code, recovery.description) == ("overheated", "overheated is whole")
    assert bench.states == [(Status.ACTIVE, Status.FAULTY), (Status.FAULTY, Status.ACTIVE)]


def test_it_stays_faulty_until_the_last_fault_is_gone() -> None:
    bench = working()
    for code in ("overheated", "no_earth"):
        bench.engine(bench.fault(code))
    bench.engine(bench.recovery("overheated"))
    assert bench.states[-1] == (Status.ACTIVE, Status.FAULTY)
    bench.engine(bench.recovery("no_earth"))
    assert bench.states[-1] == (Status.FAULTY, Status.ACTIVE)


def test_a_fault_is_reported_once() -> None:
    bench = working()
    bench.engine(bench.fault("overheated"))
    bench.engine(bench.fault("overheated"))
    bench.engine(bench.account(healthy=False, fault_code="overheated"))
    assert len(of(bench.to_central(), FaultNotification)) == 1


def test_a_fault_is_a_problem_and_a_recovery_is_none() -> None:
    bench = working()
    bench.engine(bench.fault("overheated"))
    bench.engine(bench.recovery("overheated"))
    problems = {action.event: action.problem for action in bench.took() if isinstance(action, Note)}
    assert problems == {"fault": True, "state": False, "recovery": False}


def test_a_recovery_of_what_was_no_fault_is_none() -> None:
    bench = working()
    bench.engine(bench.recovery("overheated"))
    assert bench.took() == []


def test_a_fault_in_the_health_account_is_a_fault() -> None:
    bench = working()
    bench.engine(bench.account(healthy=False, fault_code="overheated"))
    sent = bench.to_central()
    assert [fault.fault_code for fault in of(sent, FaultNotification)] == ["overheated"]
    assert of(sent, StatusUpdate)[-1].reason == "the Engine says that it is faulty"
    bench.engine(bench.account())
    sent = bench.to_central()
    assert [recovery.fault_code for recovery in of(sent, RecoveryNotification)] == ["overheated"]
    assert bench.relay.state.status is Status.ACTIVE


def test_an_engine_that_says_it_is_unhealthy_but_not_why_is_faulty() -> None:
    bench = working()
    bench.engine(bench.account(healthy=False))
    assert bench.relay.state.status is Status.FAULTY
    assert [fault.fault_code for fault in of(bench.to_central(), FaultNotification)] == ["unhealthy"]
    bench.engine(bench.account(healthy=False, fault_code="overheated"))
    assert set(bench.relay.faults.all) == {"overheated"}
    bench.engine(bench.account())
    assert bench.relay.faults.all == {}


def test_an_account_cannot_bring_in_what_the_monitor_sees_of_the_engine() -> None:
    bench = working()
    bench.engine(bench.account(healthy=False, fault_code="engine_silent"))
    assert of(bench.to_central(), FaultNotification) == []


def test_a_healthy_account_heals_all_faults_of_the_engines_own() -> None:
    bench = working()
    for code in ("overheated", "no_earth"):
        bench.engine(bench.fault(code))
    bench.took()
    bench.engine(bench.account())
    recoveries = of(bench.to_central(), RecoveryNotification)
    assert {recovery.fault_code for recovery in recoveries} == {"overheated", "no_earth"}


def test_a_fault_while_central_is_away_is_told_on_return() -> None:
    bench = working()
    bench.lose_central()
    bench.engine(bench.fault("overheated"))
    bench.engine(bench.account(healthy=False, fault_code="overheated"))
    assert bench.to_central() == []
    bench.register()
    sent = bench.to_central()
    assert [fault.fault_code for fault in of(sent, FaultNotification)] == ["overheated"]
    assert of(sent, StatusUpdate)[-1].status is Status.FAULTY
    assert bench.relay.state.status is Status.FAULTY


def test_a_fault_that_came_and_went_while_central_was_away_is_not_told() -> None:
    bench = working()
    bench.lose_central()
    bench.engine(bench.fault("overheated"))
    bench.engine(bench.recovery("overheated"))
    bench.register()
    assert of(bench.to_central(), FaultNotification) == []
    assert bench.relay.state.status is Status.ACTIVE


@pytest.mark.parametrize("code", ["engine_lost", "engine_silent"])
def test_an_engine_cannot_clear_what_the_monitor_sees_of_it(code: str) -> None:
    """Nor does its own fault of that name end a session at Central, as `engine_silent` does."""
    bench = working()
    bench.engine(bench.fault(code))
    assert code not in [fault.fault_code for fault in of(bench.to_central(), FaultNotification)]


def test_a_long_description_of_many_faults_fits_the_wire() -> None:
    bench = working()
    for number in range(5):
        bench.engine(
            FaultNotification(**bench.head(), cp_id="CP001", fault_code=f"F{number}", description="x" * 500)
        )
    bench.engine(bench.account(healthy=False, fault_code="F0"))
    (update,) = of(bench.to_central(), StatusUpdate)
    assert update.reason is not None
    assert len(update.reason) == 500


# Commands down


def start(bench: Bench) -> StartChargingCommand:
    return StartChargingCommand(**bench.head(), cp_id="CP001", session_id=SESSION, driver_id="D1")


def stop(bench: Bench) -> StopChargingCommand:
    return StopChargingCommand(**bench.head(), cp_id="CP001", session_id=SESSION)


@pytest.mark.parametrize("command", [start, stop])
def test_a_command_is_passed_down_and_its_answer_up(
    command: Callable[[Bench], StartChargingCommand | StopChargingCommand],
) -> None:
    bench = working()
    order = command(bench)
    bench.central(order)
    assert bench.to_engine() == [order]
    answer = CommandResponse(
        **bench.head(), cp_id="CP001", session_id=SESSION, in_reply_to=order.message_id, accepted=True
    )
    bench.engine(answer)
    assert bench.to_central() == [answer]


@pytest.mark.parametrize("command", [start, stop])
def test_a_command_without_an_engine_is_refused(
    command: Callable[[Bench], StartChargingCommand | StopChargingCommand],
) -> None:
    bench = working()
    bench.lose_engine()
    bench.took()
    order = command(bench)
    bench.central(order)
    actions = bench.took()
    assert [action for action in actions if isinstance(action, ToEngine)] == []
    answer = only([action.message for action in actions if isinstance(action, ToCentral)], CommandResponse)
    assert not answer.accepted
    assert (answer.code, answer.in_reply_to, answer.session_id) == (
        "engine_unavailable",
        order.message_id,
        SESSION,
    )
    bench.central(order)
    assert only(bench.to_central(), CommandResponse).message_id == answer.message_id


def test_a_command_to_an_engine_that_has_not_given_its_account_yet_is_refused() -> None:
    bench = Bench()
    bench.connect_engine()
    bench.register()
    bench.took()
    bench.central(start(bench))
    assert only(bench.to_central(), CommandResponse).code == "engine_unavailable"


def test_receipts_and_refusals_are_passed_down() -> None:
    bench = working()
    receipt = receipt_for(bench)
    error = ErrorResponse(**bench.head(), code="unknown_session", reason="no such session")
    for message in (receipt, error):
        bench.central(message)
        assert bench.to_engine() == [message]


def receipt_for(bench: Bench) -> ChargeCompletionResponse:
    return ChargeCompletionResponse(
        **bench.head(),
        cp_id="CP001",
        session_id=SESSION,
        driver_id="D1",
        status=SessionStatus.COMPLETED,
        end_reason=EndReason.STOPPED,
        energy_wh=9,
        price_per_kwh=Decimal(0),
        cost=Decimal(0),
        currency="EUR",
        requested_at=bench.now.utc,
        ended_at=bench.now.utc,
        revision=1,
    )


def test_a_receipt_without_an_engine_goes_nowhere() -> None:
    bench = working()
    bench.lose_engine()
    bench.took()
    bench.central(receipt_for(bench))
    assert bench.took() == []


# Data up


def test_data_is_passed_up_as_it_is() -> None:
    bench = working()
    for message in (bench.reading(0), bench.reading(1), bench.completion()):
        bench.engine(message)
        assert bench.to_central() == [message]


def test_readings_are_kept_while_central_is_away_and_delivered_in_order() -> None:
    bench = working()
    bench.charging()
    bench.lose_central()
    bench.took()
    readings = [bench.reading(seq) for seq in range(100)]
    for reading in readings:
        bench.engine(reading)
    assert bench.took() == []
    bench.register()
    sent = bench.to_central()
    assert of(sent, ChargingData) == readings
    kinds = [type(message) for message in sent]
    assert kinds.index(RegisterRequest) < kinds.index(StatusUpdate) < kinds.index(ChargingData)
    bench.lose_central()
    bench.register()
    assert of(bench.to_central(), ChargingData) == []


def test_the_newest_readings_are_kept_and_no_more_than_10_000() -> None:
    assert MAX_WAITING_READINGS == 10_000
    bench = working()
    bench.lose_central()
    for seq in range(10_005):
        bench.engine(bench.reading(seq))
    bench.register()
    assert [reading.seq for reading in of(bench.to_central(), ChargingData)] == list(range(5, 10_005))


def test_a_completion_while_central_is_away_is_left_to_the_engine_to_repeat() -> None:
    bench = working()
    bench.lose_central()
    bench.took()
    bench.engine(bench.completion())
    assert bench.took() == []
    bench.register()
    assert of(bench.to_central(), ChargeCompletion) == []


# A charge asked for at the charge point


def ask(bench: Bench) -> ChargeRequest:
    return ChargeRequest(**bench.head(), driver_id="D1", cp_id="CP001")


def test_a_charge_request_goes_to_central_and_its_answer_back() -> None:
    bench = working()
    request = ask(bench)
    bench.engine(request)
    assert bench.to_central() == [request]
    answer = ChargeRequestResponse(
        **bench.head(), driver_id="D1", cp_id="CP001", accepted=True, in_reply_to=request.message_id
    )
    bench.central(answer)
    assert bench.to_engine() == [answer]


def test_a_charge_request_while_central_is_away_is_refused() -> None:
    bench = working()
    bench.lose_central()
    bench.took()
    request = ask(bench)
    bench.engine(request)
    answer = only(bench.to_engine(), ChargeRequestResponse)
    assert not answer.accepted
    assert (answer.code, answer.in_reply_to) == ("charge_point_unavailable", request.message_id)
    assert (answer.driver_id, answer.cp_id) == ("D1", "CP001")


# What has no business here


def foreign(bench: Bench) -> AvailableCpsRequest:
    return AvailableCpsRequest(**bench.head(), driver_id="D1")


def test_an_unexpected_message_of_central_is_answered() -> None:
    bench = working()
    message = foreign(bench)
    bench.central(message)
    error = only(bench.to_central(), ErrorResponse)
    assert (error.code, error.in_reply_to) == ("unexpected_type", message.message_id)
    assert "start_charging_command" in error.reason


def test_an_unexpected_message_of_the_engine_is_answered() -> None:
    bench = working()
    message = foreign(bench)
    bench.engine(message)
    error = only(bench.to_engine(), ErrorResponse)
    assert (error.code, error.in_reply_to) == ("unexpected_type", message.message_id)
    assert "charging_data" in error.reason


def test_an_error_is_never_answered_with_an_error() -> None:
    bench = working()
    bench.engine(ErrorResponse(**bench.head(), code="bad_json", reason="what?"))
    assert bench.took() == [Note("engine_refuses", {"code": "bad_json", "reason": "what?"}, problem=True)]
    bench.lose_engine()
    bench.took()
    bench.central(ErrorResponse(**bench.head(), code="bad_json", reason="what?"))
    assert bench.took() == [Note("central_refuses", {"code": "bad_json", "reason": "what?"}, problem=True)]


# What a technician reports at the Monitor


def state_of(bench: Bench) -> Status:
    return bench.relay.state.status


def test_a_fault_that_a_person_reports_makes_the_charge_point_faulty() -> None:
    bench = working()
    bench.report("cable_damaged", "the cable is cut")
    fault = only(bench.to_central(), FaultNotification)
    assert (fault.fault_code, fault.description) == ("cable_damaged", "the cable is cut")
    assert state_of(bench) is Status.FAULTY
    assert bench.relay.faults.reported == ["cable_damaged"]


def test_it_outlasts_all_that_the_engine_says_and_each_connection() -> None:
    bench = working()
    bench.report("cable_damaged")
    bench.took()
    bench.engine(bench.account())
    bench.engine(bench.recovery("cable_damaged"))
    bench.lose_engine()
    bench.ready()
    assert of(bench.to_central(), RecoveryNotification)[-1].fault_code == "engine_lost"
    assert set(bench.relay.faults.all) == {"cable_damaged"}
    for _ in range(2):
        bench.lose_central()
        bench.register()
        assert [fault.fault_code for fault in of(bench.to_central(), FaultNotification)] == ["cable_damaged"]
        assert state_of(bench) is Status.FAULTY


def test_it_is_reported_as_soon_as_central_is_there() -> None:
    bench = working()
    bench.lose_central()
    bench.took()
    bench.report("cable_damaged")
    assert bench.to_central() == []
    bench.register()
    assert [fault.fault_code for fault in of(bench.to_central(), FaultNotification)] == ["cable_damaged"]


def test_it_ends_no_charge_and_the_charge_is_shown_again_when_it_is_cleared() -> None:
    bench = working()
    bench.charging()
    bench.report("cable_damaged")
    bench.took()
    bench.engine(bench.reading(3))
    assert only(bench.to_central(), ChargingData).seq == 3
    bench.clear("cable_damaged")
    actions = bench.took()
    assert [action for action in actions if isinstance(action, ToEngine)] == []
    recovery, update = [action.message for action in actions if isinstance(action, ToCentral)]
    assert isinstance(recovery, RecoveryNotification)
    assert (recovery.fault_code, recovery.description) == ("cable_damaged", "cleared at the Monitor")
    assert isinstance(update, StatusUpdate)
    assert (update.status, update.session_id) == (Status.CHARGING, SESSION)
    assert bench.relay.state.status is Status.CHARGING
    assert bench.relay.faults.reported == []


def test_while_another_fault_lasts_it_stays_faulty() -> None:
    bench = working()
    bench.report("cable_damaged")
    bench.report("display_dark")
    bench.clear("cable_damaged")
    assert state_of(bench) is Status.FAULTY
    bench.clear("display_dark")
    assert state_of(bench) is Status.ACTIVE


def test_a_fault_that_both_report_lasts_until_both_say_that_it_is_over() -> None:
    for first_here in (True, False):
        bench = working()
        bench.engine(bench.fault("overheated"))
        bench.report("overheated")
        assert len(of(bench.to_central(), FaultNotification)) == 1
        over: list[Callable[[], None]] = [
            lambda bench=bench: bench.clear("overheated"),  # type: ignore[misc]
            lambda bench=bench: bench.engine(bench.recovery("overheated")),  # type: ignore[misc]
        ]
        first, second = over if first_here else reversed(over)
        first()
        assert of(bench.to_central(), RecoveryNotification) == []
        assert state_of(bench) is Status.FAULTY
        second()
        assert len(of(bench.to_central(), RecoveryNotification)) == 1
        assert state_of(bench) is Status.ACTIVE


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("no such code", "is no code"),
        ("", "is no code"),
        ("x" * 65, "is no code"),
        ("engine_lost", "for evcharge itself"),
        ("engine_silent", "for evcharge itself"),
        ("connection_lost", "for evcharge itself"),
        ("cable_damaged", "is reported already"),
    ],
)
def test_what_cannot_be_reported_is_refused_with_a_sentence(code: str, sentence: str) -> None:
    bench = working()
    bench.report("cable_damaged")
    bench.took()
    with pytest.raises(UsageError, match=sentence):
        bench.report(code)
    assert bench.took() == []
    assert bench.relay.faults.reported == ["cable_damaged"]


def test_what_was_not_reported_here_cannot_be_cleared_here_and_the_sentence_says_who_can() -> None:
    bench = working()
    bench.engine(bench.fault("overheated"))
    bench.lose_engine()
    bench.took()
    for code, sentence in (
        ("overheated", "repaired there"),
        ("engine_lost", "by itself when the Engine answers"),
        ("nonsense", "there is no fault 'nonsense'"),
    ):
        with pytest.raises(UsageError, match=sentence):
            bench.clear(code)
    assert bench.took() == []
    assert set(bench.relay.faults.all) == {"overheated", "engine_lost"}


# Where it stands


def test_a_new_location_is_registered_at_once_and_nothing_else_changes() -> None:
    bench = working()
    bench.charging()
    bench.states.clear()
    bench.took()
    bench.relocate("Harbour, bay 2")
    request = only(bench.to_central(), RegisterRequest)
    assert (request.location, request.cp_id, request.max_power_w) == ("Harbour, bay 2", "CP001", 22_000)
    bench.central(bench.register_response())
    assert bench.took() == [Note("registered_anew", {"location": "Harbour, bay 2"})]
    assert bench.states == []
    bench.lose_central()
    bench.register()
    assert [request.location for request in of(bench.to_central(), RegisterRequest)] == ["Harbour, bay 2"]


def test_a_new_location_waits_for_central() -> None:
    bench = working()
    bench.lose_central()
    bench.took()
    bench.relocate("Harbour, bay 2")
    assert bench.took() == []
    bench.register()
    assert [request.location for request in of(bench.to_central(), RegisterRequest)] == ["Harbour, bay 2"]


def test_a_new_location_is_not_lost_while_central_registers_the_old_one() -> None:
    bench = Bench()
    bench.ready()
    bench.connect_central()
    bench.relocate("too early to be said twice")
    assert of(bench.to_central(), RegisterRequest) == []
    bench.central(bench.auth_response())
    bench.relocate("Harbour, bay 2")
    locations = [request.location for request in of(bench.to_central(), RegisterRequest)]
    assert locations == ["too early to be said twice", "Harbour, bay 2"]
    bench.central(bench.register_response())
    bench.central(bench.register_response())
    assert bench.states == [(Status.DISCONNECTED, Status.ACTIVE)]


@pytest.mark.parametrize("location", ["", "x" * 501, "two\nlines", "\x1b[31mred"])
def test_what_is_no_location_is_refused(location: str) -> None:
    bench = working()
    with pytest.raises(UsageError, match="1 to 500 characters"):
        bench.relocate(location)
    assert bench.relay.config.location == "Main Street 1"
    assert bench.took() == []


# What it remembers


def test_it_remembers_the_last_transitions_with_their_reasons() -> None:
    bench = working()
    bench.wait(5)
    bench.engine(bench.fault("overheated"))
    last = bench.relay.state.transitions[-1]
    assert (last.before, last.now, last.reason) == (Status.ACTIVE, Status.FAULTY, "overheated broke")
    assert last.at == bench.now.utc
    for _ in range(TRANSITIONS_KEPT):
        bench.charging()
        bench.engine(bench.account())
    assert len(bench.relay.state.transitions) == TRANSITIONS_KEPT == 20


def test_it_counts_what_it_passes_on_and_what_waits() -> None:
    bench = working()
    bench.central(start(bench))
    bench.central(receipt_for(bench))
    bench.engine(bench.reading(0))
    bench.engine(bench.completion())
    assert (bench.relay.central.passed_up, bench.relay.engine.passed_down, len(bench.relay.central.waiting)) == (
        2,
        2,
        0,
    )
    bench.lose_central()
    bench.engine(bench.reading(1))
    bench.engine(bench.reading(2))
    bench.engine(bench.completion())
    assert (bench.relay.central.passed_up, len(bench.relay.central.waiting)) == (2, 2)
    bench.register()
    assert (bench.relay.central.passed_up, len(bench.relay.central.waiting)) == (4, 0)


def test_it_remembers_the_last_reading_and_the_last_completion() -> None:
    bench = working()
    bench.lose_central()
    reading, completion = bench.reading(7), bench.completion()
    bench.engine(reading)
    bench.engine(completion)
    assert bench.relay.engine.reading == (reading, bench.at_s)
    assert bench.relay.engine.completion == completion


def test_it_remembers_when_it_last_asked_and_was_last_answered() -> None:
    bench = working(replace(CONFIG, heartbeat_interval_s=40))
    assert bench.relay.central.heartbeat == Exchange()
    assert bench.relay.engine.health_check == Exchange(asked_s=1000.0)
    bench.wait(30)
    (check,) = of(bench.to_engine(), HealthCheckRequest)
    bench.at_s = 1031.0
    bench.engine(bench.account())  # unasked
    assert bench.relay.engine.health_check == Exchange(1030.0)
    bench.engine(bench.account(in_reply_to=check.message_id))
    assert bench.relay.engine.health_check == Exchange(1030.0, 1031.0)
    bench.wait(9)
    bench.at_s = 1042.0
    bench.central(HeartbeatResponse(**bench.head()))
    assert bench.relay.central.heartbeat == Exchange(1040.0, 1042.0)


# Anything, in any order

STEPS = st.lists(
    st.sampled_from(
        [
            "connect_central",
            "accept",
            "refuse",
            "register",
            "lose_central",
            "unreachable",
            "connect_engine",
            "account",
            "charging",
            "faulty",
            "lose_engine",
            "fault",
            "recovery",
            "reading",
            "completion",
            "start",
            "ask",
            "report F",
            "report G",
            "clear F",
            "clear G",
            "relocate",
            "wait 1",
            "wait 31",
            "wait 91",
        ]
    ),
    max_size=40,
)


@settings(max_examples=150)
@given(STEPS, st.booleans())
def test_whatever_happens_in_whatever_order_the_states_walk_legal_ways_only(steps: list[str], stop: bool) -> None:
    """Bench checks each step; links behave as links do: what is dropped closes, what is closed says nothing."""
    bench = Bench(MonitorConfig("CP001", "", "", Decimal(0), "EUR", 1, stop_on_central_loss=stop))
    central = engine = False
    told: set[str] = set()  # the faults that Central knows of
    for step in steps:
        match step.split():
            case ["connect_central"] if not central:
                central = True
                bench.connect_central()
            case ["accept"] if central:
                bench.central(bench.auth_response())
            case ["refuse"] if central:
                bench.central(bench.auth_response(accepted=False, reason="no"))
            case ["register"] if central:
                bench.central(bench.register_response())
            case ["lose_central"] if central:
                central = False
                bench.lose_central()
            case ["unreachable"] if not central:
                bench.does(bench.relay.central_unreachable("no", bench.now))
            case ["connect_engine"] if not engine:
                engine = True
                bench.connect_engine()
                bench.accept_init()
            case ["account"] if engine:
                bench.engine(bench.account())
            case ["charging"] if engine:
                bench.charging()
            case ["faulty"] if engine:
                bench.engine(bench.account(healthy=False, fault_code="F"))
            case ["lose_engine"] if engine:
                engine = False
                bench.lose_engine()
            case ["fault" | "recovery" as what] if engine:
                bench.engine(getattr(bench, what)("F"))
            case ["reading"] if engine:
                bench.engine(bench.reading(0))
            case ["completion"] if engine:
                bench.engine(bench.completion())
            case ["start"] if central:
                bench.central(start(bench))
            case ["ask"] if engine:
                bench.engine(ask(bench))
            case ["report" | "clear" as what, code]:
                with suppress(UsageError):
                    getattr(bench, what)(code)
            case ["relocate"]:
                bench.does(bench.relay.relocate("elsewhere", bench.now))
            case ["wait", seconds]:
                bench.at_s += float(seconds)
                bench.does(bench.relay.tick(bench.now))
        for action in bench.took():
            if isinstance(action, DropCentral):
                central = False
                bench.lose_central()
            elif isinstance(action, DropEngine):
                engine = False
                bench.lose_engine()
            match action:
                case ToCentral(FaultNotification(fault_code=code)):
                    told.add(code)
                case ToCentral(RecoveryNotification(fault_code=code)):
                    assert code in told
                    told.discard(code)
        if not bench.relay.central.registered:
            told.clear()
        assert told == (set(bench.relay.faults.all) if bench.relay.central.registered else set())
        if bench.relay.central.registered:
            faulty = bool(bench.relay.faults.all)
            assert (bench.relay.state.status is Status.FAULTY) == faulty
        else:
            assert bench.relay.state.status in (Status.DISCONNECTED, Status.FAULTY)
        assert bench.relay.engine.ready <= engine
        assert bench.relay.central.registered <= central
