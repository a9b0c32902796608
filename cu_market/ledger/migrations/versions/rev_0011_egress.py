"""What bringing a step's inputs to its CU was expected to cost, which its run's budget counts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context, op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    egress = sa.Column("egress_microusd", sa.BigInteger(), nullable=False, server_default="0")
    op.add_column("allocations", egress, schema=_schema())


def downgrade() -> None:
    op.drop_column("allocations", "egress_microusd", schema=_schema())


def _schema() -> str | None:
    """Returns the schema: Alembic's ALTERs do not follow the connection's translation of it."""
    found: str | None = context.config.attributes["schema"]
    return found
