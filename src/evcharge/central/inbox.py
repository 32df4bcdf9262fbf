"""Central's one inbox: whatever comes in waits here, and the worker takes what is there as one batch.

It has two lanes, which are taken in turn. In the first is what somebody waits for, in the second what nobody does,
the readings from Kafka above all. So a driver waits for one batch of readings at the most, however many there are.
"""

import threading
from collections import deque
from dataclasses import dataclass
from uuid import UUID

from evcharge.domain.decisions import Input
from evcharge.protocol.records import Received

MAX_ITEMS = 1000


@dataclass(frozen=True, slots=True)
class FromBroker:
    """A batch of records, not decoded yet; `in_hand` is released when it has been taken up."""

    records: list[Received]
    in_hand: threading.Semaphore


@dataclass(frozen=True, slots=True)
class ReceiptSent:
    """Kafka has the receipt of a session."""

    session_id: UUID
    revision: int


@dataclass(frozen=True, slots=True)
class Look:
    """Somebody wants to see what has changed."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Nothing comes after it."""


Item = Input | FromBroker | ReceiptSent | Look | Stop


class Inbox:
    """Any thread puts, one takes."""

    def __init__(self) -> None:
        self._first: deque[Item] = deque()
        self._second: deque[Item] = deque()
        self._second_is_next = False
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return len(self._first) + len(self._second)

    def put(self, *items: Item) -> None:
        """Append them to the first lane, in order."""
        self._append(self._first, items)

    def put_second(self, item: Item) -> None:
        """Append it to the second lane."""
        self._append(self._second, (item,))

    def _append(self, lane: deque[Item], items: tuple[Item, ...]) -> None:
        with self._changed:
            if not self:  # The taker waits for nothing else.
                self._changed.notify()
            lane.extend(items)

    def take(self, timeout_s: float) -> list[Item]:
        """Up to `MAX_ITEMS` items of one lane, in order; waits for the first, but no longer than `timeout_s`."""
        with self._changed:
            if not self:
                self._changed.wait(timeout_s)
            lane = self._second if self._second and (self._second_is_next or not self._first) else self._first
            self._second_is_next = lane is self._first
            return [lane.popleft() for _ in range(min(len(lane), MAX_ITEMS))]
