"""The budget of a run whose steps wait, so that other runs' auctions do not move it beyond that.

And an index for what was bought ahead in the last day, which an account's ceiling counts.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context, op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    budget = sa.Column("budget_microusd", sa.BigInteger(), nullable=True)
    op.add_column("open_requests", budget, schema=_schema())
    op.create_index("ix_purchases_ended_at", "purchases", ["ended_at"], schema=_schema())


def downgrade() -> None:
    op.drop_index("ix_purchases_ended_at", "purchases", schema=_schema())
    op.drop_column("open_requests", "budget_microusd", schema=_schema())


def _schema() -> str | None:
    """Returns the schema: Alembic's ALTERs do not follow the connection's translation of it."""
    found: str | None = context.config.attributes["schema"]
    return found
