"""The ledger's tables, in SQL that SQLite and PostgreSQL both take.

Times are whole microseconds since 1970 UTC, money is micro-dollars, memory is bytes, a report is
JSON text: all exact in either database. The migrations create what stands here; a test compares.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

HEAD = "0015"
"""The newest revision in migrations/versions. Compared on opening, so that an up-to-date ledger
never imports Alembic; a test holds it equal to what Alembic finds."""

METADATA = MetaData()

# PostgreSQL sorts text by its locale unless told otherwise; SQLite and Python by code point. Ties
# in "newest first" must fall the same way in each.
_NAME = String().with_variant(String(collation="C"), "postgresql")


def _name(name: str, *, primary_key: bool = False) -> Column[str]:
    return Column(name, _NAME, primary_key=primary_key, nullable=False)


def _count(name: str, *, nullable: bool = False) -> Column[int]:
    return Column(name, BigInteger, nullable=nullable)


def _attempt_key() -> tuple[Column[str], Column[str], Column[int]]:
    return (
        _name("run_id", primary_key=True),
        _name("step_key", primary_key=True),
        Column("attempt", Integer, primary_key=True, nullable=False, autoincrement=False),
    )


VERSION = Table("cu_market_version", METADATA, Column("version_num", String(32), primary_key=True))
"""Alembic's own table, under a name that is not Dagster's ``alembic_version``."""

AUCTIONS = Table(
    "auctions",
    METADATA,
    _name("auction_id", primary_key=True),
    _name("run_id"),
    _count("held_at"),
    _name("mode"),
    _name("place"),
    Column("report", Text, nullable=False),
    Index("ix_auctions_run_id", "run_id"),
    Index("ix_auctions_held_at", "held_at"),
)
"""One row per auction."""

ALLOCATIONS = Table(
    "allocations",
    METADATA,
    *_attempt_key(),
    _name("state"),
    _name("auction_id"),
    _name("bid_id"),
    _name("provider"),
    _name("resource_id"),
    _name("capacity_id"),
    _count("cpu_millis"),
    _count("memory_bytes"),
    _count("gpu_count"),
    _count("price_microusd_per_hour"),
    _count("expected_ms"),
    _count("fencing_token"),
    _count("awarded_at"),
    _count("leased_at", nullable=True),
    _count("lease_expires_at", nullable=True),
    _count("accepted_at", nullable=True),
    _count("ended_at", nullable=True),
    _count("cost_microusd", nullable=True),
    _name("holder"),
    Column("minimum_ms", BigInteger, nullable=False, server_default="0"),
    Column("accrued_microusd", BigInteger, nullable=False, server_default="0"),
    _count("priced_since", nullable=True),
    Column("egress_microusd", BigInteger, nullable=False, server_default="0"),
    _count("unstarted_at", nullable=True),
    _count("valid_until", nullable=True),
    # The sum of what is held reads only live leases, however long the ledger's past is.
    Index("ix_allocations_capacity_id_state", "capacity_id", "state"),
    Index("ix_allocations_state_lease_expires_at", "state", "lease_expires_at"),
    Index("ix_allocations_awarded_at", "awarded_at"),
    Index("ix_allocations_capacity_id_ended_at", "capacity_id", "ended_at"),
    Index("ix_allocations_unstarted_at", "unstarted_at"),
)
"""One row per (run, step, attempt)."""

USAGES = Table(
    "usages",
    METADATA,
    *_attempt_key(),
    _name("code_location"),
    _name("node"),
    _name("partition_key"),
    _name("code_version"),
    _name("job_name"),
    _name("provider"),
    _name("resource_id"),
    _count("started_at"),
    _count("ended_at"),
    _count("cpu_millis"),
    _count("memory_bytes"),
    _count("wall_ms"),
    _count("cpu_ms"),
    _count("peak_memory_bytes"),
    _count("baseline_bytes"),
    _count("read_bytes"),
    _count("written_bytes"),
    _count("waited_ms", nullable=True),
    _count("delivered_millis", nullable=True),
    _name("ending"),
    _count("input_bytes", nullable=True),
    Column("external", Boolean, nullable=False),
    Column("features", Text, nullable=True),
    _count("declared_bytes", nullable=True),
    _count("gpu_peak_bytes", nullable=True),
    _count("gpu_busy_millis", nullable=True),
    Column("gpu_scope", Text, nullable=True),
    # Ends with the key, so that the newest of an identity are found in the index alone.
    Index(
        "ix_usages_identity",
        *("code_location", "node", "partition_key", "ended_at", "run_id", "step_key", "attempt"),
    ),
    Index("ix_usages_resource_id_ended_at", "resource_id", "ended_at"),
    Index("ix_usages_code_location", "code_location", "ended_at"),
    Index("ix_usages_ended_at", "ended_at"),
)
"""One row per settled attempt that was measured; delivered_millis is derived when written."""

RUN_LEASES = Table(
    "run_leases",
    METADATA,
    _name("run_id", primary_key=True),
    _name("holder"),
    _count("expires_at"),
    _count("ended_at", nullable=True),
)
"""One row per run."""

TENDERS = Table(
    "tenders",
    METADATA,
    _name("run_id", primary_key=True),
    _name("account"),
    _name("capacity_id"),
    _count("cpu_millis"),
    _count("memory_bytes"),
    _count("gpu_count"),
    Column("priority", BigInteger, nullable=False, server_default="0"),
    _count("noted_at"),
)
"""One row per run that has waited for room: whose it is, and what it waits for."""

OPEN_REQUESTS = Table(
    "open_requests",
    METADATA,
    _name("run_id", primary_key=True),
    _name("step_key", primary_key=True),
    _name("account"),
    _name("job_name"),
    _count("moves"),
    _count("budget_microusd", nullable=True),
    Column("report", Text, nullable=False),
)
"""One row per step that was awarded, until its run ends: what it asked for, and who pays."""

CURVES = Table(
    "curves",
    METADATA,
    *_attempt_key(),
    _name("code_location"),
    _name("node"),
    _name("partition_key"),
    _count("ended_at"),
    Column("report", Text, nullable=False),
    Index("ix_curves_identity", "code_location", "node", "partition_key", "ended_at"),
)
"""One row per metered attempt: its use over time."""

FORECASTS = Table(
    "forecasts",
    METADATA,
    _name("code_location", primary_key=True),
    _name("node", primary_key=True),
    _name("partition_key", primary_key=True),
    _name("model"),
    _count("published_at"),
    Column("report", Text, nullable=False),
)
"""One row per step of which a forecast is published."""

PURCHASES = Table(
    "purchases",
    METADATA,
    _name("purchase_id", primary_key=True),
    _name("state"),
    _name("provider"),
    _name("resource_id"),
    _name("capacity_id"),
    _count("cpu_millis"),
    _count("memory_bytes"),
    _count("gpu_count"),
    _count("price_microusd_per_hour"),
    _name("code_location"),
    _name("job"),
    _name("step_key"),
    _name("source"),
    _name("account"),
    _name("fit"),
    _count("expected_at"),
    _count("waiting_saved_microusd"),
    _count("holding_microusd"),
    Column("reason", Text, nullable=False),
    _name("buyer"),
    _name("holder"),
    _count("started_at"),
    _count("ready_at", nullable=True),
    _count("taken_at", nullable=True),
    _count("ended_at", nullable=True),
    _count("expires_at"),
    _name("run_id"),
    Column("outcome", Text, nullable=False),
    _count("cost_microusd", nullable=True),
    Column("minimum_ms", BigInteger, nullable=False, server_default="0"),
    Index("ix_purchases_capacity_id_state", "capacity_id", "state"),
    Index("ix_purchases_run_id", "run_id"),
    Index("ix_purchases_started_at", "started_at"),
    Index("ix_purchases_ended_at", "ended_at"),
)
"""One row per CU that was started ahead of the run that is to use it."""

RENTALS = Table(
    "rentals",
    METADATA,
    _name("rental_id", primary_key=True),
    _name("run_id"),
    _name("state"),
    _name("auction_id"),
    _name("bid_id"),
    _name("capacity_id"),
    _count("cpu_millis"),
    _count("memory_bytes"),
    _count("gpu_count"),
    _count("price_microusd_per_hour"),
    _count("minimum_ms"),
    _count("expected_ms"),
    _count("planned_at"),
    _count("opens_at"),
    _count("valid_until", nullable=True),
    _count("opened_at", nullable=True),
    _count("closed_at", nullable=True),
    _count("cost_microusd", nullable=True),
    _count("rest_microusd", nullable=True),
    Column("profile", Text, nullable=False),
    Index("ix_rentals_capacity_id_state", "capacity_id", "state"),
    Index("ix_rentals_run_id", "run_id"),
    Index("ix_rentals_closed_at", "closed_at"),
)
"""One row per CU that a run rents whole: a capacity of its own for the run's leases."""

CHANNELS = Table(
    "channels",
    METADATA,
    _name("channel", primary_key=True),
    _name("run_id"),
    _name("link"),
    _name("taker"),
    _count("epoch"),
    _count("opened_at"),
    Index("ix_channels_run_id", "run_id"),
)
"""One row per worker that is reached through the database: its present link, of which run worker's
epoch that is, and who has taken it at the worker's end. On PostgreSQL it and ``parcels`` are
UNLOGGED: nothing of them is synced to the disk, and a server that crashed has them empty, which
both ends take for a cut."""

PARCELS = Table(
    "parcels",
    METADATA,
    _name("link", primary_key=True),
    _name("sender", primary_key=True),
    Column("number", BigInteger, primary_key=True, nullable=False, autoincrement=False),
    Column("body", LargeBinary, nullable=False),
)
"""One row per parcel under way on a link; gone once its receiver has it."""

COUNTERS = Table("counters", METADATA, _name("name", primary_key=True), _count("value"))
"""One row, ``fencing``: the last token given."""

CONTROL_CLOCK = Table(
    "control_clock",
    METADATA,
    Column("clock_id", Integer, primary_key=True, autoincrement=False),
    _count("noted_at", nullable=True),
)
"""One row, 1: when the control plane was last known to be up."""
