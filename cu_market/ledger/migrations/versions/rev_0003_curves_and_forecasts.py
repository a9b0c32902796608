"""What attempts used over time; what the predictive scaling engine has published."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_NAME = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def _names(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, _NAME, nullable=False) for name in names]


def upgrade() -> None:
    op.create_table(
        "curves",
        *_names("run_id", "step_key"),
        sa.Column("attempt", sa.Integer(), nullable=False, autoincrement=False),
        *_names("code_location", "node", "partition_key"),
        sa.Column("ended_at", sa.BigInteger(), nullable=False),
        sa.Column("report", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "step_key", "attempt"),
    )
    op.create_index(
        "ix_curves_identity", "curves", ["code_location", "node", "partition_key", "ended_at"]
    )
    op.create_table(
        "forecasts",
        *_names("code_location", "node", "partition_key", "model"),
        sa.Column("published_at", sa.BigInteger(), nullable=False),
        sa.Column("report", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("code_location", "node", "partition_key"),
    )


def downgrade() -> None:
    op.drop_table("forecasts")
    op.drop_table("curves")
