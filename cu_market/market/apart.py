"""Groups of steps that no one location can hold: told with what each could use, and the remedy."""

from __future__ import annotations

from collections.abc import Sequence

from cu_market.dnm.colocation import usable
from cu_market.domain.problem import Problem
from cu_market.domain.request import ResourceRequest
from cu_market.ral.bids import BidRound

TOLD_STEPS = 10
"""So many steps of a group are told, with their locations."""

REMEDY = (
    "let them run in one location (their sizes, cu/location, cu/provider), add a provider that has "
    "room for all of them there, or give what hands on no files another name"
)


def is_apart(group: Sequence[ResourceRequest], bids: BidRound) -> bool:
    """Whether each step of a group could be served, and no one location has a bid for all."""
    rows = [set(usable(request, bids.bids)) for request in group]
    return all(rows) and not set.intersection(*rows)


def apart_problem(group: Sequence[ResourceRequest], bids: BidRound) -> Problem:
    """Returns which steps of a group could run where, and what to do about it.

    Args:
        group: requests that are kept together, of which is_apart holds.
        bids: those that stand.
    """
    told = [
        f"{request.request_id} could run in {', '.join(sorted(usable(request, bids.bids)))}"
        for request in group[:TOLD_STEPS]
    ]
    names = ", ".join(f"'{request.request_id}'" for request in group[:TOLD_STEPS])
    more = f" and {len(group) - TOLD_STEPS} more" if len(group) > TOLD_STEPS else ""
    return Problem(
        where=f"steps {names}{more}: tag cu/together",
        value=group[0].together,
        what=f"no one location has a CU for each of them: {'; '.join(told)}{more}",
        remedy=REMEDY,
    )


def may_be_together(group: Sequence[tuple[ResourceRequest, Sequence[str]]], bids: BidRound) -> bool:
    """Whether there may be a location for all of a group another time.

    Args:
        group: its requests, each with the providers that do not bid for it now and may later. One
            of which no CU is known might have it anywhere.
        bids: those that stand, and the pools of who has answered.
    """
    shared: set[str] | None = None
    for request, later in group:
        by_provider = {
            name: {each.location for each in bids.pool.profiles if each.provider == name}
            for name in later
        }
        if any(not locations for locations in by_provider.values()):
            continue
        there = set(usable(request, bids.bids)).union(*by_provider.values())
        if request.kept is not None:
            there &= {request.kept.location}
        shared = there if shared is None else shared & there
    return shared is None or bool(shared)
