"""Who goes first when a pool is too small, and what an account or a run may still spend.

Weighted fair sharing, as start-time fair queueing has it (Goyal, Vin, Cheng, SIGCOMM 1996): of the
accounts that wait for a capacity, the one with the least use / weight takes what becomes free. Use
is core-milliseconds over a window that slides, so that an account cannot save up a claim. A lease
that goes on counts for its expected time at least: what was just given is not given twice.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction

from cu_market.domain.allocation import HOLDING, Allocation, AllocationState
from cu_market.domain.outline import template_key
from cu_market.domain.plan import Award
from cu_market.domain.purchase import Purchase
from cu_market.domain.rental import Rental
from cu_market.domain.resources import ResourceVector
from cu_market.domain.tender import Tender
from cu_market.domain.units import lease_cost_microusd

DEFAULT_ACCOUNT = "default"

TENDER_SECONDS = 3.0
"""A tender that was not renewed for so long counts for nothing: its run may be gone."""

_MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What the configuration says of one account.

    Attributes:
        weight: its share of a pool that is too small, relative to the others'.
        ceiling_microusd_per_day: what it may spend in any 24 hours, or None.
    """

    weight: Fraction = Fraction(1)
    ceiling_microusd_per_day: int | None = None


def used_core_ms(
    leases: Iterable[Allocation],
    account_of: Mapping[str, str],
    *,
    since: datetime,
    now: datetime,
) -> dict[str, int]:
    """Returns core-milliseconds (thousandths of a core x seconds) by account since that moment.

    Args:
        leases: held, or ended after since.
        account_of: account by run_id; runs that are not in it are the default account's.
        since: beginning of the window.
        now: its end.
    """
    used: dict[str, int] = defaultdict(int)
    for lease in leases:
        if lease.leased_at is None:
            continue
        end = lease.ended_at or now
        if lease.state in HOLDING:
            end = max(now, lease.leased_at + lease.expected_ms * _MILLISECOND)
        held_ms = max(0, (end - max(since, lease.leased_at)) // _MILLISECOND)
        account = account_of.get(lease.run_id, DEFAULT_ACCOUNT)
        used[account] += lease.size.cpu_millis * held_ms // 1000
    return dict(used)


def goes_first(
    own: Tender,
    tenders: Sequence[Tender],
    used: Mapping[str, int],
    terms: Mapping[str, Terms],
    *,
    free: ResourceVector,
    total: ResourceVector,
    now: datetime,
) -> Tender | None:
    """Returns the tender that has a better claim to what is free than one's own, or None.

    Better is the claim of another account that waits for the same capacity now, for a size that
    would fit, with less use / weight, and of a run of the same account with a larger priority: of
    that one also where its size is not free yet, since it never would be if others took each part.
    Among equals, whoever asks first goes.

    Args:
        own: what is asked.
        tenders: of all runs.
        used: by account, see used_core_ms.
        terms: by account.
        free, total: of the capacity, now and at all.
        now: the present.
    """

    def claim(account: str) -> Fraction:
        return Fraction(used.get(account, 0)) / terms.get(account, Terms()).weight

    def is_better(other: Tender) -> bool:
        if other.account == own.account:
            return other.size.fits_in(total)
        return other.size.fits_in(free) and claim(other.account) < claim(own.account)

    better = [other for other in rivals(own, tenders, now) if is_better(other)]
    return min(
        better, key=lambda t: (claim(t.account), t.account, -t.priority, t.run_id), default=None
    )


def rivals(own: Tender, tenders: Iterable[Tender], now: datetime) -> list[Tender]:
    """Returns the tenders that may have a better claim than one's own: those of runs that wait for
    the same capacity now, of other accounts or more urgent ones of the same."""
    return [
        other
        for other in tenders
        if other.run_id != own.run_id
        and other.capacity_id == own.capacity_id
        and now - other.noted_at < timedelta(seconds=TENDER_SECONDS)
        and (other.account != own.account or other.priority > own.priority)
    ]


def committed_microusd(
    leases: Iterable[Allocation], now: datetime, rentals: Iterable[Rental] = ()
) -> int:
    """Returns what leases have cost, those that go on at their expected time at least, the egress
    of what their steps read, as it was expected, and what they leave of the bills of CUs that are
    or were rented, as these are expected."""
    total = 0
    paid: dict[str, int] = defaultdict(int)
    for lease in leases:
        cost = _lease_microusd(lease, now)
        paid[lease.capacity_id] += cost
        total += cost + lease.egress_due_microusd
    had = (rental for rental in rentals if rental.opened_at is not None)
    return total + sum(each.rest_foreseen_microusd(paid[each.rental_id], now) for each in had)


def _lease_microusd(lease: Allocation, now: datetime) -> int:
    if lease.cost_microusd is not None:
        return lease.cost_microusd
    if lease.leased_at is None:
        return 0
    end = lease.ended_at or now
    if lease.state in HOLDING:
        least_ms = max(lease.expected_ms, lease.minimum_ms)
        end = max(end, lease.leased_at + least_ms * _MILLISECOND)
    return lease.cost_until(end)


def standing_microusd(purchases: Iterable[Purchase], now: datetime) -> int:
    """Returns what CUs bought ahead have cost, those that stand until now: from now on they may be
    let go at any moment, so what they may cost yet is promised to nobody."""
    return sum(
        each.cost_until(now) if each.cost_microusd is None else each.cost_microusd
        for each in purchases
    )


def left_microusd(
    rows: Iterable[Allocation],
    budget_microusd: int,
    steps: Collection[str],
    now: datetime,
    *,
    rentals: Iterable[Rental] = (),
) -> int:
    """Returns what a run's budget leaves for some of its steps, at least 0: the budget without what
    its leases have cost and will, and without what its other steps were awarded. A mapped step's
    template stands for one step: once one of those that it stands for is known, that one counts.

    Args:
        rows: all of the run's.
        budget_microusd: the run's.
        steps: those that are to be awarded now.
        now: the present.
        rentals: all of the run's.
    """
    foreseen = foreseen_microusd(rows, now, without=steps, rentals=rentals)
    return max(0, budget_microusd - foreseen)


def foreseen_microusd(
    rows: Iterable[Allocation],
    now: datetime,
    *,
    without: Collection[str] = (),
    rentals: Iterable[Rental] = (),
) -> int:
    """Returns what a run has cost, and what its leases, its awards and its rentals are expected to
    cost yet.

    Args:
        rows: all of the run's.
        now: the present.
        without: steps whose awards are not counted.
        rentals: all of the run's; one that is to be opened counts where any of these awards is on
            it.
    """
    known = list(rows)
    newest: dict[str, Allocation] = {}
    for row in sorted(known, key=lambda row: row.attempt):
        newest[row.step_key] = row
    there = {*newest, *without}
    stood_for = {template_key(step_key) for step_key in there if template_key(step_key) != step_key}
    awarded = [
        row
        for row in newest.values()
        if row.state is AllocationState.AWARDED and row.step_key not in stood_for.union(without)
    ]
    paid: dict[str, int] = defaultdict(int)
    for row in known:
        paid[row.capacity_id] += _lease_microusd(row, now)
    for row in awarded:
        paid[row.capacity_id] += expected_microusd(row) - row.egress_microusd
    wanted = {row.capacity_id for row in awarded}
    rests = sum(
        rental.rest_foreseen_microusd(paid[rental.rental_id], now)
        for rental in rentals
        if rental.opened_at is not None or rental.rental_id in wanted
    )
    return committed_microusd(known, now) + sum(map(expected_microusd, awarded)) + rests


def expected_microusd(award: Allocation) -> int:
    """Returns what an award would cost if it takes the expected time, with its egress."""
    return award_microusd(award, award.minimum_ms)


def award_microusd(award: Allocation | Award, minimum_ms: int) -> int:
    """Returns the same of a plan's award too, by the least time that its bid bills."""
    billed_ms = max(award.expected_ms, minimum_ms)
    return lease_cost_microusd(award.price_microusd_per_hour, billed_ms) + award.egress_microusd
