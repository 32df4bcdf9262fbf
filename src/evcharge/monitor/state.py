"""The state of a charge point as its Monitor sees it, and how it came about."""

from collections import deque
from dataclasses import dataclass
from datetime import datetime

from evcharge.domain import status
from evcharge.domain.instant import Instant
from evcharge.domain.status import Event, Status
from evcharge.monitor.actions import Note

TRANSITIONS_KEPT = 20


@dataclass(frozen=True, slots=True)
class Transition:
    at: datetime
    before: Status
    now: Status
    reason: str


class State:
    """Each change is one of the table in `domain/status.py`, and is told as a `Note`."""

    def __init__(self) -> None:
        self.status: Status = status.INITIAL
        self.transitions: deque[Transition] = deque(maxlen=TRANSITIONS_KEPT)

    def take(self, event: Event, reason: str, now: Instant) -> Note:
        """Raises `IllegalTransition`."""
        before, self.status = self.status, status.after(self.status, event)
        self.transitions.append(Transition(now.utc, before, self.status, reason))
        return Note("state", {"before": before, "now": self.status, "cause": event, "reason": reason})

    def move_to(self, then: Status, reason: str, now: Instant) -> list[Note]:
        """By the shortest way through the table; nothing if it is there already."""
        return [self.take(event, reason, now) for event in status.events_between(self.status, then)]
