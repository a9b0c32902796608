"""Requests that are kept together: the location of each group, above the planner of bids.

Sets
    g in G            groups: the requests of one run that say one name
    K_g               locations in which bids could serve every member of g;  where that serves not
                      all of them, those that could serve any
    the others        as the planner's

Parameters
    loc(b)            location of a bid
    the others        as the planner's

Variables
    l_g in K_g        location of each group
    b_i, t_i          bid and start of each request, as the planner's

Objective
    the planner's own: fewest requests unserved, then least cost

Constraints
    together          loc(b_i) = l_g             for each i in g that is served
    the others        as the planner's

At given l what is left is the planner's own problem with fewer pairs, so it is asked once for each
l: every combination where there are few, else from a good one group by group, each to the location
that lowers the objective most, until none does. First all of them are constructed; then what may
still beat the best is solved, the best first. A bound of the whole is the least of theirs where all
were looked at, and else that of the same plan with nobody kept together.

What a standing request keeps (``standing``) and what has begun (``ResourceRequest.kept``) leave
their groups one location.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import product
from math import prod

from cu_market.dnm.feasibility import refusals
from cu_market.dnm.objective import delay_cost_microusd, expected_ms, money_microusd
from cu_market.dnm.programs.solve import Clock
from cu_market.dnm.standing import Hold, Standing
from cu_market.domain.bid import Bid
from cu_market.domain.plan import Plan
from cu_market.domain.request import Kept, ResourceRequest

MOST_COMBINATIONS = 32
"""So many are all looked at; each is a plan of its own."""

LOOK_SHARE = 0.5
"""Of the limit, for looking at locations; the rest is the solver's."""

LEAST_SECONDS = 0.5
"""For looking in any case, also where no solver is asked."""

PlanAt = Callable[[Sequence[ResourceRequest], float], Plan]
"""Plans requests that say where they are kept, in so many seconds; without a solver where 0."""

_Combination = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tie:
    """One group.

    Attributes:
        members: its request_ids, in order.
        shared: locations that could serve all of them.
        others: locations that could serve some.
        first: where it stands, or would be cheapest if each member had all room for itself.
    """

    members: tuple[str, ...]
    shared: tuple[str, ...]
    others: tuple[str, ...]
    first: str


def ties_of(
    requests: Sequence[ResourceRequest], bids: Sequence[Bid], standing: Mapping[str, Standing]
) -> tuple[Tie, ...]:
    """Returns the groups whose location is still to be found, in order of run and name.

    Args:
        requests, bids: any order.
        standing: where requests were placed before.
    """
    groups: dict[tuple[str, str], list[ResourceRequest]] = defaultdict(list)
    tied = (request for request in requests if request.together)
    for request in sorted(tied, key=lambda each: each.request_id):
        groups[request.run_id, request.together].append(request)
    return tuple(
        _tie(group, bids, standing)
        for _, group in sorted(groups.items())
        if len(group) > 1 and not _is_settled(group)
    )


def usable(request: ResourceRequest, bids: Sequence[Bid]) -> dict[str, int]:
    """Returns the locations in which bids could serve a request, whatever room is left, each with
    the least that it would cost there in micro-dollars."""
    found: dict[str, int] = {}
    for bid in bids:
        takes_ms = expected_ms(request, bid)
        if refusals(request, bid, expected_ms=takes_ms):
            continue
        cost = money_microusd(request, bid) + delay_cost_microusd(
            request, taken_ms=takes_ms, slack_ms=0
        )
        location = bid.profile.location
        found[location] = min(cost, found.get(location, cost))
    return found


def kept_as_chosen(
    requests: Sequence[ResourceRequest],
    bids: Sequence[Bid],
    choice: Mapping[str, str],
    standing: Mapping[str, Standing],
) -> Sequence[ResourceRequest]:
    """Returns the requests with each group kept where a choice has most of its members.

    Args:
        requests, bids, standing: as ties_of.
        choice: bid_id by request_id.
    """
    ties = ties_of(requests, bids, standing)
    locations = {bid.bid_id: bid.profile.location for bid in bids}
    at = []
    for tie in ties:
        chosen = Counter(locations[choice[m]] for m in tie.members if choice.get(m) in locations)
        at.append(min(chosen, key=lambda name: (-chosen[name], name), default=tie.first))
    return _kept(requests, ties, tuple(at))


def plan_together(
    requests: Sequence[ResourceRequest],
    ties: Sequence[Tie],
    plan_at: PlanAt,
    bound_apart: Callable[[], int],
    *,
    limit_seconds: float,
    gap: float,
    clock: Clock,
) -> Plan:
    """Returns the best plan in which each group has one location.

    Args:
        requests: any order.
        ties: of them; see ties_of.
        plan_at: plans at given locations; never worse than what stands, if all that stays there.
        bound_apart: returns a bound of the same plan with nobody kept together, in micro-dollars.
        limit_seconds: of the solver's work; 0: none is asked.
        gap: (objective - bound) / objective that is good enough.
        clock: seconds.
    """
    began = clock()
    search = _Search(requests, ties, plan_at)
    seconds = max(LEAST_SECONDS, LOOK_SHARE * limit_seconds)
    search.look([tie.shared or tie.others for tie in ties], seconds, clock)
    if search.leaves_out() and any(set(tie.shared) < set(tie.others) for tie in ties):
        search.look([tie.others for tie in ties], seconds, clock)
    if limit_seconds > 0:
        search.improve(began + limit_seconds, gap, clock)
    best = search.best()
    bound, is_independent = search.bound()
    if not search.is_whole:
        bound, is_independent = bound_apart(), True
    return replace(
        best,
        bound_microusd=min(bound, best.objective_microusd),
        is_bound_independent=is_independent,
        is_cut=best.is_cut or search.is_cut,
        build_ms=sum(found.build_ms for found in search.found.values()),
        solve_ms=sum(found.solve_ms for found in search.found.values()),
    )


class _Search:
    """What was found so far.

    Attributes:
        found: the best plan of each combination of locations that was looked at.
        is_whole: all combinations were.
        is_cut: the clock ended it.
    """

    def __init__(
        self, requests: Sequence[ResourceRequest], ties: Sequence[Tie], plan_at: PlanAt
    ) -> None:
        self.found: dict[_Combination, Plan] = {}
        self.is_whole, self.is_cut = True, False
        self._requests, self._ties, self._plan_at = requests, ties, plan_at
        self._first = tuple(tie.first for tie in ties)

    def look(self, options: Sequence[_Combination], seconds: float, clock: Clock) -> None:
        """Constructs a plan at each combination of locations, or, where there are many, at those
        that lower it step by step; at the one where the groups stand first."""
        until = clock() + seconds
        is_all = prod(len(each) for each in options) <= MOST_COMBINATIONS
        every = product(*options) if is_all else self._descended(options)
        if is_all:
            every = iter(sorted(every, key=lambda at: at != self._first))
        self.is_whole = self.is_whole and is_all
        for at in every:
            if self.found and clock() > until:
                self.is_whole, self.is_cut = False, True
                return
            self._plan(at, 0)

    def improve(self, until: float, gap: float, clock: Clock) -> None:
        """Solves what may still beat the best, the best first."""
        for at in self._in_order():
            best, this = self.best(), self.found[at]
            enough = best.objective_microusd - gap * best.objective_microusd
            if not best.unserved and this.bound_microusd >= enough:
                continue
            left = until - clock()
            if left <= 0:
                self.is_cut = True
                return
            self._plan(at, left)

    def best(self) -> Plan:
        """Returns the best plan; at a tie the one at which the groups stand."""
        return self.found[self._in_order()[0]]

    def bound(self) -> tuple[int, bool]:
        """Returns the least bound of those looked at, and whether it was recomputed here."""
        least = min(self.found.values(), key=lambda each: each.bound_microusd)
        return least.bound_microusd, all(
            each.is_bound_independent
            for each in self.found.values()
            if each.bound_microusd == least.bound_microusd
        )

    def leaves_out(self) -> bool:
        """Whether the best plan leaves a member of a group unserved."""
        members = {name for tie in self._ties for name in tie.members}
        return any(each.request_id in members for each in self.best().unserved)

    def _descended(self, options: Sequence[_Combination]) -> Iterator[_Combination]:
        """Yields combinations to look at: the first, then each that differs from the best so far in
        one group, until none of these is better."""
        first = [
            each if each in names else names[0]
            for each, names in zip(self._first, options, strict=True)
        ]
        at = tuple(first)
        yield at
        has_moved = True
        while has_moved:
            has_moved = False
            for g, names in enumerate(options):
                for name in names:
                    other = (*at[:g], name, *at[g + 1 :])
                    if other in self.found:
                        continue
                    yield other
                    if _rank(self.found[other]) < _rank(self.found[at]):
                        at, has_moved = other, True

    def _plan(self, at: _Combination, seconds: float) -> None:
        planned = self._plan_at(_kept(self._requests, self._ties, at), seconds)
        before = self.found.get(at)
        if before is None:
            self.found[at] = planned
            return
        better = min(before, planned, key=_rank)
        bound = max(before, planned, key=lambda each: each.bound_microusd)
        self.found[at] = replace(
            better,
            bound_microusd=min(bound.bound_microusd, better.objective_microusd),
            is_bound_independent=bound.is_bound_independent,
            is_cut=planned.is_cut,
            build_ms=before.build_ms + planned.build_ms,
            solve_ms=before.solve_ms + planned.solve_ms,
        )

    def _in_order(self) -> list[_Combination]:
        return sorted(self.found, key=lambda at: (*_rank(self.found[at]), at != self._first, at))


def _rank(plan: Plan) -> tuple[int, int]:
    """What is compared, the less the better. Penalties are left out: they differ from location to
    location with the dearest offer that is left."""
    return len(plan.unserved), sum(award.cost_microusd for award in plan.awards)


def _is_settled(group: Sequence[ResourceRequest]) -> bool:
    """Whether each member says where it is kept, and all the same."""
    kept = {None if each.kept is None else each.kept.location for each in group}
    return None not in kept and len(kept) == 1


def _tie(
    group: Sequence[ResourceRequest], bids: Sequence[Bid], standing: Mapping[str, Standing]
) -> Tie:
    offered = {bid.bid_id: bid for bid in bids}
    stands: list[str] = []
    costs: list[dict[str, int]] = []
    for request in group:
        row = usable(request, bids)
        place = standing.get(request.request_id)
        if place is not None and place.bid_id in offered:
            location = offered[place.bid_id].profile.location
            stands.append(location)
            if place.hold is not Hold.NOTHING:
                row = {name: cost for name, cost in row.items() if name == location}
        costs.append(row)
    shared = sorted(reduce(lambda found, row: found & row.keys(), costs, set(costs[0])))
    others = sorted({name for row in costs for name in row})
    cheapest = min(
        shared or others,
        key=lambda name: (sum(row.get(name, 0) for row in costs), name),
        default="",
    )
    is_one = len(stands) == len(group) and len(set(stands)) == 1 and stands[0] in shared
    return Tie(
        members=tuple(request.request_id for request in group),
        shared=tuple(shared),
        others=tuple(others) or ("",),  # nobody serves any of them: it does not matter where
        first=stands[0] if is_one else cheapest,
    )


def _kept(
    requests: Sequence[ResourceRequest], ties: Sequence[Tie], at: _Combination
) -> list[ResourceRequest]:
    """Returns the requests with each group kept at its location."""
    names = {each.request_id: each.own_name for each in requests}
    kept: dict[str, Kept] = {}
    for tie, location in zip(ties, at, strict=True):
        everyone = Kept(location=location, by=tuple(names[member] for member in tie.members))
        kept.update(dict.fromkeys(tie.members, everyone))
    return [
        replace(each, kept=kept[each.request_id]) if each.request_id in kept else each
        for each in requests
    ]
