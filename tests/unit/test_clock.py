"""Attention: whose silence counts, when it was we who did not listen."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from evcharge.clock import HELD_UP_S, LOOK_EVERY_S, Attention
from evcharge.domain.instant import Instant

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.at_s = 1000.0

    def read(self) -> Instant:
        return Instant(NOON + timedelta(seconds=self.at_s), self.at_s)


def test_while_it_is_asked_often_it_is_the_machines_clock() -> None:
    clock = Clock()
    attention = Attention(clock.read)
    for _ in range(100):
        clock.at_s += HELD_UP_S
        assert attention.now() == clock.read()


def test_the_time_in_which_nobody_asked_is_left_out_but_for_one_look() -> None:
    clock = Clock()
    attention = Attention(clock.read)
    clock.at_s += 120
    assert attention.now().monotonic_s == 1000 + LOOK_EVERY_S
    clock.at_s += 0.5
    assert attention.now().monotonic_s == 1000 + LOOK_EVERY_S + 0.5


def test_the_wall_clock_is_never_changed() -> None:
    clock = Clock()
    attention = Attention(clock.read)
    clock.at_s += 3600
    assert attention.now().utc == clock.read().utc


@given(st.lists(st.floats(0, 500), max_size=30))
def test_it_never_runs_backwards_nor_faster_than_the_machines(gaps_s: list[float]) -> None:
    clock = Clock()
    attention = Attention(clock.read)
    before_s = clock.at_s
    for gap_s in gaps_s:
        clock.at_s += gap_s
        now_s = attention.now().monotonic_s
        assert before_s <= now_s <= before_s + gap_s + 1e-6
        before_s = now_s


async def _ask_once(attention: Attention) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(0):
            await attention.keep()


def test_keeping_it_asks_at_once() -> None:
    clock = Clock()
    attention = Attention(clock.read)
    clock.at_s += HELD_UP_S
    asyncio.run(_ask_once(attention))
    clock.at_s += HELD_UP_S
    assert attention.now().monotonic_s == clock.at_s
