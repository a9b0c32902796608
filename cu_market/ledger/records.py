"""Rows from records and records from rows, exactly.

Times become whole microseconds since 1970 UTC; a size becomes three columns; a report JSON text.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Row

from cu_market.domain.allocation import Allocation, AllocationState
from cu_market.domain.auction import Auction
from cu_market.domain.features import NO_FEATURES, StepFeatures
from cu_market.domain.lease import RunLease
from cu_market.domain.open_request import OpenRequest, request_from, request_record
from cu_market.domain.profile import CUProfile
from cu_market.domain.purchase import Purchase, PurchaseState
from cu_market.domain.rental import Rental, RentalState
from cu_market.domain.request import StepIdentity
from cu_market.domain.resources import ResourceVector
from cu_market.domain.tender import Tender
from cu_market.domain.usage import Ending, Measurement, Usage
from cu_market.ledger.moves import check_aware
from cu_market.ledger.report import report_text

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def to_us(value: datetime) -> int:
    """Returns microseconds since 1970 UTC.

    Raises:
        InvalidInputError: the time has no time zone.
    """
    check_aware("a time for the ledger", value)
    return (value - _EPOCH) // _MICROSECOND


def to_us_or_none(value: datetime | None) -> int | None:
    """Returns microseconds since 1970 UTC, or None for None."""
    return None if value is None else to_us(value)


def from_us(value: int) -> datetime:
    """Returns an aware UTC time."""
    return _EPOCH + timedelta(microseconds=value)


def from_us_or_none(value: int | None) -> datetime | None:
    """Returns an aware UTC time, or None for None."""
    return None if value is None else from_us(value)


def auction_row(auction: Auction) -> dict[str, Any]:
    """Returns the auction's columns."""
    return {
        "auction_id": auction.auction_id,
        "run_id": auction.run_id,
        "held_at": to_us(auction.held_at),
        "mode": auction.mode,
        "place": auction.place,
        "report": report_text(auction.auction_id, auction.report),
    }


def auction_from(row: Row[Any]) -> Auction:
    """Returns the auction of a row."""
    return Auction(
        auction_id=row.auction_id,
        run_id=row.run_id,
        held_at=from_us(row.held_at),
        mode=row.mode,
        place=row.place,
        report=json.loads(row.report),
    )


def allocation_row(allocation: Allocation) -> dict[str, Any]:
    """Returns the allocation's columns."""
    return {
        "run_id": allocation.run_id,
        "step_key": allocation.step_key,
        "attempt": allocation.attempt,
        "state": allocation.state.value,
        "auction_id": allocation.auction_id,
        "bid_id": allocation.bid_id,
        "provider": allocation.provider,
        "resource_id": allocation.resource_id,
        "capacity_id": allocation.capacity_id,
        "cpu_millis": allocation.size.cpu_millis,
        "memory_bytes": allocation.size.memory_bytes,
        "gpu_count": allocation.size.gpu_count,
        "price_microusd_per_hour": allocation.price_microusd_per_hour,
        "expected_ms": allocation.expected_ms,
        "fencing_token": allocation.fencing_token,
        "awarded_at": to_us(allocation.awarded_at),
        "leased_at": to_us_or_none(allocation.leased_at),
        "lease_expires_at": to_us_or_none(allocation.lease_expires_at),
        "accepted_at": to_us_or_none(allocation.accepted_at),
        "ended_at": to_us_or_none(allocation.ended_at),
        "cost_microusd": allocation.cost_microusd,
        "holder": allocation.holder,
        "minimum_ms": allocation.minimum_ms,
        "accrued_microusd": allocation.accrued_microusd,
        "priced_since": to_us_or_none(allocation.priced_since),
        "egress_microusd": allocation.egress_microusd,
        "unstarted_at": to_us_or_none(allocation.unstarted_at),
        "valid_until": to_us_or_none(allocation.valid_until),
    }


def allocation_from(row: Row[Any]) -> Allocation:
    """Returns the allocation of a row."""
    return Allocation(
        run_id=row.run_id,
        step_key=row.step_key,
        attempt=row.attempt,
        state=AllocationState(row.state),
        auction_id=row.auction_id,
        bid_id=row.bid_id,
        provider=row.provider,
        resource_id=row.resource_id,
        capacity_id=row.capacity_id,
        size=ResourceVector(
            cpu_millis=row.cpu_millis, memory_bytes=row.memory_bytes, gpu_count=row.gpu_count
        ),
        price_microusd_per_hour=row.price_microusd_per_hour,
        expected_ms=row.expected_ms,
        fencing_token=row.fencing_token,
        awarded_at=from_us(row.awarded_at),
        leased_at=from_us_or_none(row.leased_at),
        lease_expires_at=from_us_or_none(row.lease_expires_at),
        accepted_at=from_us_or_none(row.accepted_at),
        ended_at=from_us_or_none(row.ended_at),
        cost_microusd=row.cost_microusd,
        holder=row.holder,
        minimum_ms=row.minimum_ms,
        accrued_microusd=row.accrued_microusd,
        priced_since=from_us_or_none(row.priced_since),
        egress_microusd=row.egress_microusd,
        unstarted_at=from_us_or_none(row.unstarted_at),
        valid_until=from_us_or_none(row.valid_until),
    )


def usage_row(usage: Usage) -> dict[str, Any]:
    """Returns the usage's columns, with the delivered share of CPU derived from it."""
    measured = usage.measurement
    return {
        "run_id": usage.run_id,
        "step_key": usage.step_key,
        "attempt": usage.attempt,
        "code_location": usage.identity.code_location,
        "node": usage.identity.node,
        "partition_key": usage.identity.partition,
        "code_version": usage.code_version,
        "job_name": usage.job_name,
        "provider": usage.provider,
        "resource_id": usage.resource_id,
        "started_at": to_us(usage.started_at),
        "ended_at": to_us(usage.ended_at),
        "cpu_millis": usage.cpu_millis,
        "memory_bytes": usage.memory_bytes,
        "wall_ms": measured.wall_ms,
        "cpu_ms": measured.cpu_ms,
        "peak_memory_bytes": measured.peak_memory_bytes,
        "baseline_bytes": measured.baseline_bytes,
        "read_bytes": measured.read_bytes,
        "written_bytes": measured.written_bytes,
        "waited_ms": measured.waited_ms,
        "delivered_millis": measured.delivered_millis,
        "ending": usage.ending.value,
        "input_bytes": usage.input_bytes,
        "external": usage.external,
        "features": _features_text(usage),
        "declared_bytes": usage.declared_bytes,
        "gpu_peak_bytes": measured.gpu_peak_bytes,
        "gpu_busy_millis": measured.gpu_busy_millis,
        "gpu_scope": measured.gpu_scope,
    }


def usage_from(row: Row[Any]) -> Usage:
    """Returns the usage of a row."""
    return Usage(
        run_id=row.run_id,
        step_key=row.step_key,
        attempt=row.attempt,
        identity=StepIdentity(
            code_location=row.code_location, node=row.node, partition=row.partition_key
        ),
        code_version=row.code_version,
        job_name=row.job_name,
        provider=row.provider,
        resource_id=row.resource_id,
        started_at=from_us(row.started_at),
        ended_at=from_us(row.ended_at),
        cpu_millis=row.cpu_millis,
        memory_bytes=row.memory_bytes,
        measurement=Measurement(
            wall_ms=row.wall_ms,
            cpu_ms=row.cpu_ms,
            peak_memory_bytes=row.peak_memory_bytes,
            baseline_bytes=row.baseline_bytes,
            read_bytes=row.read_bytes,
            written_bytes=row.written_bytes,
            waited_ms=row.waited_ms,
            gpu_peak_bytes=row.gpu_peak_bytes,
            gpu_busy_millis=row.gpu_busy_millis,
            gpu_scope=row.gpu_scope,
        ),
        ending=Ending(row.ending),
        input_bytes=row.input_bytes,
        external=row.external,
        features=_features_from(row.features),
        declared_bytes=row.declared_bytes,
    )


def _features_from(text: str | None) -> StepFeatures:
    return StepFeatures.from_record(json.loads(text)) if text else NO_FEATURES


def _features_text(usage: Usage) -> str | None:
    record = usage.features.to_record()
    return report_text(f"features of {usage.identity}", record) if record else None


def tender_row(tender: Tender) -> dict[str, Any]:
    """Returns the tender's columns."""
    return {
        "run_id": tender.run_id,
        "account": tender.account,
        "capacity_id": tender.capacity_id,
        "cpu_millis": tender.size.cpu_millis,
        "memory_bytes": tender.size.memory_bytes,
        "gpu_count": tender.size.gpu_count,
        "priority": tender.priority,
        "noted_at": to_us(tender.noted_at),
    }


def tender_from(row: Row[Any]) -> Tender:
    """Returns the tender of a row."""
    return Tender(
        run_id=row.run_id,
        account=row.account,
        capacity_id=row.capacity_id,
        size=ResourceVector(
            cpu_millis=row.cpu_millis, memory_bytes=row.memory_bytes, gpu_count=row.gpu_count
        ),
        priority=row.priority,
        noted_at=from_us(row.noted_at),
    )


def open_request_row(opened: OpenRequest) -> dict[str, Any]:
    """Returns the open request's columns."""
    return {
        "run_id": opened.run_id,
        "step_key": opened.step_key,
        "account": opened.account,
        "job_name": opened.job_name,
        "moves": opened.moves,
        "budget_microusd": opened.budget_microusd,
        "report": report_text(
            f"request of {opened.run_id}/{opened.step_key}", request_record(opened.request)
        ),
    }


def open_request_from(row: Row[Any]) -> OpenRequest:
    """Returns the open request of a row."""
    return OpenRequest(
        run_id=row.run_id,
        step_key=row.step_key,
        account=row.account,
        job_name=row.job_name,
        moves=row.moves,
        budget_microusd=row.budget_microusd,
        request=request_from(json.loads(row.report)),
    )


def run_lease_from(row: Row[Any]) -> RunLease:
    """Returns the run lease of a row."""
    return RunLease(
        run_id=row.run_id,
        holder=row.holder,
        expires_at=from_us(row.expires_at),
        ended_at=from_us_or_none(row.ended_at),
    )


_PURCHASE_TIMES = ("expected_at", "started_at", "ready_at", "taken_at", "ended_at", "expires_at")
_PURCHASE_AS_IT_IS = (
    *("purchase_id", "provider", "resource_id", "capacity_id", "price_microusd_per_hour"),
    *("code_location", "job", "step_key", "source", "account", "fit", "waiting_saved_microusd"),
    *("holding_microusd", "reason", "buyer", "holder", "run_id", "outcome", "cost_microusd"),
    "minimum_ms",
)


def purchase_row(purchase: Purchase) -> dict[str, Any]:
    """Returns the purchase's columns."""
    return {
        **{name: getattr(purchase, name) for name in _PURCHASE_AS_IT_IS},
        **{name: to_us_or_none(getattr(purchase, name)) for name in _PURCHASE_TIMES},
        "state": purchase.state.value,
        "cpu_millis": purchase.size.cpu_millis,
        "memory_bytes": purchase.size.memory_bytes,
        "gpu_count": purchase.size.gpu_count,
    }


def purchase_from(row: Row[Any]) -> Purchase:
    """Returns the purchase of a row."""
    times: dict[str, Any] = {name: from_us_or_none(getattr(row, name)) for name in _PURCHASE_TIMES}
    return Purchase(
        **{name: getattr(row, name) for name in _PURCHASE_AS_IT_IS},
        **times,
        state=PurchaseState(row.state),
        size=ResourceVector(
            cpu_millis=row.cpu_millis, memory_bytes=row.memory_bytes, gpu_count=row.gpu_count
        ),
    )


_RENTAL_TIMES = ("planned_at", "opens_at", "valid_until", "opened_at", "closed_at")
_RENTAL_AS_IT_IS = (
    *("rental_id", "run_id", "auction_id", "bid_id", "capacity_id", "price_microusd_per_hour"),
    *("minimum_ms", "expected_ms", "cost_microusd", "rest_microusd"),
)


def rental_row(rental: Rental) -> dict[str, Any]:
    """Returns the rental's columns."""
    return {
        **{name: getattr(rental, name) for name in _RENTAL_AS_IT_IS},
        **{name: to_us_or_none(getattr(rental, name)) for name in _RENTAL_TIMES},
        "state": rental.state.value,
        "cpu_millis": rental.size.cpu_millis,
        "memory_bytes": rental.size.memory_bytes,
        "gpu_count": rental.size.gpu_count,
        "profile": json.dumps(asdict(rental.profile), sort_keys=True),
    }


def rental_from(row: Row[Any]) -> Rental:
    """Returns the rental of a row."""
    times: dict[str, Any] = {name: from_us_or_none(getattr(row, name)) for name in _RENTAL_TIMES}
    return Rental(
        **{name: getattr(row, name) for name in _RENTAL_AS_IT_IS},
        **times,
        state=RentalState(row.state),
        profile=CUProfile(**json.loads(row.profile)),
    )
