"""While a run goes: what waits on its rented CUs is planned anew whenever something has changed.

A look is taken in a thread of its own after each attempt that has ended or begun on a rental, and
every ``renegotiate_seconds``; what it finds is taken up by the loop, if nothing that it moves has
begun meanwhile (``cu_market.market.renting.replans`` has the rules).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from datetime import timedelta

from dagster import DagsterEvent

from cu_market.dagster_compat.events import EngineEventData
from cu_market.deo.announcements import MAX_ROWS, table
from cu_market.deo.executor.aside import Aside
from cu_market.deo.executor.state import RunState
from cu_market.deo.executor.timing import left_ms_of, spread_from
from cu_market.domain.allocation import Allocation
from cu_market.domain.outline import template_key
from cu_market.domain.problem import CUMarketError
from cu_market.domain.rental import is_share
from cu_market.ledger.errors import AwardTakenError
from cu_market.market.demand.requests import read_specs
from cu_market.market.renting.going import Going
from cu_market.market.renting.replans import Replanned, look

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""How often what has changed is looked at while anything runs: a look takes a core for a while."""

_MILLISECOND = timedelta(milliseconds=1)


class Replans:
    """Plans anew what waits on a run's rentals.

    Args:
        run: the run in progress.
    """

    def __init__(self, run: RunState) -> None:
        self._run = run
        self._outline = run.negotiation.outline
        auction = run.negotiation.first_auction
        self._origin = auction.held_at
        said = {step["step"]: step.get("winner") or {} for step in auction.report["steps"]}
        self._planned_ms = {
            step: round(1000 * winner["start_seconds"])
            for step, winner in said.items()
            if "start_seconds" in winner
        }
        self._ends_ms = max(
            (
                round(1000 * (winner["start_seconds"] + winner["expected_seconds"]))
                for winner in said.values()
                if "start_seconds" in winner
            ),
            default=0,
        )
        self._seconds = run.negotiation.market.settings.renegotiate_seconds
        self._tokens: frozenset[int] | None = None
        self._looked_at = float("-inf")
        self._looks: Aside[Replanned | None] = Aside("replan")

    def review(self) -> Iterator[DagsterEvent]:
        """Takes up what a look has found, or begins one when something has changed; never waits."""
        if self._seconds <= 0:
            return
        if self._looks.is_at_work:
            done = self._looks.take()
            if done is not None and done.found is not None:
                yield from self._take_up(done.found)
            return
        tokens, since = frozenset(self._run.attempts), time.monotonic() - self._looked_at
        is_changed = tokens != self._tokens and (since > LOOK_SECONDS or not tokens)
        if not (is_changed or since > self._seconds) or not self._waits():
            return
        self._tokens, self._looked_at = tokens, time.monotonic()
        market, going = self._run.negotiation.market, self._going()
        self._looks.begin(lambda: look(market, going))

    def _waits(self) -> bool:
        negotiation, active = self._run.negotiation, self._run.active
        return any(
            is_share(negotiation.award(step)) and not active.is_over(step)
            for step in negotiation.not_started()
        )

    def _going(self) -> Going:
        run, negotiation = self._run, self._run.negotiation
        begun = negotiation.begun
        waiting = [step for step in negotiation.awarded if step not in begun]
        reports = {step: negotiation.report(step) for step in waiting}
        deadline_ms = read_specs(self._outline)[0].deadline_ms
        unfinished = [*run.active.executable_keys(), *run.unleased]
        unfinished += [attempt.step_key for attempt in run.attempts.values()]
        return Going(
            run_id=self._outline.run_id,
            origin=self._origin,
            parents={step.step_key: step.depends_on for step in self._outline.steps},
            begun=begun,
            mapped={template_key(key) for key in unfinished if template_key(key) != key},
            over=[s.step_key for s in self._outline.steps if run.active.is_over(s.step_key)],
            left_ms={a.step_key: left_ms_of(negotiation, a) for a in run.attempts.values()},
            planned_ms=dict(self._planned_ms),
            spreads={step: spread_from(report) for step, report in reports.items()},
            deadline_ms=self._ends_ms if deadline_ms is None else deadline_ms,
            reports=reports,
            has_budget=negotiation.leases.purse.budget_microusd is not None,
        )

    # -- what was found

    def _take_up(self, found: Replanned) -> Iterator[DagsterEvent]:
        negotiation = self._run.negotiation
        renting = negotiation.leases.renting
        if found.gone:
            yield from self._leave(found.gone)
            return  # what is left is looked at when it is time again
        is_stale = not renting.open_ids() <= found.seen or not self._are_there(found)
        if is_stale or any(not self._is_as_seen(before) for before, _ in found.moves.values()):
            self._tokens = None  # something has begun meanwhile: looked at again
            return
        if found.moves:
            try:
                negotiation.take_replanned(found)
            except AwardTakenError:
                logger.info("an award was moved meanwhile", extra={"action": "replan"})
                return
        self._planned_ms.update(found.planned_ms)
        renting.follow(
            {step: self._origin + ms * _MILLISECOND for step, ms in found.planned_ms.items()},
            {rental: self._origin + ms * _MILLISECOND for rental, ms in found.opens_ms.items()},
        )
        if found.moves:
            yield self._told(found)

    def _are_there(self, found: Replanned) -> bool:
        """Whether the CUs that steps move to still are, and the names of new ones still free."""
        renting = self._run.negotiation.leases.renting
        if not found.moves:
            return True
        standing, new = renting.standing_ids(), {each.rental_id for each in found.rentals}
        wanted = {after.capacity_id for _, after in found.moves.values()}
        return wanted <= standing | new and not renting.knows(new)

    def _is_as_seen(self, before: Allocation) -> bool:
        negotiation = self._run.negotiation
        is_waiting = before.step_key not in negotiation.begun
        return is_waiting and negotiation.award(before.step_key).key == before.key

    def _leave(self, steps: tuple[str, ...]) -> Iterator[DagsterEvent]:
        """Auctions steps again whose CUs were to be rented and are offered no more."""
        negotiation = self._run.negotiation
        waiting = [step for step in steps if step not in negotiation.begun]
        names = sorted({negotiation.award(step).resource_id for step in waiting})
        if not waiting:
            return
        try:
            negotiation.award_anew(waiting)
        except CUMarketError as error:
            logger.warning("nobody else serves them", extra={"action": "replan"}, exc_info=error)
            return
        now_on = sorted({negotiation.award(step).resource_id for step in waiting})
        yield self._event(
            f"Renegotiated, since {', '.join(names)} can be rented no more: {', '.join(waiting)} "
            f"move{'s' if len(waiting) == 1 else ''} to {', '.join(now_on)}."
        )

    def _told(self, found: Replanned) -> DagsterEvent:
        sentences = found.sentences()
        more = f" and {len(sentences) - MAX_ROWS} more" if len(sentences) > MAX_ROWS else ""
        rows = [
            {"step": step, "from": before.resource_id, "to": after.resource_id}
            for step, (before, after) in sorted(found.moves.items())[:MAX_ROWS]
        ]
        said = "; ".join(sentences[:MAX_ROWS])
        return self._event(
            f"Planned anew what waits on rented CUs, as steps have ended: {said}{more}.",
            EngineEventData(metadata={"cu/moves": table(rows)}),
        )

    def _event(self, sentence: str, data: EngineEventData | None = None) -> DagsterEvent:
        return DagsterEvent.engine_event(self._run.context, sentence, data or EngineEventData())
