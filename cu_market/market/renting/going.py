"""A run on rented CUs as its executor sees it, and what is left on them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from cu_market.dnm.renegotiation import Spread
from cu_market.dnm.renting import Left, Stay, Waiting
from cu_market.domain.allocation import Allocation
from cu_market.domain.open_request import OpenRequest
from cu_market.domain.outline import expanded, template_key
from cu_market.domain.rental import Rental, RentalState
from cu_market.ledger.interface import Ledger

_MILLISECOND = timedelta(milliseconds=1)

Waits = Mapping[str, tuple[Allocation, OpenRequest]]
"""By step, its award on a rental and what that answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Going:
    """A run as its executor sees it. Milliseconds are after its origin.

    Attributes:
        run_id: the run.
        origin: when its auction was held.
        parents: of each step of its plan.
        begun: steps that have had a lease.
        over: steps that will never run.
        mapped: steps of which something that was mapped from them has not ended.
        left_ms: by step, how long its running attempt is expected to go on.
        planned_ms: by step that has not begun, its planned start.
        spreads: of durations, by step.
        deadline_ms: of the run, or when it was planned to end.
        reports: by step, what its last auction said of it.
        has_budget: whether the run has one.
    """

    run_id: str
    origin: datetime
    parents: Mapping[str, tuple[str, ...]]
    begun: Collection[str]
    over: Collection[str] = ()
    mapped: Collection[str] = ()
    left_ms: Mapping[str, int]
    planned_ms: Mapping[str, int]
    spreads: Mapping[str, Spread]
    deadline_ms: int
    reports: Mapping[str, Mapping[str, Any]]
    has_budget: bool = False

    def has_ended(self, step: str) -> bool:
        """Whether a step is waited for no more; one that is mapped, all that was mapped from it."""
        is_had = step in self.begun and step not in self.left_ms and step not in self.mapped
        return step in self.over or is_had

    def ms(self, moment: datetime) -> int:
        """Returns a moment in milliseconds after the origin."""
        return round((moment - self.origin) / _MILLISECOND)


def left_of(
    ledger: Ledger,
    going: Going,
    kept: Waits,
    current: Mapping[str, Rental],
    rentals: Collection[Rental],
    now: datetime,
) -> Left:
    """Returns what is left on a run's rentals.

    Args:
        ledger: where what ran and runs there is.
        going: the run.
        kept: what waits on rentals that can be had.
        current: those, by rental_id.
        rentals: all that the run has or had.
        now: the present.
    """
    now_ms = going.ms(now)
    stays = []
    for row in ledger.allocations(run_id=going.run_id):
        if row.leased_at is None or row.capacity_id not in current:
            continue
        end_ms = now_ms + going.left_ms.get(row.step_key, 0) + 1
        stays.append(
            Stay(
                step_key=row.step_key,
                rental_id=row.capacity_id,
                start_ms=going.ms(row.leased_at),
                end_ms=going.ms(row.ended_at) if row.ended_at is not None else end_ms,
                size=row.size,
            )
        )
    running = {stay.step_key for stay in stays if stay.end_ms > now_ms}
    waiting = {}
    before = {step: expanded(going.parents.get(step, ()), {*kept, *running}) for step in kept}
    due = _due_ms(going, kept, now_ms)
    retries = _retries_ms(going, kept, before)
    for step, (row, asked) in kept.items():
        parents = before[step]
        elsewhere = [
            _end_ms(going, p, now_ms) for p in parents if p not in kept and p not in running
        ]
        waiting[step] = Waiting(
            request=asked.request,
            size=row.size,
            rental=current[row.capacity_id],
            planned_ms=max(now_ms, going.planned_ms.get(step, now_ms)),
            earliest_ms=max([now_ms, *elsewhere]),
            latest_ms=due.get(step, due.get(template_key(step))),
            retry_ms=retries.get(step),
            parents=tuple(p for p in parents if p in kept or p in running),
        )
    return Left(
        now_ms=now_ms,
        waiting=waiting,
        ready=[s for s in kept if all(going.has_ended(p) for p in before[s])],
        stays=stays,
        rentals={
            key: going.ms(each.opened_at)
            for key, each in current.items()
            if each.opened_at is not None
        },
        deadline_ms=going.deadline_ms,
        bill_microusd=sum(
            each.bill_microusd(1000 * each.expected_ms)
            for each in rentals
            if each.state is not RentalState.DROPPED
        ),
        spreads=going.spreads,
    )


def _due_ms(going: Going, kept: Collection[str], now_ms: int) -> dict[str, int]:
    """Returns when each step is to end for those that wait for it and are on no rental; a time that
    has passed binds nobody any more."""
    due: dict[str, int] = {}
    for child, parents in going.parents.items():
        start_ms = going.planned_ms.get(child, 0)
        if child in kept or child in going.begun or child in going.over or start_ms <= now_ms:
            continue
        for parent in parents:
            due[parent] = min(start_ms, due.get(parent, start_ms))
    return due


def _retries_ms(going: Going, kept: Waits, before: Mapping[str, tuple[str, ...]]) -> dict[str, int]:
    """Returns by when each step is to end where it may be revoked, so that it could run again, and
    what waits for it on rentals, by the deadline."""
    children: dict[str, list[str]] = {step: [] for step in kept}
    for step, parents in before.items():
        for parent in parents:
            if parent in children:
                children[parent].append(step)
    tails: dict[str, int] = {}

    def tail_ms(step: str) -> int:
        stack = [step]
        while stack:
            top = stack[-1]
            missing = [child for child in children[top] if child not in tails]
            if missing:
                stack += missing
                continue
            after = max((tails[child] for child in children[top]), default=0)
            tails[top] = after + kept[top][0].expected_ms
            stack.pop()
        return tails[step]

    return {
        step: going.deadline_ms - tail_ms(step)
        for step, (_, asked) in kept.items()
        if asked.request.retry_must_fit and asked.request.latest_finish_ms is not None
    }


def _end_ms(going: Going, step: str, now_ms: int) -> int:
    """Returns when a step that is on no rental is expected to end."""
    if going.has_ended(step):
        return now_ms
    if step in going.left_ms:
        return now_ms + going.left_ms[step]
    winner = going.reports.get(step, {}).get("winner") or {}
    takes_ms = round(1000 * float(winner.get("expected_seconds", 0)))
    return max(now_ms, going.planned_ms.get(step, now_ms)) + takes_ms
