"""What an attempt has used of GPUs, and whose figures these are."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context, op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for column in (
        sa.Column("gpu_peak_bytes", sa.BigInteger(), nullable=True),
        sa.Column("gpu_busy_millis", sa.BigInteger(), nullable=True),
        sa.Column("gpu_scope", sa.Text(), nullable=True),
    ):
        op.add_column("usages", column, schema=_schema())


def downgrade() -> None:
    for name in ("gpu_scope", "gpu_busy_millis", "gpu_peak_bytes"):
        op.drop_column("usages", name, schema=_schema())


def _schema() -> str | None:
    """Returns the schema: Alembic's ALTERs do not follow the connection's translation of it."""
    found: str | None = context.config.attributes["schema"]
    return found
