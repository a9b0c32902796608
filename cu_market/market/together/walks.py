"""When a run ends by a plan, with others' steps in their places, as times may turn out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from cu_market.dnm.handover import last, turns_of, walk
from cu_market.dnm.offers import RunningLease
from cu_market.dnm.renting import blocked_until_ready
from cu_market.domain.bid import Bid
from cu_market.domain.plan import Award, Plan
from cu_market.domain.rental import Rental
from cu_market.domain.request import ResourceRequest
from cu_market.domain.resources import ResourceVector
from cu_market.market.draws import MEDIAN_PERMILLE, Cases, quantile
from cu_market.market.ends import Ends
from cu_market.market.together.crowd import joint_id, joint_request
from cu_market.market.together.joint import Together


@dataclass(frozen=True, slots=True, kw_only=True)
class Walked:
    """A plan that was walked with drawn times.

    Attributes:
        own: the run's awards, as they are paid.
        requests: what each answers, by request_id.
        takes_ms, ends_ms: by request_id, its time and its end in each case.
        finishes_ms: when the run has ended, case by case.
        rentals: CUs that the run's plan rents whole.
    """

    own: Sequence[Award]
    requests: Mapping[str, ResourceRequest]
    takes_ms: Mapping[str, Sequence[float]]
    ends_ms: Mapping[str, Sequence[float]]
    finishes_ms: Sequence[float]
    rentals: Sequence[Rental] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Walks:
    """What plans of a run are walked among.

    Attributes:
        run_id: of the run.
        requests: of its steps.
        bids: that it was planned at.
        free: room now, by capacity_id.
        running: what returns to it later.
        seed: of the draws.
    """

    run_id: str
    requests: Sequence[ResourceRequest]
    bids: Sequence[Bid]
    free: Mapping[str, ResourceVector]
    running: Sequence[RunningLease]
    seed: int = 0
    _cases: dict[tuple[str, ...], Cases] = field(default_factory=dict)

    def walk(self, found: Together) -> Walked:
        """Returns what drawn times bring by a plan that serves all of the run."""
        whole, every, own = self._as_one(found)
        cases = self._drawn(every)
        rented = [rental.bid() for rental in found.rentals]
        starting = [
            lease
            for rental in found.rentals
            for lease in blocked_until_ready([rental], rental.planned_at)
        ]
        nothing = dict.fromkeys((rental.rental_id for rental in found.rentals), ResourceVector())
        turns = turns_of(
            whole.awards,
            every,
            (*self.bids, *rented),
            {**self.free, **nothing},
            (*self.running, *starting),
        )
        takes = {
            turn.award.request_id: cases.takes_ms(turn.award.request_id, turn.award.expected_ms)
            for turn in turns
        }
        ends = walk((turn.waits for turn in turns), takes)
        return Walked(
            own=own,
            requests={turn.award.request_id: turn.request for turn in turns},
            takes_ms=takes,
            ends_ms=ends,
            rentals=found.rentals,
            finishes_ms=last([ends[award.request_id] for award in own], cases=cases.count),
        )

    def ends(self, found: Together, deadline_ms: int, confidence_permille: int) -> Ends:
        """Returns when the run ends by a plan that serves all of it."""
        finishes = self.walk(found).finishes_ms
        kept = sum(finish <= deadline_ms for finish in finishes)
        return Ends(
            deadline_ms=deadline_ms,
            confidence_permille=confidence_permille,
            planned_ms=planned_finish_ms(found.plan),
            median_ms=quantile(finishes, MEDIAN_PERMILLE),
            confident_ms=quantile(finishes, confidence_permille),
            kept_permille=1000 * kept // len(finishes),
        )

    def _drawn(self, requests: Sequence[ResourceRequest]) -> Cases:
        """Returns the same cases for the same requests: plans of them are compared."""
        names = tuple(request.request_id for request in requests)
        if names not in self._cases:
            self._cases[names] = Cases(requests, seed=self.seed)
        return self._cases[names]

    def _as_one(self, found: Together) -> tuple[Plan, Sequence[ResourceRequest], Sequence[Award]]:
        """Returns the plan of all that was planned with, what it is of, the run's own steps first,
        and the run's own awards under the names that they have there."""
        if found.whole is None:
            return found.plan, self.requests, found.plan.awards
        every = (
            *(joint_request(request, self.run_id) for request in self.requests),
            *(step.request for step in found.steps),
            *(each.request for each in found.queued),
        )
        own = [
            replace(award, request_id=joint_id(self.run_id, award.request_id))
            for award in found.plan.awards
        ]
        return found.whole, every, own


def planned_finish_ms(plan: Plan) -> int:
    """Returns when all of a plan has ended if everything takes its expected time."""
    return max((award.start_ms + award.expected_ms for award in plan.awards), default=0)
