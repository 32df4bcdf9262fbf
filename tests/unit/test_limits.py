"""Strangers get so much and no more; whoever keeps within bounds is never made to wait."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evcharge.limits import Allowance, Failures, Places, Rate, network_of

STEPS = st.lists(st.floats(0, 3), max_size=60)


@given(STEPS)
def test_in_any_span_a_rate_admits_its_burst_and_what_has_come_since(steps: list[float]) -> None:
    rate, now_s, admitted = Rate(per_s=2, burst=5), 0.0, 0
    for step_s in steps:
        now_s += step_s
        for _ in range(3):
            admitted += rate.wait_s("a", now_s) == 0
    assert admitted <= 5 + 2 * now_s + 1e-6


@given(STEPS)
def test_who_waits_as_long_as_told_is_admitted(steps: list[float]) -> None:
    rate, now_s = Rate(per_s=2, burst=3), 0.0
    for step_s in steps:
        now_s += step_s
        while (wait_s := rate.wait_s("a", now_s)) == 0:
            pass
        now_s += wait_s + 1e-9
        assert rate.wait_s("a", now_s) == 0


def test_an_allowance_is_spent_at_once_and_comes_back_with_time() -> None:
    allowance = Allowance(per_s=10, burst=100, now_s=0.0)
    assert allowance.spend(100, 0.0) == 0
    assert allowance.spend(5, 0.0) == pytest.approx(1.5), "until ten are there"
    assert allowance.spend(10, 1.5) == 0
    assert allowance.spend(100, 1000.0) == 0, "never more than the burst"
    assert allowance.spend(1, 1000.0) > 0


@given(STEPS, st.integers(1, 20))
def test_in_the_long_run_an_allowance_keeps_its_rate(steps: list[float], at_once: int) -> None:
    allowance, now_s, spent = Allowance(per_s=2, burst=5, now_s=0.0), 0.0, 0
    for step_s in steps:
        now_s += step_s
        spent += at_once
        now_s += allowance.spend(at_once, now_s)
        assert spent <= 5 + at_once + 2 * now_s + 1e-6


def test_one_who_asks_too_much_costs_no_other() -> None:
    rate = Rate(per_s=1, burst=2)
    assert [rate.wait_s("a", 0.0) for _ in range(3)] == [0, 0, 1]
    assert rate.wait_s("b", 0.0) == 0


def test_a_rate_is_bounded_in_memory_and_forgets_who_was_not_seen_for_longest() -> None:
    rate = Rate(per_s=0.001, burst=1, kept=2)
    for who in ("a", "b", "a", "c"):  # b is the oldest by then
        rate.wait_s(who, 0.0)
    assert rate.wait_s("a", 0.0) > 0
    assert rate.wait_s("b", 0.0) == 0
    assert len(rate._left) == 2


def test_after_some_failures_one_waits_and_ever_longer() -> None:
    failures, now_s, waits = Failures(free=3, longest_s=10), 0.0, []
    for _ in range(8):
        assert failures.wait_s("a", now_s) == 0
        waits.append(failures.failed("a", now_s))
        assert failures.wait_s("a", now_s) == waits[-1]
        now_s += waits[-1]
    assert waits == [0, 0, 1, 2, 4, 8, 10, 10]
    assert failures.wait_s("b", now_s - 5) == 0


def test_a_success_clears_the_count() -> None:
    failures = Failures(free=2)
    failures.failed("a", 0.0)
    failures.succeeded("a")
    assert failures.failed("a", 0.0) == 0
    assert failures.failed("a", 0.0) == 1


def test_failures_without_end_are_counted_without_end() -> None:
    failures = Failures(free=1)
    for _ in range(5000):
        failures.failed("a", 0.0)
    assert failures.wait_s("a", 0.0) == 300


def test_failures_are_bounded_in_memory() -> None:
    failures = Failures(free=1, kept=100)
    for who in range(1000):
        failures.failed(who, 0.0)
    assert len(failures._failed) == 100
    assert failures.wait_s(999, 0.0) == 1
    assert failures.wait_s(0, 0.0) == 0


def test_places_are_limited_in_all_and_each_and_come_back() -> None:
    places = Places(in_all=3, each=2)
    with places.taken("a") as first, places.taken("a") as second, places.taken("a") as third:
        assert (first, second, third) == (True, True, False)
        with places.taken("b") as fourth, places.taken("c") as fifth:
            assert (fourth, fifth) == (True, False)
        with places.taken("c") as sixth:
            assert sixth
    assert not places._taken
    with pytest.raises(ZeroDivisionError), places.taken("a"):
        raise ZeroDivisionError
    assert not places._taken


@pytest.mark.parametrize(
    ("host", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff:1", "2001:db8::/64"),
        ("2001:db8:0:1::1", "2001:db8:0:1::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("testclient", "unknown"),
        ("", "unknown"),
        ("1" * 100_000, "unknown"),
    ],
)
def test_an_address_stands_for_its_network(host: str, network: str) -> None:
    assert network_of(host) == network


def test_failures_are_forgiven_one_by_one_after_the_wait() -> None:
    failures = Failures(free=2, forgive_every_s=10.0)
    assert [failures.failed("A", 0.0) for _ in range(3)] == [0.0, 1.0, 2.0]
    assert failures.failed("A", 2.0 + 20.0) == 1.0  # two of three are forgiven
    assert failures.failed("A", 1000.0) == 0.0  # all are
