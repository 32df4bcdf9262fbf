"""A stop that is refused, or not answered, is told to driver, operators and log, and asked for again."""

from uuid import UUID

import pytest
from test_from_operators import Office
from test_network import World, frames, only, records

from evcharge.domain.commands import StopCharge
from evcharge.domain.decisions import Decisions
from evcharge.domain.stopping import AGAIN_S, PATIENCE_S
from evcharge.errors import ChargePointFaulty, EngineUnavailable
from evcharge.protocol.messages import ChargingStatusRequest, ChargingStatusUpdate, StopChargingCommand
from evcharge.protocol.topics import Topic

WHY = "no (charge_point_faulty)"


def told(decisions: Decisions) -> list[str]:
    """What the driver is told besides how the charge goes."""
    return [
        update.notice for update in records(decisions, ChargingStatusUpdate, "D1") if update.notice is not None
    ]


def notes(decisions: Decisions, event: str) -> list[dict[str, object]]:
    return [note.fields for note in decisions.notes if note.event == event]


def stopping(world: World) -> tuple[int, UUID]:
    """A charge whose stop has been commanded."""
    connection = world.settled()
    session_id = world.charging(connection)
    world.kafka(Topic.STOP_REQUESTS, world.stop(session_id))
    return connection, session_id


def test_a_refused_stop_is_told_to_driver_operators_and_log() -> None:
    world = World()
    connection, session_id = stopping(world)
    decisions = world.say(connection, world.verdict(session_id, "stop", ChargePointFaulty))
    assert told(decisions) == [f"CP1 does not stop: {WHY}"]
    assert not any(record.droppable for record in decisions.records if getattr(record.message, "notice", None))
    assert only(notes(decisions, "stop_refused")) == {
        "session_id": session_id,
        "cp_id": "CP1",
        "driver_id": "D1",
        "code": "charge_point_faulty",
        "reason": WHY,
    }
    assert world.sessions[session_id].stop_refused == WHY
    question = world.make(ChargingStatusRequest, driver_id="D1")
    assert told(world.kafka(Topic.CPS_REQUESTS, question)) == [f"CP1 does not stop: {WHY}"]
    world.say(connection, world.completion(session_id, 1, 300))
    assert world.receipts(session_id)


def test_a_refused_stop_that_an_operator_asked_for_is_told_to_the_driver_too() -> None:
    office = Office()
    connection = office.settled()
    session_id = office.charging(connection)
    office.obey(StopCharge(session_id))
    assert told(office.say(connection, office.verdict(session_id, "stop", EngineUnavailable))) == [
        "CP1 does not stop: no (engine_unavailable)"
    ]


def test_a_charge_point_that_refuses_again_and_again_is_told_of_once() -> None:
    world = World()
    connection, session_id = stopping(world)
    world.say(connection, world.verdict(session_id, "stop", ChargePointFaulty))
    for error in (ChargePointFaulty, EngineUnavailable):
        decisions = world.say(connection, world.verdict(session_id, "stop", error))
        assert (told(decisions), decisions.notes, decisions.nothing_to_store) == ([], [], True)
    again = world.wait(AGAIN_S)
    assert only(frames(again, StopChargingCommand, connection)).session_id == session_id
    assert told(world.say(connection, world.verdict(session_id, "stop", ChargePointFaulty))) == []


def test_a_stop_that_is_never_answered_is_told_once() -> None:
    world = World()
    connection, session_id = stopping(world)
    assert told(world.wait(PATIENCE_S - 0.1)) == []
    decisions = world.wait(0.1)
    assert told(decisions) == [f"CP1 does not stop: it has not answered within {PATIENCE_S:g} s"]
    assert only(notes(decisions, "stop_unanswered"))["cp_id"] == "CP1"
    for _ in range(2):
        assert told(world.wait(AGAIN_S)) == []
    world.say(connection, world.verdict(session_id, "stop"))
    assert world.sessions[session_id].stop_refused is None


@pytest.mark.parametrize("seconds", [0.0, PATIENCE_S])
def test_a_stop_that_was_refused_for_a_fault_is_asked_again_when_the_fault_is_over(seconds: float) -> None:
    world = World()
    connection, session_id = stopping(world)
    world.say(connection, world.fault("stuck_contactor"), world.account(session_id=session_id))
    world.say(connection, world.verdict(session_id, "stop", ChargePointFaulty))
    world.wait(seconds)
    decisions = world.say(connection, world.recovery("stuck_contactor"))
    commands = frames(decisions, StopChargingCommand, connection)
    if not seconds:  # Not at once, or a charge point that comes and goes would be asked all the time.
        assert commands == []
        commands = frames(world.wait(PATIENCE_S), StopChargingCommand, connection)
    assert only(commands).session_id == session_id
    assert frames(world.say(connection, world.recovery("stuck_contactor")), StopChargingCommand) == []


def test_a_stop_that_was_refused_is_asked_again_with_the_next_account() -> None:
    world = World()
    connection, session_id = stopping(world)
    world.say(connection, world.verdict(session_id, "stop", EngineUnavailable))
    world.wait(PATIENCE_S)
    decisions = world.say(connection, world.account(session_id=session_id))
    assert only(frames(decisions, StopChargingCommand, connection)).session_id == session_id


def test_a_charge_point_that_goes_away_with_a_stop_unanswered_is_asked_when_it_is_back() -> None:
    world = World()
    connection, session_id = stopping(world)
    world.gone(connection)
    assert told(world.wait(PATIENCE_S)) == []
    world.restart()
    connection = world.connect()
    decisions = world.say(connection, world.account(session_id=session_id))
    assert only(frames(decisions, StopChargingCommand, connection)).session_id == session_id
    assert told(world.wait(PATIENCE_S)) != []


def test_that_a_charge_which_central_has_closed_goes_on_is_told_to_the_operators() -> None:
    world = World()
    connection = world.settled()
    session_id = world.authorised()
    world.wait(10)
    assert not world.sessions[session_id].is_open
    decisions = world.say(connection, world.verdict(session_id, "stop", ChargePointFaulty))
    assert only(notes(decisions, "stop_refused"))["code"] == "charge_point_faulty"
