"""What an Engine does: one plug, at most one charge, a meter that is exact, completions that wait for receipts."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any, TypedDict, TypeVar
from uuid import UUID, uuid4

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from evcharge.domain.battery import Battery, Current
from evcharge.domain.instant import Instant
from evcharge.domain.session import EndReason, SessionStatus
from evcharge.engine.charger import Charger, ChargerConfig
from evcharge.errors import UsageError
from evcharge.protocol.messages import (
    ChargeCompletion,
    ChargeCompletionResponse,
    ChargeRequest,
    ChargingData,
    CommandResponse,
    ErrorResponse,
    FaultNotification,
    HealthCheckRequest,
    HealthCheckResponse,
    HeartbeatRequest,
    InitCpId,
    Message,
    RecoveryNotification,
    StartChargingCommand,
    StopChargingCommand,
    derived_id,
    encode,
)

SESSION = UUID("8b7c1c80-1111-4111-8111-000000000001")
OTHER_SESSION = UUID("8b7c1c80-1111-4111-8111-000000000002")
HALF_FULL = Battery(capacity_wh=60_000, stored_wh=30_000, max_power_w=11_000)

M = TypeVar("M", bound=Message)


class Head(TypedDict):
    message_id: UUID
    timestamp: datetime


class Bench:
    """A Charger, bound to CP001 unless told otherwise, and its clock."""

    def __init__(
        self,
        vehicle: Battery = HALF_FULL,
        *,
        max_power_w: int = 22_000,
        time_scale: float = 1.0,
        reading_interval_s: float = 1.0,
        starts_at_s: float = 1000.0,
        bound: bool = True,
        manual_plug: bool = False,
    ) -> None:
        self.at_s = self.started_at_s = starts_at_s
        self.charger = Charger(
            ChargerConfig(
                max_power_w=max_power_w,
                vehicle=vehicle,
                time_scale=time_scale,
                reading_interval_s=reading_interval_s,
                manual_plug=manual_plug,
            )
        )
        if bound:
            self.bind()

    @property
    def now(self) -> Instant:
        passed = timedelta(seconds=self.at_s - self.started_at_s)
        return Instant(datetime(2026, 1, 1, tzinfo=UTC) + passed, self.at_s)

    def head(self) -> Head:
        return {"message_id": uuid4(), "timestamp": self.now.utc}

    def bind(self, cp_id: str = "CP001", max_power_w: int = 10**8) -> CommandResponse:
        request = InitCpId(**self.head(), cp_id=cp_id, max_power_w=max_power_w)
        verdict = only(self.charger.bind(request, self.now), CommandResponse)
        assert verdict.in_reply_to == request.message_id
        return verdict

    def start(self, energy_wh: int | None = None, session_id: UUID = SESSION) -> list[Message]:
        command = StartChargingCommand(
            **self.head(), cp_id="CP001", session_id=session_id, driver_id="D1", energy_wh=energy_wh
        )
        return self.receive(command)

    def stop(self, session_id: UUID = SESSION, **changes: Any) -> list[Message]:
        return self.receive(StopChargingCommand(**self.head(), cp_id="CP001", session_id=session_id, **changes))

    def plug_in(self, vehicle: Battery = HALF_FULL) -> list[Message]:
        return self.checked(self.charger.plug_in(vehicle, self.now))

    def unplug(self) -> list[Message]:
        return self.checked(self.charger.unplug(self.now))

    def receive(self, message: Message) -> list[Message]:
        return self.checked(self.charger.receive(message, self.now))

    def advance(self, seconds: float = 0.0) -> list[Message]:
        self.at_s += seconds
        return self.checked(self.charger.advance(self.now))

    def checked(self, outcome: list[Message]) -> list[Message]:
        for message in outcome:
            encode(message)
        return outcome

    def turns(self, most: int = 300) -> list[Message]:
        """Whatever follows until the charge has ended, taking each turn exactly when the Charger asks for it."""
        outcome: list[Message] = []
        for _ in range(most):
            if self.charger.charge is None:
                return outcome
            due_s = self.charger.next_due_s()
            assert due_s < math.inf, "the charge would never end"
            self.at_s = max(due_s, math.nextafter(self.at_s, math.inf))
            outcome += self.advance()
        raise AssertionError(f"the charge has not ended after {most} turns")

    def receipt(self, session_id: UUID = SESSION, in_reply_to: UUID | None = None) -> ChargeCompletionResponse:
        return ChargeCompletionResponse(
            **self.head(),
            in_reply_to=in_reply_to or derived_id(session_id, "completion"),
            cp_id="CP001",
            session_id=session_id,
            driver_id="D1",
            status=SessionStatus.COMPLETED,
            end_reason=EndReason.STOPPED,
            energy_wh=0,
            price_per_kwh=Decimal(0),
            cost=Decimal(0),
            currency="EUR",
            requested_at=self.now.utc,
            ended_at=self.now.utc,
            revision=1,
        )


def of(messages: list[Message], kind: type[M]) -> list[M]:
    return [message for message in messages if isinstance(message, kind)]


def only(messages: list[Message], kind: type[M]) -> M:
    assert [type(message) for message in messages] == [kind]
    return of(messages, kind)[0]


def the_completion(messages: list[Message]) -> ChargeCompletion:
    (completion,) = of(messages, ChargeCompletion)
    return completion


def kinds(messages: list[Message]) -> list[type[Message]]:
    return [type(message) for message in messages]


# Whose it is


def test_it_takes_the_id_that_the_monitor_gives_it() -> None:
    bench = Bench(bound=False)
    assert bench.bind("CP007").accepted
    assert bench.charger.cp_id == "CP007"


def test_it_takes_the_same_id_again() -> None:
    bench = Bench()
    assert bench.bind("CP001").accepted


def test_it_takes_no_other_id() -> None:
    bench = Bench()
    verdict = bench.bind("CP002", max_power_w=1)
    assert not verdict.accepted
    assert verdict.code == "not_yours"
    assert bench.charger.cp_id == "CP001"
    assert of(bench.start(), ChargingData)[0].power_w == 11_000


@pytest.mark.parametrize(
    ("engine_w", "monitor_w", "vehicle_w", "power_w"),
    [(5000, 9000, 9000, 5000), (9000, 5000, 9000, 5000), (9000, 9000, 5000, 5000)],
)
def test_the_power_is_what_engine_monitor_and_vehicle_all_allow(
    engine_w: int, monitor_w: int, vehicle_w: int, power_w: int
) -> None:
    bench = Bench(Battery(60_000, 0, vehicle_w), max_power_w=engine_w, bound=False)
    bench.bind(max_power_w=monitor_w)
    assert of(bench.start(), ChargingData)[0].power_w == power_w


# Start


def test_a_start_is_accepted_and_read_at_once() -> None:
    bench = Bench()
    verdict, reading, account = bench.start(5000)
    assert isinstance(verdict, CommandResponse)
    assert (verdict.accepted, verdict.cp_id, verdict.session_id) == (True, "CP001", SESSION)
    assert isinstance(reading, ChargingData)
    assert (reading.cp_id, reading.session_id, reading.driver_id) == ("CP001", SESSION, "D1")
    assert (reading.seq, reading.energy_wh, reading.power_w, reading.soc_percent) == (0, 0, 11_000, 50.0)
    assert isinstance(account, HealthCheckResponse)
    assert account.session_id == SESSION


def test_the_same_start_again_is_accepted_and_nothing_happens_twice() -> None:
    bench = Bench()
    command = StartChargingCommand(
        **bench.head(), cp_id="CP001", session_id=SESSION, driver_id="D1", energy_wh=5000
    )
    first = of(bench.receive(command), CommandResponse)[0]
    bench.advance(60)
    before = bench.charger.charge
    again = only(bench.receive(command), CommandResponse)
    assert again.accepted
    assert (again.message_id, again.in_reply_to) == (first.message_id, command.message_id)
    assert bench.charger.charge is before
    assert the_completion(bench.turns(2000)).energy_wh == 5000


def test_a_second_start_is_refused_while_one_charges() -> None:
    bench = Bench()
    bench.start()
    refusal = only(bench.start(session_id=OTHER_SESSION), CommandResponse)
    assert (refusal.accepted, refusal.code, refusal.session_id) == (False, "charge_point_busy", OTHER_SESSION)
    assert bench.charger.charge is not None
    assert bench.charger.charge.session_id == SESSION


def test_a_start_of_a_session_that_has_ended_is_refused() -> None:
    bench = Bench()
    bench.start()
    bench.stop()
    refusal = only(bench.start(), CommandResponse)
    assert (refusal.accepted, refusal.code) == (False, "charge_point_busy")
    assert bench.charger.charge is None


def test_a_start_is_refused_while_it_is_faulty() -> None:
    bench = Bench()
    bench.charger.fail("overheated", "too hot", bench.now)
    refusal = only(bench.start(), CommandResponse)
    assert (refusal.accepted, refusal.code) == (False, "charge_point_faulty")
    assert refusal.reason is not None
    assert "overheated" in refusal.reason
    bench.charger.repair(bench.now)
    assert of(bench.start(), CommandResponse)[0].accepted


def test_a_start_is_refused_without_a_vehicle() -> None:
    bench = Bench()
    bench.charger.unplug(bench.now)
    refusal = only(bench.start(), CommandResponse)
    assert (refusal.accepted, refusal.code) == (False, "vehicle_missing")


def test_a_new_session_may_start_while_another_waits_for_its_receipt() -> None:
    bench = Bench()
    bench.start()
    bench.stop()
    assert of(bench.start(session_id=OTHER_SESSION), CommandResponse)[0].accepted


def test_an_unbound_engine_starts_nothing() -> None:
    bench = Bench(bound=False)
    with pytest.raises(UsageError, match="no Monitor"):
        bench.start()
    assert bench.charger.next_due_s() == math.inf


# Readings


def test_a_reading_comes_each_interval_with_growing_seq_and_energy() -> None:
    bench = Bench(reading_interval_s=2.0)
    (first,) = of(bench.start(), ChargingData)
    readings = [first]
    for _ in range(40):
        assert bench.advance(1.0) == []
        readings += of(bench.advance(1.0), ChargingData)
    assert [reading.seq for reading in readings] == list(range(41))
    # 11 kW for 2 s are 6.11 Wh.
    assert [reading.energy_wh for reading in readings] == [int(number * 2 * 11_000 / 3600) for number in range(41)]
    assert readings[-1].timestamp == bench.now.utc


def test_the_state_of_charge_grows_with_the_energy_less_the_losses() -> None:
    bench = Bench(time_scale=3600)
    bench.start()
    (reading,) = of(bench.advance(1), ChargingData)
    assert (reading.energy_wh, reading.soc_percent) == (11_000, 66.5)  # 9,900 Wh of them are stored


def test_the_power_falls_when_the_battery_is_nearly_full() -> None:
    bench = Bench(Battery(60_000, 54_000, 60_000), max_power_w=43_000, time_scale=60)
    bench.start()
    powers = [of(bench.advance(1), ChargingData)[0].power_w for _ in range(10)]
    assert powers == sorted(powers, reverse=True)
    assert powers[0] > powers[-1] > 0


@given(
    st.lists(st.floats(0.001, 400), min_size=1, max_size=30),
    st.floats(100, 350_000),
    st.sampled_from([1.0, 600.0, 7.3]),
)
def test_the_meter_never_runs_backwards_nor_faster_than_the_power(
    steps_s: list[float], power_w: float, scale: float
) -> None:
    bench = Bench(Battery(1_000_000, 0, power_w), max_power_w=10**7, time_scale=scale, reading_interval_s=0.001)
    readings = of(bench.start(), ChargingData)
    for step_s in steps_s:
        readings += of(bench.advance(step_s), ChargingData)
    for before, then in pairwise(readings):
        assert then.seq == before.seq + 1
        assert then.energy_wh >= before.energy_wh
        assert then.energy_wh <= power_w * sum(steps_s) * scale / 3600 + 1


def test_no_reading_comes_without_a_charge() -> None:
    bench = Bench()
    assert bench.advance(10) == []
    assert bench.charger.next_due_s() == math.inf


# Direct current

DC_CAR = Battery(60_000, 6_000, 120_000, Current.DC, losses=0.05)


def test_a_direct_current_charge_is_48_seconds_without_power_and_then_has_0_73_of_the_peak() -> None:
    bench = Bench(DC_CAR, max_power_w=150_000)
    readings = of(bench.start(), ChargingData)
    for _ in range(50):
        readings += of(bench.advance(1), ChargingData)
    assert [reading.power_w for reading in readings] == [0] * 48 + [87_600] * 3
    assert [reading.energy_wh for reading in readings[48:]] == [0, 24, 48]


def test_a_long_step_over_the_connecting_ends_where_short_ones_do() -> None:
    at_once, stepwise = Bench(DC_CAR, max_power_w=150_000), Bench(DC_CAR, max_power_w=150_000)
    for bench in (at_once, stepwise):
        bench.start()
    at_once.advance(600)
    for _ in range(600):
        stepwise.advance(1)
    assert at_once.charger.vehicle is not None
    assert stepwise.charger.vehicle is not None
    assert at_once.charger.vehicle.stored_wh == pytest.approx(stepwise.charger.vehicle.stored_wh)
    assert at_once.charger.left_s(at_once.now) == pytest.approx(stepwise.charger.left_s(stepwise.now))


def test_the_time_left_counts_the_connecting() -> None:
    bench = Bench(DC_CAR, max_power_w=150_000)
    bench.start(8_760)
    assert bench.charger.left_s(bench.now) == pytest.approx(48 + 360)
    bench.advance(40)
    assert bench.charger.left_s(bench.now) == pytest.approx(8 + 360)


# The end by target


SCALES = st.sampled_from([1.0, 600.0, 200_000.0]) | st.sampled_from([0.37, 3.0, 7.3, 86_399.9, 1e9 / 3])


@settings(max_examples=200)
@given(
    target_wh=st.integers(1, 300_000),
    power_w=st.floats(100, 2_000_000),
    scale=SCALES,
    starts_at_s=st.sampled_from([0.0, 1000.0, 1e6 + 1 / 3, 3e7 + 0.1]),
    readings=st.floats(0.5, 30),
    soc=st.floats(0, 0.6),
    current=st.sampled_from(Current),
)
@example(36_000, 11_000, 200_000.0, 1000.0, 5.5, 0.2, Current.AC)
def test_a_charge_ends_at_exactly_its_target(
    target_wh: int,
    power_w: float,
    scale: float,
    starts_at_s: float,
    readings: float,
    soc: float,
    current: Current,
) -> None:
    capacity_wh = max(1000.0, target_wh / (1 - soc) * 1.01)
    vehicle = Battery(capacity_wh, capacity_wh * soc, power_w, current)
    takes_s = (vehicle.connect_s + vehicle.seconds_to(10**7, target_wh)) / scale
    bench = Bench(
        vehicle,
        max_power_w=10**7,
        time_scale=scale,
        reading_interval_s=takes_s / readings,
        starts_at_s=starts_at_s,
    )
    outcome = [*bench.start(target_wh), *bench.turns()]
    completion = the_completion(outcome)
    assert (completion.energy_wh, completion.end_reason) == (target_wh, EndReason.TARGET_REACHED)
    data = of(outcome, ChargingData)
    assert [reading.seq for reading in data] == list(range(len(data)))
    assert completion.seq == len(data)
    energies = [reading.energy_wh for reading in data]
    assert energies == sorted(energies)
    assert energies[-1] <= target_wh
    assert bench.at_s - starts_at_s == pytest.approx(takes_s, rel=1e-6, abs=1e-6)


@given(
    target_wh=st.integers(1, 40_000),
    steps_s=st.lists(st.floats(0.01, 50_000), min_size=1, max_size=20),
    scale=st.sampled_from([1.0, 600.0, 200_000.0]),
)
def test_a_clock_that_jumps_past_the_end_changes_nothing_of_the_target(
    target_wh: int, steps_s: list[float], scale: float
) -> None:
    bench = Bench(Battery(60_000, 12_000, 11_000), time_scale=scale)
    outcome = bench.start(target_wh)
    for step_s in [*steps_s, 1e9]:
        outcome += bench.advance(step_s)
    assert (the_completion(outcome).energy_wh, the_completion(outcome).end_reason) == (
        target_wh,
        EndReason.TARGET_REACHED,
    )


def test_a_target_that_just_fits_is_reached() -> None:
    bench = Bench(Battery(60_000, 50_000, 11_000), time_scale=600)
    bench.start(11_111)  # of which 10,000 are stored
    completion = the_completion(bench.turns())
    assert (completion.energy_wh, completion.end_reason) == (11_111, EndReason.TARGET_REACHED)
    assert completion.soc_percent == 100.0


# The end by a full battery


@settings(max_examples=200)
@given(
    capacity_wh=st.floats(1000, 1_000_000),
    soc=st.floats(0, 1),
    power_w=st.floats(100, 2_000_000),
    scale=SCALES,
    target_wh=st.none() | st.integers(1_200_000, 10**9),
    readings=st.floats(0.5, 20),
)
def test_a_charge_without_a_target_that_fits_ends_with_a_full_battery(
    capacity_wh: float, soc: float, power_w: float, scale: float, target_wh: int | None, readings: float
) -> None:
    vehicle = Battery(capacity_wh, capacity_wh * soc, power_w)
    room_wh = vehicle.room_wh
    assume(room_wh > 1e-6)
    takes_s = vehicle.seconds_to(power_w, room_wh) / scale
    bench = Bench(vehicle, max_power_w=10**7, time_scale=scale, reading_interval_s=takes_s / readings)
    bench.start(target_wh)
    completion = the_completion(bench.turns())
    assert completion.end_reason is EndReason.BATTERY_FULL
    assert room_wh - 1 < completion.energy_wh <= room_wh + 1e-5
    assert completion.soc_percent == 100.0


@pytest.mark.parametrize("missing_wh", [0.0, 1e-12, 1e-9, 2e-9, 1e-6])
@pytest.mark.parametrize("target_wh", [None, 5000])
def test_a_battery_that_is_as_good_as_full_ends_the_charge_at_once(
    missing_wh: float, target_wh: int | None
) -> None:
    bench = Bench(Battery(1000.0, 1000.0 - missing_wh, 11_000))
    bench.start(target_wh)
    completion = the_completion(bench.turns())
    assert (completion.energy_wh, completion.end_reason) == (0, EndReason.BATTERY_FULL)
    assert bench.at_s < bench.started_at_s + 1


def test_a_battery_of_100_percent_is_full_whatever_its_size() -> None:
    """1.5761 kWh x 1000 is no whole number in binary; `--battery 1.5761 --soc 100` must not charge for ever."""
    capacity_wh = 1.5761 * 1000
    bench = Bench(Battery(capacity_wh, capacity_wh * 100 / 100, 11_000))
    bench.start()
    assert the_completion(bench.turns()).end_reason is EndReason.BATTERY_FULL


# The other ends


def test_a_stop_command_ends_the_charge_with_what_was_delivered() -> None:
    bench = Bench()
    bench.start()
    bench.advance(30.0)
    bench.at_s += 6.0
    outcome = bench.stop()
    assert kinds(outcome)[0] is CommandResponse
    assert of(outcome, CommandResponse)[0].accepted
    completion = the_completion(outcome)
    assert (completion.energy_wh, completion.end_reason) == (110, EndReason.STOPPED)  # 36 s of 11 kW
    assert completion.soc_percent == 50.2
    assert completion.started_at == datetime(2026, 1, 1, tzinfo=UTC)
    assert completion.ended_at == datetime(2026, 1, 1, 0, 0, 36, tzinfo=UTC)
    assert (completion.cp_id, completion.session_id, completion.driver_id) == ("CP001", SESSION, "D1")
    assert of(outcome, HealthCheckResponse)[-1].session_id is None
    assert of(outcome, HealthCheckResponse)[-1].unsettled_session_ids == [SESSION]


def test_a_stop_command_says_why() -> None:
    bench = Bench()
    bench.start()
    assert the_completion(bench.stop(end_reason=EndReason.CENTRAL_LOST)).end_reason is EndReason.CENTRAL_LOST


def test_the_same_stop_again_is_accepted_and_ends_nothing_twice() -> None:
    bench = Bench()
    bench.start()
    bench.stop()
    assert only(bench.stop(), CommandResponse).accepted


def test_a_stop_of_another_session_is_refused() -> None:
    bench = Bench()
    bench.start()
    refusal = only(bench.stop(OTHER_SESSION), CommandResponse)
    assert (refusal.accepted, refusal.code, refusal.session_id) == (False, "unknown_session", OTHER_SESSION)
    assert bench.charger.charge is not None


def test_a_stop_where_nothing_runs_is_refused() -> None:
    bench = Bench()
    assert only(bench.stop(), CommandResponse).code == "unknown_session"


def test_a_stop_after_the_target_was_reached_ends_by_the_target() -> None:
    bench = Bench(time_scale=3600)
    bench.start(1000)
    bench.at_s += 60
    completion = the_completion(bench.stop())
    assert (completion.energy_wh, completion.end_reason) == (1000, EndReason.TARGET_REACHED)


def test_the_stop_button() -> None:
    bench = Bench()
    bench.start()
    bench.at_s += 36
    completion = the_completion(bench.charger.stop_here(bench.now))
    assert (completion.energy_wh, completion.end_reason) == (110, EndReason.STOPPED)


def test_unplugging_ends_the_charge() -> None:
    bench = Bench()
    bench.start()
    bench.at_s += 36
    completion = the_completion(bench.charger.unplug(bench.now))
    assert (completion.energy_wh, completion.end_reason) == (110, EndReason.UNPLUGGED)
    assert bench.charger.vehicle is None
    assert bench.advance(10) == []


def test_a_fault_ends_the_charge_and_is_told() -> None:
    bench = Bench()
    bench.start()
    bench.at_s += 36
    outcome = bench.charger.fail("overheated", "too hot", bench.now)
    completion = the_completion(outcome)
    assert (completion.energy_wh, completion.end_reason) == (110, EndReason.FAULT)
    (fault,) = of(outcome, FaultNotification)
    assert (fault.cp_id, fault.fault_code, fault.description) == ("CP001", "overheated", "too hot")


def test_shutting_down_ends_the_charge() -> None:
    bench = Bench()
    bench.start()
    bench.at_s += 36
    completion = the_completion(bench.charger.shut_down(bench.now))
    assert (completion.energy_wh, completion.end_reason) == (110, EndReason.ENGINE_RESTARTED)


def test_shutting_down_without_a_charge_says_nothing() -> None:
    assert Bench().charger.shut_down(Bench().now) == []
    assert Bench(bound=False).charger.shut_down(Bench().now) == []


def test_the_completion_has_an_id_of_its_own_that_only_the_session_decides() -> None:
    ids = set()
    for _ in range(2):
        bench = Bench()
        bench.start()
        ids.add(the_completion(bench.stop()).message_id)
    assert len(ids) == 1
    assert ids != {SESSION}


# Vehicles


def test_each_charge_finds_a_new_vehicle_unless_one_was_plugged_in() -> None:
    bench = Bench(time_scale=3600)
    for session_id in (SESSION, OTHER_SESSION):
        assert of(bench.start(10_000, session_id), ChargingData)[0].soc_percent == 50.0
        bench.turns()


def test_a_vehicle_that_was_plugged_in_stays() -> None:
    bench = Bench(time_scale=3600)
    bench.plug_in(Battery(100_000, 20_000, 50_000))
    assert of(bench.start(10_000), ChargingData)[0].soc_percent == 20.0
    bench.turns()
    assert of(bench.start(10_000, OTHER_SESSION), ChargingData)[0].soc_percent == 29.0


def test_no_vehicle_takes_the_place_of_one_that_charges() -> None:
    bench = Bench()
    bench.start()
    with pytest.raises(UsageError, match="unplug it first"):
        bench.plug_in(Battery(1000, 0, 1000))
    assert bench.charger.vehicle is not None
    assert bench.charger.vehicle.capacity_wh == 60_000


def test_a_vehicle_that_is_plugged_in_is_told_unasked() -> None:
    bench = Bench()
    bench.unplug()
    account = only(bench.plug_in(), HealthCheckResponse)
    assert account.vehicle_connected
    assert Bench(bound=False).plug_in() == []


# A plug that waits for a person


def waiting() -> Bench:
    bench = Bench(manual_plug=True)
    bench.start(5000)
    return bench


def test_a_start_without_a_vehicle_is_accepted_and_waits_without_power() -> None:
    bench = Bench(manual_plug=True)
    assert not bench.charger.account(bench.now).vehicle_connected
    verdict, reading, account = bench.start(5000)
    assert isinstance(verdict, CommandResponse)
    assert verdict.accepted
    assert isinstance(reading, ChargingData)
    assert (reading.seq, reading.energy_wh, reading.power_w, reading.soc_percent) == (0, 0, 0, None)
    assert isinstance(account, HealthCheckResponse)
    assert (account.session_id, account.vehicle_connected, account.healthy) == (SESSION, False, True)
    assert bench.charger.next_due_s() == bench.at_s + 60
    assert bench.advance(59) == []


def test_how_long_a_charge_waits_for_its_vehicle_is_known() -> None:
    bench = Bench(manual_plug=True)
    assert bench.charger.waiting_for_vehicle(bench.now) is None
    bench.start()
    assert bench.charger.waiting_for_vehicle(bench.now) == 60
    bench.at_s += 45
    assert bench.charger.waiting_for_vehicle(bench.now) == 15
    bench.at_s += 45
    assert bench.charger.waiting_for_vehicle(bench.now) == 0
    bench.advance()
    assert bench.charger.waiting_for_vehicle(bench.now) is None


def test_a_charge_for_which_nobody_comes_ends_with_nothing() -> None:
    bench = waiting()
    started_at = bench.now.utc
    completion, account = bench.turns()
    assert isinstance(completion, ChargeCompletion)
    assert (completion.end_reason, completion.energy_wh, completion.seq) == (EndReason.NO_VEHICLE, 0, 1)
    assert (completion.soc_percent, completion.started_at) == (None, started_at)
    assert completion.ended_at == started_at + timedelta(seconds=60)
    assert isinstance(account, HealthCheckResponse)
    assert (account.session_id, account.unsettled_session_ids) == (None, [SESSION])


def test_a_vehicle_that_comes_in_time_charges_from_then_on() -> None:
    bench = waiting()
    bench.at_s += 59
    reading, account = bench.plug_in()
    assert isinstance(reading, ChargingData)
    assert (reading.seq, reading.energy_wh, reading.power_w, reading.soc_percent) == (1, 0, 11_000, 50.0)
    assert isinstance(account, HealthCheckResponse)
    assert (account.session_id, account.vehicle_connected) == (SESSION, True)
    assert bench.charger.waiting_for_vehicle(bench.now) is None
    (reading,) = of(bench.advance(36), ChargingData)
    assert (reading.seq, reading.energy_wh) == (2, 110)  # 36 s of 11 kW, and nothing of the wait
    completion = the_completion(bench.turns(2000))
    assert (completion.end_reason, completion.energy_wh) == (EndReason.TARGET_REACHED, 5000)


def test_a_vehicle_that_comes_too_late_finds_the_charge_ended() -> None:
    bench = waiting()
    bench.at_s += 60
    outcome = bench.plug_in()
    assert the_completion(outcome).end_reason is EndReason.NO_VEHICLE
    assert of(outcome, HealthCheckResponse)[-1].vehicle_connected
    assert bench.charger.charge is None


def test_a_vehicle_that_is_there_already_charges_at_once_and_stays_until_it_is_unplugged() -> None:
    bench = Bench(manual_plug=True, time_scale=3600)
    bench.plug_in(Battery(100_000, 20_000, 50_000))
    for session_id, soc_percent in ((SESSION, 20.0), (OTHER_SESSION, 29.0)):
        (reading,) = of(bench.start(10_000, session_id), ChargingData)
        assert (reading.power_w, reading.soc_percent) == (22_000, soc_percent)
        assert the_completion(bench.turns()).energy_wh == 10_000
    bench.unplug()
    bench.start(10_000, UUID(int=3))
    assert bench.charger.waiting_for_vehicle(bench.now) == 60


def test_the_same_start_again_does_not_wait_anew() -> None:
    bench = waiting()
    bench.at_s += 50
    assert only(bench.start(5000), CommandResponse).accepted
    assert bench.charger.waiting_for_vehicle(bench.now) == 10


def test_a_start_is_refused_while_another_waits() -> None:
    assert only(waiting().start(session_id=OTHER_SESSION), CommandResponse).code == "charge_point_busy"


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (lambda bench: bench.stop(), EndReason.STOPPED),
        (lambda bench: bench.stop(end_reason=EndReason.CENTRAL_LOST), EndReason.CENTRAL_LOST),
        (lambda bench: bench.charger.stop_here(bench.now), EndReason.STOPPED),
        (lambda bench: bench.charger.fail("overheated", "too hot", bench.now), EndReason.FAULT),
        (lambda bench: bench.charger.shut_down(bench.now), EndReason.ENGINE_RESTARTED),
    ],
    ids=["stop command", "Central lost", "stop button", "fault", "shutdown"],
)
@pytest.mark.parametrize("waited_s", [0, 59.9, 60, 1000])
def test_what_ends_a_charge_ends_one_that_waits(
    end: Callable[[Bench], list[Message]], reason: EndReason, waited_s: float
) -> None:
    bench = waiting()
    bench.at_s += waited_s
    completion = the_completion(bench.checked(end(bench)))
    assert completion.end_reason is (reason if waited_s < 60 else EndReason.NO_VEHICLE)
    assert (completion.energy_wh, completion.soc_percent) == (0, None)
    assert bench.charger.waiting_for_vehicle(bench.now) is None
    assert bench.advance(100) == []


def test_to_unplug_nothing_does_not_end_a_charge_that_waits() -> None:
    bench = waiting()
    assert only(bench.unplug(), HealthCheckResponse).session_id == SESSION
    assert bench.charger.waiting_for_vehicle(bench.now) == 60
    bench.at_s += 60
    assert the_completion(bench.unplug()).end_reason is EndReason.NO_VEHICLE


def test_a_repeat_does_not_wait_for_a_vehicle() -> None:
    bench = waiting()
    completion = the_completion(bench.stop())
    bench.start(session_id=OTHER_SESSION)
    assert bench.charger.next_due_s() == bench.at_s + 10
    bench.at_s += 10
    assert bench.charger.repeats(bench.now) == [completion]


@given(
    waited_s=st.floats(0, 120),
    charged_s=st.floats(0, 1000),
    target_wh=st.none() | st.integers(1, 5000),
    unplugs=st.booleans(),
)
def test_whenever_a_vehicle_comes_only_the_time_from_then_on_is_metered(
    waited_s: float, charged_s: float, target_wh: int | None, unplugs: bool
) -> None:
    bench = Bench(manual_plug=True)
    outcome = bench.start(target_wh)
    bench.at_s += waited_s
    outcome += bench.plug_in()
    bench.at_s += charged_s
    outcome += bench.unplug() if unplugs else bench.stop()
    completion = the_completion(outcome)
    late = bench.started_at_s + waited_s >= bench.started_at_s + 60
    assert (completion.end_reason is EndReason.NO_VEHICLE) == late
    most_wh = 0 if late else charged_s * 11_000 / 3600 + 1
    assert 0 <= completion.energy_wh <= min(most_wh, target_wh if target_wh is not None else math.inf)
    assert [reading.seq for reading in of(outcome, ChargingData)] == list(range(completion.seq))


# Faults


def test_a_repair_is_told_with_the_account_that_follows() -> None:
    bench = Bench()
    bench.charger.fail("overheated", "too hot", bench.now)
    recovery, account = bench.charger.repair(bench.now)
    assert isinstance(recovery, RecoveryNotification)
    assert recovery.fault_code == "overheated"
    assert isinstance(account, HealthCheckResponse)
    assert (account.healthy, account.fault_code) == (True, None)


def test_a_repair_of_nothing_says_nothing() -> None:
    assert Bench().charger.repair(Bench().now) == []


def test_a_fault_that_cannot_be_told_changes_nothing() -> None:
    bench = Bench(bound=False)
    with pytest.raises(UsageError, match="no Monitor"):
        bench.charger.fail("overheated", "too hot", bench.now)
    assert bench.charger.fault_code is None


# Completions and receipts


def test_a_completion_is_repeated_until_its_receipt_comes() -> None:
    bench = Bench()
    bench.start()
    completion = the_completion(bench.stop())
    for _ in range(5):
        assert bench.charger.repeats(bench.now) == []
        assert bench.charger.next_due_s() == bench.at_s + 10
        bench.at_s += 9.9
        assert bench.charger.repeats(bench.now) == []
        bench.at_s = bench.charger.next_due_s()
        assert bench.charger.repeats(bench.now) == [completion]
    (account,) = of(bench.receive(bench.receipt()), HealthCheckResponse)
    assert account.unsettled_session_ids == []
    bench.at_s += 1000
    assert bench.charger.repeats(bench.now) == []
    assert bench.charger.next_due_s() == math.inf


def test_a_repeat_does_not_wait_for_a_charge_that_runs() -> None:
    bench = Bench(reading_interval_s=100)
    bench.start()
    completion = the_completion(bench.stop())
    bench.start(session_id=OTHER_SESSION)
    assert bench.charger.next_due_s() == bench.at_s + 10
    bench.at_s += 10
    assert bench.charger.repeats(bench.now) == [completion]


def test_what_central_says_of_a_session_that_it_closed_itself_settles_nothing() -> None:
    bench = Bench()
    bench.start()
    bench.stop()
    assert bench.receive(bench.receipt(in_reply_to=UUID(int=1))) == []
    assert list(bench.charger.unsettled) == [SESSION]


def test_a_receipt_settles_its_own_session_only() -> None:
    bench = Bench()
    for session_id in (SESSION, OTHER_SESSION):
        bench.start(session_id=session_id)
        bench.stop(session_id)
    (account,) = of(bench.receive(bench.receipt(SESSION)), HealthCheckResponse)
    assert account.unsettled_session_ids == [OTHER_SESSION]


def test_a_receipt_that_nobody_waits_for_says_nothing() -> None:
    bench = Bench()
    assert bench.receive(bench.receipt()) == []
    bench.start()
    bench.stop()
    bench.receive(bench.receipt())
    assert bench.receive(bench.receipt()) == []


def error(bench: Bench, in_reply_to: UUID | None, code: str = "unknown_session") -> ErrorResponse:
    return ErrorResponse(**bench.head(), in_reply_to=in_reply_to, code=code, reason="no")


@pytest.mark.parametrize(
    "code",
    ["unknown_session", "implausible_meter", "not_yours", "invalid_field", "unexpected_type", "of_tomorrow"],
)
def test_a_completion_that_central_will_never_take_is_given_up(code: str) -> None:
    bench = Bench()
    bench.start()
    completion = the_completion(bench.stop())
    (account,) = of(bench.receive(error(bench, completion.message_id, code)), HealthCheckResponse)
    assert account.unsettled_session_ids == []
    assert bench.charger.unsettled == {}


def test_any_other_error_gives_nothing_up() -> None:
    bench = Bench()
    bench.start()
    completion = the_completion(bench.stop())
    for refusal in (
        error(bench, completion.message_id, "internal_error"),
        error(bench, completion.message_id, "not_registered"),
        error(bench, completion.message_id, "not_authenticated"),
        error(bench, SESSION),
        error(bench, None),
    ):
        assert bench.receive(refusal) == []
    assert list(bench.charger.unsettled) == [SESSION]


def test_what_the_journal_knew_is_repeated_at_once() -> None:
    before = Bench()
    before.start()
    completion = the_completion(before.stop())
    bench = Bench()
    bench.charger.resume([completion], bench.now)
    assert bench.charger.next_due_s() == bench.at_s
    assert bench.charger.repeats(bench.now) == [completion]
    assert bench.charger.account(bench.now).unsettled_session_ids == [SESSION]
    assert only(bench.start(), CommandResponse).code == "charge_point_busy"


def test_to_resume_nothing_leaves_nothing_to_do() -> None:
    bench = Bench()
    bench.charger.resume([], bench.now)
    assert bench.charger.repeats(bench.now) == []
    assert bench.charger.next_due_s() == math.inf


def test_when_the_monitor_is_back_nothing_waits_for_the_next_repeat() -> None:
    bench = Bench()
    bench.start()
    completion = the_completion(bench.stop())
    bench.at_s += 1
    bench.charger.repeat_now(bench.now)
    assert bench.charger.repeats(bench.now) == [completion]
    idle = Bench()
    idle.charger.repeat_now(idle.now)
    assert idle.charger.next_due_s() == math.inf


# The account


def test_the_health_account_answers_the_check() -> None:
    bench = Bench()
    request = HealthCheckRequest(**bench.head(), cp_id="CP001")
    account = only(bench.receive(request), HealthCheckResponse)
    assert account.in_reply_to == request.message_id
    assert account.cp_id == "CP001"
    assert (account.healthy, account.fault_code) == (True, None)
    assert account.vehicle_connected
    assert (account.session_id, account.unsettled_session_ids) == (None, [])


def test_the_health_account_tells_all_there_is() -> None:
    bench = Bench()
    bench.start()
    bench.stop()
    bench.start(session_id=OTHER_SESSION)
    account = bench.charger.account(bench.now)
    assert (account.session_id, account.unsettled_session_ids) == (OTHER_SESSION, [SESSION])
    bench.charger.unplug(bench.now)
    bench.charger.fail("overheated", "too hot", bench.now)
    account = bench.charger.account(bench.now)
    assert (account.healthy, account.fault_code, account.vehicle_connected) == (False, "overheated", False)
    assert (account.session_id, account.unsettled_session_ids) == (None, [SESSION, OTHER_SESSION])


@pytest.mark.parametrize("charging", [True, False])
def test_the_account_is_told_unasked_when_a_fault_has_changed_it(charging: bool) -> None:
    """As `HealthCheckResponse` promises."""
    bench = Bench()
    if charging:
        bench.start()
    accounts = of(bench.charger.fail("overheated", "too hot", bench.now), HealthCheckResponse)
    assert [account.fault_code for account in accounts[-1:]] == ["overheated"]


@pytest.mark.parametrize("charging", [True, False])
def test_the_account_is_told_unasked_when_the_vehicle_has_gone(charging: bool) -> None:
    bench = Bench()
    if charging:
        bench.start()
    accounts = of(bench.charger.unplug(bench.now), HealthCheckResponse)
    assert [account.vehicle_connected for account in accounts[-1:]] == [False]


# The rest


def test_a_driver_may_ask_for_a_charge_here() -> None:
    bench = Bench()
    request = bench.charger.ask("D7", 5000, bench.now)
    assert isinstance(request, ChargeRequest)
    assert (request.driver_id, request.cp_id, request.energy_wh) == ("D7", "CP001", 5000)
    with pytest.raises(UsageError, match="no Monitor"):
        Bench(bound=False).charger.ask("D7", None, bench.now)


def test_what_has_no_business_here_is_answered() -> None:
    bench = Bench()
    message = HeartbeatRequest(**bench.head(), cp_id="CP001")
    answer = only(bench.receive(message), ErrorResponse)
    assert (answer.code, answer.in_reply_to) == ("unexpected_type", message.message_id)
    assert "start_charging_command" in answer.reason
