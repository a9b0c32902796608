"""Plans of what is kept together against brute force over every assignment that keeps it so."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from test_dnm_oracle import (
    bids_strategy,
    capacities_strategy,
    cost,
    fits,
    instance,
    requests_strategy,
)

from cu_market.dnm import colocation
from cu_market.dnm.planner import plan
from cu_market.dnm.programs.solve import InProcessSolver
from cu_market.dnm.verify import violations
from cu_market.domain.bid import Bid
from cu_market.domain.plan import LossReason, Plan
from cu_market.domain.request import ResourceRequest
from cu_market.domain.resources import ResourceVector

Instance = tuple[list[ResourceRequest], list[Bid], dict[str, ResourceVector]]
Asked = list[tuple[int, ...]]

names_strategy = st.lists(st.sampled_from(["", "x", "x", "y"]), min_size=4, max_size=4)
locations_strategy = st.lists(st.sampled_from(["here", "there"]), min_size=3, max_size=3)


def tied(
    asked: Asked, offered: Asked, rooms: list[tuple[int, int]], names: list[str], where: list[str]
) -> Instance:
    """Returns an instance whose requests say names, at bids of two locations; money alone counts,
    since delays are measured from a slack that other tests look at."""
    asked = [(*request[:4], 0) for request in asked]
    requests, bids, capacities = instance(asked, offered, rooms)
    return (
        [replace(r, together=name) for r, name in zip(requests, names, strict=False)],
        [
            replace(b, profile=replace(b.profile, location=at))
            for b, at in zip(bids, where, strict=False)
        ],
        capacities,
    )


def planned(of: Instance) -> Plan:
    return plan(*of, solver=InProcessSolver(), limit_seconds=600, gap=0.0, fixed_starts=True)


def is_together(
    requests: Sequence[ResourceRequest], bids: Sequence[Bid], choice: Sequence[int | None]
) -> bool:
    """Whether everything of one name that is served is in one location."""
    places: dict[str, set[str]] = {}
    for request, k in zip(requests, choice, strict=True):
        if request.together and k is not None:
            places.setdefault(request.together, set()).add(bids[k].profile.location)
    return all(len(found) == 1 for found in places.values())


def choices(of: Instance) -> Iterator[tuple[int | None, ...]]:
    """Yields every choice of bids that fits, whoever is in one location."""
    requests, bids, capacities = of
    every = itertools.product([None, *range(len(bids))], repeat=len(requests))
    return (choice for choice in every if fits(requests, bids, capacities, choice))


def money(of: Instance, choice: Sequence[int | None]) -> int:
    requests, bids, _ = of
    return sum(cost(r, bids[k]) for r, k in zip(requests, choice, strict=True) if k is not None)


INSTANCES = (
    requests_strategy,
    bids_strategy,
    capacities_strategy,
    names_strategy,
    locations_strategy,
)


@settings(max_examples=120, deadline=None)
@given(*INSTANCES)
def test_what_is_kept_together_is_served_the_most_and_then_costs_the_least(
    asked: Asked, offered: Asked, rooms: list[tuple[int, int]], names: list[str], where: list[str]
) -> None:
    of = tied(asked, offered, rooms, names, where)
    found = planned(of)
    best = min(
        (choice.count(None), money(of, choice))
        for choice in choices(of)
        if is_together(of[0], of[1], choice)
    )
    assert (len(found.unserved), sum(award.money_microusd for award in found.awards)) == best
    assert found.bound_microusd <= found.objective_microusd
    if not found.unserved:
        assert found.bound_microusd <= best[1] == found.objective_microusd
    assert violations(*of, found.awards, fixed_starts=True) == ()


@settings(max_examples=60, deadline=None)
@given(*INSTANCES)
def test_group_by_group_never_passes_the_optimum_nor_its_bound(
    asked: Asked, offered: Asked, rooms: list[tuple[int, int]], names: list[str], where: list[str]
) -> None:
    of = tied(asked, offered, rooms, names, where)
    most = colocation.MOST_COMBINATIONS
    colocation.MOST_COMBINATIONS = 0  # as if there were too many to look at
    try:
        found = planned(of)
    finally:
        colocation.MOST_COMBINATIONS = most
    best = min(
        (choice.count(None), money(of, choice))
        for choice in choices(of)
        if is_together(of[0], of[1], choice)
    )
    assert (len(found.unserved), sum(award.money_microusd for award in found.awards)) >= best
    if not found.unserved:
        assert found.bound_microusd <= best[1] or best[0] < len(found.unserved)
    assert violations(*of, found.awards, fixed_starts=True) == ()


@settings(max_examples=80, deadline=None)
@given(*INSTANCES)
def test_the_checker_refuses_what_is_apart(
    asked: Asked, offered: Asked, rooms: list[tuple[int, int]], names: list[str], where: list[str]
) -> None:
    of = tied(asked, offered, rooms, names, where)
    alone = ([replace(request, together="") for request in of[0]], *of[1:])
    found = planned(alone)
    index = {bid.bid_id: k for k, bid in enumerate(of[1])}
    awards = {award.request_id: index[award.bid_id] for award in found.awards}
    choice = [awards.get(request.request_id) for request in of[0]]
    said = [each.what for each in violations(*of, found.awards, fixed_starts=True)]
    assert bool(said) is not is_together(of[0], of[1], choice)
    assert all("here, there" in what for what in said)


@settings(max_examples=80, deadline=None)
@given(*INSTANCES, st.randoms(use_true_random=False))
def test_permuting_bids_and_requests_never_changes_where_what_is_kept_together_goes(
    asked: Asked,
    offered: Asked,
    rooms: list[tuple[int, int]],
    names: list[str],
    where: list[str],
    order: random.Random,
) -> None:
    of = tied(asked, offered, rooms, names, where)
    requests, bids = list(of[0]), list(of[1])
    order.shuffle(requests)
    order.shuffle(bids)
    first, second = planned(of), planned((requests, bids, of[2]))
    for request in requests:
        assert first.award_for(request.request_id) == second.award_for(request.request_id)
    assert (first.objective_microusd, first.bound_microusd) == (
        second.objective_microusd,
        second.bound_microusd,
    )


@settings(max_examples=60, deadline=None)
@given(*INSTANCES)
def test_a_bid_elsewhere_loses_for_a_reason_of_its_own(
    asked: Asked, offered: Asked, rooms: list[tuple[int, int]], names: list[str], where: list[str]
) -> None:
    of = tied(asked, offered, rooms, names, where)
    found = planned(of)
    at = {bid.bid_id: bid.profile.location for bid in of[1]}
    count = {name: [r.together for r in of[0]].count(name) for name in names}
    for award in found.awards:
        request = next(r for r in of[0] if r.request_id == award.request_id)
        is_tied = bool(request.together) and count[request.together] > 1
        for loss in award.losses:
            is_elsewhere = is_tied and at[loss.bid_id] != at[award.bid_id]
            assert ("stays with" in loss.detail) is is_elsewhere
            assert loss.reason is not LossReason.LOCATION_NOT_ALLOWED
