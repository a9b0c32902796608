"""What was known of an attempt's work before it began, and what its tags asked for."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context, op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("usages", sa.Column("features", sa.Text(), nullable=True), schema=_schema())
    declared = sa.Column("declared_bytes", sa.BigInteger(), nullable=True)
    op.add_column("usages", declared, schema=_schema())
    op.create_index(
        "ix_usages_code_location", "usages", ["code_location", "ended_at"], schema=_schema()
    )


def downgrade() -> None:
    op.drop_index("ix_usages_code_location", table_name="usages", schema=_schema())
    op.drop_column("usages", "declared_bytes", schema=_schema())
    op.drop_column("usages", "features", schema=_schema())


def _schema() -> str | None:
    """Returns the schema: Alembic's ALTERs do not follow the connection's translation of it."""
    found: str | None = context.config.attributes["schema"]
    return found
