"""What operators look back at, in a real SQLite file: each row on one page and one alone, sums to the cent."""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
from test_store import NOW, a_charge_point, a_session, an_ended_session, decisions, listening

from evcharge.domain.commands import Actor, AuditEntry, Role
from evcharge.domain.decisions import Decisions, FaultCleared, FaultOpened, MeterValue
from evcharge.domain.session import EndReason, Session, SessionStatus
from evcharge.errors import DatabaseUnusable, NotThere, UsageError
from evcharge.protocol.operators import By, RevenueRow, SessionFilter, SessionRow
from evcharge.storage.books import Books
from evcharge.storage.registry import Registry
from evcharge.storage.store import Store

MARIA = Actor("maria", "http")
TODAY = NOW.date()
HOUR = timedelta(hours=1)
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "evcharge.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    store = Store(path)
    yield store
    store.close()


@pytest.fixture
def books(store: Store) -> Books:
    return Books(store.engine, BERLIN)


def keep(store: Store, *sessions: Session, **changes: Any) -> None:
    points = {session.cp_id: a_charge_point(session.cp_id) for session in sessions}
    drivers = {session.driver_id for session in sessions}
    store.commit(decisions(*sessions, **{"charge_points": points, "drivers": drivers} | changes), NOW)


def numbers(rows: list[SessionRow]) -> list[int]:
    return [row.session_id.int for row in rows]


# Sessions


def requested_on_hours(store: Store) -> None:
    """Sessions 1 to 12: on hours 1, 1, 1, 2, 2, 2, …; at CP0, CP1, CP0, …; of D0, D1, D2, D0, …"""
    keep(
        store,
        *(
            a_session(n, cp_id=f"CP{n % 2}", driver_id=f"D{n % 3}", requested_at=NOW + ((n + 2) // 3) * HOUR)
            for n in range(1, 13)
        ),
    )


def all_pages(books: Books, limit: int, **wanted: Any) -> list[int]:
    """The sessions of all pages one after the other."""
    found: list[int] = []
    before = None
    while True:
        page = books.sessions(SessionFilter(**wanted), before, limit)
        assert 1 <= len(page.sessions) <= limit or not (found or page.next_before)
        found += numbers(page.sessions)
        before = page.next_before
        if before is None:
            return found


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5, 11, 12, 13, 1000])
def test_pages_have_each_session_once_newest_request_first(store: Store, books: Books, limit: int) -> None:
    requested_on_hours(store)
    assert all_pages(books, limit) == list(range(12, 0, -1))


@pytest.mark.parametrize("limit", [1, 2, 3, 1000])
@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"cp_id": "CP0"}, [12, 10, 8, 6, 4, 2]),
        ({"driver_id": "D1"}, [10, 7, 4, 1]),
        ({"cp_id": "CP1", "driver_id": "D1"}, [7, 1]),
        ({"cp_id": "CP9"}, []),
        ({"driver_id": "D9"}, []),
    ],
    ids=str,
)
def test_filters_leave_what_they_say(
    store: Store, books: Books, wanted: dict[str, Any], found: list[int], limit: int
) -> None:
    requested_on_hours(store)
    assert all_pages(books, limit, **wanted) == found


def booked_on_hours(store: Store) -> None:
    """As above, and 1 to 12 booked on hours 1, 1, 1, 2, …; the last booked was the first to be asked for."""
    keep(
        store,
        *(
            billed(
                n,
                NOW + ((n + 2) // 3) * HOUR,
                1000,
                "0.30",
                cp_id=f"CP{n % 2}",
                driver_id=f"D{n % 3}",
                requested_at=NOW - n * HOUR,
            )
            for n in range(1, 13)
        ),
        a_session(13, requested_at=NOW + HOUR),
    )


@pytest.mark.parametrize("limit", [1, 2, 3, 1000])
@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, [13, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]),
        ({"since": NOW + 3 * HOUR}, [12, 11, 10, 9, 8, 7]),
        ({"until": NOW + 3 * HOUR}, [6, 5, 4, 3, 2, 1]),
        ({"since": NOW + 2 * HOUR, "until": NOW + 3 * HOUR}, [6, 5, 4]),
        ({"since": (NOW + 2 * HOUR).astimezone(), "until": NOW + 2 * HOUR + timedelta(microseconds=1)}, [6, 5, 4]),
        ({"cp_id": "CP0", "since": NOW + 2 * HOUR}, [12, 10, 8, 6, 4]),
        ({"driver_id": "D2", "until": NOW + 4 * HOUR}, [8, 5, 2]),
        ({"cp_id": "CP0", "driver_id": "D0", "since": NOW + 2 * HOUR, "until": NOW + 4 * HOUR}, [6]),
        ({"since": NOW + 5 * HOUR}, []),
        ({"since": NOW + 4 * HOUR, "until": NOW + 2 * HOUR}, []),
        ({"since": TODAY, "until": TODAY}, [12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1]),
        ({"until": TODAY - timedelta(days=1)}, []),
        ({"since": TODAY + timedelta(days=1)}, []),
        ({"since": date.min, "until": date.max, "cp_id": "CP9"}, []),
        ({"since": date.min, "until": date.max, "cp_id": "CP1", "driver_id": "D1"}, [7, 1]),
    ],
    ids=str,
)
def test_a_period_is_one_of_bookings_and_leaves_out_what_is_open(
    store: Store, books: Books, wanted: dict[str, Any], found: list[int], limit: int
) -> None:
    booked_on_hours(store)
    assert all_pages(books, limit, **wanted) == found


def test_moments_are_compared_and_not_their_zones(store: Store, books: Books) -> None:
    booked_on_hours(store)
    madrid = (NOW + 3 * HOUR).astimezone(datetime.strptime("+02:00", "%z").tzinfo)
    assert all_pages(books, 100, since=madrid) == [12, 11, 10, 9, 8, 7]


def test_a_session_that_comes_between_two_pages_moves_no_page(store: Store, books: Books) -> None:
    requested_on_hours(store)
    page = books.sessions(SessionFilter(), None, 2)
    assert numbers(page.sessions) == [12, 11]
    keep(store, a_session(13, requested_at=NOW + 4 * HOUR), a_session(14, requested_at=NOW + 5 * HOUR))
    page = books.sessions(SessionFilter(), page.next_before, 2)
    assert numbers(page.sessions) == [10, 9]


@pytest.mark.parametrize(
    "mark", ["", "x", "1", "1-", "-1", "1-2-3", " 1-2", "1-2\n", "٣-٤", "9" * 18 + "-1", "9" * 19 + "-1"]
)
def test_what_is_no_page_mark_is_refused_with_a_sentence(books: Books, mark: str) -> None:
    with pytest.raises(UsageError, match=r"`before` is no page mark: .*; take the `next_before`"):
        books.sessions(SessionFilter(), mark, 10)


def test_a_session_is_told_as_it_stands(store: Store, books: Books) -> None:
    keep(store, a_session(1), an_ended_session(2))
    assert books.session(UUID(int=1)) == SessionRow(
        session_id=UUID(int=1),
        cp_id="CP001",
        driver_id="D1",
        status=SessionStatus.AUTHORISED,
        end_reason=None,
        requested_at=NOW,
        started_at=None,
        ended_at=None,
        energy_wh=0,
        price_per_kwh=Decimal("0.123456"),
        cost=Decimal(0),
        currency="CHF",
        revision=0,
    )
    ended = books.session(UUID(int=2))
    assert (ended.status, ended.end_reason) == (SessionStatus.COMPLETED, EndReason.STOPPED)
    assert (ended.energy_wh, ended.cost, ended.revision) == (4321, Decimal("0.53"), 1)
    assert (ended.started_at, ended.ended_at) == (NOW + timedelta(seconds=1), NOW + timedelta(seconds=2))


def test_a_session_that_never_was_is_not_there(books: Books) -> None:
    unknown = uuid4()
    for look in (lambda: books.session(unknown), lambda: books.meter_values(unknown, -1, 10)):
        with pytest.raises(NotThere, match=f"there is no session {unknown}"):
            look()


# Meter values


@pytest.mark.parametrize("limit", [1, 2, 4, 5, 6])
def test_the_meter_values_of_a_session_come_in_order(store: Store, books: Books, limit: int) -> None:
    values = [MeterValue(1, seq, seq * 100, 7000, None, NOW) for seq in (7, 0, 3, 2, 5)]
    others = [MeterValue(2, seq, 1, 1, 50.5, NOW) for seq in range(9)]
    keep(store, a_session(1), a_session(2), meter_values=values + others)
    seqs: list[int] = []
    after: int | None = -1
    while after is not None:
        page = books.meter_values(UUID(int=1), after, limit)
        assert len(page.meter_values) <= limit
        assert all(value.energy_wh == value.seq * 100 for value in page.meter_values)
        seqs += [value.seq for value in page.meter_values]
        after = page.next_after
    assert seqs == [0, 2, 3, 5, 7]


def test_a_session_without_readings_has_an_empty_page(store: Store, books: Books) -> None:
    keep(store, a_session(1))
    page = books.meter_values(UUID(int=1), -1, 10)
    assert (page.meter_values, page.next_after) == ([], None)


# Faults


def test_faults_come_newest_first_and_by_charge_point_and_as_they_stand(store: Store, books: Books) -> None:
    points = {cp_id: a_charge_point(cp_id) for cp_id in ("CP0", "CP1")}
    opened = [FaultOpened(f"CP{n % 2}", f"F{n}", f"it is {n}", NOW + n * HOUR) for n in range(6)]
    cleared = [FaultCleared(f"CP{n % 2}", f"F{n}", NOW + 9 * HOUR) for n in range(4)]
    store.commit(decisions(charge_points=points, faults=[*opened, *cleared]), NOW)

    def codes(cp_id: str | None, uncleared: bool, limit: int) -> list[str]:
        found: list[str] = []
        before = None
        while True:
            page = books.faults(cp_id, uncleared, before, limit)
            found += [fault.code for fault in page.faults]
            before = page.next_before
            if before is None:
                return found

    for limit in (1, 2, 3, 6, 7):
        assert codes(None, False, limit) == ["F5", "F4", "F3", "F2", "F1", "F0"]
        assert codes("CP1", False, limit) == ["F5", "F3", "F1"]
        assert codes(None, True, limit) == ["F5", "F4"]
        assert codes("CP0", True, limit) == ["F4"]
        assert codes("CP9", False, limit) == []
    newest, *_, oldest = books.faults(None, False, None, 100).faults
    assert (newest.cp_id, newest.description, newest.cleared_at) == ("CP1", "it is 5", None)
    assert (oldest.started_at, oldest.cleared_at) == (NOW, NOW + 9 * HOUR)


# Audit


def test_the_audit_has_who_what_when_and_how_it_was_before_and_after(store: Store, books: Books) -> None:
    before, after = (
        {"price_per_kwh": "0.30", "price_by_operator": False},
        {"price_per_kwh": "ä € \n \x00", "n": None},
    )
    entry = AuditEntry(MARIA, "price", "CP001", before, after)
    store.commit(Decisions(audit=[entry]), NOW)
    (row,) = books.audit(None, 10).audit
    assert (row.at, row.actor, row.via, row.action, row.target) == (NOW, "maria", "http", "price", "CP001")
    assert (row.before, row.after) == (before, after)


@pytest.mark.parametrize("limit", [1, 2, 5, 6])
def test_the_audit_comes_newest_first(store: Store, books: Books, limit: int) -> None:
    for n in range(5):
        store.commit(Decisions(audit=[AuditEntry(MARIA, "stop", f"S{n}", None, {})]), NOW)
    targets: list[str] = []
    before = None
    while True:
        page = books.audit(before, limit)
        targets += [row.target for row in page.audit]
        before = page.next_before
        if before is None:
            break
    assert targets == ["S4", "S3", "S2", "S1", "S0"]


# Revenue


def billed(
    number: int, ended_at: datetime, energy_wh: int, price: str, currency: str = "EUR", **of: Any
) -> Session:
    of = {"requested_at": ended_at} | of
    session = a_session(number, price_per_kwh=Decimal(price), currency=currency, **of)
    session.start(ended_at, ended_at)
    session.meter(1, energy_wh, 0, None)
    session.end(EndReason.STOPPED, ended_at, ended_at)
    return session


def row(of: str, sessions: int, energy_wh: int, cost: str, currency: str = "EUR") -> RevenueRow:
    return RevenueRow(of=of, sessions=sessions, energy_wh=energy_wh, cost=Decimal(cost), currency=currency)


ZONES = ["Europe/Berlin", "America/St_Johns", "Asia/Kathmandu", "Pacific/Chatham", "America/Santiago", "UTC"]
"""With 23 and 25 hours, half and quarter hours, and a summer that begins at midnight."""
TICK = timedelta(microseconds=1)


def midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)


def test_a_session_over_the_months_end_is_in_the_export_and_the_revenue_of_the_same_month(
    store: Store, books: Books
) -> None:
    """Asked for and ended in October, at 23:59 of Berlin; told in November, as the charge point had been away."""
    asked, ended = datetime(2026, 10, 31, 22, tzinfo=UTC), datetime(2026, 10, 31, 22, 59, tzinfo=UTC)
    session = billed(1, asked, 5000, "0.30")
    session.ended_at, session.booked_at = ended, datetime(2026, 10, 31, 23, 1, tzinfo=UTC)
    keep(store, session)

    def month(first: date, last: date) -> tuple[list[RevenueRow], list[int]]:
        listed = books.sessions(SessionFilter(since=first, until=last), None, 10).sessions
        return books.revenue(first, last, By.DAY).rows, numbers(listed)

    assert month(date(2026, 10, 1), date(2026, 10, 31)) == ([], [])
    assert month(date(2026, 11, 1), date(2026, 11, 30)) == ([row("2026-11-01", 1, 5000, "1.50")], [1])


@pytest.mark.parametrize("name", ZONES)
@pytest.mark.parametrize(
    ("first", "last"), [(date(2026, 3, 1), date(2026, 4, 30)), (date(2026, 9, 1), date(2026, 11, 30))]
)
def test_a_month_of_sessions_adds_up_to_its_revenue_in_every_zone(
    store: Store, name: str, first: date, last: date
) -> None:
    zone = ZoneInfo(name)
    books = Books(store.engine, zone)
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    edges = [midnight(day, zone) for day in [*days, last + timedelta(days=1)]]
    moments = [at for edge in edges for at in (edge - TICK, edge, edge + 7 * HOUR)]
    keep(store, *(billed(n, at, 1000 + n, "0.33") for n, at in enumerate(moments, 1)))
    revenue = books.revenue(first, last, By.DAY)
    assert revenue.zone == name
    assert [total.of for total in revenue.rows] == [str(day) for day in days]
    assert {total.sessions for total in revenue.rows} == {3}
    for day, total in zip(days, revenue.rows, strict=True):
        listed = books.sessions(SessionFilter(since=day, until=day), None, 100).sessions
        assert sum((session.cost for session in listed), Decimal(0)) == total.cost
        assert {session.booked_at.astimezone(zone).date() for session in listed if session.booked_at} == {day}
    (by_cp,) = books.revenue(first, last, By.CHARGE_POINT).rows
    assert by_cp.cost == sum(total.cost for total in revenue.rows)
    assert by_cp.sessions == sum(total.sessions for total in revenue.rows)


@pytest.mark.parametrize(("day", "hours"), [(date(2026, 3, 29), 23), (date(2026, 10, 25), 25)])
def test_a_day_of_berlin_has_as_many_hours_as_it_has(store: Store, books: Books, day: date, hours: int) -> None:
    begins = midnight(day, BERLIN)
    keep(store, *(billed(n + 1, begins + n * HOUR, 1000, "1") for n in range(-1, 27)))
    (total,) = books.revenue(day, day, By.DAY).rows
    assert (total.of, total.sessions) == (str(day), hours)


def test_sums_have_the_digits_of_their_currencies_and_old_rows_theirs(store: Store, books: Books) -> None:
    keep(
        store,
        billed(1, NOW, 1834, "30", "JPY"),
        billed(2, NOW, 1834, "30", "JPY"),
        billed(3, NOW, 1834, "0.025", "KWD"),
        billed(4, NOW, 1001, "0.025", "KWD"),
        billed(5, NOW, 1834, "30", "ABC"),
    )
    kwd, yen, odd = "0.071", "110", "55.02"
    expected = [row("2026-01-01", 1, 1834, odd, "ABC"), row("2026-01-01", 2, 3668, yen, "JPY")]
    expected.append(row("2026-01-01", 2, 2835, kwd, "KWD"))
    found = books.revenue(TODAY, TODAY, By.DAY).rows
    assert found == expected
    assert [str(total.cost) for total in found] == [odd, yen, kwd]
    with store.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE sessions SET cost = '55.02' WHERE number = 1")  # by an older Central
    assert books.revenue(TODAY, TODAY, By.DAY).rows[1] == row("2026-01-01", 2, 3668, "110.02", "JPY")


def test_revenue_is_summed_by_charge_point_and_never_over_currencies(store: Store, books: Books) -> None:
    keep(
        store,
        billed(1, NOW, 1000, "0.30", cp_id="CP2"),
        billed(2, NOW, 2000, "0.30", cp_id="CP1"),
        billed(3, NOW, 4000, "0.30", "CHF", cp_id="CP2"),
        billed(4, NOW + 24 * HOUR, 8000, "0.30", cp_id="CP2"),
    )
    assert books.revenue(TODAY, TODAY + timedelta(days=1), By.CHARGE_POINT).rows == [
        row("CP1", 1, 2000, "0.60"),
        row("CP2", 1, 4000, "1.20", "CHF"),
        row("CP2", 2, 9000, "2.70"),
    ]
    assert books.revenue(TODAY, TODAY, By.DAY).rows == [
        row("2026-01-01", 1, 4000, "1.20", "CHF"),
        row("2026-01-01", 2, 3000, "0.90"),
    ]


def test_cents_are_summed_exactly(store: Store, books: Books) -> None:
    """Each of these is no float; as floats, many of them sum to something else."""
    prices = [f"{cents // 100}.{cents % 100:02}" for cents in (*range(1, 400), 115, 435, 820, 99_999)]
    sessions = [billed(n, NOW, 1000, price) for n, price in enumerate(prices, 1)]
    sessions.append(billed(1000, NOW, 10**9, "999.999999"))
    keep(store, *sessions)
    (total,) = books.revenue(TODAY, TODAY, By.DAY).rows
    assert total.cost == sum(map(Decimal, prices)) + Decimal("999999999.00")
    assert total.cost == sum(session.cost for session in sessions)
    assert str(total.cost).partition(".")[2].isdecimal()
    assert total.sessions == len(sessions)


def test_a_session_that_was_corrected_counts_once_with_its_last_bill(store: Store, books: Books) -> None:
    session = a_session(1)
    session.start(NOW, NOW)
    session.end(EndReason.ENGINE_LOST, NOW, NOW)
    keep(store, session)
    assert session.settle(9, 10_000, EndReason.STOPPED, NOW, NOW, NOW + 24 * HOUR)
    keep(store, session)
    assert books.revenue(TODAY, TODAY, By.DAY).rows == [row("2026-01-01", 1, 10_000, "1.23", "CHF")]


def test_a_period_that_ends_before_it_begins_is_refused(books: Books) -> None:
    with pytest.raises(UsageError, match="the period ends on 2026-01-01, before it begins on 2026-01-02"):
        books.revenue(TODAY + timedelta(days=1), TODAY, By.DAY)


@pytest.mark.parametrize("by", By)
def test_all_time_is_a_period_too(store: Store, books: Books, by: By) -> None:
    keep(store, an_ended_session(1))
    (total,) = books.revenue(date.min, date.max, by).rows
    assert total.sessions == 1


# Cost grows with what is asked for, not with history


@pytest.fixture(scope="module")
def with_history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("history") / "evcharge.db"
    store = Store(path)
    requests = [NOW + timedelta(minutes=n // 2) for n in range(1000)]
    keep(
        store,
        *(
            billed(n, at, 1000, "0.30", cp_id=f"CP{n % 10}", driver_id=f"D{n % 50}")
            for n, at in enumerate(requests, 1)
        ),
        meter_values=[MeterValue(n, seq, 0, 0, None, NOW) for n in range(1, 1001) for seq in range(3)],
        faults=[FaultOpened(f"CP{n % 10}", f"F{n}", "x", NOW) for n in range(200)],
        audit=[AuditEntry(MARIA, "stop", f"S{n}", None, {}) for n in range(100)],
    )
    store.commit(Decisions(faults=[FaultCleared(f"CP{n % 10}", f"F{n}", NOW) for n in range(190)]), NOW)
    Registry(store.engine).add_token("maria", Role.OPERATOR, "hash", MARIA, NOW)
    store.close()
    return path


def sessions(**wanted: Any) -> Callable[[Books, Registry], Any]:
    before = wanted.pop("before", None)
    return lambda books, _: books.sessions(SessionFilter(**wanted), before, 20).sessions


def mark(at: datetime, number: int) -> str:
    return f"{round(at.timestamp() * 1_000_000)}-{number}"


MIDDLE = mark(NOW + 4 * HOUR, 500)
PERIOD = {"since": NOW + HOUR, "until": NOW + 2 * HOUR}
DAYS = {"since": TODAY, "until": TODAY}
IN_PERIOD = mark(NOW + HOUR + timedelta(minutes=30), 500)
ORDERED_SCAN = r"SCAN (sessions USING INDEX ix_sessions_requested_at|faults USING INDEX \w+|faults|audit)$"
"""From its end, as far as the page needs: what has no condition has nothing to be searched by."""


@pytest.mark.parametrize(
    ("look", "index"),
    [
        (sessions(), "ix_sessions_requested_at"),
        (sessions(before=MIDDLE), "ix_sessions_requested_at (requested_at<?)"),
        (sessions(**PERIOD), "ix_sessions_booked (booked_at>? AND booked_at<?)"),
        (sessions(**PERIOD, before=IN_PERIOD), "ix_sessions_booked (booked_at>? AND booked_at<?)"),
        (sessions(**DAYS), "ix_sessions_booked (booked_at>? AND booked_at<?)"),
        (sessions(cp_id="CP1", **PERIOD), "ix_sessions_cp_id_booked_at (cp_id=? AND booked_at>? AND booked_at<?)"),
        (sessions(cp_id="CP1"), "ix_sessions_cp_id_requested_at (cp_id=?)"),
        (sessions(cp_id="CP1", before=MIDDLE), "ix_sessions_cp_id_requested_at (cp_id=? AND requested_at<?)"),
        (sessions(driver_id="D1"), "ix_sessions_driver_id_requested_at (driver_id=?)"),
        (
            sessions(driver_id="D1", **PERIOD),
            "ix_sessions_driver_id_booked_at (driver_id=? AND booked_at>? AND booked_at<?)",
        ),
        (sessions(cp_id="CP1", driver_id="D1"), "ix_sessions_driver_id_requested_at (driver_id=?)"),
        (lambda books, _: books.session(UUID(int=7)), "sqlite_autoindex_sessions_1"),
        (
            lambda books, _: books.meter_values(UUID(int=7), 0, 20).meter_values,
            "PRIMARY KEY (session_number=? AND seq>?)",
        ),
        (lambda books, _: books.faults(None, False, None, 20).faults, "SCAN faults"),
        (lambda books, _: books.faults(None, False, 100, 20).faults, "PRIMARY KEY (rowid<?)"),
        (
            lambda books, _: books.faults("CP1", False, 100, 20).faults,
            "ix_faults_cp_id_number (cp_id=? AND number<?)",
        ),
        (lambda books, _: books.faults(None, True, None, 20).faults, "ix_faults_uncleared_number"),
        (lambda books, _: books.faults("CP1", True, None, 20).faults, "ix_faults_uncleared (cp_id=?)"),
        (lambda books, _: books.audit(None, 20).audit, "SCAN audit"),
        (lambda books, _: books.audit(50, 20).audit, "PRIMARY KEY (rowid<?)"),
        (lambda _, registry: registry.drivers("D1", 20), "sqlite_autoindex_drivers_1 (driver_id>?)"),
        (lambda _, registry: registry.tokens(), "sqlite_autoindex_tokens_1"),
        (lambda _, registry: registry.tokens_with(["hash"]), "sqlite_autoindex_tokens_2 (token_hash=?)"),
    ],
)
def test_what_is_looked_up_is_found_by_an_index(
    path: Path, with_history: Path, look: Callable[[Books, Registry], Any], index: str
) -> None:
    plans = plans_of(path, with_history, look)
    for detail in plans:
        assert re.match(rf"SEARCH |SCAN tokens USING INDEX |{ORDERED_SCAN}", detail), plans
        assert "TEMP B-TREE" not in detail, f"sorts what no index has in order: {plans}"
    assert any(index in detail for detail in plans), f"does not use {index}: {plans}"


@pytest.mark.parametrize("by", By)
def test_revenue_reads_nothing_but_the_index_of_its_period(path: Path, with_history: Path, by: By) -> None:
    plans = plans_of(path, with_history, lambda books, _: books.revenue(TODAY, TODAY, by).rows)
    sums = [
        "SEARCH sessions USING COVERING INDEX ix_sessions_booked (booked_at>? AND booked_at<?)",
        "USE TEMP B-TREE FOR GROUP BY",  # of the groups, not of the sessions
    ]
    assert plans[-2:] == sums
    assert not [detail for detail in plans if re.match(r"SCAN (?!days|CONSTANT|\d+ CONSTANT)", detail)], plans


def plans_of(path: Path, history: Path, look: Callable[[Books, Registry], Any]) -> list[str]:
    """How SQLite finds what `look` asks for."""
    shutil.copy(history, path)
    store = Store(path)
    asked: list[tuple[str, Any]] = []
    with listening("before_cursor_execute", lambda *arguments: asked.append((arguments[2], arguments[3]))):
        assert look(Books(store.engine, BERLIN), Registry(store.engine))
    store.close()
    with closing(sqlite3.connect(path)) as connection:
        return [
            detail
            for statement, parameters in asked
            for *_, detail in connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
        ]


def test_a_database_that_cannot_be_read_any_more_is_one_clear_sentence(path: Path, books: Books) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP TABLE audit")
    with pytest.raises(DatabaseUnusable, match=r"the database .*evcharge\.db could not be read: no such table"):
        books.audit(None, 10)
