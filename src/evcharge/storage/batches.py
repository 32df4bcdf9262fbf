"""Writing what a batch of inputs has changed. Each statement is compiled once: Central runs them all the time."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import fields
from datetime import datetime
from itertools import groupby
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Dialect, Table, bindparam, insert, update
from sqlalchemy.dialects.sqlite import Insert
from sqlalchemy.dialects.sqlite import insert as upsert

from evcharge.domain.charge_point import ChargePoint
from evcharge.domain.decisions import Answer, Decisions, FaultCleared, FaultOpened, MeterValue
from evcharge.domain.session import Session
from evcharge.protocol import messages
from evcharge.storage import schema
from evcharge.storage.many_rows import ManyRows
from evcharge.storage.registry import write_audit

CHARGE_POINT_COLUMNS = [column.name for column in schema.charge_points.columns]
# Not the key, nor whether it was removed: those are the operator's, who may have changed them since we read them.
_CHARGE_POINT_CHANGES = [name for name in CHARGE_POINT_COLUMNS if name not in ("cp_id", "key_hash", "removed")]
_SESSION_COLUMNS = [column.name for column in schema.sessions.columns if column.name != "receipt_sent"]
_METERED = ["energy_wh", "cost", "power_w", "soc_percent", "last_seq"]
_SESSION_CHANGES = [*_METERED, "status", "end_reason", "started_at", "ended_at", "stop_requested", "revision"]
_METER_VALUE_COLUMNS = [column.name for column in schema.meter_values.columns]

_faults, _sessions = schema.faults, schema.sessions


def _insert(table: Table, names: Iterable[str]) -> Insert:
    return upsert(table).values({name: bindparam(name) for name in names})


def _insert_or_update(table: Table, key: str, names: Iterable[str], changes: Iterable[str]) -> Insert:
    statement = _insert(table, names)
    changed = {name: statement.excluded[name] for name in changes}
    return statement.on_conflict_do_update(index_elements=[key], set_=changed)


class BatchWriter:
    """Each method takes what a batch has, and does nothing if that is nothing."""

    def __init__(self, dialect: Dialect) -> None:
        self._charge_points = ManyRows(
            _insert_or_update(schema.charge_points, "cp_id", CHARGE_POINT_COLUMNS, _CHARGE_POINT_CHANGES), dialect
        )
        self._drivers = ManyRows(
            _insert(schema.drivers, ("driver_id", "added_at", "removed")).on_conflict_do_nothing(), dialect
        )
        self._sessions = ManyRows(
            _insert_or_update(_sessions, "number", [*_SESSION_COLUMNS, "receipt_sent"], _SESSION_CHANGES),
            dialect,
        )
        self._meters = ManyRows(
            update(_sessions)
            .where(_sessions.c.number == bindparam("of"))
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

    def write(self, connection: Connection, decisions: Decisions, now: datetime) -> None:
        """All of it; the order keeps the foreign keys true."""
        self._write_charge_points(connection, decisions.charge_points.values())
        self._write_drivers(connection, decisions.drivers, now)
        self._write_sessions(connection, decisions.sessions.values())
        self._write_meters(connection, decisions.metered)
        self._write_meter_values(connection, decisions.meter_values)
        self._write_faults(connection, decisions.faults)
        self._write_answers(connection, decisions.answers, now)
        self._write_receipts_sent(connection, decisions.receipts_sent)
        write_audit(connection, decisions.audit, now)

    def _write_charge_points(self, connection: Connection, charge_points: Collection[ChargePoint]) -> None:
        if charge_points:
            self._charge_points.execute(connection, _columns(charge_points, CHARGE_POINT_COLUMNS))

    def _write_drivers(self, connection: Connection, driver_ids: Collection[str], now: datetime) -> None:
        if driver_ids:
            count = len(driver_ids)
            self._drivers.execute(
                connection, {"driver_id": list(driver_ids), "added_at": [now] * count, "removed": [False] * count}
            )

    def _write_sessions(self, connection: Connection, sessions: Collection[Session]) -> None:
        if sessions:
            columns = _columns(sessions, _SESSION_COLUMNS)
            self._sessions.execute(connection, columns | {"receipt_sent": [0] * len(sessions)})

    def _write_meters(self, connection: Connection, sessions: Collection[Session]) -> None:
        if sessions:
            numbers = [session.number for session in sessions]
            self._meters.execute(connection, _columns(sessions, _METERED) | {"of": numbers})

    def _write_meter_values(self, connection: Connection, values: Collection[MeterValue]) -> None:
        if values:
            self._meter_values.execute(connection, _columns(values, _METER_VALUE_COLUMNS))

    def _write_faults(self, connection: Connection, faults: Iterable[FaultOpened | FaultCleared]) -> None:
        # In their order: one and the same may come and go within a batch.
        for kind, several in groupby(faults, type):
            columns = _columns(list(several), [field.name for field in fields(kind)])
            (self._opened if kind is FaultOpened else self._cleared).execute(connection, columns)

    def _write_answers(self, connection: Connection, answers: Collection[Answer], now: datetime) -> None:
        if answers:
            self._answers.execute(
                connection,
                {
                    "request_id": [answer.request_id for answer in answers],
                    "answer": [messages.encode(answer.message).decode() for answer in answers],
                    "answered_at": [now] * len(answers),
                },
            )

    def _write_receipts_sent(self, connection: Connection, receipts: Collection[tuple[UUID, int]]) -> None:
        if receipts:
            ids, revisions = zip(*receipts, strict=True)
            self._receipts_sent.execute(connection, {"of": ids, "sent": revisions})


def _columns(objects: Collection[Any], names: Iterable[str]) -> dict[str, Sequence[Any]]:
    return {name: [getattr(item, name) for item in objects] for name in names}
