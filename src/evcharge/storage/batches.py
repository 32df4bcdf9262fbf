"""Writing what a batch of inputs has changed. Each statement is compiled once: Central runs them all the time."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import fields
from datetime import datetime
from itertools import groupby
from typing import Any
from uuid import UUID

from sqlalchemy import Dialect, Table, bindparam, insert, update
from sqlalchemy.dialects.sqlite import Insert
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.engine.interfaces import DBAPICursor

from evcharge.domain.charge_point import ChargePoint
from evcharge.domain.commands import AuditEntry
from evcharge.domain.decisions import Answer, Decisions, FaultCleared, FaultOpened, MeterValue
from evcharge.domain.session import Session
from evcharge.errors import DatabaseUnusable
from evcharge.protocol import messages
from evcharge.storage import schema
from evcharge.storage.prepared import ManyRows
from evcharge.storage.registry import audit_row
from evcharge.storage.settlements import SettlementWriter

CHARGE_POINT_COLUMNS = [column.name for column in schema.charge_points.columns]
_SESSION_COLUMNS = [column.name for column in schema.sessions.columns if column.name != "receipt_sent"]
_METERED = ["energy_wh", "cost", "power_w", "soc_percent", "last_seq"]
_METER_VALUE_COLUMNS = [column.name for column in schema.meter_values.columns]
_AUDIT_COLUMNS = [column.name for column in schema.audit.columns if column.name != "number"]

_faults, _sessions = schema.faults, schema.sessions


def _insert(table: Table, names: Iterable[str]) -> Insert:
    return upsert(table).values({name: bindparam(name) for name in names})


def _insert_or_update(table: Table, key: str, names: Iterable[str], only_same: str | None = None) -> Insert:
    """A row that is there already is written over, but only if `only_same` is the same in it."""
    statement = _insert(table, names)
    changed = {
        column.name: statement.excluded[column.name]
        for column in table.columns
        if column.info not in (schema.ONCE, schema.BESIDE)
    }
    same = table.c[only_same] == statement.excluded[only_same] if only_same is not None else None
    return statement.on_conflict_do_update(index_elements=[key], set_=changed, where=same)


class BatchWriter:
    """Each method takes what a batch has, and does nothing if that is nothing."""

    def __init__(self, dialect: Dialect) -> None:
        self._charge_points = ManyRows(
            _insert_or_update(schema.charge_points, "cp_id", CHARGE_POINT_COLUMNS), dialect
        )
        self._drivers = ManyRows(
            _insert(schema.drivers, ("driver_id", "added_at", "removed", "signed_only")).on_conflict_do_nothing(),
            dialect,
        )
        self._sessions = ManyRows(
            _insert_or_update(_sessions, "number", [*_SESSION_COLUMNS, "receipt_sent"], "session_id"), dialect
        )
        self._meters = ManyRows(
            update(_sessions)
            .where(_sessions.c.number == bindparam("of"), _sessions.c.session_id == bindparam("id"))
            .values({name: bindparam(name) for name in _METERED}),
            dialect,
        )
        self._meter_values = ManyRows(
            _insert(schema.meter_values, _METER_VALUE_COLUMNS).on_conflict_do_nothing(), dialect
        )
        self._opened = ManyRows(
            insert(_faults).values(
                cp_id=bindparam("cp_id"),
                code=bindparam("code"),
                description=bindparam("description"),
                started_at=bindparam("at"),
            ),
            dialect,
        )
        self._cleared = ManyRows(
            update(_faults)
            .where(schema.IS_UNCLEARED, _faults.c.cp_id == bindparam("cp_id"), _faults.c.code == bindparam("code"))
            .values(cleared_at=bindparam("at")),
            dialect,
        )
        self._answers = ManyRows(
            _insert(schema.answers, ("request_id", "answer", "answered_at")).on_conflict_do_nothing(), dialect
        )
        self._receipts_sent = ManyRows(
            update(_sessions)
            .where(_sessions.c.session_id == bindparam("of"), _sessions.c.receipt_sent < bindparam("sent"))
            .values(receipt_sent=bindparam("sent")),
            dialect,
        )
        self._settlements = SettlementWriter(dialect)
        self._audit = ManyRows(_insert(schema.audit, _AUDIT_COLUMNS), dialect)

    def write(self, cursor: DBAPICursor, decisions: Decisions, now: datetime) -> None:
        """All of it; the order keeps the foreign keys true."""
        self._write_charge_points(cursor, decisions.charge_points.values())
        self._write_drivers(cursor, decisions.drivers, now)
        self._write_sessions(cursor, decisions.sessions.values())
        self._write_meters(cursor, decisions.metered)
        self._write_meter_values(cursor, decisions.meter_values)
        self._write_faults(cursor, decisions.faults)
        self._write_answers(cursor, decisions.answers, now)
        self._write_receipts_sent(cursor, decisions.receipts_sent)
        self._settlements.set_aside(cursor, decisions.set_aside)
        self._settlements.settle(cursor, decisions.settlements, now)
        self._write_audit(cursor, decisions.audit, now)

    def _write_charge_points(self, cursor: DBAPICursor, charge_points: Collection[ChargePoint]) -> None:
        if charge_points:
            self._charge_points.execute(cursor, _columns(charge_points, CHARGE_POINT_COLUMNS))

    def _write_drivers(self, cursor: DBAPICursor, driver_ids: Collection[str], now: datetime) -> None:
        if driver_ids:
            count = len(driver_ids)
            self._drivers.execute(
                cursor,
                {
                    "driver_id": list(driver_ids),
                    "added_at": [now] * count,
                    "removed": [False] * count,
                    "signed_only": [False] * count,
                },
            )

    def _write_sessions(self, cursor: DBAPICursor, sessions: Collection[Session]) -> None:
        if sessions:
            columns = _columns(sessions, _SESSION_COLUMNS)
            written = self._sessions.execute(cursor, columns | {"receipt_sent": [0] * len(sessions)})
            _check_all_are_ours(written, sessions)

    def _write_meters(self, cursor: DBAPICursor, sessions: Collection[Session]) -> None:
        if sessions:
            numbers = [session.number for session in sessions]
            ids = [session.session_id for session in sessions]
            written = self._meters.execute(cursor, _columns(sessions, _METERED) | {"of": numbers, "id": ids})
            _check_all_are_ours(written, sessions)

    def _write_meter_values(self, cursor: DBAPICursor, values: Collection[MeterValue]) -> None:
        if values:
            self._meter_values.execute(cursor, _columns(values, _METER_VALUE_COLUMNS))

    def _write_faults(self, cursor: DBAPICursor, faults: Iterable[FaultOpened | FaultCleared]) -> None:
        # In their order: one and the same may come and go within a batch.
        for kind, several in groupby(faults, type):
            columns = _columns(list(several), [field.name for field in fields(kind)])
            (self._opened if kind is FaultOpened else self._cleared).execute(cursor, columns)

    def _write_answers(self, cursor: DBAPICursor, answers: Collection[Answer], now: datetime) -> None:
        if answers:
            self._answers.execute(
                cursor,
                {
                    "request_id": [answer.request_id for answer in answers],
                    "answer": [messages.encode(answer.message).decode() for answer in answers],
                    "answered_at": [now] * len(answers),
                },
            )

    def _write_receipts_sent(self, cursor: DBAPICursor, receipts: Collection[tuple[UUID, int]]) -> None:
        if receipts:
            ids, revisions = zip(*receipts, strict=True)
            self._receipts_sent.execute(cursor, {"of": ids, "sent": revisions})

    def _write_audit(self, cursor: DBAPICursor, entries: Collection[AuditEntry], now: datetime) -> None:
        if entries:
            rows = [audit_row(entry, now) for entry in entries]
            self._audit.execute(cursor, {name: [row[name] for row in rows] for name in _AUDIT_COLUMNS})


def _check_all_are_ours(written: int, sessions: Collection[Session]) -> None:
    """Raises `DatabaseUnusable` if the row of one of these sessions is another's, and so was left alone."""
    if written != len(sessions):
        numbers = sorted(session.number for session in sessions)
        raise DatabaseUnusable(
            f"of the sessions {numbers[0]} to {numbers[-1]} the database holds others than this Central: another"
            " program has written to it, or put another file in its place; nothing was written over. Look for that"
            " program, and start Central again"
        )


def _columns(objects: Collection[Any], names: Iterable[str]) -> dict[str, Sequence[Any]]:
    return {name: [getattr(item, name) for item in objects] for name in names}
