"""Operators: their tokens, what they have changed, their prices; indexes for looking back.

Revision ID: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "tokens",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("added_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_tokens")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_tokens_token_hash")),
    )
    op.create_table(
        "audit",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.Column("actor", sa.String(length=64), nullable=False),
        sa.Column("via", sa.String(length=16), nullable=False),
        sa.Column("action", sa.String(length=32), nullable=False),
        sa.Column("target", sa.String(length=64), nullable=False),
        sa.Column("before", sa.Text(), nullable=True),
        sa.Column("after", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_audit")),
    )
    op.add_column(
        "charge_points",
        sa.Column("price_by_operator", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
    op.drop_index("ix_sessions_cp_id_number", table_name="sessions")
    op.create_index("ix_sessions_requested_at", "sessions", ["requested_at"], unique=False)
    op.create_index("ix_sessions_cp_id_requested_at", "sessions", ["cp_id", "requested_at"], unique=False)
    op.create_index("ix_sessions_driver_id_requested_at", "sessions", ["driver_id", "requested_at"], unique=False)
    uncleared = sa.text("cleared_at IS NULL")
    op.create_index(
        "ix_faults_uncleared_number",
        "faults",
        ["number"],
        unique=False,
        sqlite_where=uncleared,
        postgresql_where=uncleared,
    )
    ended = sa.text("ended_at IS NOT NULL")
    op.create_index(
        "ix_sessions_ended",
        "sessions",
        ["ended_at", "cp_id", "currency", "energy_wh", "cost"],
        unique=False,
        sqlite_where=ended,
        postgresql_where=ended,
    )
