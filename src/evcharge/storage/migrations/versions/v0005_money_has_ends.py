"""Ceilings of charge points, limits of sessions, the day of booking, and what waits for a person to settle.

Revision ID: 0005
"""

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("charge_points", sa.Column("own_price_per_kwh", sa.String(length=32), nullable=True))
    op.add_column("charge_points", sa.Column("own_currency", sa.String(length=3), nullable=True))
    op.add_column("charge_points", sa.Column("ceiling_price_per_kwh", sa.String(length=32), nullable=True))
    op.add_column("charge_points", sa.Column("ceiling_currency", sa.String(length=3), nullable=True))
    op.add_column("charge_points", sa.Column("ceiling_power_w", sa.Integer(), nullable=True))
    op.add_column("drivers", sa.Column("max_energy_wh", sa.Integer(), nullable=True))
    op.add_column("drivers", sa.Column("max_cost", sa.String(length=32), nullable=True))
    op.add_column("drivers", sa.Column("max_hours", sa.Float(), nullable=True))
    op.add_column("drivers", sa.Column("signed_only", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("sessions", sa.Column("completion_id", sa.Uuid(), nullable=True))
    op.add_column("sessions", sa.Column("booked_at", sa.DateTime(), nullable=True))
    op.add_column("sessions", sa.Column("said_started_at", sa.DateTime(), nullable=True))
    op.add_column("sessions", sa.Column("said_ended_at", sa.DateTime(), nullable=True))
    op.add_column("sessions", sa.Column("limit_w", sa.Integer(), nullable=True))
    op.add_column("sessions", sa.Column("limit_since", sa.DateTime(), nullable=True))
    op.add_column(
        "sessions", sa.Column("limit_before_wh", sa.Integer(), nullable=False, server_default=sa.text("0"))
    )
    op.add_column("sessions", sa.Column("max_hours", sa.Float(), nullable=True))
    op.add_column("sessions", sa.Column("stop_refused", sa.Text(), nullable=True))
    _book()
    op.create_table(
        "to_settle",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("cp_id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("energy_wh", sa.Integer(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("evidence", sa.Text(), nullable=False),
        sa.Column("times", sa.Integer(), nullable=False),
        sa.Column("set_aside_at", sa.DateTime(), nullable=False),
        sa.Column("settled_at", sa.DateTime(), nullable=True),
        sa.Column("settled_by", sa.String(length=64), nullable=True),
        sa.Column("billed_wh", sa.Integer(), nullable=True),
        sa.Column("remark", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_to_settle")),
    )
    unsettled = sa.text("settled_at IS NULL")
    op.create_index(
        "ix_to_settle_unsettled",
        "to_settle",
        ["session_id", "kind"],
        unique=True,
        sqlite_where=unsettled,
        postgresql_where=unsettled,
    )
    op.create_index("ix_to_settle_session_id", "to_settle", ["session_id"])
    waits_as_orphan = sa.text("settled_at IS NULL AND kind = 'orphan'")
    op.create_index(
        "ix_to_settle_orphans",
        "to_settle",
        ["cp_id"],
        sqlite_where=waits_as_orphan,
        postgresql_where=waits_as_orphan,
    )


def _book() -> None:
    """What has ended was booked when it ended, as far as that time can be true, else when it was asked for."""
    names = ("booked_at", "ended_at", "requested_at")
    booked_at, ended_at, requested_at = [sa.column(name, sa.DateTime()) for name in names]
    now = sa.bindparam("now", datetime.now(UTC).replace(tzinfo=None), sa.DateTime())
    believable = sa.and_(ended_at >= requested_at, ended_at <= now)
    op.execute(
        sa.update(sa.table("sessions", booked_at))
        .where(ended_at.is_not(None))
        .values(booked_at=sa.case((believable, ended_at), else_=requested_at))
    )
    op.drop_index("ix_sessions_ended", "sessions")
    is_booked = sa.text("booked_at IS NOT NULL")
    for name, of in (
        ("ix_sessions_booked", ["booked_at", "number", "cp_id", "currency", "energy_wh", "cost"]),
        ("ix_sessions_cp_id_booked_at", ["cp_id", "booked_at"]),
        ("ix_sessions_driver_id_booked_at", ["driver_id", "booked_at"]),
    ):
        op.create_index(name, "sessions", of, sqlite_where=is_booked, postgresql_where=is_booked)
