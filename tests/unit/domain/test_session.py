"""A session from request to receipt: its table, its meter, its bill."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evcharge.domain import session as session_module
from evcharge.domain.session import END_EVENTS, EndReason, Session, SessionEvent, SessionStatus
from evcharge.errors import IllegalTransition

AUTHORISED, CHARGING = SessionStatus.AUTHORISED, SessionStatus.CHARGING
COMPLETED, FAILED, INTERRUPTED = SessionStatus.COMPLETED, SessionStatus.FAILED, SessionStatus.INTERRUPTED

TABLE = {
    (AUTHORISED, SessionEvent.STARTED): CHARGING,
    (AUTHORISED, SessionEvent.START_FAILED): FAILED,
    (CHARGING, SessionEvent.ENDED): COMPLETED,
    (CHARGING, SessionEvent.BROKE_OFF): INTERRUPTED,
    (CHARGING, SessionEvent.START_FAILED): FAILED,
    (FAILED, SessionEvent.SETTLED): INTERRUPTED,
    (INTERRUPTED, SessionEvent.SETTLED): INTERRUPTED,
    (COMPLETED, SessionEvent.CORRECTED): COMPLETED,
    (FAILED, SessionEvent.CORRECTED): INTERRUPTED,
    (INTERRUPTED, SessionEvent.CORRECTED): INTERRUPTED,
}

# How a session that was charging, and had delivered energy, ends by the reason.
ENDS = {
    EndReason.TARGET_REACHED: COMPLETED,
    EndReason.BATTERY_FULL: COMPLETED,
    EndReason.STOPPED: COMPLETED,
    EndReason.UNPLUGGED: COMPLETED,
    EndReason.FAULT: INTERRUPTED,
    EndReason.CENTRAL_LOST: INTERRUPTED,
    EndReason.ENGINE_RESTARTED: INTERRUPTED,
    EndReason.NO_VEHICLE: INTERRUPTED,
    EndReason.START_REJECTED: INTERRUPTED,
    EndReason.START_TIMEOUT: INTERRUPTED,
    EndReason.ENGINE_LOST: INTERRUPTED,
    EndReason.LOST_BY_CHARGE_POINT: INTERRUPTED,
    EndReason.NO_SIGN_OF_LIFE: INTERRUPTED,
    EndReason.CLOSED_BY_OPERATOR: INTERRUPTED,
}

NOON = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
LATER = NOON + timedelta(minutes=30)
EVEN_LATER = LATER + timedelta(hours=3)


def a_session(status: SessionStatus = AUTHORISED, *, energy_wh: int = 0) -> Session:
    """A session that stands in `status`, as it would after its way there."""
    session = Session(
        number=1,
        session_id=UUID(int=1),
        request_id=UUID(int=2),
        cp_id="CP1",
        driver_id="D1",
        target_energy_wh=None,
        price_per_kwh=Decimal("0.45"),
        currency="EUR",
        requested_at=NOON,
        status=status,
        energy_wh=energy_wh,
        power_w=7_000 if status is CHARGING else 0,
        last_seq=4,
    )
    if status is not AUTHORISED:
        session.started_at = NOON
    if not session.is_open:
        session.ended_at = session.booked_at = NOON
        session.end_reason = EndReason.STOPPED
        session.revision = 1
    return session


# The table


@pytest.mark.parametrize(
    ("before", "event"), [(before, event) for before in SessionStatus for event in SessionEvent]
)
def test_a_pair_leads_where_the_table_says_or_raises(before: SessionStatus, event: SessionEvent) -> None:
    expected = TABLE.get((before, event))
    if expected is not None:
        assert session_module.after(before, event) is expected
    else:
        with pytest.raises(IllegalTransition, match=f"{before}.*'{event}'"):
            session_module.after(before, event)


@pytest.mark.parametrize("status", SessionStatus)
def test_open_are_the_sessions_that_may_still_deliver(status: SessionStatus) -> None:
    assert a_session(status).is_open == (status in (AUTHORISED, CHARGING))


def test_a_session_begins_authorised_and_unbilled() -> None:
    session = Session(1, UUID(int=1), UUID(int=2), "CP1", "D1", 5_000, Decimal("0.45"), "EUR", NOON)
    assert (session.status, session.energy_wh, session.cost, session.revision) == (AUTHORISED, 0, Decimal(0), 0)


# Start


def test_start_says_when() -> None:
    session = a_session()
    session.start(LATER, LATER)
    assert session == replace(a_session(), status=CHARGING, started_at=LATER)


@pytest.mark.parametrize("status", [CHARGING, COMPLETED, FAILED, INTERRUPTED])
def test_only_an_authorised_session_starts(status: SessionStatus) -> None:
    session = a_session(status)
    with pytest.raises(IllegalTransition):
        session.start(LATER, LATER)
    assert session == a_session(status)


# The meter


def test_a_newer_reading_is_taken_whole() -> None:
    session = a_session(CHARGING, energy_wh=1_000)
    assert session.meter(5, 1_200, 7_100, 41.5)
    assert session == replace(a_session(CHARGING), last_seq=5, energy_wh=1_200, power_w=7_100, soc_percent=41.5)


def test_a_newer_reading_of_the_same_energy_is_taken() -> None:
    session = a_session(CHARGING, energy_wh=1_000)
    assert session.meter(9, 1_000, 0, None)
    assert (session.last_seq, session.power_w) == (9, 0)


@pytest.mark.parametrize(
    ("seq", "energy_wh"),
    [(4, 1_000), (4, 1_500), (3, 900), (3, 1_500), (0, 0), (5, 999), (1_000, 0)],
    ids=["same again", "same seq, other energy", "older", "older, more", "first again", "backwards", "reset"],
)
def test_a_stale_or_backwards_reading_changes_nothing(seq: int, energy_wh: int) -> None:
    session = a_session(CHARGING, energy_wh=1_000)
    assert not session.meter(seq, energy_wh, 1, 1.0)
    assert session == a_session(CHARGING, energy_wh=1_000)


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 5_000))))
def test_in_whatever_order_readings_come_energy_and_seq_never_fall(readings: list[tuple[int, int]]) -> None:
    session = a_session(CHARGING)
    for seq, energy_wh in readings:
        before = replace(session)
        taken = session.meter(seq, energy_wh, 0, None)
        assert session.energy_wh >= before.energy_wh
        assert session.last_seq >= before.last_seq
        assert taken == (session != before)


@given(st.permutations(range(8)))
def test_a_true_meter_s_readings_lead_to_its_last_in_every_order(order: list[int]) -> None:
    session = a_session(CHARGING)
    session.last_seq = -1
    for seq in order:
        session.meter(seq, 100 * seq, 7_000, None)
    assert (session.last_seq, session.energy_wh) == (7, 700)


@given(st.integers(0, 10**9), st.decimals(0, 1000, places=6))
def test_the_cost_is_that_of_the_energy_so_far(energy_wh: int, price: Decimal) -> None:
    session = replace(a_session(CHARGING), price_per_kwh=price)
    session.meter(5, energy_wh, 0, None)
    assert abs(session.cost - energy_wh * price / 1000) <= Decimal("0.005")


# The end


def test_every_reason_has_its_end() -> None:
    assert set(ENDS) == set(EndReason) == set(END_EVENTS)


@pytest.mark.parametrize(("reason", "status"), ENDS.items())
def test_how_a_session_that_charged_ends(reason: EndReason, status: SessionStatus) -> None:
    session = a_session(CHARGING, energy_wh=1_000)
    session.end(reason, LATER, LATER)
    assert session == replace(
        a_session(CHARGING, energy_wh=1_000),
        status=status,
        end_reason=reason,
        ended_at=LATER,
        booked_at=LATER,
        power_w=0,
        revision=1,
    )


@pytest.mark.parametrize("reason", EndReason)
def test_whatever_ends_a_session_that_never_began_has_made_its_start_fail(reason: EndReason) -> None:
    session = a_session()
    session.end(reason, LATER, LATER)
    assert session == replace(
        a_session(), status=FAILED, end_reason=reason, ended_at=LATER, booked_at=LATER, revision=1
    )


START_FAILS = {EndReason.NO_VEHICLE, EndReason.START_REJECTED, EndReason.START_TIMEOUT}


@pytest.mark.parametrize("reason", EndReason)
def test_a_start_that_was_accepted_has_failed_if_it_came_to_nothing_for_that_reason(reason: EndReason) -> None:
    session = a_session(CHARGING)
    session.end(reason, LATER, LATER)
    assert session.status is (FAILED if reason in START_FAILS else ENDS[reason])
    assert (session.energy_wh, session.revision) == (0, 1)


@pytest.mark.parametrize("status", [COMPLETED, FAILED, INTERRUPTED])
@pytest.mark.parametrize("reason", EndReason)
def test_what_has_ended_does_not_end_again(status: SessionStatus, reason: EndReason) -> None:
    session = a_session(status, energy_wh=1_000)
    with pytest.raises(IllegalTransition):
        session.end(reason, LATER, LATER)
    assert session == a_session(status, energy_wh=1_000)


# Settling


@pytest.mark.parametrize("status", [FAILED, INTERRUPTED])
def test_a_session_that_central_gave_up_is_billed_what_its_completion_proves(status: SessionStatus) -> None:
    session = a_session(status, energy_wh=1_000)
    assert session.settle(9, 3_000, EndReason.TARGET_REACHED, NOON, LATER, EVEN_LATER)
    assert session == replace(
        a_session(status),
        status=INTERRUPTED,
        last_seq=9,
        energy_wh=3_000,
        end_reason=EndReason.TARGET_REACHED,
        started_at=NOON,
        ended_at=LATER,
        revision=2,
    )
    assert session.cost == Decimal("1.35")


@pytest.mark.parametrize("status", SessionStatus)
def test_a_completion_of_the_same_energy_changes_nothing(status: SessionStatus) -> None:
    session = a_session(status, energy_wh=1_000)
    assert not session.settle(9, 1_000, EndReason.TARGET_REACHED, NOON, LATER, EVEN_LATER)
    assert session == a_session(status, energy_wh=1_000)


@pytest.mark.parametrize("status", [COMPLETED, FAILED, INTERRUPTED])
def test_an_operator_corrects_whatever_has_ended_up_and_down(status: SessionStatus) -> None:
    session = a_session(status, energy_wh=1_000)
    assert session.correct(3_000)
    assert session.correct(0)
    assert not session.correct(0)
    status = COMPLETED if status is COMPLETED else INTERRUPTED
    assert session == replace(a_session(status), energy_wh=0, revision=3)


@pytest.mark.parametrize("status", [AUTHORISED, CHARGING])
def test_what_is_open_is_not_corrected(status: SessionStatus) -> None:
    session = a_session(status, energy_wh=1_000)
    with pytest.raises(IllegalTransition):
        session.correct(3_000)


def test_a_disputed_end_is_never_completed_so_that_it_can_be_settled() -> None:
    session = a_session(CHARGING, energy_wh=1_000)
    session.end(EndReason.STOPPED, LATER, LATER, disputed=True)
    assert (session.status, session.end_reason, session.energy_wh) == (INTERRUPTED, EndReason.STOPPED, 1_000)


@pytest.mark.parametrize(
    ("status", "reason", "completion_id", "had"),
    [
        (COMPLETED, EndReason.STOPPED, None, True),
        (INTERRUPTED, EndReason.FAULT, None, True),
        (FAILED, EndReason.NO_VEHICLE, None, True),
        (INTERRUPTED, EndReason.ENGINE_LOST, None, False),
        (FAILED, EndReason.START_TIMEOUT, None, False),
        (INTERRUPTED, EndReason.CLOSED_BY_OPERATOR, None, False),
        (INTERRUPTED, EndReason.ENGINE_LOST, UUID(int=5), True),
    ],
)
def test_whether_the_charge_point_has_had_its_word(
    status: SessionStatus, reason: EndReason, completion_id: UUID | None, had: bool
) -> None:
    session = replace(a_session(status), end_reason=reason, completion_id=completion_id)
    assert session.has_had_its_word is had


@pytest.mark.parametrize("status", [AUTHORISED, CHARGING, COMPLETED])
def test_neither_an_open_session_nor_a_completed_one_can_be_settled(status: SessionStatus) -> None:
    session = a_session(status, energy_wh=1_000)
    with pytest.raises(IllegalTransition):
        session.settle(9, 3_000, EndReason.TARGET_REACHED, NOON, LATER, EVEN_LATER)
    assert session == a_session(status, energy_wh=1_000)


def test_settling_keeps_the_highest_seq_and_counts_revisions() -> None:
    session = a_session(INTERRUPTED, energy_wh=1_000)
    assert session.settle(2, 1_500, EndReason.ENGINE_RESTARTED, NOON, LATER, EVEN_LATER)
    assert session.settle(9, 2_000, EndReason.STOPPED, NOON, LATER, EVEN_LATER)
    assert (session.last_seq, session.energy_wh, session.revision) == (9, 2_000, 3)
    assert not session.settle(9, 2_000, EndReason.STOPPED, NOON, LATER, EVEN_LATER)
    assert session.revision == 3
