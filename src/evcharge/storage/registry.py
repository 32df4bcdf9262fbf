"""Who is admitted: charge points, drivers, and operators by their tokens. Each change is in the audit."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Engine, Row, Table, delete, func, insert, select, update

from evcharge.domain.ceilings import Ceilings
from evcharge.domain.commands import Actor, AuditEntry, Role
from evcharge.domain.driver import NO_LIMITS, Limits
from evcharge.domain.status import Status
from evcharge.errors import AlreadyThere, NotThere, UsageError
from evcharge.protocol.messages import NO_ID, is_new_id
from evcharge.storage import schema
from evcharge.storage.database import changing, reading

ADD_CHARGE_POINT, REMOVE_CHARGE_POINT, CEILINGS = "add charge point", "remove charge point", "ceilings"
ENTRIES = (ADD_CHARGE_POINT, REMOVE_CHARGE_POINT, CEILINGS)
"""What the audit calls the changes to a charge point that are written here, and not by Central's worker."""
NO_CEILINGS = Ceilings()
CHANGES_AT_ONCE = 1000

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
    limits: Limits = NO_LIMITS
    signed_only: bool = False


class Registry:
    """May be used from any thread, and by another process while Central runs. Raises `DatabaseUnusable`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add_charge_point(
        self, cp_id: str, key_hash: str, actor: Actor, now: datetime, ceilings: Ceilings = NO_CEILINGS
    ) -> None:
        """Raises `AlreadyThere`."""
        self.add_charge_points({cp_id: key_hash}, actor, now, ceilings)

    def add_charge_points(
        self, key_hashes: Mapping[str, str], actor: Actor, now: datetime, ceilings: Ceilings = NO_CEILINGS
    ) -> None:
        """Admit all or none; one that was removed comes back with the new key and its history.

        Raises `AlreadyThere`.
        """
        hint = "remove it first to give it a new key"
        with changing(self._engine) as connection:
            for cp_id, key_hash in key_hashes.items():
                _add(
                    connection,
                    schema.charge_points,
                    ("cp_id", cp_id),
                    {"key_hash": key_hash, **_ceiling_columns(ceilings)},
                    _UNREGISTERED,
                    f"the charge point {cp_id} is there already; {hint}",
                )
            entries = [AuditEntry(actor, ADD_CHARGE_POINT, cp_id, None, _told(ceilings)) for cp_id in key_hashes]
            write_audit(connection, entries, now)

    def remove_charge_point(self, cp_id: str, actor: Actor, now: datetime) -> None:
        """Refuse it as soon as it has accounted for what runs there; its history stays. Raises `NotThere`."""
        with changing(self._engine) as connection:
            problem = f"there is no charge point {cp_id}"
            _remove(connection, schema.charge_points, ("cp_id", cp_id), problem)
            write_audit(connection, [AuditEntry(actor, REMOVE_CHARGE_POINT, cp_id, {}, None)], now)

    def set_ceilings(
        self, cp_ids: Iterable[str] | None, changes: Mapping[str, Any], actor: Actor, now: datetime
    ) -> list[str]:
        """Change these fields of the `Ceilings` of these charge points, or of all; the ids of those that changed.

        Raises `NotThere`, and then nothing has changed.
        """
        points = schema.charge_points
        chosen = select(points).where(points.c.removed.is_(False))
        wanted = None if cp_ids is None else set(cp_ids)
        with changing(self._engine) as connection:
            rows = [row for row in connection.execute(chosen).all() if wanted is None or row.cp_id in wanted]
            missing = sorted((wanted or set()) - {row.cp_id for row in rows})
            if missing:
                raise NotThere(f"there is no charge point {missing[0]}")
            entries = []
            for row in rows:
                before = _ceilings_of(row)
                after = replace(before, **changes)
                if after != before:
                    entries.append(AuditEntry(actor, CEILINGS, row.cp_id, _told(before), _told(after)))
                    of_this = update(points).where(points.c.cp_id == row.cp_id)
                    connection.execute(of_this.values(**_ceiling_columns(after)))
            write_audit(connection, entries, now)
        return [entry.target for entry in entries]

    def last_change(self) -> int:
        """The number of the last entry of the audit; 0 if there is none."""
        with reading(self._engine) as connection:
            return connection.scalar(select(func.max(schema.audit.c.number))) or 0

    def changes_since(self, number: int) -> tuple[int, frozenset[str]]:
        """The number of the last change that was looked at, and the charge points whose entries were changed."""
        audit = schema.audit
        query = (
            select(audit.c.number, audit.c.action, audit.c.target)
            .where(audit.c.number > number)
            .order_by(audit.c.number)
            .limit(CHANGES_AT_ONCE)
        )
        with reading(self._engine) as connection:
            rows = connection.execute(query).all()
        changed = frozenset(row.target for row in rows if row.action in ENTRIES)
        return rows[-1].number if rows else number, changed

    def add_driver(
        self,
        driver_id: str,
        key: str,
        actor: Actor,
        now: datetime,
        limits: Limits = NO_LIMITS,
        signed_only: bool = False,
    ) -> None:
        """Serve the driver; one that was removed comes back with the new key and the history.

        Raises `AlreadyThere`.
        """
        with changing(self._engine) as connection:
            _add(
                connection,
                schema.drivers,
                ("driver_id", driver_id),
                {"key": key, "signed_only": signed_only, **_limit_columns(limits)},
                {"added_at": now},
                f"the driver {driver_id} is there already; remove it first to give it a new key",
            )
            after = _told(limits) | ({"signed_only": True} if signed_only else {})
            write_audit(connection, [AuditEntry(actor, "add driver", driver_id, None, after)], now)

    def remove_driver(self, driver_id: str, actor: Actor, now: datetime) -> None:
        """Let the driver begin nothing from now on; what runs can be ended. Raises `NotThere`."""
        with changing(self._engine) as connection:
            problem = f"there is no driver {driver_id}"
            _remove(connection, schema.drivers, ("driver_id", driver_id), problem)
            write_audit(connection, [AuditEntry(actor, "remove driver", driver_id, {}, None)], now)

    def set_drivers(
        self, driver_ids: Iterable[str], changes: Mapping[str, Any], actor: Actor, now: datetime
    ) -> list[Driver]:
        """Change these fields of their `Limits`, or `signed_only`, for charges that begin from now on.

        All or none are changed: raises `NotThere`, or `UsageError` if a driver without a key shall sign.
        """
        drivers = schema.drivers
        limits = {name: value for name, value in changes.items() if name != "signed_only"}
        changed: list[Driver] = []
        with changing(self._engine) as connection:
            for driver_id in driver_ids:
                query = select(drivers).where(drivers.c.driver_id == driver_id, drivers.c.removed.is_(False))
                row = connection.execute(query).first()
                if row is None:
                    raise NotThere(f"there is no driver {driver_id}")
                before = _driver_of(row)
                signed_only = bool(changes.get("signed_only", before.signed_only))
                after = replace(before, limits=replace(before.limits, **limits), signed_only=signed_only)
                changed.append(after)
                if after == before:
                    continue
                if after.signed_only and not after.has_key:
                    raise UsageError(f"{driver_id} has no key to sign with; remove the driver, and add it again")
                columns = _limit_columns(after.limits) | {"signed_only": after.signed_only}
                connection.execute(update(drivers).where(drivers.c.driver_id == driver_id).values(**columns))
                told = [_told(driver.limits) | {"signed_only": driver.signed_only} for driver in (before, after)]
                write_audit(connection, [AuditEntry(actor, "limits", driver_id, told[0], told[1])], now)
        return changed

    def drivers(self, after: str = "", limit: int | None = None) -> list[Driver]:
        """Those that have not been removed, in order of their ids."""
        drivers = schema.drivers
        query = (
            select(drivers)
            .where(drivers.c.removed.is_(False), drivers.c.driver_id > after)
            .order_by(drivers.c.driver_id)
            .limit(limit)
        )
        with reading(self._engine) as connection:
            return [_driver_of(row) for row in connection.execute(query)]

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


def _driver_of(row: Row[Any]) -> Driver:
    limits = Limits(row.max_energy_wh, row.max_cost, row.max_hours)
    return Driver(row.driver_id, row.added_at, row.key is not None, limits, row.signed_only)


def _limit_columns(limits: Limits) -> dict[str, Any]:
    return {"max_energy_wh": limits.energy_wh, "max_cost": limits.cost, "max_hours": limits.hours}


def _ceilings_of(row: Row[Any]) -> Ceilings:
    return Ceilings(row.ceiling_price_per_kwh, row.ceiling_currency, row.ceiling_power_w)


def _ceiling_columns(ceilings: Ceilings) -> dict[str, Any]:
    return {
        "ceiling_price_per_kwh": ceilings.price_per_kwh,
        "ceiling_currency": ceilings.currency,
        "ceiling_power_w": ceilings.power_w,
    }


def _told(values: Ceilings | Limits) -> dict[str, Any]:
    """What is set, for the audit."""
    found = {name: value for name, value in asdict(values).items() if value is not None}
    return {name: str(value) if isinstance(value, Decimal) else value for name, value in found.items()}


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


def _remove(connection: Connection, table: Table, identity: tuple[str, str], problem: str) -> None:
    """Its key stays: to end what it has begun, it must be known."""
    column, value = identity
    result = connection.execute(
        update(table).where(table.c[column] == value, table.c.removed.is_(False)).values(removed=True)
    )
    if result.rowcount == 0:
        raise NotThere(problem)
