"""What a lease that has grown in place had cost before, and since when it has its present price."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context, op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    accrued = sa.Column("accrued_microusd", sa.BigInteger(), nullable=False, server_default="0")
    op.add_column("allocations", accrued, schema=_schema())
    since = sa.Column("priced_since", sa.BigInteger(), nullable=True)
    op.add_column("allocations", since, schema=_schema())


def downgrade() -> None:
    op.drop_column("allocations", "priced_since", schema=_schema())
    op.drop_column("allocations", "accrued_microusd", schema=_schema())


def _schema() -> str | None:
    """Returns the schema: Alembic's ALTERs do not follow the connection's translation of it."""
    found: str | None = context.config.attributes["schema"]
    return found
