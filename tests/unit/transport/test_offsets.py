"""Offsets are committed once all that follows from their records has been delivered, in order, each once."""

from __future__ import annotations

import random
import threading

from hypothesis import given
from hypothesis import strategies as st

from evcharge.transport.offsets import OffsetTracker, Ticket

HERE = ("charging_session_data", 0)
THERE = ("charging_session_data", 1)


def test_nothing_is_committable_at_first() -> None:
    assert OffsetTracker().take_committable() == {}


def test_a_batch_that_is_still_being_handled_is_not_committable() -> None:
    tracker = OffsetTracker()
    ticket = tracker.open({HERE: 5})
    assert tracker.take_committable() == {}
    tracker.seal(ticket)
    assert tracker.take_committable() == {HERE: 5}


def test_a_batch_waits_for_each_of_its_deliveries() -> None:
    tracker = OffsetTracker()
    ticket = tracker.open({HERE: 5})
    tracker.expect(ticket)
    tracker.expect(ticket)
    tracker.seal(ticket)
    assert tracker.take_committable() == {}
    tracker.delivered(ticket)
    assert tracker.take_committable() == {}
    tracker.delivered(ticket)
    assert tracker.take_committable() == {HERE: 5}


def test_a_delivery_before_the_seal_commits_nothing_yet() -> None:
    tracker = OffsetTracker()
    ticket = tracker.open({HERE: 5})
    tracker.expect(ticket)
    tracker.delivered(ticket)
    assert tracker.take_committable() == {}
    tracker.seal(ticket)
    assert tracker.take_committable() == {HERE: 5}


def test_each_offset_is_given_once() -> None:
    tracker = OffsetTracker()
    tracker.seal(tracker.open({HERE: 5}))
    assert tracker.take_committable() == {HERE: 5}
    assert tracker.take_committable() == {}


def test_a_later_batch_waits_for_an_earlier_one() -> None:
    tracker = OffsetTracker()
    first, second = tracker.open({HERE: 5}), tracker.open({HERE: 9, THERE: 2})
    tracker.expect(first)
    tracker.seal(first)
    tracker.seal(second)
    assert tracker.take_committable() == {}
    tracker.delivered(first)
    assert tracker.take_committable() == {HERE: 9, THERE: 2}


def test_an_earlier_batch_does_not_wait_for_a_later_one() -> None:
    tracker = OffsetTracker()
    first, second = tracker.open({HERE: 5, THERE: 1}), tracker.open({HERE: 9})
    tracker.expect(second)
    tracker.seal(first)
    tracker.seal(second)
    assert tracker.take_committable() == {HERE: 5, THERE: 1}
    tracker.delivered(second)
    assert tracker.take_committable() == {HERE: 9}


@given(
    deliveries=st.lists(st.integers(0, 3), max_size=6),
    order=st.randoms(use_true_random=False),
)
def test_in_any_order_of_deliveries_no_offset_overtakes_a_batch_that_is_not_through(
    deliveries: list[int], order: random.Random
) -> None:
    tracker = OffsetTracker()
    tickets = [tracker.open({HERE: number}) for number in range(1, len(deliveries) + 1)]
    steps: list[tuple[str, int]] = []
    for number, count in enumerate(deliveries):
        for _ in range(count):
            tracker.expect(tickets[number])
        steps += [("deliver", number)] * count + [("seal", number)]
    order.shuffle(steps)

    outstanding, sealed = list(deliveries), [False] * len(deliveries)
    committed = 0
    for what, number in steps:
        if what == "seal":
            tracker.seal(tickets[number])
            sealed[number] = True
        else:
            tracker.delivered(tickets[number])
            outstanding[number] -= 1
        through = 0
        while through < len(deliveries) and sealed[through] and outstanding[through] == 0:
            through += 1
        assert tracker.take_committable() == ({HERE: through} if through > committed else {})
        committed = max(committed, through)
    assert committed == len(deliveries)


def test_deliveries_are_counted_right_from_several_threads() -> None:
    tracker = OffsetTracker()
    tickets = [tracker.open({HERE: number}) for number in range(1, 51)]
    for ticket in tickets:
        for _ in range(40):
            tracker.expect(ticket)
        tracker.seal(ticket)
    taken: list[int] = []

    def deliver(mine: list[Ticket]) -> None:
        for ticket in mine:
            for _ in range(10):
                tracker.delivered(ticket)
            taken.extend(tracker.take_committable().values())

    threads = [threading.Thread(target=deliver, args=(tickets,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(taken) == 50
    assert len(taken) == len(set(taken))
    assert tracker.take_committable() == {}
