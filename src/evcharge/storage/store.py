"""What the programs ask of the database, and nothing more."""

import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import fields
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Row, delete, func, select, update
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.exc import OperationalError

from evcharge.domain.charge_point import ChargePoint
from evcharge.domain.decisions import Decisions, Known, Wanted
from evcharge.domain.driver import KnownDriver, Limits
from evcharge.domain.faults import CONNECTION_LOST
from evcharge.domain.session import OWED, EndReason, Session, SessionStatus
from evcharge.domain.status import Status
from evcharge.errors import DatabaseUnusable
from evcharge.protocol import messages
from evcharge.protocol.messages import ChargingHistoryRequest, PastSession
from evcharge.storage import schema
from evcharge.storage.batches import CHARGE_POINT_COLUMNS, BatchWriter
from evcharge.storage.database import (
    BEGIN_WRITING,
    NEVER,
    changing,
    open_database,
    patiently,
    reading,
    writing,
)
from evcharge.storage.prepared import Lookup
from evcharge.storage.settlements import SettlementReader

ANSWERS_KEPT = timedelta(days=1)

_OWED = ", ".join(f"'{reason}'" for reason in sorted(OWED))
_OWES = f"""
SELECT 1 FROM (
    SELECT completion_id, ended_at, end_reason FROM sessions WHERE cp_id = ? ORDER BY requested_at DESC LIMIT 20
)
WHERE completion_id IS NULL AND ended_at IS NOT NULL AND end_reason IN ({_OWED})
"""
"""Whether Central has closed one of a charge point's last sessions for want of its account."""

_SESSION_FIELDS = [field.name for field in fields(Session) if field.name in schema.sessions.columns]


class Store:
    """One database. `commit` and `known` belong to one thread; the others may be called from any."""

    def __init__(self, path: Path, giving_up: threading.Event = NEVER) -> None:
        """Once `giving_up` is set, nobody waits any longer for another program's lock."""
        self.engine = open_database(path, giving_up)
        self._giving_up = giving_up
        dialect = self.engine.dialect
        self._batches = BatchWriter(dialect)
        self._answers = Lookup.of_key(schema.answers.c.request_id, dialect)
        self._sessions = Lookup.of_key(schema.sessions.c.session_id, dialect)
        self._charge_points = Lookup.of_key(schema.charge_points.c.cp_id, dialect)
        self._drivers = Lookup.of_key(schema.drivers.c.driver_id, dialect)
        self._settlements = SettlementReader(dialect)
        self._connection = self.engine.raw_connection()
        """For `commit` and `known`, which are called all the time."""

    def close(self) -> None:
        self._connection.close()
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
            return [_charge_point(row) for row in connection.execute(query).mappings()]

    def open_sessions(self) -> list[Session]:
        """Each with the time of its last reading that was kept."""
        sessions = self._sessions_that(schema.IS_OPEN)
        with self._transaction("BEGIN") as cursor:
            for session in sessions:
                last_at = self._settlements.last_measured_at(cursor, session.number)
                session.measured_at = session.told_until = last_at
        return sessions

    def last_session_number(self) -> int:
        """0 if there has been none."""
        with reading(self.engine) as connection:
            return connection.scalar(select(func.max(schema.sessions.c.number))) or 0

    def receipts_waiting(self, after: int = 0, limit: int | None = None) -> list[Session]:
        """Ended sessions of whose receipt it is not known that Kafka has it, those with numbers after `after`."""
        return self._sessions_that(schema.RECEIPT_WAITS & (schema.sessions.c.number > after), limit)

    def receipts_backlog(self) -> tuple[int, datetime | None]:
        """How many receipts wait, and when the first of these sessions ended."""
        sessions = schema.sessions
        first = select(sessions.c.ended_at).where(schema.RECEIPT_WAITS).order_by(sessions.c.number).limit(1)
        with reading(self.engine) as connection:
            waiting = connection.scalar(select(func.count()).select_from(sessions).where(schema.RECEIPT_WAITS))
            return waiting or 0, connection.scalar(first)

    def _sessions_that(self, condition: Any, limit: int | None = None) -> list[Session]:
        query = select(schema.sessions).where(condition).order_by(schema.sessions.c.number).limit(limit)
        with reading(self.engine) as connection:
            return [_session(row) for row in connection.execute(query).mappings()]

    # Central's work

    def known(self, wanted: Wanted) -> Known:
        """What the database has of `wanted`."""
        known = Known()
        if wanted == Wanted():
            return known
        with self._transaction("BEGIN") as cursor:
            for row in self._answers.rows(cursor, wanted.answers):
                known.answers[row["request_id"]] = messages.decode(row["answer"].encode())
            self._settlements.look_up(cursor, wanted, known)
            session_ids = wanted.sessions | {item.session_id for item in known.set_aside_as.values()}
            for row in self._sessions.rows(cursor, session_ids):
                session = known.sessions[row["session_id"]] = _session(row)
                last_at = self._settlements.last_measured_at(cursor, session.number)
                session.measured_at = session.told_until = last_at
            for row in self._charge_points.rows(cursor, wanted.charge_points):
                known.charge_points[row["cp_id"]] = _charge_point(row)
                if row["removed"] and cursor.execute(_OWES, (row["cp_id"],)).fetchone() is not None:
                    known.owing.add(row["cp_id"])
            for row in self._drivers.rows(cursor, wanted.drivers):
                known.drivers[row["driver_id"]] = _driver(row)
        return known

    def commit(self, decisions: Decisions, now: datetime) -> None:
        """Write all that a batch has changed, in one transaction."""
        if decisions.nothing_to_store:
            return
        with self._transaction(BEGIN_WRITING) as cursor:
            self._batches.write(cursor, decisions, now)

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[DBAPICursor]:
        cursor = self._connection.cursor()
        try:
            patiently(lambda: cursor.execute(begin), self._giving_up)
            yield cursor
            self._connection.commit()
        except sqlite3.OperationalError as problem:
            self._connection.rollback()
            raise OperationalError(None, None, problem) from problem  # As SQLAlchemy has it.
        except sqlite3.IntegrityError as problem:
            self._connection.rollback()
            raise DatabaseUnusable(
                f"the database holds otherwise than this Central: {problem}. Another program has written to it;"
                " look for that program, and start Central again"
            ) from problem
        except BaseException:
            self._connection.rollback()
            raise

    def copy_back(self) -> None:
        """Copy what has been committed from the log into the database, beside whoever writes, and hold up nobody.

        Whoever commits would else do it at times, and wait for the disk for a tenth of a second.
        """
        with suppress(sqlite3.OperationalError), closing(self.engine.raw_connection()) as connection:
            connection.cursor().execute("PRAGMA wal_checkpoint(PASSIVE)")  # A full disk is told by whoever writes.

    def forget_answers(self, now: datetime) -> None:
        with writing(self.engine).begin() as connection:
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


# Rows and objects


def _charge_point(row: Mapping[Any, Any]) -> ChargePoint:
    values = {name: row[name] for name in CHARGE_POINT_COLUMNS}
    return ChargePoint(**values | {"status": Status(row["status"])})


def _driver(row: Mapping[Any, Any]) -> KnownDriver:
    limits = Limits(row["max_energy_wh"], row["max_cost"], row["max_hours"])
    return KnownDriver(row["key"], row["removed"], limits, row["signed_only"])


def _session(row: Mapping[Any, Any]) -> Session:
    values = {name: row[name] for name in _SESSION_FIELDS}
    values["status"] = SessionStatus(row["status"])
    values["end_reason"] = EndReason(row["end_reason"]) if row["end_reason"] else None
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
        booked_at=row.booked_at,
        revision=row.revision,
    )
