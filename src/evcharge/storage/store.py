"""What the programs ask of the database, and nothing more."""

import sqlite3
from collections.abc import Collection, Iterator
from contextlib import closing, suppress
from dataclasses import fields
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Column, Connection, Row, Select, bindparam, delete, func, select, update

from evcharge.domain.charge_point import ChargePoint
from evcharge.domain.decisions import Decisions, Known, Wanted
from evcharge.domain.faults import CONNECTION_LOST
from evcharge.domain.session import EndReason, Session, SessionStatus
from evcharge.domain.status import Status
from evcharge.protocol import messages
from evcharge.protocol.messages import ChargingHistoryRequest, PastSession
from evcharge.storage import schema
from evcharge.storage.batches import CHARGE_POINT_COLUMNS, BatchWriter
from evcharge.storage.database import changing, open_database, reading, writing

ANSWERS_KEPT = timedelta(days=1)
MAX_VARIABLES = 10_000  # SQLite takes 32,766 in one statement

_SESSION_FIELDS = [field.name for field in fields(Session) if field.name in schema.sessions.columns]


def _of(column: Column[Any]) -> Select[Any]:
    """The rows of a table whose `column` is one of `ids`; made once, so that SQLAlchemy compiles it once."""
    return select(column.table).where(column.in_(bindparam("ids", expanding=True)))


_ANSWERS = _of(schema.answers.c.request_id)
_SESSIONS = _of(schema.sessions.c.session_id)
_CHARGE_POINTS = _of(schema.charge_points.c.cp_id)
_DRIVERS = _of(schema.drivers.c.driver_id)


class Store:
    """One database. `commit` and `known` belong to one thread; the others may be called from any."""

    def __init__(self, path: Path) -> None:
        self.engine = open_database(path)
        self._writing = writing(self.engine)
        self._batches = BatchWriter(self.engine.dialect)

    def close(self) -> None:
        self.engine.dispose()

    # Central's start

    def begin(self, now: datetime) -> None:
        """After a stop or a crash nobody is connected: say so, and end the faults that only a peer can tell of."""
        with changing(self.engine) as connection:
            connection.execute(update(schema.charge_points).values(status=Status.DISCONNECTED.value))
            connection.execute(
                update(schema.faults)
                .where(schema.IS_UNCLEARED, schema.faults.c.code != CONNECTION_LOST)
                .values(cleared_at=now)
            )

    def charge_points(self) -> list[ChargePoint]:
        """All, the removed ones too (their sessions may still be open), in order of their ids."""
        query = select(schema.charge_points).order_by(schema.charge_points.c.cp_id)
        with reading(self.engine) as connection:
            return [_charge_point(row) for row in connection.execute(query)]

    def open_sessions(self) -> list[Session]:
        return self._sessions(schema.IS_OPEN)

    def last_session_number(self) -> int:
        """0 if there has been none."""
        with reading(self.engine) as connection:
            return connection.scalar(select(func.max(schema.sessions.c.number))) or 0

    def receipts_waiting(self) -> list[Session]:
        """Ended sessions of whose receipt it is not known that Kafka has it."""
        return self._sessions(schema.RECEIPT_WAITS)

    def _sessions(self, condition: Any) -> list[Session]:
        query = select(schema.sessions).where(condition).order_by(schema.sessions.c.number)
        with reading(self.engine) as connection:
            return [_session(row) for row in connection.execute(query)]

    # Central's work

    def known(self, wanted: Wanted) -> Known:
        """What the database has of `wanted`."""
        known = Known()
        if not (wanted.answers or wanted.sessions or wanted.charge_points or wanted.drivers):
            return known
        with self.engine.connect() as connection:
            for row in _rows(connection, _ANSWERS, wanted.answers):
                known.answers[row.request_id] = messages.decode(row.answer.encode())
            for row in _rows(connection, _SESSIONS, wanted.sessions):
                known.sessions[row.session_id] = _session(row)
            for row in _rows(connection, _CHARGE_POINTS, wanted.charge_points):
                known.charge_points[row.cp_id] = _charge_point(row)
            for row in _rows(connection, _DRIVERS, wanted.drivers):
                if row.removed:
                    known.removed_drivers.add(row.driver_id)
                else:
                    known.drivers[row.driver_id] = row.key
        return known

    def commit(self, decisions: Decisions, now: datetime) -> None:
        """Write all that a batch has changed, in one transaction."""
        if decisions.nothing_to_store:
            return
        with self._writing.begin() as connection:
            self._batches.write(connection, decisions, now)

    def copy_back(self) -> None:
        """Copy what has been committed from the log into the database, beside whoever writes, and hold up nobody.

        Whoever commits would else do it at times, and wait for the disk for a tenth of a second.
        """
        with suppress(sqlite3.OperationalError), closing(self.engine.raw_connection()) as connection:
            connection.cursor().execute("PRAGMA wal_checkpoint(PASSIVE)")  # A full disk is told by whoever writes.

    def forget_answers(self, now: datetime) -> None:
        with self._writing.begin() as connection:
            connection.execute(delete(schema.answers).where(schema.answers.c.answered_at < now - ANSWERS_KEPT))

    def history(self, request: ChargingHistoryRequest) -> tuple[list[PastSession], int | None]:
        """A page of a driver's ended sessions, newest first, and what to ask the next page with."""
        sessions = schema.sessions
        query = (
            select(sessions)
            .where(sessions.c.driver_id == request.driver_id, sessions.c.ended_at.is_not(None))
            .order_by(sessions.c.number.desc())
            .limit(request.limit + 1)
        )
        if request.before is not None:
            query = query.where(sessions.c.number < request.before)
        with self.engine.connect() as connection:
            rows = connection.execute(query).all()
        page = rows[: request.limit]
        return [_past_session(row) for row in page], page[-1].number if len(rows) > len(page) else None


def _rows(connection: Connection, statement: Select[Any], ids: Collection[Any]) -> Iterator[Row[Any]]:
    ordered = list(ids)
    for i in range(0, len(ordered), MAX_VARIABLES):
        yield from connection.execute(statement, {"ids": ordered[i : i + MAX_VARIABLES]})


# Rows and objects


def _charge_point(row: Row[Any]) -> ChargePoint:
    values = {name: getattr(row, name) for name in CHARGE_POINT_COLUMNS}
    return ChargePoint(**values | {"status": Status(row.status)})


def _session(row: Row[Any]) -> Session:
    values = {name: getattr(row, name) for name in _SESSION_FIELDS}
    values["status"] = SessionStatus(row.status)
    values["end_reason"] = EndReason(row.end_reason) if row.end_reason else None
    return Session(**values)


def _past_session(row: Row[Any]) -> PastSession:
    return PastSession(
        session_id=row.session_id,
        cp_id=row.cp_id,
        status=SessionStatus(row.status),
        end_reason=EndReason(row.end_reason),
        energy_wh=row.energy_wh,
        price_per_kwh=row.price_per_kwh,
        cost=row.cost,
        currency=row.currency,
        requested_at=row.requested_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        revision=row.revision,
    )
