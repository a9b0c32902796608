"""A plan within a budget: the Lagrangian of one row, money at most B.

    min sum_i money_i + (loss_i + delay_i) x theta,   0 <= theta <= 1

is what a multiplier 1/theta - 1 on money comes to. At theta = 1 it is the plan without a budget; at
0 only the bill counts, and if that plan's passes B, none is found within it. In between, theta is
halved towards the largest whose plan is within B (Everett 1963). What the plan there leaves of B is
then spent on single requests: each may take the bid that the next dearer plan gives it, what saves
most for its money first. Every plan is priced anew at theta = 1 before it is compared.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from cu_market.domain.plan import Plan

WHOLE = 1000
"""Theta is counted in thousandths."""

HALVINGS = 6


def plan_within(
    found: Plan,
    budget_microusd: int,
    *,
    replan: Callable[[int], Plan],
    price: Callable[[Mapping[str, str]], Plan],
    own: Collection[str] | None = None,
    has_time: Callable[[], bool] = lambda: True,
) -> Plan:
    """Returns a plan whose expected bill is within the budget, or the cheapest found if none is.

    Args:
        found: the plan without a budget.
        budget_microusd: what it may cost.
        replan: the plan where all but money counts by that many thousandths.
        price: the plan of a choice of bids at its true cost.
        own: request_ids that the budget pays for; None: all.
        has_time: asked before each halving; without it the best so far is returned, as cut.
    """

    def weighed(theta: int) -> Plan:
        planned = replan(theta)
        return replace(price(_choice(planned)), is_cut=planned.is_cut)

    def bill(of: Plan) -> int:
        return bill_microusd(of, own)

    if bill(found) <= budget_microusd:
        return found
    cheapest = weighed(0)
    if bill(cheapest) > budget_microusd:
        return min(found, cheapest, key=lambda plan: (len(plan.unserved), bill(plan)))
    best, dearer = cheapest, found
    low, high = 0, WHOLE
    is_cut = False
    for _ in range(HALVINGS):
        if not has_time():
            is_cut = True
            break
        theta = (low + high) // 2
        plan = weighed(theta)
        if bill(plan) <= budget_microusd:
            low, best = theta, min(best, plan, key=_rank)
        else:
            high, dearer = theta, plan
    for above in (dearer, found):
        filled = price(_filled(best, above, budget_microusd - bill(best), own))
        if bill(filled) <= budget_microusd:
            best = min(best, replace(filled, is_cut=best.is_cut), key=_rank)
    return replace(best, is_cut=best.is_cut or is_cut)


def bill_microusd(plan: Plan, own: Collection[str] | None = None) -> int:
    """Returns the expected bill of these requests of a plan; of all where None."""
    return sum(
        award.money_microusd for award in plan.awards if own is None or award.request_id in own
    )


def _choice(plan: Plan) -> dict[str, str]:
    return {award.request_id: award.bid_id for award in plan.awards}


def _rank(plan: Plan) -> tuple[int, int]:
    return len(plan.unserved), plan.objective_microusd


def _filled(within: Plan, above: Plan, left: int, own: Collection[str] | None) -> dict[str, str]:
    """Returns the choice of the plan within the budget, with what more of the dearer one's fits."""
    choice = _choice(within)
    options: list[tuple[float, str, int]] = []
    for award in within.awards:
        other = above.award_for(award.request_id)
        if other is None or other.cost_microusd >= award.cost_microusd:
            continue
        if own is not None and award.request_id not in own:
            continue
        more = other.money_microusd - award.money_microusd
        saves = award.cost_microusd - other.cost_microusd
        options.append((more / saves, award.request_id, more))
    gains = {award.request_id: award.bid_id for award in above.awards}
    for _, request_id, more in sorted(options):
        if more <= left:
            choice[request_id] = gains[request_id]
            left -= more
    return choice
