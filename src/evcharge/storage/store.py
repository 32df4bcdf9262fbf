"""What the programs ask of the database, and nothing more."""

from collections.abc import Iterable, Sequence
from dataclasses import fields
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, bindparam, delete, insert, select, update
from sqlalchemy.dialects.sqlite import insert as upsert

from evcharge.domain.charge_point import ChargePoint
from evcharge.domain.decisions import Decisions, FaultCleared, FaultOpened, Known, MeterValue, Wanted
from evcharge.domain.faults import CONNECTION_LOST
from evcharge.domain.session import EndReason, Session, SessionStatus
from evcharge.domain.status import Status
from evcharge.protocol import messages
from evcharge.protocol.messages import ChargingHistoryRequest, PastSession
from evcharge.storage import schema
from evcharge.storage.database import changing, open_database, reading, writing
from evcharge.storage.many_rows import ManyRows
from evcharge.storage.registry import write_audit

ANSWERS_KEPT = timedelta(days=1)
MAX_VARIABLES = 10_000  # SQLite takes 32,766 in one statement

_CHARGE_POINT_COLUMNS = [column.name for column in schema.charge_points.columns]
# Not the key, nor whether it was removed: those are the operator's, who may have changed them since we read them.
_CHARGE_POINT_CHANGES = [name for name in _CHARGE_POINT_COLUMNS if name not in ("cp_id", "key_hash", "removed")]
_SESSION_COLUMNS = [field.name for field in fields(Session) if field.name in schema.sessions.columns]
_SESSION_CHANGES = [
    "status",
    "end_reason",
    "energy_wh",
    "cost",
    "power_w",
    "soc_percent",
    "last_seq",
    "started_at",
    "ended_at",
    "stop_requested",
    "revision",
]
_METERED = (
    update(schema.sessions)
    .where(schema.sessions.c.session_id == bindparam("of"))
    .values({name: bindparam(name) for name in ("energy_wh", "cost", "power_w", "soc_percent", "last_seq")})
)
_METER_VALUE_COLUMNS = [column.name for column in schema.meter_values.columns]


class Store:
    """One database. `commit` and `known` belong to one thread; the others may be called from any."""

    def __init__(self, path: Path) -> None:
        self.engine = open_database(path)
        self._writing = writing(self.engine)
        self._meters = ManyRows(_METERED, self.engine.dialect)
        self._meter_values = ManyRows(upsert(schema.meter_values).on_conflict_do_nothing(), self.engine.dialect)

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
        answers, sessions = schema.answers, schema.sessions
        charge_points, drivers = schema.charge_points, schema.drivers
        with self.engine.connect() as connection:
            for ids in _chunks(wanted.answers):
                for row in connection.execute(select(answers).where(answers.c.request_id.in_(ids))):
                    known.answers[row.request_id] = messages.decode(row.answer.encode())
            for ids in _chunks(wanted.sessions):
                for row in connection.execute(select(sessions).where(sessions.c.session_id.in_(ids))):
                    known.sessions[row.session_id] = _session(row)
            for ids in _chunks(wanted.charge_points):
                for row in connection.execute(select(charge_points).where(charge_points.c.cp_id.in_(ids))):
                    known.charge_points[row.cp_id] = _charge_point(row)
            for ids in _chunks(wanted.drivers):
                for row in connection.execute(select(drivers).where(drivers.c.driver_id.in_(ids))):
                    if row.removed:
                        known.removed_drivers.add(row.driver_id)
                    else:
                        known.drivers[row.driver_id] = row.key
        return known

    def commit(self, decisions: Decisions, now: datetime) -> None:
        """Write all that a batch has changed, in one transaction; the order keeps the foreign keys true."""
        if decisions.nothing_to_store:
            return
        with self._writing.begin() as connection:
            _write_charge_points(connection, decisions.charge_points.values())
            _write_drivers(connection, decisions.drivers, now)
            _write_sessions(connection, decisions.sessions.values())
            self._write_meters(connection, decisions.metered)
            self._write_meter_values(connection, decisions.meter_values)
            _write_faults(connection, decisions.faults)
            _write_answers(connection, decisions, now)
            _write_receipts_sent(connection, decisions.receipts_sent)
            write_audit(connection, decisions.audit, now)

    def _write_meters(self, connection: Connection, sessions: list[Session]) -> None:
        if sessions:
            self._meters.execute(
                connection,
                {
                    "of": [session.session_id for session in sessions],
                    "energy_wh": [session.energy_wh for session in sessions],
                    "cost": [session.cost for session in sessions],
                    "power_w": [session.power_w for session in sessions],
                    "soc_percent": [session.soc_percent for session in sessions],
                    "last_seq": [session.last_seq for session in sessions],
                },
            )

    def _write_meter_values(self, connection: Connection, values: list[MeterValue]) -> None:
        if values:
            columns = {name: [getattr(value, name) for value in values] for name in _METER_VALUE_COLUMNS}
            self._meter_values.execute(connection, columns)

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


def _chunks(ids: Iterable[Any]) -> Iterable[Sequence[Any]]:
    ordered = list(ids)
    return (ordered[i : i + MAX_VARIABLES] for i in range(0, len(ordered), MAX_VARIABLES))


# Rows and objects


def _charge_point(row: Row[Any]) -> ChargePoint:
    values = {name: getattr(row, name) for name in _CHARGE_POINT_COLUMNS}
    return ChargePoint(**values | {"status": Status(row.status)})


def _session(row: Row[Any]) -> Session:
    values = {name: getattr(row, name) for name in _SESSION_COLUMNS}
    values["status"] = SessionStatus(row.status)
    values["end_reason"] = EndReason(row.end_reason) if row.end_reason else None
    return Session(**values)


def _session_values(session: Session) -> dict[str, Any]:
    values: dict[str, Any] = {name: getattr(session, name) for name in _SESSION_COLUMNS}
    values["status"] = session.status.value
    values["end_reason"] = session.end_reason.value if session.end_reason else None
    values["cost"] = session.cost
    return values


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


# Writing; each takes what a batch has and does nothing if that is nothing


def _write_charge_points(connection: Connection, charge_points: Iterable[ChargePoint]) -> None:
    rows = [
        {name: getattr(cp, name) for name in _CHARGE_POINT_COLUMNS} | {"status": cp.status.value}
        for cp in charge_points
    ]
    if rows:
        statement = upsert(schema.charge_points)
        changed = {name: statement.excluded[name] for name in _CHARGE_POINT_CHANGES}
        connection.execute(statement.on_conflict_do_update(index_elements=["cp_id"], set_=changed), rows)


def _write_drivers(connection: Connection, driver_ids: Iterable[str], now: datetime) -> None:
    rows = [{"driver_id": driver_id, "added_at": now, "removed": False} for driver_id in driver_ids]
    if rows:
        connection.execute(upsert(schema.drivers).on_conflict_do_nothing(), rows)


def _write_sessions(connection: Connection, sessions: Iterable[Session]) -> None:
    rows = [_session_values(session) | {"receipt_sent": 0} for session in sessions]
    if rows:
        statement = upsert(schema.sessions)
        changed = {name: statement.excluded[name] for name in _SESSION_CHANGES}
        connection.execute(statement.on_conflict_do_update(index_elements=["session_id"], set_=changed), rows)


def _write_faults(connection: Connection, faults: Iterable[FaultOpened | FaultCleared]) -> None:
    for fault in faults:
        match fault:
            case FaultOpened(cp_id, code, description, at):
                connection.execute(
                    insert(schema.faults).values(cp_id=cp_id, code=code, description=description, started_at=at)
                )
            case FaultCleared(cp_id, code, at):
                connection.execute(
                    update(schema.faults)
                    .where(schema.IS_UNCLEARED, schema.faults.c.cp_id == cp_id, schema.faults.c.code == code)
                    .values(cleared_at=at)
                )


def _write_answers(connection: Connection, decisions: Decisions, now: datetime) -> None:
    rows = [
        {
            "request_id": answer.request_id,
            "answer": messages.encode(answer.message).decode(),
            "answered_at": now,
        }
        for answer in decisions.answers
    ]
    if rows:
        connection.execute(upsert(schema.answers).on_conflict_do_nothing(), rows)


def _write_receipts_sent(connection: Connection, receipts: list[tuple[UUID, int]]) -> None:
    if receipts:
        sessions = schema.sessions
        connection.execute(
            update(sessions)
            .where(sessions.c.session_id == bindparam("of"), sessions.c.receipt_sent < bindparam("sent"))
            .values(receipt_sent=bindparam("sent")),
            [{"of": session_id, "sent": revision} for session_id, revision in receipts],
        )
