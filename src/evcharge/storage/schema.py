"""The tables; one a concept. The migrations in `migrations/` make them, this is how the code speaks of them."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
from sqlalchemy import (
    Boolean,
    Column,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    Uuid,
    and_,
    false,
    literal_column,
    text,
)


class Money(TypeDecorator[Decimal]):
    """A decimal kept as text: SQLite has no decimal type, and a float loses cents."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> Any:
        return None if value is None else str(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Decimal | None:
        return None if value is None else Decimal(value)


class UtcDateTime(TypeDecorator[datetime]):
    """A moment, kept in UTC; SQLite keeps no time zone."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC)


class Json(TypeDecorator[dict[str, Any]]):
    """An object kept as JSON text."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: dict[str, Any] | None, dialect: Dialect) -> Any:
        return None if value is None else msgspec.json.encode(value).decode()

    def process_result_value(self, value: Any, dialect: Dialect) -> dict[str, Any] | None:
        return None if value is None else msgspec.json.decode(value, type=dict[str, Any])


ONCE: dict[Any, Any] = {"written": "once"}
"""Of a column that says the same from its row's first day on; all others are written whenever the row is."""
BESIDE: dict[Any, Any] = {"written": "beside"}
"""Of a column that has a statement, and an owner, of its own."""

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

charge_points = Table(
    "charge_points",
    metadata,
    Column("cp_id", String(64), primary_key=True, info=ONCE),
    Column("key_hash", String(64), info=BESIDE),
    Column("location", Text, nullable=False, default=""),
    Column("price_per_kwh", Money(32), nullable=False),
    Column("currency", String(3), nullable=False),
    Column("max_power_w", Integer, nullable=False),
    Column("status", String(16), nullable=False),
    Column("out_of_service", Boolean, nullable=False, default=False),
    Column("removed", Boolean, nullable=False, default=False, info=BESIDE),
    Column("price_by_operator", Boolean, nullable=False, default=False, server_default=false()),
    # What the Monitor registered last, whatever price holds. Null: it has not registered since this is kept.
    Column("own_price_per_kwh", Money(32)),
    Column("own_currency", String(3)),
    # The operator's ceilings for what a Monitor may register; null: Central's defaults.
    Column("ceiling_price_per_kwh", Money(32), info=BESIDE),
    Column("ceiling_currency", String(3), info=BESIDE),
    Column("ceiling_power_w", Integer, info=BESIDE),
)

drivers = Table(
    "drivers",
    metadata,
    Column("driver_id", String(64), primary_key=True),
    Column("added_at", UtcDateTime, nullable=False),
    Column("removed", Boolean, nullable=False, default=False),
    # As it is, not hashed: Central computes signatures with it. Null: admitted by open registration.
    Column("key", String(64)),
    # Limits of each session of this driver; null: those that Central has for all.
    Column("max_energy_wh", Integer),
    Column("max_cost", Money(32)),
    Column("max_hours", Float),
    # Whether a charge in this driver's name has to be signed, also one that is asked for at a charge point.
    Column("signed_only", Boolean, nullable=False, default=False, server_default=false()),
)

sessions = Table(
    "sessions",
    metadata,
    # In order of requests, as a page of history ends at one. Those that are open lie together, however long the
    # history is; what is written all the time is found by it.
    Column("number", Integer, primary_key=True, info=ONCE),
    Column("session_id", Uuid, nullable=False, unique=True, info=ONCE),
    Column("request_id", Uuid, nullable=False, info=ONCE),
    Column("cp_id", ForeignKey("charge_points.cp_id"), nullable=False, info=ONCE),
    Column("driver_id", ForeignKey("drivers.driver_id"), nullable=False, info=ONCE),
    Column("status", String(16), nullable=False),
    Column("end_reason", String(32)),
    Column("target_energy_wh", Integer, info=ONCE),
    Column("price_per_kwh", Money(32), nullable=False, info=ONCE),
    Column("currency", String(3), nullable=False, info=ONCE),
    Column("energy_wh", Integer, nullable=False),
    Column("cost", Money(32), nullable=False),
    Column("power_w", Integer, nullable=False),
    Column("soc_percent", Float),
    Column("last_seq", Integer, nullable=False),
    Column("requested_at", UtcDateTime, nullable=False, info=ONCE),
    Column("started_at", UtcDateTime),
    Column("ended_at", UtcDateTime),
    Column("stop_requested", Boolean, nullable=False),
    Column("revision", Integer, nullable=False),
    # The completion that counts for this session, by its message_id: the charge point has had its word.
    Column("completion_id", Uuid),
    # When it was closed, by Central's clock, which decides the day of its money.
    Column("booked_at", UtcDateTime),
    # What the charge point's clock said, where that was not believable.
    Column("said_started_at", UtcDateTime),
    Column("said_ended_at", UtcDateTime),
    # The most that the charge point can have given: `limit_before_wh` until `limit_since`, `limit_w` from then on.
    Column("limit_w", Integer),
    Column("limit_since", UtcDateTime),
    Column("limit_before_wh", Integer, nullable=False, default=0, server_default=text("0")),
    Column("max_hours", Float, info=ONCE),
    # Why the charge point would not stop, in its words.
    Column("stop_refused", Text),
    Column("receipt_sent", Integer, nullable=False, default=0, info=BESIDE),  # the last revision that Kafka has
)
Index("ix_sessions_driver_id_number", sessions.c.driver_id, sessions.c.number)
Index("ix_sessions_requested_at", sessions.c.requested_at)
Index("ix_sessions_cp_id_requested_at", sessions.c.cp_id, sessions.c.requested_at)
Index("ix_sessions_driver_id_requested_at", sessions.c.driver_id, sessions.c.requested_at)
IS_OPEN = sessions.c.ended_at.is_(None)
RECEIPT_WAITS = sessions.c.receipt_sent < sessions.c.revision
Index("ix_sessions_open", sessions.c.number, sqlite_where=IS_OPEN, postgresql_where=IS_OPEN)
Index("ix_sessions_receipt_waits", sessions.c.number, sqlite_where=RECEIPT_WAITS, postgresql_where=RECEIPT_WAITS)

# An open session is in none of these, so that no reading writes to them. The first has all that a sum needs, so
# that summing a period reads nothing but the index of that period.
IS_BOOKED = sessions.c.booked_at.is_not(None)
_BOOKED: dict[str, Any] = {"sqlite_where": IS_BOOKED, "postgresql_where": IS_BOOKED}
Index(
    "ix_sessions_booked",
    sessions.c.booked_at,
    sessions.c.number,
    sessions.c.cp_id,
    sessions.c.currency,
    sessions.c.energy_wh,
    sessions.c.cost,
    **_BOOKED,
)
Index("ix_sessions_cp_id_booked_at", sessions.c.cp_id, sessions.c.booked_at, **_BOOKED)
Index("ix_sessions_driver_id_booked_at", sessions.c.driver_id, sessions.c.booked_at, **_BOOKED)

meter_values = Table(
    "meter_values",
    metadata,
    Column("session_number", ForeignKey("sessions.number"), primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("energy_wh", Integer, nullable=False),
    Column("power_w", Integer, nullable=False),
    Column("soc_percent", Float),
    Column("measured_at", UtcDateTime, nullable=False),
    sqlite_with_rowid=False,
)

faults = Table(
    "faults",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("cp_id", ForeignKey("charge_points.cp_id"), nullable=False),
    Column("code", String(64), nullable=False),
    Column("description", Text, nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    Column("cleared_at", UtcDateTime),
)
Index("ix_faults_cp_id_number", faults.c.cp_id, faults.c.number)
IS_UNCLEARED = faults.c.cleared_at.is_(None)
Index("ix_faults_uncleared", faults.c.cp_id, sqlite_where=IS_UNCLEARED, postgresql_where=IS_UNCLEARED)
Index("ix_faults_uncleared_number", faults.c.number, sqlite_where=IS_UNCLEARED, postgresql_where=IS_UNCLEARED)

# What cannot be billed without a person: refused completions, meters beyond belief, sessions that nobody knows.
to_settle = Table(
    "to_settle",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("session_id", Uuid, nullable=False),
    Column("cp_id", String(64), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("energy_wh", Integer),  # that is claimed
    Column("reason", Text, nullable=False),  # why it was set aside, in a sentence
    Column("evidence", Json, nullable=False),  # the message as it came
    Column("times", Integer, nullable=False),  # that it came
    Column("set_aside_at", UtcDateTime, nullable=False),
    Column("settled_at", UtcDateTime),
    Column("settled_by", String(64)),
    Column("billed_wh", Integer),
    Column("remark", Text),
)
IS_UNSETTLED = to_settle.c.settled_at.is_(None)
Index(
    "ix_to_settle_unsettled",
    to_settle.c.session_id,
    to_settle.c.kind,
    unique=True,
    sqlite_where=IS_UNSETTLED,
    postgresql_where=IS_UNSETTLED,
)
Index("ix_to_settle_session_id", to_settle.c.session_id)
WAITS_AS_ORPHAN = and_(IS_UNSETTLED, to_settle.c.kind == literal_column("'orphan'"))
Index("ix_to_settle_orphans", to_settle.c.cp_id, sqlite_where=WAITS_AS_ORPHAN, postgresql_where=WAITS_AS_ORPHAN)

answers = Table(
    "answers",
    metadata,
    Column("request_id", Uuid, primary_key=True),
    Column("answer", Text, nullable=False),  # the JSON that was sent
    Column("answered_at", UtcDateTime, nullable=False),
)
Index("ix_answers_answered_at", answers.c.answered_at)

tokens = Table(
    "tokens",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("role", String(16), nullable=False),
    Column("token_hash", String(64), nullable=False, unique=True),
    Column("added_at", UtcDateTime, nullable=False),
)

audit = Table(
    "audit",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("at", UtcDateTime, nullable=False),
    Column("actor", String(64), nullable=False),
    Column("via", String(16), nullable=False),
    Column("action", String(32), nullable=False),
    Column("target", String(64), nullable=False),
    Column("before", Json),
    Column("after", Json),
)

SQLITE_PRAGMAS = (
    text("PRAGMA journal_mode = WAL"),
    # Each commit reaches the disk before anything is promised; NORMAL would lose the last ones in a power cut.
    text("PRAGMA synchronous = FULL"),
    text("PRAGMA foreign_keys = ON"),
    text("PRAGMA busy_timeout = 500"),  # `database.patiently` waits for longer, but can be told to stop.
    # In KiB: by default 2,000, which is less than the 10,000 open sessions of a large network.
    text("PRAGMA cache_size = -4096"),
    # In pages, so 64 MiB: `Store.copy_back` keeps the log shorter; if it cannot, whoever writes has to.
    text("PRAGMA wal_autocheckpoint = 16000"),
)
