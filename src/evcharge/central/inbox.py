"""Central's one inbox: whatever comes in waits here, until the worker takes it.

It has two lanes: in the first is what somebody waits for, in the second what nobody does, the readings from Kafka
above all, however many there are.
"""

import threading
from collections import deque
from dataclasses import dataclass
from uuid import UUID

from evcharge.domain.decisions import Input
from evcharge.domain.session import Session
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
class ReceiptsWait:
    """The receipts of these sessions are to be published again."""

    sessions: list[Session]


@dataclass(frozen=True, slots=True)
class Look:
    """Somebody wants to see what has changed."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Nothing comes after it."""


Item = Input | FromBroker | ReceiptSent | ReceiptsWait | Look | Stop


class Inbox:
    """Any thread puts, one takes."""

    def __init__(self) -> None:
        self._first: deque[Item] = deque()
        self._second: deque[Item] = deque()
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return len(self._first) + len(self._second)

    @property
    def somebody_waits(self) -> bool:
        """Whether there is something in the first lane."""
        return bool(self._first)

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

    def wait(self, timeout_s: float) -> None:
        """Until something is there, but no longer than `timeout_s`."""
        with self._changed:
            if not self:
                self._changed.wait(timeout_s)

    def take(self) -> list[Item]:
        """What is in the first lane, in order; up to `MAX_ITEMS`."""
        return [self._first.popleft() for _ in range(min(len(self._first), MAX_ITEMS))]

    def take_second(self) -> Item | None:
        """The next in the second lane; None if there is nothing."""
        return self._second.popleft() if self._second else None
