"""A plan within a budget: the Lagrangian of one row, money at most B.

    min sum_i money_i + (loss_i + delay_i) x theta,   0 <= theta <= 1

is what a multiplier 1/theta - 1 on money comes to. At theta = 1 it is the plan without a budget; at
0 only the bill counts, and if that plan's passes B, none is found within it. In between, theta is
halved towards the largest whose plan is within B (Everett 1963). What the plan there leaves of B is
then spent on single requests: each may take the bid that the next dearer plan gives it, what saves
most for its money first. Every plan is priced anew at theta = 1 before it is compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

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
) -> Plan:
    """Returns a plan whose expected bill is within the budget, or the cheapest found if none is.

    Args:
        found: the plan without a budget.
        budget_microusd: what it may cost.
        replan: the plan where all but money counts by that many thousandths.
        price: the plan of a choice of bids at its true cost.
    """

    def weighed(theta: int) -> Plan:
        return price(_choice(replan(theta)))

    if found.money_microusd <= budget_microusd:
        return found
    cheapest = weighed(0)
    if cheapest.money_microusd > budget_microusd:
        return min(found, cheapest, key=lambda plan: (len(plan.unserved), plan.money_microusd))
    best, dearer = cheapest, found
    low, high = 0, WHOLE
    for _ in range(HALVINGS):
        theta = (low + high) // 2
        plan = weighed(theta)
        if plan.money_microusd <= budget_microusd:
            low, best = theta, min(best, plan, key=_rank)
        else:
            high, dearer = theta, plan
    for above in (dearer, found):
        filled = price(_filled(best, above, budget_microusd))
        if filled.money_microusd <= budget_microusd:
            best = min(best, filled, key=_rank)
    return best


def _choice(plan: Plan) -> dict[str, str]:
    return {award.request_id: award.bid_id for award in plan.awards}


def _rank(plan: Plan) -> tuple[int, int]:
    return len(plan.unserved), plan.objective_microusd


def _filled(within: Plan, above: Plan, budget_microusd: int) -> dict[str, str]:
    """Returns the choice of the plan within the budget, with what more of the dearer one's fits."""
    choice = _choice(within)
    left = budget_microusd - within.money_microusd
    options: list[tuple[float, str, int]] = []
    for award in within.awards:
        other = above.award_for(award.request_id)
        if other is None or other.cost_microusd >= award.cost_microusd:
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
