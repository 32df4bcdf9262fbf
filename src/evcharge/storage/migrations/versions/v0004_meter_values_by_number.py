"""Meter values by the number of their session, so that those of the sessions that are open lie together.

Revision ID: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.rename_table("meter_values", "meter_values_by_id")
    op.create_table(
        "meter_values",
        sa.Column("session_number", sa.Integer(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("energy_wh", sa.Integer(), nullable=False),
        sa.Column("power_w", sa.Integer(), nullable=False),
        sa.Column("soc_percent", sa.Float(), nullable=True),
        sa.Column("measured_at", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["session_number"], ["sessions.number"], name=op.f("fk_meter_values_session_number")
        ),
        sa.PrimaryKeyConstraint("session_number", "seq", name=op.f("pk_meter_values")),
        sqlite_with_rowid=False,
    )
    # Session by session, so that each row is written behind the one before.
    op.execute(
        "INSERT INTO meter_values"
        " SELECT s.number, v.seq, v.energy_wh, v.power_w, v.soc_percent, v.measured_at"
        " FROM sessions s JOIN meter_values_by_id v ON v.session_id = s.session_id"
        " ORDER BY s.number, v.seq"
    )
    op.drop_table("meter_values_by_id")
