"""When a CU was found to start nothing under a lease that it had taken, which its score counts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context, op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    unstarted = sa.Column("unstarted_at", sa.BigInteger(), nullable=True)
    op.add_column("allocations", unstarted, schema=_schema())
    op.create_index(
        "ix_allocations_unstarted_at", "allocations", ["unstarted_at"], schema=_schema()
    )


def downgrade() -> None:
    op.drop_index("ix_allocations_unstarted_at", "allocations", schema=_schema())
    op.drop_column("allocations", "unstarted_at", schema=_schema())


def _schema() -> str | None:
    """Returns the schema: Alembic's ALTERs do not follow the connection's translation of it."""
    found: str | None = context.config.attributes["schema"]
    return found
