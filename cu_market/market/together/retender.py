"""Awards of other runs that an auction moves: written, counted, told.

Each moved run gets an auction record of its own (place ``together``), from which its executor reads
what its step was moved to, and why. The ledger gives each award to whoever comes first: its run, to
lease it, or this auction, to move it; so what is reported is what the ledger has taken.
"""

from __future__ import annotations

import uuid
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from cu_market.domain.allocation import Allocation
from cu_market.domain.auction import Auction
from cu_market.domain.open_request import OpenRequest
from cu_market.domain.outline import RunOutline
from cu_market.domain.plan import Plan
from cu_market.domain.spec import RunSpec
from cu_market.domain.units import MICROUSD
from cu_market.ledger.interface import Ledger
from cu_market.market.awarding import allocation_of
from cu_market.market.demand.requests import Demand
from cu_market.market.report import auction_report
from cu_market.market.together.crowd import spare_microusd
from cu_market.market.together.joint import Together
from cu_market.market.together.moves import JointMove, beyond_budget
from cu_market.ral.bids import BidRound

TOGETHER = "together"
"""Where such an auction was held, as its record says."""

GRACE = timedelta(seconds=10)
"""How much longer than planned a step gives way: a run worker takes that long to start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """One move that the ledger has taken.

    Attributes:
        move: as planned.
        row: the new award.
    """

    move: JointMove
    row: Allocation


def open_requests(
    outline: RunOutline,
    demand: Demand,
    account: str,
    awards: Container[str],
    moves: Mapping[str, int] | None = None,
) -> list[OpenRequest]:
    """Returns what these awards answer, as the ledger keeps it.

    Args:
        outline: the run.
        demand: its steps as they were sized.
        account: who pays.
        awards: step keys of those that were awarded.
        moves: by step key, how often its award was moved of free will before.
    """
    return [
        OpenRequest(
            run_id=outline.run_id,
            step_key=request.request_id,
            account=account,
            job_name=outline.job_name,
            moves=(moves or {}).get(request.request_id, 0),
            budget_microusd=demand.run.budget_microusd,
            request=replace(request, kept=None),  # where the others are is looked at each time
        )
        for request in demand.requests
        if request.request_id in awards
    ]


def write_moves(
    ledger: Ledger,
    by: RunOutline,
    found: Together,
    bids: BidRound,
    attempts: Mapping[str, int],
    now: datetime,
) -> list[Moved]:
    """Moves what the joint plan moves, run by run; returns what the ledger has taken.

    Args:
        ledger: where awards are.
        by: the run whose auction it is.
        found: the joint plan.
        bids: at which it was planned.
        attempts: of the run's own awards, by step key.
        now: the auction's time.
    """
    by_run: dict[str, list[JointMove]] = {}
    for move in found.moves:
        by_run.setdefault(move.step.award.run_id, []).append(move)
    taken: list[Moved] = []
    for run_id in sorted(by_run):
        moves = by_run[run_id]
        spare = spare_microusd(ledger, [move.step.asked for move in moves], now)
        if beyond_budget(moves, spare, bids.bids):
            continue  # it has spent meanwhile, or somebody else has moved it
        auction_id = uuid.uuid4().hex
        awards = [
            allocation_of(
                move.award,
                run_id,
                auction_id,
                move.step.award.attempt + 1,
                now,
                minimum_ms=bids.minimum_ms(move.award.bid_id),
                valid_until=bids.valid_until(move.award.bid_id),
            )
            for move in moves
        ]
        auction = Auction(
            auction_id=auction_id,
            run_id=run_id,
            held_at=now,
            mode="market",
            place=TOGETHER,
            report=_report(by, found, moves, bids, attempts, now),
        )
        asked = [
            replace(move.step.asked, moves=move.step.asked.moves + 1, run_id=run_id)
            for move in moves
        ]
        rows = {row.step_key: row for row in ledger.supersede(auction, awards, asked)}
        taken += [
            Moved(move=move, row=rows[move.award.request_id])
            for move in moves
            if move.award.request_id in rows
        ]
    return taken


def _report(
    by: RunOutline,
    found: Together,
    moves: Sequence[JointMove],
    bids: BidRound,
    attempts: Mapping[str, int],
    now: datetime,
) -> dict[str, Any]:
    """Returns the report of a moved run's auction: that of its steps, each with why it moved."""
    own = [move.step.asked for move in moves]
    outline = RunOutline(run_id=own[0].run_id, job_name=own[0].job_name)
    requests = tuple(replace(move.step.request, request_id=move.award.request_id) for move in moves)
    part: Plan = replace(found.plan, awards=tuple(move.award for move in moves), unserved=())
    demand = Demand(requests=requests, sized={}, run=RunSpec())
    report = auction_report(outline, demand, bids, part, seconds=0.0)
    why = (
        f"all together then cost {_usd(found.moved_microusd)} instead of "
        f"{_usd(found.stays_microusd)}, delays counted"
    )
    for record, move in zip(report["steps"], moves, strict=True):
        until = now + timedelta(milliseconds=move.award.start_ms) + GRACE
        record["moved"] = {
            "by_run": by.run_id,
            "by_job": by.job_name,
            "sentence": move.sentence(),
            "why": why,
            "moves": move.step.asked.moves + 1,
            "gives_way_to": [[by.run_id, key, attempts.get(key, 1)] for key in move.gives_way_to],
            "until": until.isoformat() if move.gives_way_to else None,
        }
    return report


def together_report(found: Together, taken: Sequence[Moved]) -> dict[str, Any]:
    """Returns what an auction's report says of other runs: who was planned with, what moved.

    Keys: runs (one record a run: run_id, job, account, steps, moved), queued (the same of runs that
    have no awards yet), left_out (steps that were not planned with), held (run_ids that stay on
    their CUs for their budgets), stays_usd, moved_usd, is_cut, is_late.
    """
    runs: dict[str, dict[str, Any]] = {}
    for asked in (step.asked for step in found.steps):
        runs.setdefault(asked.run_id, _run(asked) | {"moved": []})["steps"] += 1
    for each in taken:
        runs[each.row.run_id]["moved"].append(each.move.sentence())
    queued: dict[str, dict[str, Any]] = {}
    for asked in found.queued:
        queued.setdefault(asked.run_id, _run(asked))["steps"] += 1
    return {
        "runs": list(runs.values()),
        "queued": list(queued.values()),
        "left_out": found.left_out,
        "held": sorted(found.held),
        "stays_usd": found.stays_microusd / MICROUSD,
        "moved_usd": found.moved_microusd / MICROUSD,
        "is_cut": found.is_cut,
        "is_late": found.is_late,
    }


def _run(asked: OpenRequest) -> dict[str, Any]:
    return {
        "run_id": asked.run_id,
        "job": asked.job_name,
        "account": asked.account,
        "steps": 0,
    }


def _usd(microusd: int) -> str:
    return f"${microusd / MICROUSD:.6f}"
