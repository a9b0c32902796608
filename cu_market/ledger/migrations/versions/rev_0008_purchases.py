"""CUs that are started ahead of the run that is to use them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context, op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_NAME = sa.String().with_variant(sa.String(collation="C"), "postgresql")
_NAMES = (
    *("purchase_id", "state", "provider", "resource_id", "capacity_id", "code_location", "job"),
    *("step_key", "source", "account", "fit", "buyer", "holder", "run_id"),
)
_COUNTS = (
    *("cpu_millis", "memory_bytes", "gpu_count", "price_microusd_per_hour", "expected_at"),
    *("waiting_saved_microusd", "holding_microusd", "started_at", "expires_at"),
)
_MAYBE = ("ready_at", "taken_at", "ended_at", "cost_microusd")


def upgrade() -> None:
    op.create_table(
        "purchases",
        *(sa.Column(name, _NAME, nullable=False) for name in _NAMES),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in _COUNTS),
        *(sa.Column(name, sa.BigInteger(), nullable=True) for name in _MAYBE),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("reason", "outcome")),
        sa.PrimaryKeyConstraint("purchase_id"),
    )
    for name, columns in (
        ("ix_purchases_capacity_id_state", ["capacity_id", "state"]),
        ("ix_purchases_run_id", ["run_id"]),
        ("ix_purchases_started_at", ["started_at"]),
    ):
        op.create_index(name, "purchases", columns, schema=_schema())


def downgrade() -> None:
    op.drop_table("purchases")


def _schema() -> str | None:
    """Returns the schema: Alembic's ALTERs do not follow the connection's translation of it."""
    found: str | None = context.config.attributes["schema"]
    return found
