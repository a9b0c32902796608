"""What runs wait for, by account; the least that a lease is billed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context, op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_NAME = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    minimum = sa.Column("minimum_ms", sa.BigInteger(), nullable=False, server_default="0")
    op.add_column("allocations", minimum, schema=_schema())
    op.create_index(
        "ix_allocations_capacity_id_ended_at",
        "allocations",
        ["capacity_id", "ended_at"],
        schema=_schema(),
    )
    op.create_table(
        "tenders",
        sa.Column("run_id", _NAME, nullable=False),
        sa.Column("account", _NAME, nullable=False),
        sa.Column("capacity_id", _NAME, nullable=False),
        sa.Column("cpu_millis", sa.BigInteger(), nullable=False),
        sa.Column("memory_bytes", sa.BigInteger(), nullable=False),
        sa.Column("gpu_count", sa.BigInteger(), nullable=False),
        sa.Column("noted_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("run_id"),
    )


def downgrade() -> None:
    op.drop_table("tenders")
    op.drop_index("ix_allocations_capacity_id_ended_at", table_name="allocations", schema=_schema())
    op.drop_column("allocations", "minimum_ms", schema=_schema())


def _schema() -> str | None:
    """Returns the schema: Alembic's ALTERs do not follow the connection's translation of it."""
    found: str | None = context.config.attributes["schema"]
    return found
