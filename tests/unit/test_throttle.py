"""Say a thing once a while, and then how often it happened."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

from hypothesis import given
from hypothesis import strategies as st

from evcharge.throttle import Throttle


def test_the_first_of_a_kind_is_let_through() -> None:
    throttle = Throttle(60)
    assert throttle.admit("bad_json", 1000) == 0
    assert throttle.admit("line_too_long", 1000) == 0


def test_what_follows_within_the_period_is_kept_silent_and_counted() -> None:
    throttle = Throttle(60)
    throttle.admit("bad_json", 1000)
    assert [throttle.admit("bad_json", at_s) for at_s in (1000, 1001, 1059.9)] == [None, None, None]
    assert throttle.admit("bad_json", 1060) == 3
    assert throttle.admit("bad_json", 1061) is None
    assert throttle.admit("bad_json", 1120) == 1


def test_a_while_is_a_minute() -> None:
    throttle = Throttle()
    throttle.admit("bad_json", 1000)
    assert throttle.admit("bad_json", 1059.9) is None
    assert throttle.admit("bad_json", 1060) == 1


def test_kinds_do_not_silence_each_other() -> None:
    throttle = Throttle(60)
    throttle.admit("a", 0)
    throttle.admit("a", 1)
    assert throttle.admit("b", 1) == 0
    assert throttle.admit("a", 60) == 1


def test_a_kind_may_be_a_tuple_as_of_peer_and_code() -> None:
    throttle = Throttle(60)
    assert throttle.admit(("10.0.0.7:1", "bad_json"), 0) == 0
    assert throttle.admit(("10.0.0.7:1", "bad_json"), 1) is None
    assert throttle.admit(("10.0.0.8:1", "bad_json"), 1) == 0


def test_kinds_that_have_become_quiet_are_forgotten_when_there_are_many() -> None:
    throttle = Throttle(60)
    throttle.admit("a", 0)
    throttle.admit("a", 1)
    for number in range(2000):
        throttle.admit(number, 100)
    assert throttle.admit("a", 161) == 0  # and not 1, as it would be had it been kept


def test_of_too_many_kinds_it_makes_one() -> None:
    throttle = Throttle(60)
    said = [number for number in range(2000) if throttle.admit(number, 100) is not None]
    assert len(said) == 1001
    assert throttle.admit("another", 101) is None
    assert throttle.admit("another", 160.5) == 0


def test_a_kind_that_is_still_loud_is_not_forgotten() -> None:
    throttle = Throttle(60)
    throttle.admit("a", 50)
    for number in range(2000):
        throttle.admit(number, 100)
    assert throttle.admit("a", 101) is None


def test_what_has_been_kept_silent_of_a_loud_kind_is_told_even_when_there_are_many() -> None:
    throttle = Throttle(60)
    throttle.admit("a", 50)
    throttle.admit("a", 51)
    for number in range(2000):
        throttle.admit(number, 100)
    assert throttle.admit("a", 110) == 1


class Kind:
    """A kind that counts how often any is looked at."""

    looks = 0

    def __hash__(self) -> int:
        Kind.looks += 1
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other


def test_many_kinds_at_once_cost_each_no_more_than_few_do() -> None:
    """A stranger that connects thousands of times, each time from another port, must not keep Central busy."""
    throttle = Throttle(60)
    kinds = [Kind() for _ in range(4_000)]
    for number, kind in enumerate(kinds):
        throttle.admit(kind, number / 1000)
    assert Kind.looks < 20 * len(kinds)


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 50)), max_size=60),
    st.sampled_from([1.0, 60.0]),
)
def test_nothing_is_lost_each_is_said_or_counted(events: list[tuple[str, float]], period_s: float) -> None:
    throttle = Throttle(period_s)
    now_s = 0.0
    happened = dict.fromkeys("abc", 0)
    told = dict.fromkeys("abc", 0)
    said_at: dict[str, float] = {}
    for kind, wait_s in events:
        now_s += wait_s
        happened[kind] += 1
        silenced = throttle.admit(kind, now_s)
        if silenced is None:
            assert now_s - said_at[kind] < period_s
        else:
            assert kind not in said_at or now_s - said_at[kind] >= period_s
            said_at[kind] = now_s
            told[kind] += 1 + silenced
            assert told[kind] == happened[kind]


def test_several_threads_may_ask_at_the_same_time_and_nothing_is_lost() -> None:
    throttle = Throttle(1.0)
    kinds = [f"{thread}-{number}" for thread in range(4) for number in range(100)]

    def ask(offset: int) -> int:
        """How often it was told, or counted in what was told."""
        told = (throttle.admit(kinds[(offset + step) % len(kinds)], step / 1000) for step in range(5_000))
        return sum(1 + silenced for silenced in told if silenced is not None)

    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as threads:
            told = sum(threads.map(ask, range(0, len(kinds), 100)))
    finally:
        sys.setswitchinterval(interval_s)
    still_counted = sum(throttle.admit(kind, 1e9) or 0 for kind in kinds)
    assert told + still_counted == 20_000
