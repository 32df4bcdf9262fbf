"""Drivers: the keys that they sign with.

Revision ID: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("drivers", sa.Column("key", sa.String(length=64), nullable=True))
