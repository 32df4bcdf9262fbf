"""What is said before a replay, of its end, and of an end before its time."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import uuid4

import pytest

from evcharge.domain.session import EndReason, SessionStatus
from evcharge.protocol.messages import ChargeCompletionResponse
from evcharge.replay.plan import plan_of
from evcharge.replay.report import Tally, announcement, report, text_of
from evcharge.replay.rows import Row, Sessions, Skipped
from evcharge.replay.run import vehicle_of

EIGHT = datetime(2026, 11, 20, 8, tzinfo=UTC)
PATH = Path("sessions.csv")


def row(n: int, cp_id: str = "CP001", driver_id: str = "ana", minutes: int = 0, energy_wh: int = 7400) -> Row:
    return Row(n + 1, f"S-{n}", cp_id, driver_id, EIGHT + timedelta(minutes=minutes), 3600, energy_wh)


def receipt(of: Row, energy_wh: int | None = None) -> ChargeCompletionResponse:
    energy_wh = of.energy_wh if energy_wh is None else energy_wh
    return ChargeCompletionResponse(
        message_id=uuid4(),
        timestamp=EIGHT,
        cp_id=of.cp_id,
        session_id=uuid4(),
        driver_id=of.driver_id,
        status=SessionStatus.COMPLETED,
        end_reason=EndReason.TARGET_REACHED,
        energy_wh=energy_wh,
        price_per_kwh=Decimal("0.23"),
        cost=(Decimal(energy_wh) * Decimal("0.23") / 1000).quantize(Decimal("0.01")),
        currency="USD",
        requested_at=EIGHT,
        started_at=EIGHT,
        ended_at=EIGHT,
        revision=1,
    )


APART = [row(1), row(2, "CP002", "bo", 30), row(3, "CP001", "cy", 24 * 60)]


# Before it starts


def test_the_announcement_has_span_sessions_charge_points_drivers_and_the_time_it_takes() -> None:
    said = announcement(PATH, Sessions(APART, [], None), plan_of(APART, 100), 100)
    assert said.splitlines() == [
        "sessions.csv: 3 sessions from 2026-11-20 08:00 to 2026-11-21 08:00 UTC (1.0 days)",
        "at 2 charge points by 3 drivers, 22.200 kWh",
        "expected   at least 0:15:00 at 100 times the speed, and what the programs need",
    ]


def test_a_high_speed_is_told_as_a_plain_number() -> None:
    said = announcement(PATH, Sessions(APART, [], None), plan_of(APART, 5e6), 5e6)
    assert "at 5,000,000 times the speed" in said


def test_it_says_that_rows_were_sorted_and_which_line_was_out_of_order() -> None:
    said = announcement(PATH, Sessions(APART, [], 7), plan_of(APART, 100), 100)
    assert "sorted by plugged_in_at, as line 7 is earlier than one before it" in said


def test_what_is_skipped_is_bounded_on_the_screen_and_counted() -> None:
    skipped = [Skipped(line, "energy_kwh is empty") for line in range(10, 10 + 1254)]
    lines = announcement(PATH, Sessions(APART, skipped, None), plan_of(APART, 100), 100).splitlines()
    assert lines[3] == "line 10 skipped: energy_kwh is empty"
    assert lines[-1] == "and 1,234 more skipped"
    assert len(lines) == 3 + 20 + 1


@pytest.mark.parametrize(
    ("second", "waits", "hours"),
    [
        (row(2, "CP001", "bo", 30), 1, 2.0),
        (row(2, "CP002", "ana", 30), 1, 2.0),
        (row(2, "CP002", "bo", 30), 0, 1.5),
        (row(2, "CP001", "ana", 60), 0, 2.0),
    ],
)
def test_a_session_begins_when_its_charge_point_and_driver_are_free(second: Row, waits: int, hours: float) -> None:
    plan = plan_of([row(1), second], 10)
    assert plan.waits == waits
    assert plan.least_s == pytest.approx(hours * 360)


def test_overlapping_sessions_are_told() -> None:
    rows = [row(1), row(2, "CP001", "bo", 30)]
    said = announcement(PATH, Sessions(rows, [], None), plan_of(rows, 100), 100)
    assert "1 begin later, as their charge point or driver is not free" in said


# Afterwards


def test_a_replay_to_the_end_is_equal_row_by_row() -> None:
    tally = Tally(receipts={one.session_id: receipt(one) for one in APART}, latencies_s=[0.01])
    figures = report(Sessions(APART, [], None), plan_of(APART, 1), tally, 2.0)
    assert (figures["done"], figures["failed"], figures["not_begun"]) == (3, 0, 0)
    assert figures["differences"] == figures["under_way"] == []
    assert "22200 Wh in the file, 22200 Wh billed: equal, row by row" in text_of(figures)
    assert "interrupted" not in text_of(figures)


def test_a_wrong_bill_and_a_failure_are_named_with_their_lines() -> None:
    tally = Tally(receipts={"S-1": receipt(APART[0], 7399), "S-2": receipt(APART[1])}, failures={"S-3": "refused"})
    figures = report(Sessions(APART, [], None), plan_of(APART, 1), tally, 2.0)
    assert [(one["line"], one["billed_wh"]) for one in figures["differences"]] == [(2, 7399), (4, None)]
    assert (figures["done"], figures["failed"]) == (2, 1)
    assert "line 4: 7400 Wh in the file, None Wh billed refused" in text_of(figures)


def test_an_interrupted_replay_says_its_true_time_and_what_is_unfinished_and_finds_no_fault_with_that() -> None:
    tally = Tally(begun={"S-1", "S-2"}, receipts={"S-1": receipt(APART[0])})
    figures = report(Sessions(APART, [], None), plan_of(APART, 1), tally, 12.5, interrupted=True)
    said = text_of(figures).splitlines()
    assert figures["differences"] == []
    assert figures["under_way"] == [{"line": 3, "session_id": "S-2"}]
    assert figures["not_begun"] == 1
    assert figures["wall_s"] == 12.5
    assert "time       12.5 s, 0.1 sessions/s" in said
    assert "line 3 unfinished: S-2 was under way" in said
    expected = "interrupted: 2 of 3 sessions are unfinished, 1 of them were under way, 1 had not begun"
    assert expected in said


def test_an_end_before_the_first_row_is_told_without_figures_that_are_not_there() -> None:
    figures = report(Sessions(APART, [], None), plan_of(APART, 1), Tally(), 0.0, interrupted=True)
    assert "None" not in text_of(figures)


# The vehicle of a row


@pytest.mark.parametrize("energy_wh", [1, 28, 7400, 10**9])
@pytest.mark.parametrize("seconds", [1, 83, 3600, 366 * 86_400])
def test_the_vehicle_of_a_row_takes_its_power_to_the_end_and_loses_nothing(energy_wh: int, seconds: int) -> None:
    one = replace(row(1, energy_wh=energy_wh), charging_seconds=seconds)
    vehicle = vehicle_of(one)
    assert vehicle.connect_s == 0
    assert vehicle.seconds_to(one.power_w, energy_wh) == pytest.approx(seconds)
    assert vehicle.charged(one.power_w, seconds * 0.999).power_w(one.power_w) == one.power_w
