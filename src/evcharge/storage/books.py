"""What operators look up: sessions, faults, revenue, the audit. Each page is found by an index, however long
history has grown."""

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, TypeVar
from uuid import UUID

import msgspec
from sqlalchemy import Engine, Float, Integer, Row, Select, cast, func, select, tuple_

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

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

T = TypeVar("T")


class Books:
    """May be used from any thread. Raises `DatabaseUnusable`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def sessions(self, wanted: SessionFilter, before: str | None, limit: int) -> SessionPage:
        """Raises `UsageError` if `before` is no mark that a page ended with."""
        sessions = schema.sessions
        query = select(sessions).order_by(sessions.c.requested_at.desc(), sessions.c.number.desc())
        if wanted.cp_id is not None:
            query = query.where(sessions.c.cp_id == wanted.cp_id)
        if wanted.driver_id is not None:
            query = query.where(sessions.c.driver_id == wanted.driver_id)
        if wanted.since is not None:
            query = query.where(sessions.c.requested_at >= wanted.since)
        if wanted.until is not None:
            query = query.where(sessions.c.requested_at < wanted.until)
        if before is not None:
            at, number = _place_of(before)
            query = query.where(sessions.c.requested_at <= at)
            query = query.where(tuple_(sessions.c.requested_at, sessions.c.number) < (at, number))
        page, more = self._page(query, limit)
        return SessionPage(
            sessions=[_as(SessionRow, row) for row in page], next_before=_mark(page[-1]) if more else None
        )

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
        return MeterValuePage(meter_values=rows, next_after=page[-1].seq if more else None)

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
        return FaultPage(faults=rows, next_before=page[-1].number if more else None)

    def audit(self, before: int | None, limit: int) -> AuditPage:
        audit = schema.audit
        query = select(audit).order_by(audit.c.number.desc())
        if before is not None:
            query = query.where(audit.c.number < before)
        page, more = self._page(query, limit)
        rows = [_as(AuditRow, row) for row in page]
        return AuditPage(audit=rows, next_before=page[-1].number if more else None)

    def revenue(self, since: date, until: date, by: By) -> Revenue:
        """Raises `UsageError` if the period ends before it begins."""
        if until < since:
            raise UsageError(f"the period ends on {until}, before it begins on {since}")
        sessions = schema.sessions
        of = func.date(sessions.c.ended_at) if by is By.DAY else sessions.c.cp_id
        cents = cast(func.round(cast(sessions.c.cost, Float) * 100), Integer)
        query = (
            select(
                of.label("of"),
                sessions.c.currency,
                func.count().label("sessions"),
                func.sum(sessions.c.energy_wh).label("energy_wh"),
                func.sum(cents).label("cents"),
            )
            .where(
                sessions.c.ended_at >= datetime.combine(since, time.min, UTC),
                sessions.c.ended_at <= datetime.combine(until, time.max, UTC),
            )
            .group_by(of, sessions.c.currency)
            .order_by(of, sessions.c.currency)
        )
        with reading(self._engine) as connection:
            found = connection.execute(query).all()
        rows = [
            RevenueRow(
                of=str(row.of),
                sessions=row.sessions,
                energy_wh=row.energy_wh,
                cost=Decimal(row.cents).scaleb(-2),
                currency=row.currency,
            )
            for row in found
        ]
        return Revenue(since=since, until=until, by=by, rows=rows)

    def _page(self, query: Select[Any], limit: int) -> tuple[Sequence[Row[Any]], bool]:
        """The rows of a page, and whether more follow."""
        with reading(self._engine) as connection:
            rows = connection.execute(query.limit(limit + 1)).all()
        return rows[:limit], len(rows) > limit


def _mark(row: Row[Any]) -> str:
    """Where a page of sessions ended: the order is by time, and by number where two have the same time."""
    return f"{(row.requested_at - EPOCH) // timedelta(microseconds=1)}-{row.number}"


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
