"""A peer's clock is data: bounded to what Central knows, and kept beside it where it is not to be believed."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evcharge.domain.times import CLOCKS_DIFFER, believed

FIRST = datetime(2026, 11, 28, 12, tzinfo=UTC)
LAST = FIRST + timedelta(hours=3)
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("said", "at", "kept"),
    [
        (FIRST + timedelta(hours=1), FIRST + timedelta(hours=1), False),
        (FIRST, FIRST, False),
        (FIRST - CLOCKS_DIFFER, FIRST, False),
        (FIRST - CLOCKS_DIFFER - timedelta(seconds=1), FIRST, True),
        (LAST + CLOCKS_DIFFER, LAST, False),
        (LAST + CLOCKS_DIFFER + timedelta(seconds=1), LAST, True),
        (LONG_AGO, FIRST, True),
        (LAST + timedelta(days=400), LAST, True),
        (datetime(9998, 12, 31, 23, 59, tzinfo=timezone(-timedelta(hours=14))), LAST, True),
    ],
)
def test_what_cannot_be_is_moved_to_what_can_and_kept_if_far(said: datetime, at: datetime, kept: bool) -> None:
    assert believed(said, FIRST, LAST) == (at, said if kept else None)


def test_times_of_other_zones_are_the_same_moments_in_utc() -> None:
    said = datetime(2026, 11, 28, 14, 30, tzinfo=timezone(timedelta(hours=2)))
    at, _ = believed(said, FIRST, LAST)
    assert (at, at.utcoffset()) == (said, timedelta(0))


def test_centrals_own_clock_that_was_set_back_accuses_nobody() -> None:
    now = FIRST - timedelta(hours=1)
    assert believed(now, FIRST, now) == (FIRST, None)


@given(st.datetimes(datetime(3, 1, 1), datetime(9997, 1, 1)))
def test_whatever_is_said_it_was_within_what_central_knows(said: datetime) -> None:
    at, _ = believed(said.replace(tzinfo=UTC), FIRST, LAST)
    assert FIRST <= at <= LAST
