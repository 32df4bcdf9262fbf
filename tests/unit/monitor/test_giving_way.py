"""Two Monitors with one id: each takes the place from the other, until one has it for good."""

from itertools import pairwise

import pytest

from evcharge.monitor.giving_way import LONGEST_S, GivingWay

DAY_S = 86_400.0


def swaps(one: GivingWay, other: GivingWay, connecting_s: float) -> list[float]:
    """When, within a day, the place changes hands: who has it loses it as soon as the other is back."""
    now_s, at_s = 0.0, []
    loser, winner = one, other
    while now_s < DAY_S:
        at_s.append(now_s)
        now_s += loser.wait_s(now_s) + connecting_s
        loser, winner = winner, loser
    return at_s


@pytest.mark.parametrize("first_s", [0.1, 1.0, 30.0, 300.0])
@pytest.mark.parametrize("connecting", [0.0, 0.1, 0.4])
def test_the_swapping_dies_down(first_s: float, connecting: float) -> None:
    at_s = swaps(GivingWay(first_s), GivingWay(first_s), connecting * first_s)
    last_six_hours = [swap_s for swap_s in at_s if swap_s > DAY_S - 6 * 3600]
    assert len(last_six_hours) <= 13  # One goes to look, once an hour, and the other comes back.
    assert len(at_s) < 100


def test_the_later_one_prevails() -> None:
    earlier, later = GivingWay(30.0), GivingWay(30.0)
    at_s = swaps(earlier, later, connecting_s=1.0)
    waits_s = [then_s - now_s - 1.0 for now_s, then_s in pairwise(at_s)]
    assert waits_s[:8:2] == [30.0, 60.0, 120.0, 240.0]
    assert set(waits_s[1::2]) == {30.0}
    assert max(waits_s) == LONGEST_S


def test_a_monitor_that_was_left_in_peace_begins_anew() -> None:
    giving_way = GivingWay(30.0)
    assert [giving_way.wait_s(now_s) for now_s in (0.0, 31.0, 92.0)] == [30.0, 60.0, 120.0]
    back_s = 92.0 + 120.0
    assert giving_way.wait_s(back_s + 241.0) == 30.0


def test_a_longest_back_off_of_more_than_an_hour_is_kept() -> None:
    giving_way = GivingWay(2 * LONGEST_S)
    assert [giving_way.wait_s(0.0), giving_way.wait_s(0.0)] == [2 * LONGEST_S] * 2
