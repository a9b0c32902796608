"""A plan whose steps read from one another across locations.

What a step pays for its inputs depends on where the plan puts their sources, so no table of pairs
holds it. A plan is exact once its own places are those that it was priced at; such plans are made
and the best is kept:

1. Guess a location for every request: the cheapest for each alone, everything in one location, or
   in between, by moving single requests and whole groups that share a location while that lowers

       sum_i c_i(location of i) + sum over inputs of egress and transfer between their two ends;

   c_i is the request's cheapest pair there, room left aside. The clock may end this: the guesses
   are then the best so far, and the plan says that it was cut.
2. Choose bids with both ends of each transfer priced at the guess: its reader pays it, and so does
   its source, that it may come to its readers.
3. Price what was chosen at the places that it has, each byte once: its cost is now exact, and
   verified. If they are not the guess, they are the next one.
4. Ask the solver at the best plan's places, and do 3 again; keep the better. Explain and check it.

Sources that have run already lie where they lie, and are exact from the start. The bound is that of
the same plan with transfers within it free.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from cu_market.dnm.bounds.bound import floor_bound
from cu_market.dnm.colocation import kept_as_chosen, plan_together, ties_of
from cu_market.dnm.given import Given
from cu_market.dnm.offers import RunningLease
from cu_market.dnm.placement.drafts import Draft, draft
from cu_market.dnm.placement.guesses import guess_places
from cu_market.dnm.planner import CONSTRUCTION, plan
from cu_market.dnm.programs.solve import Clock, Solver
from cu_market.dnm.standing import NOTHING_STANDS, Standing
from cu_market.dnm.surcharges import Priced
from cu_market.domain.bid import Bid
from cu_market.domain.inputs import Place
from cu_market.domain.plan import Plan
from cu_market.domain.request import ResourceRequest
from cu_market.domain.resources import ResourceVector
from cu_market.domain.units import MILLIS

ROUNDS = 3
"""How often a guess is followed by the places that it leads to."""

GUESS_SHARE = 0.2
"""Of the limit; the rest is for following guesses, as in the joint plan's construction."""

LEAST_GUESS_SECONDS = 0.3
"""For guesses in any case, also where no solver is asked."""


def plan_placed(
    requests: Sequence[ResourceRequest],
    bids: Sequence[Bid],
    capacities: Mapping[str, ResourceVector],
    *,
    solver: Solver | None,
    limit_seconds: float,
    gap: float = 0.01,
    clock: Clock,
    loss_permille: int = MILLIS,
    running: Sequence[RunningLease] = (),
    standing: Mapping[str, Standing] = NOTHING_STANDS,
) -> Plan:
    """Returns a plan with egress, transfers and expected interruptions in its costs.

    Args:
        requests, bids, capacities, solver, gap, running, standing: as planner.plan, with free
            starts.
        limit_seconds: of the solver's work; without any, the best guess alone is followed.
        clock: seconds; bounds the guesses, and reports times.
        loss_permille: how much an interruption's expected loss counts.

    Raises:
        InvalidInputError, CUMarketError: as planner.plan.
    """
    given = Given(
        requests=requests, bids=bids, capacities=capacities, running=running, standing=standing
    )
    priced = Priced(loss_permille=loss_permille)
    ties = ties_of(requests, bids, standing)
    if ties:

        def plan_at(kept: Sequence[ResourceRequest], seconds: float) -> Plan:
            return plan_placed(
                kept,
                bids,
                capacities,
                solver=solver if seconds > 0 else None,
                limit_seconds=seconds,
                gap=gap,
                clock=clock,
                loss_permille=loss_permille,
                running=running,
                standing=standing,
            )

        return plan_together(
            requests,
            ties,
            plan_at,
            lambda: floor_bound(given.table(priced)),
            limit_seconds=limit_seconds,
            gap=gap,
            clock=clock,
        )
    planned_at = partial(
        plan,
        requests,
        bids,
        capacities,
        solver=solver,
        limit_seconds=limit_seconds,
        gap=gap,
        running=running,
        standing=standing,
        clock=clock,
    )
    if not depends_on_places(requests, bids):
        return planned_at(surcharges=priced)
    began = clock()
    relaxed = given.table(priced)
    bound = floor_bound(relaxed)
    placing = _Placing(given, priced)
    ended = clock() + max(LEAST_GUESS_SECONDS, GUESS_SHARE * limit_seconds)
    guesses, is_guess_cut = guess_places(relaxed, lambda: clock() > ended)
    if limit_seconds <= 0:
        guesses = guesses[:1]
    best, is_cut = placing.best_of(guesses, until=began + limit_seconds, clock=clock)
    is_cut = is_cut or is_guess_cut
    if standing:  # at a tie, all stays where it stands
        best = min(placing.stays(), best, key=lambda found: found.rank)
    built = clock()
    name = CONSTRUCTION
    cost = best.schedule.objective_microusd
    if solver is not None and cost - bound > gap * cost:
        chosen = planned_at(surcharges=placing.both_ways(best.places()))
        is_cut = is_cut or chosen.is_cut
        solved = placing.exact(choice_of(chosen))
        if solved.rank < best.rank:
            best, name = solved, chosen.solver
    found = best.plan()
    return replace(
        found,
        bound_microusd=min(bound, found.objective_microusd),
        solver=name,
        is_cut=is_cut,
        build_ms=round(1000 * (built - began)),
        solve_ms=round(1000 * (clock() - built)),
    )


def plan_chosen(
    requests: Sequence[ResourceRequest],
    bids: Sequence[Bid],
    capacities: Mapping[str, ResourceVector],
    choice: Mapping[str, str],
    *,
    running: Sequence[RunningLease] = (),
    standing: Mapping[str, Standing] = NOTHING_STANDS,
) -> Plan:
    """Returns the plan of a choice of bids with all its costs; where a choice finds no room or
    time, another bid's. What is kept together is where the choice has most of it.

    Args:
        requests, bids, capacities, running, standing: as plan_placed.
        choice: bid_id by request_id.
    """
    given = _given(requests, bids, capacities, choice, running, standing)
    return _Placing(given, Priced()).exact(choice).plan()


def plan_standing(
    requests: Sequence[ResourceRequest],
    bids: Sequence[Bid],
    capacities: Mapping[str, ResourceVector],
    standing: Mapping[str, Standing],
    *,
    running: Sequence[RunningLease] = (),
) -> Plan:
    """Returns the plan in which everything stays where it stands, and when, with all its costs;
    what finds no room or time there is placed anew.

    Args:
        requests, bids, capacities, running: as plan_placed.
        standing: of every request.
    """
    choice = {name: place.bid_id for name, place in standing.items()}
    given = _given(requests, bids, capacities, choice, running, standing)
    return _Placing(given, Priced()).stays().plan()


def _given(
    requests: Sequence[ResourceRequest],
    bids: Sequence[Bid],
    capacities: Mapping[str, ResourceVector],
    choice: Mapping[str, str],
    running: Sequence[RunningLease],
    standing: Mapping[str, Standing],
) -> Given:
    """Returns what a choice is placed among; what is kept together is where it has most of it."""
    return Given(
        requests=kept_as_chosen(requests, bids, choice, standing),
        bids=bids,
        capacities=capacities,
        running=running,
        standing=standing,
    )


def depends_on_places(requests: Sequence[ResourceRequest], bids: Sequence[Bid]) -> bool:
    """Whether it matters to any request where the plan puts another."""
    names = {request.request_id for request in requests}
    places = {bid.profile.place for bid in bids}
    is_far = len({place.location for place in places}) > 1
    is_felt = any(place.egress_microusd_per_gb or place.bandwidth_mbps for place in places)
    return (
        is_far
        and is_felt
        and any(
            data.place is None and data.size_bytes and data.source in names
            for request in requests
            for data in request.inputs
        )
    )


def choice_of(found: Plan) -> dict[str, str]:
    """Returns the bid_id by request_id that a plan chose."""
    return {award.request_id: award.bid_id for award in found.awards}


def places_of(found: Plan, bids: Sequence[Bid]) -> dict[str, Place]:
    """Returns where each request of a plan leaves what it writes."""
    places = {bid.bid_id: bid.profile.place for bid in bids}
    return {award.request_id: places[award.bid_id] for award in found.awards}


@dataclass(frozen=True, slots=True)
class _Placing:
    """One input, and what is priced of it whatever the places."""

    given: Given
    priced: Priced

    def both_ways(self, places: Mapping[str, Place]) -> Priced:
        """Returns surcharges for choosing: sources feel what their readers would pay."""
        readers: dict[str, list[tuple[Place, int]]] = defaultdict(list)
        for request in self.given.requests:
            for data in request.inputs:
                if data.place is None and request.request_id in places and data.size_bytes:
                    readers[data.source].append((places[request.request_id], data.size_bytes))
        return replace(self.priced, places=places, readers=readers)

    def best_of(
        self, guesses: Sequence[Mapping[str, Place]], *, until: float, clock: Clock
    ) -> tuple[Draft, bool]:
        """Returns the best that any guess leads to, and whether the clock left some untried."""
        best: Draft | None = None
        for places in guesses:
            if best is not None and clock() > until:
                return best, True
            found = self.followed(places)
            if best is None or found.rank < best.rank:
                best = found
        assert best is not None, "there is a guess at least"
        return best, False

    def followed(self, places: Mapping[str, Place]) -> Draft:
        """Returns the best of the exact drafts that a guess leads to, step after step."""
        best: Draft | None = None
        seen: list[Mapping[str, Place]] = []
        while places not in seen and len(seen) < ROUNDS:
            seen.append(places)
            chosen = draft(self.given, self.both_ways(places))
            found = self.exact(chosen.choice())
            places = found.places()
            if best is None or found.rank < best.rank:
                best = found
        assert best is not None
        return best

    def exact(self, choice: Mapping[str, str]) -> Draft:
        """Returns the schedule of a choice, priced at its own places.

        A choice that is too late once its transfers are in it is changed by the construction, and
        with it perhaps the places: it is priced again until they agree. Where they never do, what
        cannot be served as chosen is not served.
        """
        for turn in range(ROUNDS):
            places = self._located(choice)
            at_places = replace(self.priced, places=places)
            found = draft(self.given, at_places, choice, is_strict=turn == ROUNDS - 1)
            if found.places() == places:
                break
            choice = found.choice()
        return found

    def stays(self) -> Draft:
        """Returns the exact draft in which all that stands stays there, starts and all, where its
        transfers let it."""
        names = {request.request_id for request in self.given.requests}
        choice = {name: at.bid_id for name, at in self.given.standing.items() if name in names}
        places = self._located(choice)
        found = draft(self.given, replace(self.priced, places=places), choice, stays=True)
        return found if found.places() == places else self.exact(found.choice())

    def _located(self, choice: Mapping[str, str]) -> dict[str, Place]:
        """Returns where a choice of bids leaves what each request writes."""
        places = {bid.bid_id: bid.profile.place for bid in self.given.bids}
        return {name: places[bid_id] for name, bid_id in choice.items() if bid_id in places}
