"""A `message_id` that has been used is of no use for anything else: nobody is given another's answer."""

from collections.abc import Callable

import msgspec
import pytest
from test_from_operators import Office
from test_network import World, frames, only, records

from evcharge.domain.commands import StartCharge
from evcharge.errors import NotYours
from evcharge.protocol.messages import (
    ChargeRequest,
    ChargeRequestResponse,
    StopChargingRequest,
    StopChargingResponse,
)
from evcharge.protocol.topics import Topic

changed = msgspec.structs.replace


def at_a_charge_point(world: World, request: ChargeRequest) -> ChargeRequestResponse:
    connection = world.net.charge_points[request.cp_id].connection
    assert connection is not None
    return only(frames(world.say(connection, request), ChargeRequestResponse, connection))


def over_kafka(world: World, request: ChargeRequest) -> ChargeRequestResponse:
    return only(records(world.kafka(Topic.CHARGE_REQUESTS, request), ChargeRequestResponse, request.driver_id))


WAYS = [at_a_charge_point, over_kafka]
Way = Callable[[World, ChargeRequest], ChargeRequestResponse]


@pytest.mark.parametrize("forgotten", [False, True])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("other", [{"driver_id": "D2"}, {"cp_id": "CP2"}])
def test_a_used_id_tells_nobody_the_answer_to_anothers_charge(
    other: dict[str, str], way: Way, forgotten: bool
) -> None:
    world = World()
    world.settled("CP1")
    world.settled("CP2")
    request = world.request("D1", "CP1")
    first = way(world, request)
    assert first.accepted
    if forgotten:
        world.answers.clear()
    refusal = way(world, changed(request, **other))
    assert (refusal.accepted, refusal.code, refusal.session_id) == (False, "not_yours", None)
    again = way(world, request)
    assert (again.accepted, again.session_id) == (True, first.session_id)


@pytest.mark.parametrize("way", WAYS)
def test_the_id_of_a_refused_charge_brings_no_other_its_refusal(way: Way) -> None:
    world = World()
    world.settled("CP1")
    request = world.request("D1", "CP2")
    assert over_kafka(world, request).code == "charge_point_unavailable"
    assert way(world, changed(request, cp_id="CP1")).code == "not_yours"
    assert over_kafka(world, request).code == "charge_point_unavailable"


def test_a_used_id_stops_no_other_session_and_starts_no_charge() -> None:
    world = World()
    mine = world.charging(world.settled("CP1"), "D1", "CP1")
    other = world.charging(world.settled("CP2"), "D2", "CP2")

    def stop(request: StopChargingRequest) -> StopChargingResponse:
        return only(records(world.kafka(Topic.STOP_REQUESTS, request), StopChargingResponse, request.driver_id))

    first = world.stop(mine, "D1")
    assert stop(first).accepted
    theirs = stop(changed(world.stop(other, "D2", "CP2"), message_id=first.message_id))
    assert (theirs.code, theirs.session_id) == ("not_yours", other)
    assert not world.sessions[other].stop_requested
    charge = changed(world.request("D1"), message_id=first.message_id)
    assert over_kafka(world, charge).code == "not_yours"
    assert stop(first).accepted


def test_an_operators_start_with_the_id_of_a_drivers_refused_request_is_not_taken() -> None:
    office = Office()
    request = office.request("D1", "CP1")
    assert over_kafka(office, request).code == "charge_point_unavailable"
    office.settled()
    assert isinstance(office.refused(StartCharge(request)), NotYours)
