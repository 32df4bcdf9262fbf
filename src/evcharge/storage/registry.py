"""Who is admitted: charge points, drivers, and operators by their tokens. Each change is in the audit."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, Table, delete, insert, select, update

from evcharge.domain.commands import Actor, AuditEntry, Role
from evcharge.domain.status import Status
from evcharge.errors import AlreadyThere, NotThere, UsageError
from evcharge.protocol.messages import NO_ID, is_new_id
from evcharge.storage import schema
from evcharge.storage.database import changing, reading

_UNREGISTERED = {"price_per_kwh": 0, "currency": "EUR", "max_power_w": 0, "status": Status.DISCONNECTED.value}


@dataclass(frozen=True, slots=True)
class Token:
    """An operator's, of which only a hash is stored."""

    name: str
    role: Role
    added_at: datetime


@dataclass(frozen=True, slots=True)
class Driver:
    """One that is served. Without a key it was admitted by open registration, or by an older evcharge."""

    driver_id: str
    added_at: datetime
    has_key: bool


class Registry:
    """May be used from any thread, and by another process while Central runs. Raises `DatabaseUnusable`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add_charge_point(self, cp_id: str, key_hash: str, actor: Actor, now: datetime) -> None:
        """Admit it; one that was removed comes back with the new key and its history. Raises `AlreadyThere`."""
        hint = "remove it first to give it a new key"
        with changing(self._engine) as connection:
            _add(
                connection,
                schema.charge_points,
                ("cp_id", cp_id),
                {"key_hash": key_hash},
                _UNREGISTERED,
                f"the charge point {cp_id} is there already; {hint}",
            )
            write_audit(connection, [AuditEntry(actor, "add charge point", cp_id, None, {})], now)

    def remove_charge_point(self, cp_id: str, actor: Actor, now: datetime) -> None:
        """Refuse it from its next connection on; its history stays. Raises `NotThere`."""
        with changing(self._engine) as connection:
            problem = f"there is no charge point {cp_id}"
            _remove(connection, schema.charge_points, ("cp_id", cp_id), {"key_hash": None}, problem)
            write_audit(connection, [AuditEntry(actor, "remove charge point", cp_id, {}, None)], now)

    def add_driver(self, driver_id: str, key: str, actor: Actor, now: datetime) -> None:
        """Serve the driver; one that was removed comes back with the new key and the history.

        Raises `AlreadyThere`.
        """
        with changing(self._engine) as connection:
            _add(
                connection,
                schema.drivers,
                ("driver_id", driver_id),
                {"key": key},
                {"added_at": now},
                f"the driver {driver_id} is there already; remove it first to give it a new key",
            )
            write_audit(connection, [AuditEntry(actor, "add driver", driver_id, None, {})], now)

    def remove_driver(self, driver_id: str, actor: Actor, now: datetime) -> None:
        """Refuse the driver's requests from now on; the history stays. Raises `NotThere`."""
        with changing(self._engine) as connection:
            problem = f"there is no driver {driver_id}"
            _remove(connection, schema.drivers, ("driver_id", driver_id), {"key": None}, problem)
            write_audit(connection, [AuditEntry(actor, "remove driver", driver_id, {}, None)], now)

    def drivers(self, after: str = "", limit: int | None = None) -> list[Driver]:
        """Those that have not been removed, in order of their ids."""
        drivers = schema.drivers
        query = (
            select(drivers.c.driver_id, drivers.c.added_at, drivers.c.key.is_not(None).label("has_key"))
            .where(drivers.c.removed.is_(False), drivers.c.driver_id > after)
            .order_by(drivers.c.driver_id)
            .limit(limit)
        )
        with reading(self._engine) as connection:
            return [Driver(row.driver_id, row.added_at, row.has_key) for row in connection.execute(query)]

    def add_token(self, name: str, role: Role, token_hash: str, actor: Actor, now: datetime) -> None:
        """Raises `AlreadyThere`."""
        tokens = schema.tokens
        with changing(self._engine) as connection:
            if connection.execute(select(tokens.c.name).where(tokens.c.name == name)).first() is not None:
                raise AlreadyThere(f"the token {name} is there already; remove it first to renew it")
            _check_new(name)
            row = {"name": name, "role": role.value, "token_hash": token_hash, "added_at": now}
            connection.execute(insert(tokens).values(**row))
            write_audit(connection, [AuditEntry(actor, "add token", name, None, {"role": role})], now)

    def remove_token(self, name: str, actor: Actor, now: datetime) -> None:
        """Raises `NotThere`."""
        tokens = schema.tokens
        with changing(self._engine) as connection:
            removed = delete(tokens).where(tokens.c.name == name).returning(tokens.c.role)
            role = connection.execute(removed).scalar()
            if role is None:
                raise NotThere(f"there is no token {name}")
            write_audit(connection, [AuditEntry(actor, "remove token", name, {"role": role}, None)], now)

    def note(self, entry: AuditEntry, now: datetime) -> None:
        """Put into the audit what changes nothing here."""
        with changing(self._engine) as connection:
            write_audit(connection, [entry], now)

    def tokens(self) -> list[Token]:
        """All, in order of their names."""
        with reading(self._engine) as connection:
            rows = connection.execute(select(schema.tokens).order_by(schema.tokens.c.name))
            return [Token(row.name, Role(row.role), row.added_at) for row in rows]

    def tokens_with(self, hashes: Collection[str]) -> dict[str, Token]:
        """Those that have one of these hashes, by them."""
        with reading(self._engine) as connection:
            rows = connection.execute(select(schema.tokens).where(schema.tokens.c.token_hash.in_(hashes))).all()
        return {row.token_hash: Token(row.name, Role(row.role), row.added_at) for row in rows}


def write_audit(connection: Connection, entries: Iterable[AuditEntry], now: datetime) -> None:
    """In the transaction of what it tells of, so that neither is there without the other."""
    rows = [audit_row(entry, now) for entry in entries]
    if rows:
        connection.execute(insert(schema.audit), rows)


def audit_row(entry: AuditEntry, now: datetime) -> dict[str, Any]:
    return {
        "at": now,
        "actor": entry.actor.name,
        "via": entry.actor.via,
        "action": entry.action,
        "target": entry.target,
        "before": entry.before,
        "after": entry.after,
    }


def _add(
    connection: Connection,
    table: Table,
    identity: tuple[str, str],
    renewed: dict[str, Any],
    initial: dict[str, Any],
    problem: str,
) -> None:
    column, value = identity
    row = connection.execute(select(table.c.removed).where(table.c[column] == value)).first()
    if row is None:
        _check_new(value)
        connection.execute(insert(table).values({column: value, **renewed, **initial, "removed": False}))
    elif row.removed:
        connection.execute(update(table).where(table.c[column] == value).values(**renewed, removed=False))
    else:
        raise AlreadyThere(problem)


def _check_new(name: str) -> None:
    if not is_new_id(name):
        raise UsageError(f"{name!a} {NO_ID}")


def _remove(
    connection: Connection, table: Table, identity: tuple[str, str], cleared: dict[str, Any], problem: str
) -> None:
    column, value = identity
    result = connection.execute(
        update(table).where(table.c[column] == value, table.c.removed.is_(False)).values(**cleared, removed=True)
    )
    if result.rowcount == 0:
        raise NotThere(problem)
