"""What the run page is told: the auction, each award, each wait, each bill."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from dagster import (
    MetadataValue,
    TableColumn,
    TableRecord,
    TableSchema,
)

from cu_market.dagster_compat.events import EngineEventData
from cu_market.domain.allocation import Allocation
from cu_market.domain.auction import Auction
from cu_market.domain.lease import Refusal
from cu_market.domain.purchase import Purchase
from cu_market.domain.rental import Rental
from cu_market.domain.units import MICROUSD, format_bytes, format_usd
from cu_market.domain.usage import Ending, Measurement
from cu_market.market.report import asked, verdict

MAX_ROWS = 5
"""The run page cuts longer tables."""


def table(rows: Sequence[Mapping[str, str]]) -> MetadataValue:
    """Returns rows of text as a table; all have the first row's columns."""
    columns = [TableColumn(name=name) for name in (rows[0] if rows else {})]
    return MetadataValue.table(
        records=[TableRecord(dict(row)) for row in rows], schema=TableSchema(columns=columns)
    )


def auction_event(auction: Auction) -> tuple[str, EngineEventData]:
    """Returns the sentence and the tables that tell a run's auction."""
    steps = auction.report["steps"]
    dearest = sorted(
        steps,
        key=lambda s: -(s["winner"]["expected_cost_usd"] if s["winner"] else 0),
    )[:MAX_ROWS]
    solver = auction.report["solver"]
    metadata: dict[str, MetadataValue] = {
        "cu/awards": table([_award_row(step) for step in dearest]),
        "cu/expected_cost_usd": MetadataValue.float(auction.report["expected_cost_usd"]),
        "cu/solver": MetadataValue.text(
            f"{solver['name']}, gap {100 * solver['gap_ratio']:.2f} %, "
            f"bidding {solver['bidding_seconds']:.2f} s, solving {solver['solve_seconds']:.2f} s"
        ),
        "cu/whole_report": MetadataValue.text(f"cu-market explain {auction.run_id}"),
    }
    if auction.report.get("rentals"):
        metadata["cu/rentals"] = table([_rental_row(each) for each in auction.report["rentals"]])
    if auction.report["problems"]:
        metadata["cu/refused_bids"] = MetadataValue.text("\n".join(auction.report["problems"]))
    if auction.report.get("notes"):
        metadata["cu/notes"] = MetadataValue.text("\n".join(auction.report["notes"]))
    sentence = verdict(auction.report)
    if len(steps) > MAX_ROWS:
        sentence += f" The table shows the {MAX_ROWS} dearest steps."
    return sentence, EngineEventData(metadata=metadata)


def _rental_row(rental: Mapping[str, Any]) -> dict[str, str]:
    return {
        "CU": rental["resource_id"],
        "size": f"{rental['cpu_cores']:g} cores, {rental['memory_gb']:.1f} GB",
        "price/h": format_usd(round(rental["price_per_hour"] * MICROUSD)),
        "opens": rental["opens_at"],
        "for": f"{rental['expected_seconds']:.1f} s",
    }


def _award_row(step: Mapping[str, Any]) -> dict[str, str]:
    winner, runner_up = step["winner"], step["runner_up"]
    return {
        "step": step["step"],
        "asked": f"{asked(step)} ({step['reason']})",
        "winner": winner["resource_id"] if winner else "none",
        "price/h": format_usd(round(winner["price_per_hour"] * MICROUSD)) if winner else "",
        "runner-up": f"{runner_up['resource_id']}: {runner_up['detail']}" if runner_up else "",
    }


def award_message(award: Allocation, report: Mapping[str, Any]) -> str:
    """Returns a step's award in one sentence."""
    runner_up = report.get("runner_up")
    lost = f"; {runner_up['resource_id']} lost: {runner_up['detail']}" if runner_up else ""
    return (
        f"Asked {asked(report)} ({report['reason']}). Runs on {award.resource_id} at "
        f"{format_usd(award.price_microusd_per_hour)} an hour{lost}."
    )


def award_metadata(award: Allocation, report: Mapping[str, Any]) -> dict[str, MetadataValue]:
    """Returns the award's table: the winner first, then who lost and why."""
    winner = {
        "CU": award.resource_id,
        "price/h": format_usd(award.price_microusd_per_hour),
        "verdict": "won",
    }
    losers = [
        {"CU": loss["resource_id"], "price/h": "", "verdict": f"{loss['reason']}: {loss['detail']}"}
        for loss in report.get("losses", ())[: MAX_ROWS - 1]
    ]
    found: dict[str, MetadataValue] = {"cu/award": table([winner, *losers])}
    for name in ("binding", "more_time", "more_money"):
        if report.get(name):
            found[f"cu/{name}"] = MetadataValue.text(report[name])
    return found


def waiting_message(award: Allocation, refusal: Refusal) -> str:
    """Returns why a step waits."""
    if refusal.reason:
        return f"Waiting: {refusal.reason}. The run can be cancelled."
    free = refusal.free
    return (
        f"Waiting for room on {award.resource_id}: asks {award.size.cpu_millis / 1000:g} cores and "
        f"{format_bytes(award.size.memory_bytes)}, free are {free.cpu_millis / 1000:g} cores and "
        f"{format_bytes(free.memory_bytes)}. It starts when a lease ends; the run can be cancelled."
    )


def offer_ended_message(award: Allocation, then: str) -> str:
    """Returns that an awarded offer had ended before its step was leased.

    Args:
        award: as it was.
        then: what became of it, a sentence.
    """
    if award.valid_until is None:
        return (
            f"{award.resource_id} is rented no more, where step {award.step_key} was to run. {then}"
        )
    until = award.valid_until.isoformat(timespec="seconds")
    return (
        f"{award.resource_id} was offered until {until}, and step {award.step_key} was not leased "
        f"by then. {then}"
    )


def ahead_message(purchase: Purchase, lease: Allocation) -> str:
    """Returns that a step starts on a CU that was bought ahead, when, why, and what that cost."""
    begun = lease.leased_at or purchase.started_at
    cost = format_usd(purchase.cost_until(begun))
    stood = (begun - purchase.started_at).total_seconds()
    return (
        f"Bought ahead: the worker on {purchase.resource_id} was started {stood:.1f} s before this "
        f"lease, for {cost}. {purchase.reason}."
    )


def growth_message(before: Allocation, after: Allocation, limit_in_ms: int, reason: str) -> str:
    """Returns what a lease has grown to, when it would have been too small, and why."""
    has, gets = (format_bytes(lease.size.memory_bytes) for lease in (before, after))
    old, new = (format_usd(lease.price_microusd_per_hour) for lease in (before, after))
    return (
        f"Step {after.step_key} grows in place on {after.resource_id} from {has} to {gets} ({old} "
        f"an hour, from now {new}): {_limit_words(has, limit_in_ms, reason)}."
    )


def no_growth_message(
    lease: Allocation, limit_in_ms: int, reason: str, refusal: Refusal | None
) -> str:
    """Returns why a lease that will be too small cannot grow, and what follows."""
    has = format_bytes(lease.size.memory_bytes)
    why = f"{lease.resource_id} is not sold at that size and price"
    if refusal is not None:
        free = format_bytes(refusal.free.memory_bytes)
        why = refusal.reason or f"{lease.capacity_id} has {free} for it in all"
    return (
        f"Step {lease.step_key} cannot grow in place, for {why}: "
        f"{_limit_words(has, limit_in_ms, reason)}. It goes on; ended for memory, it is auctioned "
        "again with more."
    )


def _limit_words(has: str, limit_in_ms: int, reason: str) -> str:
    return f"its {has} are foreseen to be full in {limit_in_ms / 1000:.1f} s, since {reason}"


def bill_event(
    settled: Allocation, measurement: Measurement, ending: Ending, report: Mapping[str, Any]
) -> tuple[str, EngineEventData]:
    """Returns a step's bill: cost, and use against what was asked and forecast."""
    cost = settled.cost_microusd or 0
    seconds = settled.duration_seconds or 0.0
    memory = report.get("forecast_memory_bytes")
    duration = report.get("forecast_duration_ms")
    rows = [
        {
            "": "memory",
            "used": format_bytes(measurement.peak_memory_bytes),
            "asked": format_bytes(settled.size.memory_bytes),
            "forecast p50": format_bytes(memory["p50"]) if memory else "none",
        },
        {
            "": "CPU",
            "used": f"{measurement.cpu_ms / 1000:.2f} core-seconds",
            "asked": f"{settled.size.cpu_millis / 1000:g} core(s)",
            "forecast p50": "",
        },
        {
            "": "time",
            "used": f"{measurement.wall_ms / 1000:.2f} s",
            "asked": f"{settled.expected_ms / 1000:.2f} s",
            "forecast p50": f"{duration['p50'] / 1000:.2f} s" if duration else "none",
        },
    ]
    if measurement.gpu_scope is not None:
        rows.append(
            {
                "": "GPU",
                "used": _gpu_words(measurement),
                "asked": f"{settled.size.gpu_count} GPU(s)",
                "forecast p50": "",
            }
        )
    sentence = (
        f"Bill: {format_usd(cost)} for {seconds:.2f} s on {settled.resource_id} "
        f"(attempt {settled.attempt}, {ending})."
    )
    return sentence, EngineEventData(
        metadata={
            "cu/use": table(rows),
            "cu/cost_usd": MetadataValue.float(cost / MICROUSD),
        }
    )


def rental_message(rental: Rental) -> str:
    """Returns the bill of a CU that was rented whole."""
    cost, rest = rental.cost_microusd or 0, rental.rest_microusd or 0
    opened, closed = rental.opened_at or rental.planned_at, rental.closed_at or rental.planned_at
    return (
        f"Bill: {format_usd(cost)} for {(closed - opened).total_seconds():.2f} s of "
        f"{rental.resource_id}, rented whole and shared; {format_usd(rest)} of it is on no step's "
        "bill."
    )


def materialization_metadata(
    lease: Allocation, measurement: Measurement, now: datetime
) -> dict[str, MetadataValue]:
    """Returns what a materialization is told of its step's use and cost up to this moment.

    The cost is not rounded to the ledger's micro-dollars: a step of 50 ms costs less than one, and
    its asset's page is to plot it all the same.
    """
    since = lease.priced_since or lease.leased_at or now
    hours = (now - since) / timedelta(hours=1)
    cost_microusd = lease.accrued_microusd + lease.price_microusd_per_hour * hours
    found: dict[str, MetadataValue] = {
        "cu/cost_usd": MetadataValue.float(cost_microusd / MICROUSD),
        "cu/peak_memory_gb": MetadataValue.float(measurement.peak_memory_bytes / 10**9),
        "cu/cpu_seconds": MetadataValue.float(measurement.cpu_ms / 1000),
        "cu/wall_seconds": MetadataValue.float(measurement.wall_ms / 1000),
        "cu/resource_id": MetadataValue.text(lease.resource_id),
    }
    if measurement.gpu_peak_bytes is not None and measurement.gpu_scope is not None:
        found["cu/gpu_peak_memory_gb"] = MetadataValue.float(measurement.gpu_peak_bytes / 10**9)
        found["cu/gpu_scope"] = MetadataValue.text(measurement.gpu_scope)
    if measurement.gpu_busy_millis is not None:
        found["cu/gpu_utilisation"] = MetadataValue.float(measurement.gpu_busy_millis / 1000)
    return found


def _gpu_words(measurement: Measurement) -> str:
    busy = measurement.gpu_busy_millis
    utilisation = "utilisation unknown" if busy is None else f"{busy / 1000:.2f} busy"
    memory = format_bytes(measurement.gpu_peak_bytes or 0)
    return f"{memory}, {utilisation} ({measurement.gpu_scope})"
