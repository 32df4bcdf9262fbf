"""What was set aside, and what became of it: written with a batch, looked up for one, and listed for operators."""

from collections.abc import Collection
from dataclasses import fields
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Dialect, Engine, bindparam, case, func, literal_column, select, update
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.engine.interfaces import DBAPICursor

from evcharge.domain.decisions import Known, Wanted
from evcharge.domain.set_aside import Kind, SetAside, Settlement
from evcharge.errors import NotThere
from evcharge.protocol.operators import ToSettlePage, ToSettleRow, Waiting
from evcharge.storage import schema
from evcharge.storage.database import reading
from evcharge.storage.prepared import Lookup, ManyRows

_to_settle = schema.to_settle
_ITEM_FIELDS = [field.name for field in fields(SetAside)]
_SET_ASIDE = ("session_id", "cp_id", "kind", "energy_wh", "reason", "evidence", "times", "set_aside_at")


class SettlementWriter:
    """Part of a batch."""

    def __init__(self, dialect: Dialect) -> None:
        insert = upsert(_to_settle).values({name: bindparam(name) for name in _SET_ASIDE})
        new = insert.excluded
        more = new.energy_wh > _to_settle.c.energy_wh
        self._set_aside = ManyRows(
            insert.on_conflict_do_update(
                index_elements=[_to_settle.c.session_id, _to_settle.c.kind],
                index_where=schema.IS_UNSETTLED,
                set_={
                    "times": _to_settle.c.times + new.times,
                    **{
                        name: case((more, new[name]), else_=_to_settle.c[name])
                        for name in ("energy_wh", "reason", "evidence")
                    },
                },
                where=_to_settle.c.cp_id == new.cp_id,
            ),
            dialect,
        )
        self._settle = ManyRows(
            update(_to_settle)
            .where(
                schema.IS_UNSETTLED,
                _to_settle.c.session_id == bindparam("of_session"),
                _to_settle.c.kind == bindparam("of_kind"),
            )
            .values(
                {name: bindparam(name) for name in ("settled_at", "settled_by", "billed_wh", "remark")},
            ),
            dialect,
        )

    def set_aside(self, cursor: DBAPICursor, items: Collection[SetAside]) -> None:
        """Of a session and kind that wait already: once more, and the highest claim."""
        if items:
            columns: dict[str, list[Any]] = {name: [getattr(item, name) for item in items] for name in _SET_ASIDE}
            columns["kind"] = [item.kind.value for item in items]
            self._set_aside.execute(cursor, columns)

    def settle(self, cursor: DBAPICursor, settlements: Collection[Settlement], now: datetime) -> None:
        if settlements:
            self._settle.execute(
                cursor,
                {
                    "of_session": [settlement.session_id for settlement in settlements],
                    "of_kind": [settlement.kind.value for settlement in settlements],
                    "settled_at": [now] * len(settlements),
                    "settled_by": [settlement.settled_by for settlement in settlements],
                    "billed_wh": [settlement.billed_wh for settlement in settlements],
                    "remark": [settlement.remark for settlement in settlements],
                },
            )


class SettlementReader:
    """What a batch needs to know of earlier ones."""

    def __init__(self, dialect: Dialect) -> None:
        values = schema.meter_values
        of_session = values.c.session_number == bindparam("number")
        # Literally, as numbers would become parameters of the statement.
        last = select(values.c.measured_at).where(of_session).order_by(values.c.seq.desc())
        last = last.limit(literal_column("1")).offset(literal_column("0"))
        of_cp = _to_settle.c.cp_id == bindparam("cp_id")
        orphans = select(func.count().label("waiting")).where(schema.WAITS_AS_ORPHAN, of_cp)
        self._by_session = Lookup.of_key(_to_settle.c.session_id, dialect)
        self._by_number = Lookup.of_key(_to_settle.c.number, dialect)
        self._last_measured = Lookup(last, dialect)
        self._orphans = Lookup(orphans, dialect)

    def look_up(self, cursor: DBAPICursor, wanted: Wanted, known: Known) -> None:
        for row in self._by_session.rows(cursor, wanted.set_aside):
            known.set_aside.setdefault(row["session_id"], []).append(_item(row))
        for row in self._by_number.rows(cursor, wanted.set_aside_as):
            known.set_aside_as[row["number"]] = _item(row)
        for cp_id in wanted.orphans:
            for row in self._orphans.rows(cursor, [cp_id]):
                known.orphans[cp_id] = row["waiting"]

    def last_measured_at(self, cursor: DBAPICursor, session_number: int) -> datetime | None:
        """When the last reading of this session that was kept was taken, by the charge point's clock."""
        found = [row["measured_at"] for row in self._last_measured.rows(cursor, [session_number])]
        return found[0] if found else None


def _item(row: dict[str, Any]) -> SetAside:
    values = {name: row[name] for name in _ITEM_FIELDS}
    return SetAside(**values | {"kind": Kind(row["kind"])})


class ToSettle:
    """The list as operators see it. May be used from any thread. Raises `DatabaseUnusable`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def page(self, settled: bool, before: int | None, limit: int) -> ToSettlePage:
        """Newest first: those that wait, or those that have been settled."""
        query = select(_to_settle).order_by(_to_settle.c.number.desc()).limit(limit + 1)
        query = query.where(_to_settle.c.settled_at.is_not(None) if settled else schema.IS_UNSETTLED)
        if before is not None:
            query = query.where(_to_settle.c.number < before)
        with reading(self._engine) as connection:
            found = connection.execute(query).all()
        rows = [msgspec.convert(row, ToSettleRow, from_attributes=True) for row in found[:limit]]
        return ToSettlePage(to_settle=rows, next_before=rows[-1].number if len(found) > limit else None)

    def one(self, number: int) -> ToSettleRow:
        """Raises `NotThere`."""
        with reading(self._engine) as connection:
            row = connection.execute(select(_to_settle).where(_to_settle.c.number == number)).first()
        if row is None:
            raise NotThere(f"nothing was set aside under the number {number}")
        return msgspec.convert(row, ToSettleRow, from_attributes=True)

    def waiting(self) -> list[Waiting]:
        """How many of each kind wait, and since when."""
        query = (
            select(
                _to_settle.c.kind, func.count().label("count"), func.min(_to_settle.c.set_aside_at).label("since")
            )
            .where(schema.IS_UNSETTLED)
            .group_by(_to_settle.c.kind)
        )
        with reading(self._engine) as connection:
            return [msgspec.convert(row, Waiting, from_attributes=True) for row in connection.execute(query)]
