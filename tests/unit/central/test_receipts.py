"""Receipts that wait in the database: a page at a time, none twice while it is under way, none forgotten."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID, uuid4

from evcharge.central.receipts import PAGE, Backlog, Receipts
from evcharge.domain.session import Session

NOW = datetime(2026, 11, 28, tzinfo=UTC)


def ended(number: int) -> Session:
    session = Session(
        number=number,
        session_id=uuid4(),
        request_id=uuid4(),
        cp_id="CP001",
        driver_id="ana",
        target_energy_wh=None,
        price_per_kwh=Decimal("0.3"),
        currency="EUR",
        requested_at=NOW,
    )
    return replace(session, revision=1)


class Database:
    """The sessions whose receipts wait, and what has been handed in."""

    def __init__(self, sessions: int) -> None:
        self.waiting = {session.session_id: session for session in map(ended, range(1, sessions + 1))}
        self.pages: list[list[Session]] = []
        self.receipts = Receipts(self._load, lambda: Backlog(len(self.waiting), NOW), self.pages.append, 0.0)

    def _load(self, after: int, limit: int) -> list[Session]:
        return [session for session in self.waiting.values() if session.number > after][:limit]

    def noted(self, session_ids: list[UUID]) -> None:
        for session_id in session_ids:
            del self.waiting[session_id]
        self.receipts.noted([(session_id, 1) for session_id in session_ids])


def test_a_hundred_thousand_go_out_a_page_at_a_time() -> None:
    database = Database(3 * PAGE + 1)
    for _ in range(10):
        database.receipts.look()
        database.receipts.look()  # The page is under way: nothing more.
        assert sum(map(len, database.pages)) <= PAGE
        for page in database.pages:
            database.noted([session.session_id for session in page])
        database.pages.clear()
    assert database.waiting == {}
    database.receipts.look()
    assert database.receipts.backlog.waiting == 0


def test_one_that_is_under_way_is_not_published_again_and_one_that_was_refused_is() -> None:
    database = Database(1)
    (session,) = database.waiting.values()
    database.receipts.published(session.session_id, 1)
    for _ in range(3):
        database.receipts.look()
    assert database.pages == []
    database.receipts.refused(session.session_id, 1)
    database.receipts.look()
    assert database.pages == [[session]]


def test_one_that_is_refused_each_time_does_not_keep_the_others() -> None:
    database = Database(2 * PAGE)
    refused = next(iter(database.waiting))
    for _ in range(6):
        database.receipts.look()
        for page in database.pages:
            database.noted([session.session_id for session in page if session.session_id != refused])
            if refused in [session.session_id for session in page]:
                database.receipts.refused(refused, 1)
        database.pages.clear()
    assert list(database.waiting) == [refused]


def test_a_report_of_an_earlier_revision_does_not_forget_the_later_one() -> None:
    database = Database(1)
    (session,) = database.waiting.values()
    session.revision = 2
    database.receipts.published(session.session_id, 1)
    database.receipts.published(session.session_id, 2)
    database.receipts.noted([(session.session_id, 1)])
    database.receipts.look()
    assert database.pages == []
