"""What happened, for people: the last so many events, from any thread, whoever looks at them or not."""

import itertools
import threading
from collections import deque
from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

from evcharge import clock
from evcharge.protocol.plain_text import printable

KEPT = 500


class Event(NamedTuple):
    """`number` counts from 1, so that one sees how many came since."""

    number: int
    at: datetime
    text: str


class EventLog:
    """Bounded. It is also a text stream, so that a log can be written to it."""

    def __init__(self, now: Callable[[], datetime] = lambda: clock.now().utc, kept: int = KEPT) -> None:
        self._now = now
        self._events: deque[Event] = deque(maxlen=kept)
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._listener: Callable[[str], None] | None = None

    def tell(self, text: str) -> None:
        """Add an event; it may have several lines."""
        self.add(text)

    def add(self, text: str) -> int:
        """The same, for who may want to `retell` it; its number, 0 if there is no text."""
        text = printable(text.rstrip("\n"))
        if not text:
            return 0
        with self._lock:
            number = next(self._numbers)
            self._events.append(Event(number, self._now(), text))
            listener = self._listener
        if listener is not None:
            listener(text)
        return number

    def retell(self, number: int, text: str) -> None:
        """Have the event of that number say something else, if it is still kept."""
        with self._lock:
            told = [event._replace(text=text) if event.number == number else event for event in self._events]
            self._events = deque(told, maxlen=self._events.maxlen)

    def write(self, text: str) -> int:
        self.tell(text)
        return len(text)

    def flush(self) -> None:
        """Nothing waits."""

    def listen(self, listener: Callable[[str], None] | None) -> None:
        """Hear each event from now on, in the thread that tells it; for those who have no screen to look at."""
        self._listener = listener

    def last(self) -> list[Event]:
        """Those that are kept, oldest first."""
        with self._lock:
            return list(self._events)

    @property
    def told(self) -> int:
        """How many there were in all."""
        with self._lock:
            return self._events[-1].number if self._events else 0
