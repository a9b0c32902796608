"""CUs that runs rent whole and share between their steps."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_NAME = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "rentals",
        *(sa.Column(name, _NAME, nullable=False) for name in _NAMES),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in _COUNTS),
        *(sa.Column(name, sa.BigInteger(), nullable=True) for name in _UNTIL_KNOWN),
        sa.Column("profile", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("rental_id"),
    )
    op.create_index("ix_rentals_capacity_id_state", "rentals", ["capacity_id", "state"])
    op.create_index("ix_rentals_run_id", "rentals", ["run_id"])
    op.create_index("ix_rentals_closed_at", "rentals", ["closed_at"])


def downgrade() -> None:
    op.drop_table("rentals")


_NAMES = ("rental_id", "run_id", "state", "auction_id", "bid_id", "capacity_id")
_COUNTS = (
    *("cpu_millis", "memory_bytes", "gpu_count", "price_microusd_per_hour"),
    *("minimum_ms", "expected_ms", "planned_at", "opens_at"),
)
_UNTIL_KNOWN = ("valid_until", "opened_at", "closed_at", "cost_microusd", "rest_microusd")
