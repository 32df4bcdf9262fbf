"""What waits for Central's worker."""

import threading
from uuid import UUID

import pytest

from evcharge.central.inbox import MAX_ITEMS, FromBroker, Inbox, Look, ReceiptSent
from evcharge.domain.decisions import MonitorCame

NOT_AT_ALL_S = 0.0
LONG_S = 60.0


def test_nothing_is_taken_where_nothing_is() -> None:
    inbox = Inbox()
    inbox.wait(NOT_AT_ALL_S)
    assert (inbox.take(), inbox.take_second(), len(inbox), inbox.somebody_waits) == ([], None, 0, False)


def test_each_lane_keeps_its_order() -> None:
    inbox = Inbox()
    readings, receipt = FromBroker([], threading.Semaphore()), ReceiptSent(UUID(int=1), 1)
    inbox.put_second(readings)
    assert not inbox.somebody_waits
    inbox.put(MonitorCame(1), MonitorCame(2))
    inbox.put_second(receipt)
    inbox.put(MonitorCame(3))
    assert (len(inbox), inbox.somebody_waits) == (5, True)
    assert inbox.take() == [MonitorCame(1), MonitorCame(2), MonitorCame(3)]
    assert not inbox.somebody_waits
    assert [inbox.take_second() for _ in range(3)] == [readings, receipt, None]


def test_a_crowd_is_taken_in_batches() -> None:
    inbox = Inbox()
    inbox.put(*(MonitorCame(number) for number in range(MAX_ITEMS + 1)))
    assert len(inbox.take()) == MAX_ITEMS
    assert inbox.take() == [MonitorCame(MAX_ITEMS)]


@pytest.mark.parametrize("put", ["put", "put_second"])
def test_whoever_waits_is_woken_by_either_lane(put: str) -> None:
    inbox = Inbox()
    taker = threading.Thread(target=inbox.wait, args=(LONG_S,))
    taker.start()
    getattr(inbox, put)(Look())
    taker.join(10)
    assert not taker.is_alive()


def test_whoever_finds_something_there_does_not_wait() -> None:
    inbox = Inbox()
    inbox.put_second(Look())
    inbox.wait(LONG_S)
    assert len(inbox) == 1
