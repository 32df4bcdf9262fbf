"""The first schema.

Revision ID: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "answers",
        sa.Column("request_id", sa.Uuid(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.Column("answered_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("request_id", name=op.f("pk_answers")),
    )
    op.create_index("ix_answers_answered_at", "answers", ["answered_at"], unique=False)
    op.create_table(
        "charge_points",
        sa.Column("cp_id", sa.String(length=64), nullable=False),
        sa.Column("key_hash", sa.String(length=64), nullable=True),
        sa.Column("location", sa.Text(), nullable=False),
        sa.Column("price_per_kwh", sa.String(32), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("max_power_w", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("out_of_service", sa.Boolean(), nullable=False),
        sa.Column("removed", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("cp_id", name=op.f("pk_charge_points")),
    )
    op.create_table(
        "drivers",
        sa.Column("driver_id", sa.String(length=64), nullable=False),
        sa.Column("added_at", sa.DateTime(), nullable=False),
        sa.Column("removed", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("driver_id", name=op.f("pk_drivers")),
    )
    op.create_table(
        "faults",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("cp_id", sa.String(length=64), nullable=False),
        sa.Column("code", sa.String(length=64), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("started_at", sa.DateTime(), nullable=False),
        sa.Column("cleared_at", sa.DateTime(), nullable=True),
        sa.ForeignKeyConstraint(["cp_id"], ["charge_points.cp_id"], name=op.f("fk_faults_cp_id")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_faults")),
    )
    op.create_index("ix_faults_cp_id_number", "faults", ["cp_id", "number"], unique=False)
    op.create_index(
        "ix_faults_uncleared",
        "faults",
        ["cp_id"],
        unique=False,
        sqlite_where=sa.text("cleared_at IS NULL"),
        postgresql_where=sa.text("cleared_at IS NULL"),
    )
    op.create_table(
        "sessions",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("request_id", sa.Uuid(), nullable=False),
        sa.Column("cp_id", sa.String(length=64), nullable=False),
        sa.Column("driver_id", sa.String(length=64), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("end_reason", sa.String(length=32), nullable=True),
        sa.Column("target_energy_wh", sa.Integer(), nullable=True),
        sa.Column("price_per_kwh", sa.String(32), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("energy_wh", sa.Integer(), nullable=False),
        sa.Column("cost", sa.String(32), nullable=False),
        sa.Column("power_w", sa.Integer(), nullable=False),
        sa.Column("soc_percent", sa.Float(), nullable=True),
        sa.Column("last_seq", sa.Integer(), nullable=False),
        sa.Column("requested_at", sa.DateTime(), nullable=False),
        sa.Column("started_at", sa.DateTime(), nullable=True),
        sa.Column("ended_at", sa.DateTime(), nullable=True),
        sa.Column("stop_requested", sa.Boolean(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("receipt_sent", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["cp_id"], ["charge_points.cp_id"], name=op.f("fk_sessions_cp_id")),
        sa.ForeignKeyConstraint(["driver_id"], ["drivers.driver_id"], name=op.f("fk_sessions_driver_id")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_sessions")),
        sa.UniqueConstraint("session_id", name=op.f("uq_sessions_session_id")),
    )
    op.create_index("ix_sessions_cp_id_number", "sessions", ["cp_id", "number"], unique=False)
    op.create_index("ix_sessions_driver_id_number", "sessions", ["driver_id", "number"], unique=False)
    op.create_index(
        "ix_sessions_open",
        "sessions",
        ["number"],
        unique=False,
        sqlite_where=sa.text("ended_at IS NULL"),
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_index(
        "ix_sessions_receipt_waits",
        "sessions",
        ["number"],
        unique=False,
        sqlite_where=sa.text("receipt_sent < revision"),
        postgresql_where=sa.text("receipt_sent < revision"),
    )
    op.create_table(
        "meter_values",
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("energy_wh", sa.Integer(), nullable=False),
        sa.Column("power_w", sa.Integer(), nullable=False),
        sa.Column("soc_percent", sa.Float(), nullable=True),
        sa.Column("measured_at", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(["session_id"], ["sessions.session_id"], name=op.f("fk_meter_values_session_id")),
        sa.PrimaryKeyConstraint("session_id", "seq", name=op.f("pk_meter_values")),
    )
