"""Central's one inbox: whatever comes in waits here, and the worker takes all that is there as one batch."""

import threading
from collections import deque
from dataclasses import dataclass
from uuid import UUID

from evcharge.domain.decisions import Input
from evcharge.protocol.records import Received

MAX_ITEMS = 1000


@dataclass(frozen=True, slots=True)
class FromBroker:
    """A batch of records, not decoded yet."""

    records: list[Received]


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
    """The last item."""


Item = Input | FromBroker | ReceiptSent | Look | Stop


class Inbox:
    """Any thread puts, one takes."""

    def __init__(self) -> None:
        self._items: deque[Item] = deque()
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return len(self._items)

    def put(self, *items: Item) -> None:
        """Append them, in order."""
        with self._changed:
            if not self._items:  # The taker waits for nothing else.
                self._changed.notify()
            self._items.extend(items)

    def take(self, timeout_s: float) -> list[Item]:
        """Up to `MAX_ITEMS` items, in order; waits for the first of them, but no longer than `timeout_s`."""
        with self._changed:
            if not self._items:
                self._changed.wait(timeout_s)
            return [self._items.popleft() for _ in range(min(len(self._items), MAX_ITEMS))]
