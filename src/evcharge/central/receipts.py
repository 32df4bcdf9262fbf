"""Receipts until Kafka has them: those that wait are published again from the database, a page at a time."""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from evcharge.domain.session import Session

PAGE = 500
"""In Kafka's client, and in the inbox, at a time, however many wait."""
AGAIN_EVERY_S = 5.0


@dataclass(frozen=True, slots=True)
class Backlog:
    """How many receipts wait, and since when the first of them does."""

    waiting: int = 0
    since: datetime | None = None

    def wait_s(self, now: datetime) -> float:
        """How long the first has waited; 0 if none waits."""
        return max(0.0, (now - self.since).total_seconds()) if self.since is not None else 0.0


class Receipts:
    """`look` belongs to one thread; the worker and Kafka's thread tell how far each receipt is.

    `load(after, limit)` gives the sessions whose receipts wait, in order of their numbers; `hand_in` has the
    worker publish some.
    """

    def __init__(
        self,
        load: Callable[[int, int], list[Session]],
        count: Callable[[], Backlog],
        hand_in: Callable[[list[Session]], None],
        again_every_s: float = AGAIN_EVERY_S,
    ) -> None:
        self._load = load
        self._count = count
        self._hand_in = hand_in
        self._again_every_s = again_every_s
        self._lock = threading.Lock()
        self._under_way: dict[UUID, int] = {}
        """session_id -> the revision that Kafka's client has, or Kafka has and the database does not know yet."""
        self._page: dict[UUID, int] = {}
        self._after = 0
        self._refused = False
        self._next_page_s = 0.0
        self._next_count_s = 0.0
        self.backlog = Backlog()
        """As of some seconds ago."""

    def published(self, session_id: UUID, revision: int) -> None:
        """It has been given to Kafka's client."""
        with self._lock:
            self._under_way[session_id] = max(revision, self._under_way.get(session_id, 0))

    def refused(self, session_id: UUID, revision: int) -> None:
        """Kafka has not taken it; so it waits in the database."""
        self._refused = True
        self._forget(session_id, revision)

    def noted(self, receipts: Iterable[tuple[UUID, int]]) -> None:
        """The database knows that Kafka has them."""
        for session_id, revision in receipts:
            self._forget(session_id, revision)

    def _forget(self, session_id: UUID, revision: int) -> None:
        with self._lock:
            if self._under_way.get(session_id, 0) <= revision:
                self._under_way.pop(session_id, None)

    def look(self) -> None:
        """Have the next page published, if it is time and the page before is through."""
        now_s = time.monotonic()
        if now_s >= self._next_count_s:
            self._next_count_s = now_s + self._again_every_s
            self.backlog = self._count()
        with self._lock:
            self._page = {one: revision for one, revision in self._page.items() if one in self._under_way}
            under_way = dict(self._under_way) if not self._page and now_s >= self._next_page_s else None
        if under_way is None:
            return
        found = self._load(self._after, PAGE)
        refused, self._refused = self._refused, False
        is_last = len(found) < PAGE
        self._after = 0 if is_last else found[-1].number
        self._next_page_s = now_s + self._again_every_s if is_last or refused else now_s
        page = [session for session in found if session.revision > under_way.get(session.session_id, 0)]
        if page:
            self._page = {session.session_id: session.revision for session in page}
            for session in page:
                self.published(session.session_id, session.revision)
            self._hand_in(page)
