"""An auction as JSON: what the ledger keeps, ``explain`` prints and the run page links to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cu_market.domain.outline import RunOutline
from cu_market.domain.plan import Award, Loss, Plan
from cu_market.domain.request import ResourceRequest
from cu_market.domain.units import MICROUSD, format_bytes, format_usd
from cu_market.market.demand.requests import Demand
from cu_market.market.ends import Ends, ends_words
from cu_market.ral.bids import BidRound


def auction_report(
    outline: RunOutline,
    demand: Demand,
    bids: BidRound,
    plan: Plan,
    *,
    seconds: float,
    ends: Ends | None = None,
) -> dict[str, Any]:
    """Returns the whole report.

    Keys: job, expected_cost_usd, solver, budget (what is left of it, whether the plan is expected
    to pass it; None without one), deadline (see Ends.to_record; None without one, and where medians
    are planned with), notes (what else to know of how the plan came about, a sentence each), bids
    (one record a bid), rentals (CUs that the run has whole, one record each), problems (what was
    refused of bids), capacities, steps (one record a step: the request's, with winner, runner_up,
    losses); where other runs wait or the run is late, together (see retender.together_report).
    """
    awards = {award.request_id: award for award in plan.awards}
    locations = {bid.bid_id: bid.profile.location for bid in bids.bids}
    return {
        "job": outline.job_name,
        "expected_cost_usd": plan.money_microusd / MICROUSD,
        "seconds": round(seconds, 4),
        "solver": {
            "name": plan.solver,
            "objective_usd": plan.objective_microusd / MICROUSD,
            "bound_usd": plan.bound_microusd / MICROUSD,
            "gap_ratio": round(plan.gap_ratio, 6),
            "is_cut": plan.is_cut,
            "build_seconds": plan.build_ms / 1000,
            "solve_seconds": plan.solve_ms / 1000,
            "bidding_seconds": round(bids.seconds, 4),
        },
        "budget": _budget(demand, plan),
        "deadline": None if ends is None else ends.to_record(),
        "notes": list(plan.notes),
        "bids": [bid.to_record() for bid in bids.bids],
        "rentals": [rental.to_record() for rental in bids.rentals],
        "problems": [str(p) for problems in bids.problems.values() for p in problems],
        "capacities": {
            capacity_id: dict(size.items()) for capacity_id, size in bids.pool.capacities.items()
        },
        "steps": [
            _step(request, awards.get(request.request_id), locations) for request in demand.requests
        ],
    }


def step_report(report: Mapping[str, Any], step_key: str) -> Mapping[str, Any] | None:
    """Returns one step's part of an auction's report, or None."""
    return next((s for s in report.get("steps", ()) if s["step"] == step_key), None)


def _budget(demand: Demand, plan: Plan) -> dict[str, Any] | None:
    left = demand.left_microusd
    if left is None:
        return None
    return {"left_usd": left / MICROUSD, "is_passed": plan.money_microusd > left}


def _step(
    request: ResourceRequest, award: Award | None, locations: Mapping[str, str]
) -> dict[str, Any]:
    record = dict(request.to_record())
    record["identity"] = str(request.identity) if request.identity else ""
    for name, quantiles in (
        ("memory_bytes", request.memory_quantiles),
        ("duration_ms", request.duration_quantiles_ms),
    ):
        record[f"forecast_{name}"] = (
            None if quantiles is None else {"p50": quantiles.p50, "p95": quantiles.p95}
        )
    if award is None:
        return {**record, "winner": None, "runner_up": None, "losses": []}
    return {
        **record,
        "winner": {
            "provider": award.provider,
            "resource_id": award.resource_id,
            "location": locations.get(award.bid_id),
            "price_per_hour": award.price_microusd_per_hour / MICROUSD,
            "bid_price_per_hour": (
                award.price_microusd_per_hour
                if award.bid_price_microusd_per_hour is None
                else award.bid_price_microusd_per_hour
            )
            / MICROUSD,
            "start_seconds": award.start_ms / 1000,
            "expected_seconds": award.expected_ms / 1000,
            "expected_cost_usd": award.money_microusd / MICROUSD,
            "egress_usd": award.egress_microusd / MICROUSD,
            "transfer_seconds": award.transfer_ms / 1000,
            "expected_loss_usd": award.loss_microusd / MICROUSD,
            "total_cost_usd": award.cost_microusd / MICROUSD,
        },
        "binding": award.binding,
        "more_time": award.more_time,
        "more_money": award.more_money,
        "runner_up": _loss(award.runner_up) if award.runner_up else None,
        "losses": [_loss(loss) for loss in award.losses],
    }


def _loss(loss: Loss) -> dict[str, Any]:
    return {
        "provider": loss.provider,
        "resource_id": loss.resource_id,
        "reason": str(loss.reason),
        "detail": loss.detail,
        "total_cost_usd": None if loss.cost_microusd is None else loss.cost_microusd / MICROUSD,
        "wins_at_price_per_hour": None
        if loss.wins_at_microusd_per_hour is None
        else loss.wins_at_microusd_per_hour / MICROUSD,
    }


def asked(request: ResourceRequest | Mapping[str, Any]) -> str:
    """Returns what was asked in few words: ``1 core, 512.0 MiB``."""
    record = request.to_record() if isinstance(request, ResourceRequest) else request
    cores, gb = float(str(record["cpu_cores"])), float(str(record["memory_gb"]))
    gpu = f", {record['gpu_count']} x {record['gpu_type']}" if record["gpu_count"] else ""
    return f"{cores:g} core{'' if cores == 1 else 's'}, {format_bytes(round(gb * 10**9))}{gpu}"


def verdict(report: Mapping[str, Any]) -> str:
    """Returns an auction's outcome in one sentence."""
    steps = report["steps"]
    winners = {step["winner"]["resource_id"] for step in steps if step["winner"]}
    solver = report["solver"]
    cut = ", cut by the clock" if solver["is_cut"] else ""
    budget = report.get("budget")
    passed = ""
    if budget and budget["is_passed"]:
        left = format_usd(round(budget["left_usd"] * MICROUSD))
        passed = f" That is more than the {left} that is left of the run's budget."
    ends = ends_words(report["deadline"]) if report.get("deadline") else ""
    together = together_words(report.get("together") or {})
    return (
        f"Auction: {len(steps)} steps, {len(report['bids'])} bids, won by "
        f"{', '.join(sorted(winners)) or 'nobody'}; expected cost "
        f"{format_usd(round(report['expected_cost_usd'] * MICROUSD))}; {solver['name']}, "
        f"gap {100 * solver['gap_ratio']:.1f} %{cut}, {report['seconds']:.2f} s."
        f"{passed}{ends}{together}"
    )


def together_words(together: Mapping[str, Any]) -> str:
    """Returns what an auction says of other runs, in sentences that begin with a space."""
    words, runs = "", together.get("runs", ())
    if together.get("is_late"):
        words += " With what runs now, the run cannot end by its deadline: the quickest was taken."
    if runs:
        moved = [sentence for run in runs for sentence in run["moved"]]
        words += (
            f" Cleared together with {len(runs)} other run{'s' if len(runs) > 1 else ''} "
            f"({', '.join(run['job'] for run in runs[:3])}{', ...' if len(runs) > 3 else ''}): "
            + ("; ".join(moved[:3]) if moved else "nothing of theirs moves")
            + (f" and {len(moved) - 3} more moves." if len(moved) > 3 else ".")
        )
    if together.get("held"):
        jobs = ", ".join(run["job"] for run in runs if run["run_id"] in together["held"])
        words += f" Kept on its CUs, since a move would pass its own budget: {jobs}."
    if together.get("queued"):
        jobs = ", ".join(run["job"] for run in together["queued"])
        words += f" Planned with what waits in the queue ({jobs})."
    if together.get("left_out"):
        words += f" {together['left_out']} waiting steps of other runs were left out."
    return words
