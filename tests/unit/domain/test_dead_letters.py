"""Which records are set aside for a person, and which are not: who may write to Kafka must not fill the pile."""

from datetime import datetime

import pytest
from kafka_records import published
from test_network import World

from evcharge.domain.decisions import Decisions, FromKafka
from evcharge.domain.network import Policy
from evcharge.domain.session import EndReason
from evcharge.protocol.messages import (
    ChargeCompletion,
    ChargeRequest,
    ChargingData,
    HeartbeatRequest,
    Message,
    new_id,
)
from evcharge.protocol.topics import Topic


def set_aside(decisions: Decisions) -> list[tuple[str, str]]:
    return [(letter.record.topic, letter.error.code) for letter in decisions.dead_letters]


def completion(world: World) -> ChargeCompletion:
    """Of a session that nobody has begun."""
    return world.make(
        ChargeCompletion,
        cp_id="CP1",
        session_id=new_id(),
        driver_id="D1",
        seq=1,
        energy_wh=1,
        end_reason=EndReason.STOPPED,
        started_at=world.now.utc,
        ended_at=world.now.utc,
    )


def test_what_is_taken_is_not_set_aside() -> None:
    world = World()
    session_id = world.charging(world.settled())
    world.wait(60)
    assert set_aside(world.kafka(Topic.SESSION_DATA, world.reading(session_id, 0, 50))) == []
    assert set_aside(world.kafka(Topic.SESSION_COMPLETE, world.completion(session_id, 1, 60))) == []
    assert not world.sessions[session_id].is_open


def test_a_completion_that_cannot_be_billed_is_set_aside_as_it_came() -> None:
    world = World()
    record = published(Topic.SESSION_COMPLETE, completion(world))
    decisions = world.give(record)
    assert set_aside(decisions) == [("charging_session_complete", "unknown_session")]
    assert decisions.dead_letters[0].record is record.record


def test_a_completion_that_says_more_than_can_have_been_given_is_set_aside() -> None:
    world = World()
    session_id = world.charging(world.settled())
    decisions = world.kafka(Topic.SESSION_COMPLETE, world.completion(session_id, 1, 10**9))
    assert set_aside(decisions) == [("charging_session_complete", "implausible_meter")]


def test_the_same_completion_by_tcp_is_refused_there_and_not_set_aside() -> None:
    world = World()
    connection = world.settled()
    assert set_aside(world.say(connection, completion(world))) == []


def test_a_reading_of_no_open_session_is_not_set_aside() -> None:
    world = World()
    stray = world.make(
        ChargingData, cp_id="CP1", session_id=new_id(), driver_id="D1", seq=0, energy_wh=1, power_w=1
    )
    decisions = world.kafka(Topic.SESSION_DATA, stray)
    assert set_aside(decisions) == []
    assert decisions.counts == {"late_reading": 1}


@pytest.mark.parametrize("topic", [Topic.SESSION_DATA, Topic.CHARGE_REQUESTS])
def test_a_message_on_a_topic_where_it_has_no_place_is_set_aside(topic: Topic) -> None:
    world = World()
    decisions = world.kafka(topic, world.make(HeartbeatRequest, cp_id="CP1"))
    assert set_aside(decisions) == [(topic, "unexpected_type")]


def test_a_drivers_own_request_on_the_wrong_topic_is_set_aside() -> None:
    world = World()
    assert set_aside(world.kafka(Topic.STOP_REQUESTS, world.request())) == [
        ("driver_stop_requests", "unexpected_type")
    ]


def test_a_drivers_request_that_is_refused_has_its_answer_and_is_not_set_aside() -> None:
    world = World()  # Neither charge point is connected.
    decisions = world.kafka(Topic.CHARGE_REQUESTS, world.request())
    assert set_aside(decisions) == []
    assert decisions.counts == {"charge_point_unavailable": 1}


def forged(world: World, topic: Topic, message: Message) -> FromKafka:
    return published(topic, message, "not the driver's key")


@pytest.mark.parametrize("policy", [Policy(), Policy(open_registration=True)])
@pytest.mark.parametrize("topic", [Topic.CHARGE_REQUESTS, Topic.STOP_REQUESTS, Topic.SESSION_COMPLETE])
def test_what_somebody_forges_in_a_drivers_name_is_set_aside_on_no_topic(policy: Policy, topic: Topic) -> None:
    world = World(policy)
    decisions = world.give(forged(world, topic, world.request()))
    assert set_aside(decisions) == []
    assert decisions.counts == {"authentication_failed": 1}


def test_what_meets_a_bug_is_set_aside() -> None:
    world = World()
    world.bug_expected = True
    world.settled()
    poison = world.make(ChargeRequest, driver_id="D1", cp_id="CP1", timestamp=datetime(2026, 5, 4, 8, 0))
    assert set_aside(world.kafka(Topic.CHARGE_REQUESTS, poison)) == [("driver_charge_requests", "internal_error")]
