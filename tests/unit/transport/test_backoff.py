"""How long to wait before connecting again: from 1 s to 30 s, doubled, and spread."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evcharge.transport.tcp import Backoff

ATTEMPTS = st.integers(1, 10_000)
CHANCES = st.floats(0, 1, exclude_max=True)
TIMES = st.floats(0.01, 3600)


@given(ATTEMPTS, CHANCES)
def test_every_wait_is_from_1_to_30_seconds(attempt: int, chance: float) -> None:
    assert 1.0 <= Backoff().delay_s(attempt, chance) <= 30.0


@given(TIMES, TIMES, ATTEMPTS, CHANCES)
def test_every_wait_is_within_what_was_asked_for(
    one_s: float, other_s: float, attempt: int, chance: float
) -> None:
    backoff = Backoff(min(one_s, other_s), max(one_s, other_s))
    assert backoff.first_s <= backoff.delay_s(attempt, chance) <= backoff.longest_s


@given(ATTEMPTS, CHANCES)
def test_a_later_attempt_never_waits_less(attempt: int, chance: float) -> None:
    assert Backoff().delay_s(attempt, chance) <= Backoff().delay_s(attempt + 1, chance)


@given(ATTEMPTS, CHANCES, CHANCES)
def test_the_wait_grows_with_chance(attempt: int, one: float, other: float) -> None:
    backoff = Backoff()
    assert backoff.delay_s(attempt, min(one, other)) <= backoff.delay_s(attempt, max(one, other))


@pytest.mark.parametrize(("attempt", "ceiling_s"), [(1, 2), (2, 4), (3, 8), (4, 16), (5, 30), (6, 30), (99, 30)])
def test_the_longest_wait_doubles_up_to_the_limit(attempt: int, ceiling_s: float) -> None:
    assert Backoff().delay_s(attempt, 0.999999) == pytest.approx(ceiling_s, rel=1e-5)


@pytest.mark.parametrize("attempt", [1, 2, 3, 6, 50])
def test_a_crowd_does_not_come_at_once(attempt: int) -> None:
    """A thousand Monitors lose the same Central in the same moment; no tenth of a second may take half of them."""
    delays_s = [Backoff().delay_s(attempt, number / 1000) for number in range(1000)]
    fullest = max(sum(at_s <= other_s < at_s + 0.1 for other_s in delays_s) for at_s in delays_s[::50])
    assert fullest < 500


def test_no_attempt_is_too_many_for_the_arithmetic() -> None:
    assert Backoff().delay_s(10**9, 0.5) == 22.5
