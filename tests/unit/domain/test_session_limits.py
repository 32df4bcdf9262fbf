"""The most that one session may come to, by its energy, its cost and its hours; and who may ask for it."""

from dataclasses import replace
from decimal import Decimal

import pytest
from test_from_operators import Office
from test_network import World, frames, only, records

from evcharge.domain.commands import StartCharge
from evcharge.domain.driver import KnownDriver, Limits
from evcharge.domain.network import Policy
from evcharge.domain.session_limits import target_wh
from evcharge.errors import LimitTooLow, UnknownSession
from evcharge.protocol.messages import (
    ChargeRequest,
    ChargeRequestResponse,
    ChargingStatusUpdate,
    StartChargingCommand,
    StopChargingCommand,
)
from evcharge.protocol.records import confirmation_of
from evcharge.protocol.topics import Topic

PRICE = Decimal("0.45")


@pytest.mark.parametrize(
    ("asked_wh", "limits", "price", "currency", "expected"),
    [
        (None, Limits(), PRICE, "EUR", None),
        (5_000, Limits(), PRICE, "EUR", 5_000),
        (None, Limits(energy_wh=40_000), PRICE, "EUR", 40_000),
        (5_000, Limits(energy_wh=40_000), PRICE, "EUR", 5_000),
        (50_000, Limits(energy_wh=40_000), PRICE, "EUR", 40_000),
        (None, Limits(cost=Decimal(30)), PRICE, "EUR", 66_666),
        (None, Limits(energy_wh=40_000, cost=Decimal(30)), PRICE, "EUR", 40_000),
        (None, Limits(cost=Decimal(30)), Decimal(0), "EUR", None),
        (None, Limits(cost=Decimal(30)), Decimal(30), "JPY", 100_000),
        (None, Limits(cost=Decimal(30)), Decimal("0.03"), "KWD", 100_000),
    ],
)
def test_the_target_is_the_least_of_what_is_asked_and_allowed(
    asked_wh: int | None, limits: Limits, price: Decimal, currency: str, expected: int | None
) -> None:
    assert target_wh(asked_wh, limits, price, currency) == expected


def test_a_limit_that_buys_nothing_refuses_the_start_with_a_sentence() -> None:
    with pytest.raises(LimitTooLow, match=r"0\.0001 EUR at the most, which buys nothing at 1000 EUR/kWh"):
        target_wh(5_000, Limits(cost=Decimal("0.0001")), Decimal(1000), "EUR")
    world = World(Policy(limits=Limits(cost=Decimal("0.0001"))))
    world.settled()
    answer = world.ask()
    assert (answer.accepted, answer.code) == (False, "limit_too_low")
    assert world.sessions == {}


def test_a_drivers_own_limits_go_before_those_for_all() -> None:
    world = World(Policy(limits=Limits(energy_wh=10_000, hours=1.0)))
    world.settings["D1"] = KnownDriver(limits=Limits(energy_wh=40_000))
    world.settled("CP1")
    world.settled("CP2")
    decisions = world.kafka(Topic.CHARGE_REQUESTS, world.request("D1", "CP1"), world.request("D2", "CP2"))
    assert [command.energy_wh for command in frames(decisions, StartChargingCommand)] == [40_000, 10_000]
    answers = records(decisions, ChargeRequestResponse)
    assert [answer.target_energy_wh for answer in answers] == [40_000, 10_000]
    assert {session.max_hours for session in world.sessions.values()} == {1.0}


def test_a_charge_that_an_operator_starts_has_the_limits_too() -> None:
    office = Office(Policy(limits=Limits(energy_wh=10_000)))
    office.settled()
    session_id, _ = office.obey(StartCharge(office.request()))
    assert office.sessions[session_id].target_energy_wh == 10_000


def a_charge_of(hours: float) -> tuple[World, int]:
    world = World(Policy(limits=Limits(hours=hours), silent_session_s=10**9, heartbeat_timeout_s=10**9))
    connection = world.settled()
    world.charging(connection)
    return world, connection


def test_a_charge_is_stopped_when_its_hours_are_over_and_its_driver_is_told() -> None:
    world, connection = a_charge_of(hours=2)
    assert frames(world.wait(7199), StopChargingCommand) == []
    decisions = world.wait(1)
    assert only(frames(decisions, StopChargingCommand, connection))
    update = only(records(decisions, ChargingStatusUpdate, "D1"))
    assert update.notice == "CP1 is told to stop: a charge may last 2 h at the most"
    assert [note.event for note in decisions.notes] == ["session_hours_over"]


@pytest.mark.parametrize("away_s", [3600, 9000])
def test_the_hours_of_a_charge_go_on_while_central_is_away(away_s: float) -> None:
    world, _ = a_charge_of(hours=2)
    (session_id,) = world.sessions
    world.seconds += away_s
    world.restart()
    connection = world.connect()
    world.say(connection, world.account(session_id=session_id))
    world.wait(max(0.0, 7200 - away_s))
    assert world.sessions[session_id].stop_requested
    stops = [frame for frame in world.everything.frames if isinstance(frame.message, StopChargingCommand)]
    assert [frame.connection for frame in stops] == [connection]


def test_the_limits_of_a_running_session_stay_as_they_were() -> None:
    world, _ = a_charge_of(hours=2)
    world.net.policy = replace(world.net.policy, limits=Limits(hours=0.1))
    assert frames(world.wait(3600), StopChargingCommand) == []


def test_a_charge_that_has_ended_is_not_stopped_when_its_hours_are_over() -> None:
    world, connection = a_charge_of(hours=2)
    (session_id,) = world.sessions
    world.say(connection, world.verdict(session_id, "stop", UnknownSession))
    decisions = world.wait(7200)
    assert (decisions.notes, decisions.frames) == ([], [])


# Charges that have to be confirmed


def asked_at_the_charge_point(world: World, request: ChargeRequest) -> ChargeRequestResponse:
    connection = world.net.charge_points["CP1"].connection
    assert connection is not None
    return only(frames(world.say(connection, request), ChargeRequestResponse, connection))


def confirmed(request: ChargeRequest, key: str, cp_id: str = "CP1") -> ChargeRequest:
    return ChargeRequest(
        message_id=request.message_id,
        timestamp=request.timestamp,
        driver_id=request.driver_id,
        cp_id=request.cp_id,
        confirmation=confirmation_of(cp_id, request.message_id, key),
    )


def a_network_whose_driver_confirms() -> World:
    world = World()
    world.settings["D1"] = KnownDriver(signed_only=True)
    world.settled()
    return world


def test_no_charge_point_asks_in_the_name_of_a_driver_who_confirms_each_charge() -> None:
    world = a_network_whose_driver_confirms()
    for request in (
        world.request("D1"),
        confirmed(world.request("D1"), "another key"),
        confirmed(world.request("D1"), "key of D1", cp_id="CP2"),
    ):
        answer = asked_at_the_charge_point(world, request)
        assert (answer.accepted, answer.code) == (False, "not_confirmed")
    assert world.sessions == {}
    assert asked_at_the_charge_point(world, world.request("D2")).accepted


def test_a_confirmed_charge_at_a_charge_point_begins() -> None:
    world = a_network_whose_driver_confirms()
    assert asked_at_the_charge_point(world, confirmed(world.request("D1"), "key of D1")).accepted


def test_a_confirmation_is_of_no_use_for_another_request() -> None:
    world = a_network_whose_driver_confirms()
    first = confirmed(world.request("D1"), "key of D1")
    other = ChargeRequest(
        message_id=world.request().message_id,
        timestamp=first.timestamp,
        driver_id="D1",
        cp_id="CP1",
        confirmation=first.confirmation,
    )
    assert asked_at_the_charge_point(world, other).code == "not_confirmed"


def test_who_confirms_each_charge_asks_over_kafka_with_his_signature_and_operators_start_for_him() -> None:
    world = a_network_whose_driver_confirms()
    assert world.ask("D1").accepted
    office = Office()
    office.settings["D1"] = KnownDriver(signed_only=True)
    office.settled()
    assert office.started()
