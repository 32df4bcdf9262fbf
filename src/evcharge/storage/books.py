"""What operators look up: sessions, faults, revenue, the audit. Each page is found by an index, however long
history has grown."""

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Integer,
    Row,
    Select,
    String,
    cast,
    column,
    func,
    select,
    tuple_,
    type_coerce,
    values,
)

from evcharge.errors import NotThere, UsageError
from evcharge.protocol.operators import (
    PAGE_MARK_REGEX,
    AuditPage,
    AuditRow,
    By,
    FaultPage,
    FaultRow,
    MeterValuePage,
    MeterValueRow,
    Revenue,
    RevenueRow,
    SessionFilter,
    SessionPage,
    SessionRow,
)
from evcharge.storage import schema
from evcharge.storage.database import reading
from evcharge.storage.settlements import ToSettle
from evcharge.zones import day_begins, day_ends

DAYS_A_QUERY = 1000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

T = TypeVar("T")


class Books:
    """May be used from any thread. Its days are those of `zone`. Raises `DatabaseUnusable`."""

    def __init__(self, engine: Engine, zone: ZoneInfo) -> None:
        self._engine = engine
        self._zone = zone
        self.to_settle = ToSettle(engine)

    def sessions(self, wanted: SessionFilter, before: str | None, limit: int) -> SessionPage:
        """Raises `UsageError` if `before` is no mark that a page ended with."""
        sessions = schema.sessions
        in_period = wanted.since is not None or wanted.until is not None
        at = sessions.c.booked_at if in_period else sessions.c.requested_at
        query = select(sessions).order_by(at.desc(), sessions.c.number.desc())
        if wanted.cp_id is not None:
            query = query.where(sessions.c.cp_id == wanted.cp_id)
        if wanted.driver_id is not None:
            query = query.where(sessions.c.driver_id == wanted.driver_id)
        if wanted.since is not None:
            query = query.where(at >= self._begins(wanted.since))
        if wanted.until is not None:
            query = query.where(at < self._ends(wanted.until))
        if before is not None:
            mark, number = _place_of(before)
            query = query.where(at <= mark)
            query = query.where(tuple_(at, sessions.c.number) < (mark, number))
        page, more = self._page(query, limit)
        return SessionPage(
            sessions=[_as(SessionRow, row) for row in page],
            next_before=_mark(getattr(page[-1], at.key), page[-1].number) if more else None,
            zone=self._zone.key,
        )

    def _begins(self, since: date | datetime) -> datetime:
        return since if isinstance(since, datetime) else day_begins(since, self._zone)

    def _ends(self, until: date | datetime) -> datetime:
        """A day is meant with all that it has, a moment is where to end."""
        return until if isinstance(until, datetime) else day_ends(until, self._zone)

    def session(self, session_id: UUID) -> SessionRow:
        """Raises `NotThere`."""
        return _as(SessionRow, self._session(session_id))

    def _session(self, session_id: UUID) -> Row[Any]:
        with reading(self._engine) as connection:
            query = select(schema.sessions).where(schema.sessions.c.session_id == session_id)
            row = connection.execute(query).first()
        if row is None:
            raise NotThere(f"there is no session {session_id}")
        return row

    def meter_values(self, session_id: UUID, after: int, limit: int) -> MeterValuePage:
        """Raises `NotThere` if there is no such session."""
        number = self._session(session_id).number
        values = schema.meter_values
        query = (
            select(values).where(values.c.session_number == number, values.c.seq > after).order_by(values.c.seq)
        )
        page, more = self._page(query, limit)
        rows = [_as(MeterValueRow, row) for row in page]
        return MeterValuePage(meter_values=rows, next_after=page[-1].seq if more else None, zone=self._zone.key)

    def faults(self, cp_id: str | None, uncleared: bool, before: int | None, limit: int) -> FaultPage:
        faults = schema.faults
        query = select(faults).order_by(faults.c.number.desc())
        if cp_id is not None:
            query = query.where(faults.c.cp_id == cp_id)
        if uncleared:
            query = query.where(schema.IS_UNCLEARED)
        if before is not None:
            query = query.where(faults.c.number < before)
        page, more = self._page(query, limit)
        rows = [_as(FaultRow, row) for row in page]
        return FaultPage(faults=rows, next_before=page[-1].number if more else None, zone=self._zone.key)

    def audit(self, before: int | None, limit: int) -> AuditPage:
        audit = schema.audit
        query = select(audit).order_by(audit.c.number.desc())
        if before is not None:
            query = query.where(audit.c.number < before)
        page, more = self._page(query, limit)
        rows = [_as(AuditRow, row) for row in page]
        return AuditPage(audit=rows, next_before=page[-1].number if more else None, zone=self._zone.key)

    def revenue(self, since: date, until: date, by: By) -> Revenue:
        """What was booked, exact to the last digit. Raises `UsageError` if the period ends before it begins."""
        if until < since:
            raise UsageError(f"the period ends on {until}, before it begins on {since}")
        with reading(self._engine) as connection:
            found = [
                row for query in self._sums(connection, since, until, by) for row in connection.execute(query)
            ]
        sums: dict[tuple[str, str], RevenueRow] = {}
        for row in found:
            key = (str(row.of), row.currency)
            before = sums.get(key)
            cost = Decimal(row.units).scaleb(-max(row.decimals, 0))
            sums[key] = RevenueRow(
                of=key[0],
                sessions=row.sessions + (before.sessions if before else 0),
                energy_wh=row.energy_wh + (before.energy_wh if before else 0),
                cost=cost + (before.cost if before else 0),
                currency=row.currency,
            )
        rows = [sums[key] for key in sorted(sums)]
        return Revenue(since=since, until=until, by=by, rows=rows, zone=self._zone.key)

    def _sums(self, connection: Connection, since: date, until: date, by: By) -> Iterator[Select[Any]]:
        booked_at = schema.sessions.c.booked_at
        first, last = day_begins(since, self._zone), day_ends(until, self._zone)
        if by is By.CHARGE_POINT:
            yield _sum_by(schema.sessions.c.cp_id).where(booked_at >= first, booked_at < last)
            return
        ends = select(func.min(booked_at)), select(func.max(booked_at))
        within = [connection.scalar(end.where(booked_at >= first, booked_at < last)) for end in ends]
        if None in within:
            return
        first_day, last_day = (at.astimezone(self._zone).date().toordinal() for at in within)
        for start in range(first_day, last_day + 1, DAYS_A_QUERY):
            days = [date.fromordinal(day) for day in range(start, min(start + DAYS_A_QUERY, last_day + 1))]
            of = values(
                column("day", String), column("first", schema.UtcDateTime), column("last", schema.UtcDateTime)
            ).data([(str(day), day_begins(day, self._zone), day_ends(day, self._zone)) for day in days])
            period = of.cte("days")
            yield _sum_by(period.c.day).where(booked_at >= period.c.first, booked_at < period.c.last)

    def _page(self, query: Select[Any], limit: int) -> tuple[Sequence[Row[Any]], bool]:
        """The rows of a page, and whether more follow."""
        with reading(self._engine) as connection:
            rows = connection.execute(query.limit(limit + 1)).all()
        return rows[:limit], len(rows) > limit


def _sum_by(of: ColumnElement[str]) -> Select[Any]:
    """In whole units of the last digit that the costs have: no float, which would lose some."""
    sessions = schema.sessions
    cost = type_coerce(sessions.c.cost, String)
    decimals = func.length(cost) - func.instr(cost + ".", ".")  # -1 for a cost without a point
    return select(
        of.label("of"),
        sessions.c.currency,
        decimals.label("decimals"),
        func.count().label("sessions"),
        func.sum(sessions.c.energy_wh).label("energy_wh"),
        func.sum(cast(func.replace(cost, ".", ""), Integer)).label("units"),
    ).group_by(of, sessions.c.currency, decimals)


def _mark(at: datetime, number: int) -> str:
    """Where a page of sessions ended: the order is by time, and by number where two have the same time."""
    return f"{(at - EPOCH) // timedelta(microseconds=1)}-{number}"


def _place_of(mark: str) -> tuple[datetime, int]:
    if re.search(PAGE_MARK_REGEX, mark) is None:
        raise UsageError(
            f"`before` is no page mark: {mark[:40]!a}; take the `next_before` of the page that came last"
        )
    microseconds, number = map(int, mark.split("-"))
    return EPOCH + timedelta(microseconds=microseconds), number


def _as(kind: type[T], row: Row[Any]) -> T:
    """The columns of `row` that `kind` has fields for."""
    return msgspec.convert(row, kind, from_attributes=True)
