"""Who may speak for a driver on Kafka: whoever signs with the driver's key, and nobody else."""

import hashlib
import hmac
from typing import Any

import pytest
from kafka_records import key_of, published
from test_network import World, frames, nothing_happened, only, records

from evcharge.domain.decisions import Decisions, FromKafka
from evcharge.domain.network import Policy
from evcharge.protocol import messages
from evcharge.protocol.messages import (
    AvailableCpsRequest,
    AvailableCpsResponse,
    ChargeRequest,
    ChargeRequestResponse,
    ChargingHistoryRequest,
    ChargingStatusRequest,
    ChargingStatusUpdate,
    DriverRequest,
    ErrorResponse,
    Message,
    StartChargingCommand,
    StopChargingCommand,
    StopChargingRequest,
    StopChargingResponse,
    new_id,
)
from evcharge.protocol.records import SIGNATURE_HEADER, Received, is_signed, signature_of
from evcharge.protocol.topics import Topic

TOPICS: dict[type[Message], Topic] = {
    ChargeRequest: Topic.CHARGE_REQUESTS,
    StopChargingRequest: Topic.STOP_REQUESTS,
    AvailableCpsRequest: Topic.CPS_REQUESTS,
    ChargingStatusRequest: Topic.CPS_REQUESTS,
    ChargingHistoryRequest: Topic.CPS_REQUESTS,
}
QUERIES = [AvailableCpsRequest, ChargingStatusRequest, ChargingHistoryRequest]
OPEN = Policy(open_registration=True)


def a_request(world: World, kind: type[Message], driver_id: str = "D1", **fields: Any) -> Any:
    if kind in (ChargeRequest, StopChargingRequest):
        fields = {"cp_id": "CP1", **fields}
    if kind is StopChargingRequest:
        fields = {"session_id": new_id(), **fields}
    return world.make(kind, driver_id=driver_id, **fields)


def refusal_in(decisions: Decisions) -> tuple[str | None, str | None]:
    """The code and the reason of the one answer, which nothing else went with."""
    (record,) = decisions.records
    assert isinstance(record.message, ErrorResponse | ChargeRequestResponse | StopChargingResponse)
    assert decisions.nothing_to_store
    assert (decisions.frames, decisions.histories) == ([], [])
    return record.message.code, record.message.reason


def with_header(item: FromKafka, *headers: tuple[str, bytes | None]) -> FromKafka:
    record = item.record
    return FromKafka(Received(record.topic, 0, 0, None, record.value, headers), item.message)


def test_every_kind_of_request_of_a_driver_is_tried_here() -> None:
    assert set(TOPICS) == set(DriverRequest.__subclasses__())


@pytest.mark.parametrize("kind", TOPICS)
@pytest.mark.parametrize("key", ["", "key of D2"])
@pytest.mark.parametrize("policy", [Policy(), OPEN])
def test_what_is_not_signed_with_the_drivers_key_is_refused_and_counted(
    kind: type[Message], key: str, policy: Policy
) -> None:
    world = World(policy)
    session_id = world.charging(world.settled())
    request = world.stop(session_id) if kind is StopChargingRequest else a_request(world, kind)
    decisions = world.give(published(TOPICS[kind], request, key))
    code, reason = refusal_in(decisions)
    assert code == "authentication_failed"
    assert reason is not None
    assert (SIGNATURE_HEADER in reason) is (key == "")
    assert decisions.counts == {"authentication_failed": 1}
    (note,) = decisions.notes
    assert note.kind is not None
    assert not world.sessions[session_id].stop_requested


@pytest.mark.parametrize("kind", TOPICS)
def test_a_driver_whom_nobody_has_added_is_refused_whatever_it_asks(kind: type[Message]) -> None:
    world = World()
    decisions = world.give(published(TOPICS[kind], a_request(world, kind, "D9")))
    assert refusal_in(decisions) == ("unknown_driver", "there is no driver D9")


@pytest.mark.parametrize("kind", [ChargeRequest, AvailableCpsRequest])
@pytest.mark.parametrize("policy", [Policy(), OPEN])
def test_a_driver_who_was_removed_begins_nothing(kind: type[Message], policy: Policy) -> None:
    world = World(policy, drivers=["D2"])
    world.removed_drivers = {"D1"}
    decisions = world.give(published(TOPICS[kind], a_request(world, kind)))
    assert refusal_in(decisions) == ("unknown_driver", "there is no driver D1")


@pytest.mark.parametrize("kind", TOPICS)
@pytest.mark.parametrize("key", ["", "another"])
def test_nobody_asks_in_the_name_of_a_driver_who_was_removed(kind: type[Message], key: str) -> None:
    world = World(drivers=["D2"])
    world.removed_drivers = {"D1"}
    decisions = world.give(published(TOPICS[kind], a_request(world, kind), key))
    assert refusal_in(decisions) == ("unknown_driver", "there is no driver D1")


def test_a_driver_who_is_removed_in_mid_charge_can_stop_and_see_what_it_came_to() -> None:
    world = World()
    connection = world.settled()
    session_id = world.charging(connection)
    world.drivers.discard("D1")
    world.removed_drivers = {"D1"}
    question = world.make(ChargingStatusRequest, driver_id="D1")
    assert only(records(world.kafka(Topic.CPS_REQUESTS, question), ChargingStatusUpdate)).session_id == session_id
    decisions = world.kafka(Topic.STOP_REQUESTS, world.stop(session_id))
    assert only(records(decisions, StopChargingResponse)).accepted
    assert only(frames(decisions, StopChargingCommand, connection)).session_id == session_id
    world.say(connection, world.completion(session_id, 1, 300))
    assert only(world.receipts(session_id)).energy_wh == 300
    look_back = world.make(ChargingHistoryRequest, driver_id="D1")
    assert world.kafka(Topic.CPS_REQUESTS, look_back).histories == [look_back]


def test_a_driver_without_a_key_is_refused_with_what_to_do() -> None:
    world = World()
    world.without_key = {"D1"}
    code, reason = refusal_in(world.give(published(Topic.CHARGE_REQUESTS, world.request(), "")))
    assert code == "authentication_failed"
    assert reason == "D1 was added without a key; its operator must remove D1 and add it again"


def test_open_registration_asks_whom_nobody_has_added_for_no_signature() -> None:
    world = World(OPEN, drivers=["D1"])
    world.without_key = {"D1"}
    world.settled()
    for driver_id in ("D1", "WHO"):
        question = world.make(AvailableCpsRequest, driver_id=driver_id)
        assert only(records(world.give(published(Topic.CPS_REQUESTS, question, "")), AvailableCpsResponse))
    answer = only(
        records(
            world.give(published(Topic.CHARGE_REQUESTS, world.request("WHO"), "")),
            ChargeRequestResponse,
        )
    )
    assert answer.accepted


def test_a_forged_request_does_not_spoil_the_answer_of_the_real_one() -> None:
    world = World()
    world.settled()
    request = world.request()
    refusal_in(world.give(published(Topic.CHARGE_REQUESTS, request, "")))
    answer = only(records(world.give(published(Topic.CHARGE_REQUESTS, request)), ChargeRequestResponse))
    assert answer.accepted


@pytest.mark.parametrize("forged_first", [True, False])
def test_nor_in_the_same_batch(forged_first: bool) -> None:
    world = World()
    world.settled()
    request = world.request()
    both = [published(Topic.CHARGE_REQUESTS, request, ""), published(Topic.CHARGE_REQUESTS, request)]
    decisions = world.give(*(both if forged_first else both[::-1]))
    answers = records(decisions, ChargeRequestResponse)
    assert sorted(answer.accepted for answer in answers) == [False, True]
    assert only(decisions.answers).message == next(answer for answer in answers if answer.accepted)


def test_a_forged_repeat_is_not_told_the_answer() -> None:
    world = World()
    world.settled()
    request = world.request()
    world.kafka(Topic.CHARGE_REQUESTS, request)
    code, _ = refusal_in(world.give(published(Topic.CHARGE_REQUESTS, request, "")))
    assert code == "authentication_failed"


@pytest.mark.parametrize("answers_are_forgotten", [True, False])
@pytest.mark.parametrize("policy", [Policy(), OPEN])
def test_a_driver_is_not_told_the_answer_to_anothers_request(answers_are_forgotten: bool, policy: Policy) -> None:
    world = World(policy)
    world.settled()
    request = world.request("D1")
    world.kafka(Topic.CHARGE_REQUESTS, request)
    if answers_are_forgotten:
        world.answers.clear()
    copied = world.make(ChargeRequest, driver_id="D2", cp_id="CP1", message_id=request.message_id)
    code, reason = refusal_in(world.kafka(Topic.CHARGE_REQUESTS, copied))
    assert code == "not_yours"
    assert str(request.message_id) in str(reason)


def test_a_changed_value_is_not_what_was_signed() -> None:
    world = World()
    world.settled()
    honest = published(Topic.CHARGE_REQUESTS, world.request())
    other = world.make(ChargeRequest, driver_id="D1", cp_id="CP2", message_id=honest.message.message_id)
    forged = published(Topic.CHARGE_REQUESTS, other, "")
    code, _ = refusal_in(world.give(with_header(forged, *honest.record.headers)))
    assert code == "authentication_failed"


@pytest.mark.parametrize("nonsense", [b"", b"\xff\xfe", "é".encode(), b"0" * 64, None])
def test_a_header_that_is_no_signature_is_one_that_does_not_fit(nonsense: bytes | None) -> None:
    world = World()
    item = with_header(published(Topic.CHARGE_REQUESTS, world.request()), (SIGNATURE_HEADER, nonsense))
    code, _ = refusal_in(world.give(item))
    assert code == "authentication_failed"


def test_a_charge_at_the_charge_point_itself_needs_no_signature() -> None:
    world = World()
    connection = world.settled()
    decisions = world.say(connection, world.request())
    assert only(frames(decisions, ChargeRequestResponse, connection)).accepted
    assert frames(decisions, StartChargingCommand)


@pytest.mark.parametrize("kind", QUERIES)
@pytest.mark.parametrize(("age_s", "refused"), [(300, False), (301, True), (-300, False), (-301, True)])
def test_a_query_that_is_too_old_or_from_the_future_is_refused(
    kind: type[Message], age_s: int, refused: bool
) -> None:
    world = World()
    world.charging(world.settled())
    request = a_request(world, kind)
    world.seconds += age_s
    decisions = world.kafka(TOPICS[kind], request)
    codes = [answer.code for answer in records(decisions, ErrorResponse)]
    assert codes == (["request_expired"] if refused else [])


def test_a_request_from_the_future_says_which_clock_to_look_at() -> None:
    world = World()
    world.settled()
    request = world.request()
    world.seconds -= 3600
    answer = only(records(world.kafka(Topic.CHARGE_REQUESTS, request), ChargeRequestResponse))
    assert answer.reason == "the request is dated 3600 s ahead of Central's clock; set the clock right"


def test_a_stop_may_be_replayed_at_any_time_and_stops_nothing_else() -> None:
    """An outage must not keep a driver from stopping, so its age does not matter; a copy of it does no harm."""
    world = World(Policy(heartbeat_timeout_s=1e6, silent_session_s=1e6))
    connection = world.settled()
    session_id = world.charging(connection)
    stop = published(Topic.STOP_REQUESTS, world.stop(session_id))
    world.seconds += 3600
    first = world.give(stop)
    assert only(frames(first, StopChargingCommand, connection)).session_id == session_id
    assert nothing_but_the_answer(world.give(stop))
    world.answers.clear()  # after a day
    world.say(connection, world.completion(session_id, 9, 500))
    following = world.charging(connection)
    billed = world.sessions[session_id].cost
    assert nothing_but_the_answer(world.give(stop))
    assert (world.sessions[session_id].cost, world.sessions[following].stop_requested) == (billed, False)


def nothing_but_the_answer(decisions: Decisions) -> bool:
    """A refusal is kept as an answer; else nothing is stored, and no charge point hears anything."""
    answered = records(decisions, StopChargingResponse)
    return len(answered) == 1 and decisions.frames == [] and decisions.sessions == {}


def test_the_signature_is_what_any_language_makes_in_two_lines() -> None:
    value = messages.encode(World().request())
    expected = hmac.new(b"key of D1", value, hashlib.sha256).hexdigest()
    assert signature_of(value, key_of("D1")) == expected.encode()
    assert is_signed(Received("t", 0, 0, None, value, ((SIGNATURE_HEADER, expected.encode()),)), "key of D1")


def test_the_last_header_of_a_name_counts() -> None:
    value = b"{}"
    good, bad = (SIGNATURE_HEADER, signature_of(value, "k")), (SIGNATURE_HEADER, b"0")
    assert is_signed(Received("t", 0, 0, None, value, (bad, good)), "k")
    assert not is_signed(Received("t", 0, 0, None, value, (good, bad)), "k")


def test_readings_and_completions_ask_the_database_for_no_driver() -> None:
    world = World()
    session_id = world.charging(world.settled())
    reading = published(Topic.SESSION_DATA, world.reading(session_id, 1, 100))
    completion = published(Topic.SESSION_COMPLETE, world.completion(session_id, 2, 200))
    assert world.net.wanted([reading, completion]).drivers == set()
    assert not nothing_happened(world.give(reading))
