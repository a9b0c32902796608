"""How urgent a waiting run is among those of its account; the least for a CU bought ahead."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context, op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    priority = sa.Column("priority", sa.BigInteger(), nullable=False, server_default="0")
    op.add_column("tenders", priority, schema=_schema())
    minimum = sa.Column("minimum_ms", sa.BigInteger(), nullable=False, server_default="0")
    op.add_column("purchases", minimum, schema=_schema())


def downgrade() -> None:
    op.drop_column("purchases", "minimum_ms", schema=_schema())
    op.drop_column("tenders", "priority", schema=_schema())


def _schema() -> str | None:
    """Returns the schema: Alembic's ALTERs do not follow the connection's translation of it."""
    found: str | None = context.config.attributes["schema"]
    return found
