"""When an awarded offer ends: a lease that comes later is refused."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context, op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    until = sa.Column("valid_until", sa.BigInteger(), nullable=True)
    op.add_column("allocations", until, schema=_schema())


def downgrade() -> None:
    op.drop_column("allocations", "valid_until", schema=_schema())


def _schema() -> str | None:
    """Returns the schema: Alembic's ALTERs do not follow the connection's translation of it."""
    found: str | None = context.config.attributes["schema"]
    return found
