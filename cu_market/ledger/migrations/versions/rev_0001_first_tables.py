"""The first tables.

Written out rather than taken from schema.py, which moves on while this revision must not.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_NAME = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def _name(name: str) -> sa.Column[str]:
    return sa.Column(name, _NAME, nullable=False)


def _count(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=nullable)


def _key() -> tuple[sa.schema.SchemaItem, ...]:
    return (
        _name("run_id"),
        _name("step_key"),
        sa.Column("attempt", sa.Integer(), nullable=False, autoincrement=False),
        sa.PrimaryKeyConstraint("run_id", "step_key", "attempt"),
    )


def upgrade() -> None:
    _create_auctions_and_allocations()
    _create_usages()
    op.create_table(
        "run_leases",
        _name("run_id"),
        _name("holder"),
        _count("expires_at"),
        _count("ended_at", nullable=True),
        sa.PrimaryKeyConstraint("run_id"),
    )
    counters = op.create_table(
        "counters", _name("name"), _count("value"), sa.PrimaryKeyConstraint("name")
    )
    clock = op.create_table(
        "control_clock",
        sa.Column("clock_id", sa.Integer(), nullable=False, autoincrement=False),
        _count("noted_at", nullable=True),
        sa.PrimaryKeyConstraint("clock_id"),
    )
    op.bulk_insert(counters, [{"name": "fencing", "value": 0}])
    op.bulk_insert(clock, [{"clock_id": 1, "noted_at": None}])


def _create_auctions_and_allocations() -> None:
    op.create_table(
        "auctions",
        _name("auction_id"),
        _name("run_id"),
        _count("held_at"),
        _name("mode"),
        _name("place"),
        sa.Column("report", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("auction_id"),
    )
    op.create_index("ix_auctions_run_id", "auctions", ["run_id"])
    op.create_index("ix_auctions_held_at", "auctions", ["held_at"])
    names = ("state", "auction_id", "bid_id", "provider", "resource_id", "capacity_id")
    counts = ("cpu_millis", "memory_bytes", "gpu_count", "price_microusd_per_hour")
    later = ("leased_at", "lease_expires_at", "accepted_at", "ended_at", "cost_microusd")
    op.create_table(
        "allocations",
        *_key(),
        *(_name(name) for name in names),
        *(_count(name) for name in (*counts, "expected_ms", "fencing_token", "awarded_at")),
        *(_count(name, nullable=True) for name in later),
        _name("holder"),
    )
    op.create_index("ix_allocations_capacity_id_state", "allocations", ["capacity_id", "state"])
    op.create_index(
        "ix_allocations_state_lease_expires_at", "allocations", ["state", "lease_expires_at"]
    )
    op.create_index("ix_allocations_awarded_at", "allocations", ["awarded_at"])


def _create_usages() -> None:
    names = ("code_location", "node", "partition_key", "code_version", "job_name", "provider")
    counts = ("started_at", "ended_at", "cpu_millis", "memory_bytes", "wall_ms", "cpu_ms")
    sizes = ("peak_memory_bytes", "baseline_bytes", "read_bytes", "written_bytes")
    op.create_table(
        "usages",
        *_key(),
        *(_name(name) for name in (*names, "resource_id")),
        *(_count(name) for name in (*counts, *sizes)),
        _count("waited_ms", nullable=True),
        _count("delivered_millis", nullable=True),
        _name("ending"),
        _count("input_bytes", nullable=True),
        sa.Column("external", sa.Boolean(), nullable=False),
    )
    identity = ("code_location", "node", "partition_key")
    op.create_index(
        "ix_usages_identity",
        "usages",
        [*identity, "ended_at", "run_id", "step_key", "attempt"],
    )
    op.create_index("ix_usages_resource_id_ended_at", "usages", ["resource_id", "ended_at"])
    op.create_index("ix_usages_ended_at", "usages", ["ended_at"])


def downgrade() -> None:
    for table in ("control_clock", "counters", "run_leases", "usages", "allocations", "auctions"):
        op.drop_table(table)
