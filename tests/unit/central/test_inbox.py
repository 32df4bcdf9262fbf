"""What waits for Central's worker, and what it takes first."""

import threading
from uuid import UUID

from evcharge.central.inbox import MAX_ITEMS, FromBroker, Inbox, Item, Look, ReceiptSent
from evcharge.domain.decisions import MonitorCame

NOT_AT_ALL_S = 0.0


def readings() -> FromBroker:
    return FromBroker([], threading.Semaphore())


def test_nothing_is_taken_where_nothing_is() -> None:
    assert Inbox().take(NOT_AT_ALL_S) == []


def test_what_somebody_waits_for_comes_first_and_readings_come_next() -> None:
    inbox = Inbox()
    first, second, third = readings(), readings(), ReceiptSent(UUID(int=1), 1)
    for item in (first, second, third):
        inbox.put_second(item)
    inbox.put(MonitorCame(1), MonitorCame(2))
    inbox.put(MonitorCame(3))
    assert len(inbox) == 6
    assert inbox.take(NOT_AT_ALL_S) == [MonitorCame(1), MonitorCame(2), MonitorCame(3)]
    inbox.put(MonitorCame(4))
    assert inbox.take(NOT_AT_ALL_S) == [first, second, third]
    assert inbox.take(NOT_AT_ALL_S) == [MonitorCame(4)]
    assert inbox.take(NOT_AT_ALL_S) == []


def test_neither_lane_can_starve_the_other() -> None:
    inbox = Inbox()
    taken: list[type[Item]] = []
    for _ in range(4):
        inbox.put(Look())
        inbox.put_second(readings())
        taken += [type(item) for item in inbox.take(NOT_AT_ALL_S)]
    assert taken[:2] == [Look, FromBroker]
    assert set(taken[2:]) == {Look, FromBroker}


def test_a_crowd_is_taken_in_batches() -> None:
    inbox = Inbox()
    inbox.put(*(MonitorCame(number) for number in range(MAX_ITEMS + 1)))
    assert len(inbox.take(NOT_AT_ALL_S)) == MAX_ITEMS
    assert inbox.take(NOT_AT_ALL_S) == [MonitorCame(MAX_ITEMS)]


def test_whoever_waits_is_woken_by_either_lane() -> None:
    for put in ("put", "put_second"):
        inbox = Inbox()
        taken: list[Item] = []
        taker = threading.Thread(target=lambda box, into: into.extend(box.take(60)), args=(inbox, taken))
        taker.start()
        getattr(inbox, put)(Look())
        taker.join(10)
        assert taken == [Look()]
