"""Which offsets may be committed: those of batches whose every consequence has been delivered, in order."""

import threading
from collections import deque
from dataclasses import dataclass, field

Offsets = dict[tuple[str, int], int]
"""(topic, partition) -> the offset after the last record that was handled."""


@dataclass(slots=True, eq=False)
class Ticket:
    """One batch on its way; `outstanding` deliveries are still to be confirmed."""

    offsets: Offsets
    outstanding: int = 0
    sealed: bool = False


@dataclass(slots=True)
class OffsetTracker:
    """Thread-safe: batches are opened by the worker, deliveries are confirmed by Kafka's thread."""

    _tickets: deque[Ticket] = field(default_factory=deque)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def open(self, offsets: Offsets) -> Ticket:
        ticket = Ticket(offsets)
        with self._lock:
            self._tickets.append(ticket)
        return ticket

    def expect(self, ticket: Ticket) -> None:
        """One more delivery belongs to the batch."""
        with self._lock:
            ticket.outstanding += 1

    def delivered(self, ticket: Ticket) -> None:
        with self._lock:
            ticket.outstanding -= 1

    def seal(self, ticket: Ticket) -> None:
        """Nothing more will be expected of the batch."""
        with self._lock:
            ticket.sealed = True

    def take_committable(self) -> Offsets:
        """The offsets up to the first batch that is not through; each is given once."""
        ready: Offsets = {}
        with self._lock:
            while self._tickets and self._tickets[0].sealed and self._tickets[0].outstanding == 0:
                ready.update(self._tickets.popleft().offsets)
        return ready
