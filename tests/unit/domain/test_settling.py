"""What becomes of sessions that have ended: one completion counts, the rest waits for an operator, who decides."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Any
from uuid import UUID

import pytest
from test_network import World, frames, only, records

from evcharge.domain.commands import Actor, CloseSession, Command, Correct, Settle
from evcharge.domain.decisions import BILLED_WH, Decisions, FromOperator
from evcharge.domain.replies import receipt_of
from evcharge.domain.session import EndReason, SessionStatus
from evcharge.domain.set_aside import Kind, SetAside
from evcharge.domain.settling import MAX_ORPHANS
from evcharge.domain.status import Status
from evcharge.errors import AlreadyThere, EvchargeError, InvalidField, NoOpenSession, NotThere, StillOpen
from evcharge.protocol.messages import (
    ChargeCompletion,
    ChargeCompletionResponse,
    ErrorResponse,
    StopChargingCommand,
)
from evcharge.protocol.topics import Topic

MARIA = Actor("maria", "http")
HIGHER_STANDS = [EndReason.FAULT, EndReason.CENTRAL_LOST, EndReason.ENGINE_RESTARTED]
LOWER_COUNTS = [EndReason.STOPPED, EndReason.UNPLUGGED, EndReason.TARGET_REACHED, EndReason.BATTERY_FULL]

tickets = count(1)


def order(world: World, command: Command) -> Decisions:
    return world.give(FromOperator(next(tickets), MARIA, command))


def refused(world: World, command: Command) -> type[EvchargeError]:
    decisions = order(world, command)
    result = only(decisions.outcomes).result
    assert isinstance(result, EvchargeError), result
    assert decisions.nothing_to_store
    return type(result)


def ended(world: World, reason: EndReason = EndReason.STOPPED, energy_wh: int = 500) -> tuple[int, UUID]:
    """A session that the charge point has completed."""
    connection = world.settled()
    session_id = world.charging(connection)
    world.say(connection, world.completion(session_id, 2, energy_wh, reason))
    return connection, session_id


def closed_by_central(world: World) -> tuple[int, UUID]:
    """A session of 1,000 Wh that was closed without the charge point's word."""
    connection = world.settled()
    session_id = world.charging(connection)
    world.say(connection, world.reading(session_id, 4, 1_000), world.fault("engine_silent"))
    return connection, session_id


def energies(world: World, session_id: UUID) -> list[tuple[int, int]]:
    return [(receipt.revision, receipt.energy_wh) for receipt in world.receipts(session_id)]


# One completion counts


@pytest.mark.parametrize("reason", [EndReason.FAULT, EndReason.ENGINE_RESTARTED, EndReason.NO_VEHICLE])
@pytest.mark.parametrize("old", [False, True])
def test_a_bill_of_a_year_ago_is_not_raised_by_a_completion_over_kafka(reason: EndReason, old: bool) -> None:
    """Nor again and again: 1,000, 2,000, 3,000 and 20,000 Wh made revisions 1 to 4."""
    world = World()
    energy_wh = 0 if reason is EndReason.NO_VEHICLE else 500
    _, session_id = ended(world, reason, energy_wh)
    if old:  # From before it was kept which completion counts.
        world.sessions[session_id] = replace(world.sessions[session_id], completion_id=None)
    world.seconds += 365 * 24 * 3600
    before = replace(world.sessions[session_id])
    for more_wh in (1_000, 2_000, 211_000_000, 3_000):
        world.kafka(Topic.SESSION_COMPLETE, world.completion(session_id, 9, more_wh))
    assert world.sessions[session_id] == before
    assert energies(world, session_id) == [(1, energy_wh)]
    claim = only(world.waiting())
    assert (claim.kind, claim.times, claim.energy_wh) == (Kind.SECOND_COMPLETION, 4, 211_000_000)
    assert claim.evidence["energy_wh"] == 211_000_000


def test_another_completion_is_answered_by_the_receipt_in_force_so_that_it_is_not_repeated() -> None:
    world = World()
    connection, session_id = ended(world)
    another = world.completion(session_id, 3, 900)
    receipt = only(frames(world.say(connection, another), ChargeCompletionResponse))
    assert (receipt.in_reply_to, receipt.energy_wh, receipt.revision) == (another.message_id, 500, 1)


def test_a_second_completion_of_the_same_energy_is_nothing_to_settle() -> None:
    world = World()
    connection, session_id = ended(world)
    assert world.say(connection, world.completion(session_id, 3, 500)).nothing_to_store
    assert world.waiting() == []


def test_the_first_completion_settles_what_central_has_closed_and_no_other_does() -> None:
    world = World()
    connection, session_id = closed_by_central(world)
    first, second = world.completion(session_id, 9, 1_800), world.completion(session_id, 10, 1_900)
    for completion in (first, first, second, first):
        world.say(connection, completion)
    assert energies(world, session_id) == [(1, 1_000), (2, 1_800)]
    assert world.sessions[session_id].completion_id == first.message_id
    assert only(world.waiting()).kind is Kind.SECOND_COMPLETION


def test_a_completion_that_proves_nothing_more_is_the_charge_point_s_word_all_the_same() -> None:
    world = World()
    connection, session_id = closed_by_central(world)
    world.say(connection, world.completion(session_id, 9, 1_000, EndReason.ENGINE_RESTARTED))
    world.say(connection, world.completion(session_id, 10, 1_900))
    assert energies(world, session_id) == [(1, 1_000)]
    assert only(world.waiting()).energy_wh == 1_900


# A completion below a reading


@pytest.mark.parametrize("reason", HIGHER_STANDS)
@pytest.mark.parametrize("is_open", [True, False])
def test_after_a_power_cut_the_higher_reading_stands(reason: EndReason, is_open: bool) -> None:
    world = World()
    session_id = below(world, reason, is_open)
    assert energies(world, session_id) == [(1, 1_000)]
    assert world.waiting() == []


@pytest.mark.parametrize("reason", [*LOWER_COUNTS, EndReason.NO_VEHICLE])
@pytest.mark.parametrize("is_open", [True, False])
def test_else_the_meter_s_last_word_is_billed_and_set_aside_for_a_look(reason: EndReason, is_open: bool) -> None:
    world = World()
    session_id = below(world, reason, is_open)
    assert energies(world, session_id) == ([(1, 900)] if is_open else [(1, 1_000), (2, 900)])
    claim = only(world.waiting())
    assert (claim.kind, claim.energy_wh) == (Kind.COMPLETION_BELOW_READING, 1_000)
    assert claim.evidence["energy_wh"] == 900
    kept = [(value.seq, value.energy_wh) for value in world.everything.meter_values]
    assert kept == [(0, 0), (4, 1_000), (9, 900)], "all of the evidence"


def below(world: World, reason: EndReason, is_open: bool) -> UUID:
    connection = world.settled()
    session_id = world.charging(connection)
    world.say(connection, world.reading(session_id, 0, 0), world.reading(session_id, 4, 1_000))
    if not is_open:
        world.say(connection, world.fault("engine_silent"))
    world.say(connection, world.completion(session_id, 9, 900, reason))
    return session_id


# What is beyond belief


@pytest.mark.parametrize("over_kafka", [False, True])
def test_a_completion_beyond_belief_ends_the_session_with_what_was_metered_and_can_be_settled(
    over_kafka: bool,
) -> None:
    world = World()
    connection = world.settled()
    session_id = world.charging(connection)
    world.say(connection, world.reading(session_id, 1, 500))
    completion = world.completion(session_id, 2, 10**9)
    if over_kafka:
        letter = only(world.kafka(Topic.SESSION_COMPLETE, completion).dead_letters)
        assert letter.error.code == "implausible_meter"
    for _ in range(2):
        decisions = world.say(connection, completion)
        error = only(frames(decisions, ErrorResponse, connection))
        assert (error.code, error.in_reply_to) == ("implausible_meter", completion.message_id)
    receipt = only(world.receipts(session_id))
    assert (receipt.status, receipt.energy_wh) == (SessionStatus.INTERRUPTED, 500)
    assert world.is_free()
    claim = only(world.waiting())
    assert (claim.kind, claim.energy_wh) == (Kind.IMPLAUSIBLE_COMPLETION, 10**9)
    assert claim.evidence["message_id"] == str(completion.message_id)


def test_twice_in_one_batch_is_refused_twice_and_set_aside_once() -> None:
    world = World()
    connection = world.settled()
    session_id = world.charging(connection)
    completion = world.completion(session_id, 2, 10**9)
    decisions = world.say(connection, completion, completion)
    assert len(frames(decisions, ErrorResponse, connection)) == 2
    assert len(world.waiting()) == len(world.receipts(session_id)) == 1


def test_after_a_completion_beyond_belief_another_one_is_not_billed_without_a_person() -> None:
    world = World()
    connection, session_id = closed_by_central(world)
    world.say(connection, world.completion(session_id, 2, 10**9))
    world.say(connection, world.completion(session_id, 3, 1_500))
    assert energies(world, session_id) == [(1, 1_000)]
    assert {claim.kind for claim in world.waiting()} == {Kind.IMPLAUSIBLE_COMPLETION, Kind.SECOND_COMPLETION}


def test_a_hostile_meter_s_readings_make_one_row_and_not_one_each() -> None:
    world = World()
    connection = world.settled()
    session_id = world.charging(connection)
    rows = [
        item
        for seq in range(100)
        for item in world.say(connection, world.reading(session_id, seq, 10**6 + seq)).set_aside
    ]
    assert len(rows) == 1
    world.say(connection, world.fault("engine_silent"))
    claim = only(world.waiting())
    assert (claim.kind, claim.times, claim.energy_wh) == (Kind.IMPLAUSIBLE_READING, 100, 1_000_099)
    assert claim.evidence["seq"] == 99


@pytest.mark.parametrize("is_open", [True, False])
def test_a_believed_completion_settles_readings_beyond_belief(is_open: bool) -> None:
    world = World()
    connection = world.settled()
    session_id = world.charging(connection)
    world.say(connection, world.reading(session_id, 1, 10**6), world.reading(session_id, 1, 10**7))
    if not is_open:
        world.say(connection, world.fault("engine_silent"))
        assert only(world.waiting()).times == 2
    world.say(connection, world.completion(session_id, 2, 700))
    assert world.waiting() == []
    assert only(world.set_aside).settled_by == "completion"


# Orphans


def orphan(world: World, number: int = 77, energy_wh: int = 900, **fields: Any) -> ChargeCompletion:
    own: dict[str, Any] = {"cp_id": "CP1", "driver_id": "D1", "end_reason": EndReason.STOPPED}
    times = {"started_at": world.now.utc - timedelta(hours=1), "ended_at": world.now.utc}
    return world.make(
        ChargeCompletion, session_id=UUID(int=number), seq=9, energy_wh=energy_wh, **(own | times | fields)
    )


def test_a_completion_of_a_session_that_nobody_knows_is_refused_and_waits_for_a_person() -> None:
    world = World()
    connection = world.settled()
    completion = orphan(world)
    for _ in range(2):
        error = only(frames(world.say(connection, completion), ErrorResponse))
        assert (error.code, error.in_reply_to) == ("unknown_session", completion.message_id)
    claim = only(world.waiting())
    assert (claim.kind, claim.energy_wh, claim.times) == (Kind.ORPHAN, 900, 2)


def test_made_up_sessions_make_so_many_rows_a_charge_point_and_no_more() -> None:
    world = World()
    world.settled()
    batch = [orphan(world, 100 + number) for number in range(MAX_ORPHANS + 50)]
    world.kafka(Topic.SESSION_COMPLETE, *batch[: MAX_ORPHANS - 10])
    decisions = world.kafka(Topic.SESSION_COMPLETE, *batch[MAX_ORPHANS - 10 :])
    assert len(world.waiting()) == MAX_ORPHANS
    assert decisions.counts["orphan_not_kept"] == 50
    assert len(decisions.dead_letters) == 60, "a person finds the others there"
    world.kafka(Topic.SESSION_COMPLETE, batch[0])
    assert world.waiting()[0].times == 2, "the ones that wait are still counted"


def test_a_charge_point_that_nobody_knows_makes_no_row_and_nobody_adds_to_another_s() -> None:
    world = World()
    world.settled()
    world.kafka(Topic.SESSION_COMPLETE, orphan(world, cp_id="CP99"))
    assert world.set_aside == []
    world.kafka(Topic.SESSION_COMPLETE, orphan(world))
    world.kafka(Topic.SESSION_COMPLETE, orphan(world, energy_wh=10**9, cp_id="CP2"))
    claim = only(world.waiting())
    assert (claim.cp_id, claim.energy_wh, claim.times) == ("CP1", 900, 1)


# The operator's verdict


def disputed(world: World) -> tuple[int, UUID, SetAside]:
    """A session of which 500 Wh were believed and billed, and 40,000 are claimed."""
    connection = world.settled()
    session_id = world.charging(connection)
    world.say(connection, world.reading(session_id, 1, 500), world.completion(session_id, 2, 40_000))
    return connection, session_id, only(world.waiting())


@pytest.mark.parametrize(("bill", "energy_wh"), [("all", 40_000), (20_000, 20_000), (0, 0)])
def test_an_operator_bills_what_was_set_aside_and_the_driver_gets_the_next_revision(
    bill: Any, energy_wh: int
) -> None:
    world = World()
    connection, session_id, claim = disputed(world)
    decisions = order(world, Settle(claim.number, bill, "the meter was read on site"))
    assert only(decisions.outcomes).result is None
    receipt = only(records(decisions, ChargeCompletionResponse, "D1"))
    assert (receipt.revision, receipt.energy_wh, receipt.status) == (2, energy_wh, SessionStatus.INTERRUPTED)
    assert receipt.cost == Decimal(energy_wh) * Decimal("0.45") / 1000
    assert only(frames(decisions, ChargeCompletionResponse, connection)) == receipt
    settlement = only(decisions.settlements)
    assert (settlement.settled_by, settlement.billed_wh) == ("maria", energy_wh)
    assert settlement.remark == "the meter was read on site"
    assert decisions.counts.get(BILLED_WH, 0) == max(0, energy_wh - 500)
    entry = only(decisions.audit)
    assert entry.before is not None
    assert entry.after is not None
    assert (entry.action, entry.target) == ("settle", str(session_id))
    assert (entry.before["energy_wh"], entry.after["energy_wh"]) == (500, energy_wh)
    assert entry.after["remark"] == "the meter was read on site"
    assert world.waiting() == []


def test_nothing_of_a_claim_leaves_the_bill_as_it_is() -> None:
    world = World()
    _, session_id, claim = disputed(world)
    decisions = order(world, Settle(claim.number, "nothing", "a broken meter"))
    assert decisions.records == []
    assert only(decisions.audit).after is not None
    assert world.waiting() == []
    assert world.sessions[session_id].energy_wh == only(decisions.settlements).billed_wh == 500


def test_a_failed_session_that_is_billed_is_interrupted() -> None:
    world = World()
    world.settled()
    session_id = world.authorised()
    world.wait(10)
    order(world, Correct(session_id, 700, "he charged all the same"))
    assert (world.sessions[session_id].status, world.sessions[session_id].energy_wh) == (
        SessionStatus.INTERRUPTED,
        700,
    )


def test_a_completed_session_can_be_corrected_down_and_that_is_final_but_for_an_operator() -> None:
    world = World()
    connection, session_id = ended(world)
    order(world, Correct(session_id, 100, "agreed with the driver"))
    world.say(connection, world.completion(session_id, 9, 1_500))
    assert energies(world, session_id) == [(1, 500), (2, 100)]
    assert world.sessions[session_id].status is SessionStatus.COMPLETED
    order(world, Correct(session_id, "all", "after all"))
    assert energies(world, session_id)[-1] == (3, 1_500)
    assert world.waiting() == []


def test_an_operator_s_verdict_is_not_changed_by_a_completion_that_comes_later() -> None:
    world = World()
    connection, session_id = closed_by_central(world)
    order(world, Correct(session_id, 1_200, "read on site"))
    world.say(connection, world.completion(session_id, 9, 1_800))
    assert energies(world, session_id) == [(1, 1_000), (2, 1_200)]
    assert only(world.waiting()).kind is Kind.SECOND_COMPLETION


def test_what_an_operator_has_settled_is_not_set_aside_again_by_the_same_completion() -> None:
    world = World()
    connection, session_id = ended(world)
    another = world.completion(session_id, 9, 1_500)
    world.say(connection, another)
    order(world, Settle(only(world.waiting()).number, "nothing", "no"))
    decisions = world.say(connection, another)
    assert only(frames(decisions, ChargeCompletionResponse)).energy_wh == 500
    assert world.waiting() == []
    nobodys = orphan(world)
    world.say(connection, nobodys)
    order(world, Settle(only(world.waiting()).number, "nothing", "no"))
    world.say(connection, nobodys)
    assert world.waiting() == []


def test_an_implausible_completion_that_was_settled_is_answered_by_its_receipt() -> None:
    world = World()
    connection, session_id, claim = disputed(world)
    order(world, Settle(claim.number, "all", "read on site"))
    completion = world.completion(session_id, 2, 40_000, message_id=UUID(claim.evidence["message_id"]))
    assert only(frames(world.say(connection, completion), ChargeCompletionResponse)).energy_wh == 40_000


@pytest.mark.parametrize(("bill", "energy_wh"), [("all", 900), (300, 300)])
def test_an_orphan_that_is_billed_becomes_a_session_with_a_receipt(bill: Any, energy_wh: int) -> None:
    world = World()
    connection = world.settled()
    ages_ago = datetime(1971, 1, 1, tzinfo=UTC)
    completion = orphan(world, driver_id="D7", started_at=ages_ago, ended_at=world.now.utc + timedelta(days=400))
    world.say(connection, completion)
    world.seconds += 60
    decisions = order(world, Settle(only(world.waiting()).number, bill, "restored from yesterday's copy"))
    receipt = only(records(decisions, ChargeCompletionResponse, "D7"))
    assert (receipt.session_id, receipt.energy_wh, receipt.revision) == (completion.session_id, energy_wh, 1)
    assert receipt.price_per_kwh == Decimal("0.45")
    assert receipt.ended_at <= world.now.utc
    assert decisions.drivers == {"D7"}
    assert world.sessions[completion.session_id].number == 1
    assert world.waiting() == []
    again = only(frames(world.say(connection, completion), ChargeCompletionResponse))
    assert (again.energy_wh, again.in_reply_to) == (energy_wh, completion.message_id)


@pytest.mark.parametrize("bill", ["nothing", 0])
def test_an_orphan_of_which_nothing_is_billed_makes_no_session(bill: Any) -> None:
    world = World()
    world.say(world.settled(), orphan(world))
    decisions = order(world, Settle(only(world.waiting()).number, bill, "made up"))
    assert (decisions.sessions, decisions.records, decisions.drivers) == ({}, [], set())
    assert only(decisions.audit).before is None
    assert world.waiting() == []


def test_what_cannot_be_settled_is_refused_and_changes_nothing() -> None:
    world = World()
    connection, session_id, claim = disputed(world)
    open_id = world.charging(connection, "D2")
    world.say(connection, world.reading(open_id, 1, 10**6))
    of_open = only(world.waiting(Kind.IMPLAUSIBLE_READING)).number
    assert refused(world, Settle(99, "all", "why")) is NotThere
    assert refused(world, Correct(UUID(int=99), 5, "why")) is NotThere
    assert refused(world, Settle(of_open, "all", "why")) is StillOpen
    assert refused(world, Correct(open_id, 5, "why")) is StillOpen
    for remark in ("", "  ", "two\nlines", "x" * 501):
        assert refused(world, Settle(claim.number, "all", remark)) is InvalidField
        assert refused(world, Correct(session_id, 5, remark)) is InvalidField
    for bill in (-1, 10**9 + 1):
        assert refused(world, Settle(claim.number, bill, "why")) is InvalidField
        assert refused(world, Correct(session_id, bill, "why")) is InvalidField
    order(world, Settle(claim.number, "all", "why"))
    assert refused(world, Settle(claim.number, "nothing", "why")) is AlreadyThere
    assert refused(world, Correct(session_id, "all", "why")) is InvalidField


def test_a_reading_beyond_belief_of_an_open_session_can_be_looked_at_and_put_away() -> None:
    world = World()
    connection = world.settled()
    session_id = world.charging(connection)
    world.say(connection, world.reading(session_id, 1, 10**6))
    order(world, Settle(only(world.waiting()).number, "nothing", "a glitch"))
    assert world.waiting() == []
    assert world.sessions[session_id].is_open


# Closing


@pytest.mark.parametrize("begun", [True, False])
def test_an_operator_closes_a_session_whose_charge_point_is_gone_and_the_driver_is_free(begun: bool) -> None:
    world = World()
    connection = world.settled()
    session_id = world.charging(connection) if begun else world.authorised()
    if begun:
        world.say(connection, world.reading(session_id, 1, 500))
    world.gone(connection)
    decisions = order(world, CloseSession(session_id))
    receipt = only(records(decisions, ChargeCompletionResponse, "D1"))
    assert receipt.end_reason is EndReason.CLOSED_BY_OPERATOR
    status = SessionStatus.INTERRUPTED if begun else SessionStatus.FAILED
    assert (receipt.status, receipt.energy_wh) == (status, 500 if begun else 0)
    entry = only(decisions.audit)
    assert (entry.action, entry.target) == ("close", str(session_id))
    world.settled("CP2")
    assert world.ask("D1", "CP2").accepted
    world.kafka(Topic.SESSION_COMPLETE, world.completion(session_id, 9, 1_800))
    assert energies(world, session_id)[-1] == (2, 1_800), "a later completion settles it upwards"


def test_a_charge_that_goes_on_after_it_was_closed_is_told_to_stop() -> None:
    world = World()
    connection = world.settled()
    session_id = world.charging(connection)
    decisions = order(world, CloseSession(session_id))
    assert only(frames(decisions, StopChargingCommand, connection)).session_id == session_id
    account = world.account(session_id=session_id, status=Status.CHARGING)
    assert only(frames(world.say(connection, account), StopChargingCommand)).session_id == session_id


def test_what_is_not_open_cannot_be_closed() -> None:
    world = World()
    _, session_id = ended(world)
    assert refused(world, CloseSession(session_id)) is NoOpenSession


def test_a_charge_point_cannot_say_that_an_operator_has_closed_its_session() -> None:
    world = World()
    connection = world.settled()
    session_id = world.charging(connection)
    completion = world.completion(session_id, 1, 100, EndReason.CLOSED_BY_OPERATOR)
    assert only(frames(world.say(connection, completion), ErrorResponse)).code == "invalid_field"


# The receipt's id


def test_two_different_receipts_never_share_a_message_id_though_their_revision_is_the_same() -> None:
    """As after the restoring of an older copy, where revision 1 is given once more."""
    world = World()
    _, session_id = ended(world)
    session = world.sessions[session_id]
    others = [
        replace(session, energy_wh=501),
        replace(session, price_per_kwh=Decimal("0.46")),
        replace(session, status=SessionStatus.INTERRUPTED),
        replace(session, end_reason=EndReason.UNPLUGGED),
        replace(session, revision=2),
        replace(session, ended_at=world.now.utc + timedelta(seconds=1)),
    ]
    ids = {receipt_of(each, None, world.now).message_id for each in (session, *others)}
    assert len(ids) == len(others) + 1
    world.seconds += 60
    assert receipt_of(replace(session), UUID(int=1), world.now).message_id in ids, "the same content has the same"
