"""What steps that are not leased yet ask for, so that other runs' auctions can plan with them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_NAME = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "open_requests",
        sa.Column("run_id", _NAME, nullable=False),
        sa.Column("step_key", _NAME, nullable=False),
        sa.Column("account", _NAME, nullable=False),
        sa.Column("job_name", _NAME, nullable=False),
        sa.Column("moves", sa.BigInteger(), nullable=False),
        sa.Column("report", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "step_key"),
    )


def downgrade() -> None:
    op.drop_table("open_requests")
