"""What launches to come will ask for first, awarded by tentative auctions.

Read from the instance: ticks of schedules that have launched before, and runs that the queue lets
start next. Each job's last plan is auctioned by the production planner as if it were launched now;
nothing is written. Of the awards, those of steps that depend on nothing are wanted: one CU each
where a worker takes one step at a time, else one for all that share a worker.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from dagster import DagsterInstance, DagsterRun

from cu_market.dagster_compat.executor_config import executor_of
from cu_market.dagster_compat.outline import outline_of_snapshot
from cu_market.dagster_compat.upcoming import (
    UTC_ALONE,
    Job,
    Zones,
    code_of,
    due_at,
    job_of,
    last_plan,
    next_to_start,
    ticks,
)
from cu_market.deo.recommendation import is_recommending
from cu_market.deo.settings import MARKET
from cu_market.deo.worker.preload import PRELOAD_VARIABLE
from cu_market.domain.allocation import Allocation
from cu_market.domain.outline import RunOutline
from cu_market.domain.plan import Award
from cu_market.domain.problem import CUMarketError
from cu_market.domain.purchase import Purchase, PurchaseState
from cu_market.domain.rental import is_share
from cu_market.market.accounts.spending import DEFAULT_ACCOUNT
from cu_market.market.ahead.buying import Want
from cu_market.market.ahead.startups import known_lags, known_startups
from cu_market.market.auction import Cleared, Market
from cu_market.market.awarding import allocation_of
from cu_market.market.renegotiation.proposals import propose
from cu_market.market.renegotiation.replan import Situation
from cu_market.ral.places import (
    WORKER_ARGUMENTS,
    WorkerKey,
    fit_of,
    foresighted,
    relevant_tags,
    worker_key_of,
)
from cu_market.ral.provider import Foresighted, WorkerLaunch

logger = logging.getLogger(__name__)

TENTATIVE_SECONDS = 30.0
"""How long a job's tentative awards are believed."""

PRIOR_USED, PRIOR_LET_GO = 19, 1
"""What is believed of a job's purchases before there are any: 19 of 20 are used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tentative:
    """What a launch of a job would ask for.

    Attributes:
        want: without a launch: its id and time are still to be set.
        provider: who would start it.
        launch: how; its run is the job's last one.
    """

    want: Want
    provider: Foresighted
    launch: WorkerLaunch


class Expecting:
    """Looks ahead for one deployment.

    Args:
        market: open.
        instance: whose schedules, queue and runs are read.
        buyer: holder of this process.

    Attributes:
        zones: time zones of schedules, as far as a launch has told them.
    """

    def __init__(self, market: Market, instance: DagsterInstance, buyer: str) -> None:
        self._market = market
        self._instance = instance
        self._buyer = buyer
        self._known: dict[Job, tuple[float, list[Tentative]]] = {}
        self.zones: Zones = UTC_ALONE

    def launches(self, now: datetime, bought: Sequence[Purchase]) -> list[tuple[Want, Tentative]]:
        """Returns what is wanted within the horizon, earliest first.

        Args:
            now: the present.
            bought: purchases of late, used or not: what of them a launch's chance is read from.
        """
        horizon = timedelta(seconds=self._market.settings.ahead.horizon_seconds)
        found: list[tuple[Want, Tentative]] = []
        served = {each.run_id for each in bought}
        for run in next_to_start(self._instance, now):
            # One whose run worker has given its sign of life has asked for its first CUs already.
            if run.run_id not in served and self._market.ledger.run_lease(run.run_id) is None:
                at = self._due(run, now)
                found += self._wants(job_of(run), f"run {run.run_id}", "queue", at, bought)
        for job, at in ticks(self._instance, now, horizon, self.zones):
            name = f"tick {job[0]}/{job[1]}@{at.isoformat()}"
            found += self._wants(job, name, "schedule", at, bought)
        return found

    def _wants(
        self, job: Job, name: str, source: str, at: datetime, bought: Sequence[Purchase]
    ) -> Iterable[tuple[Want, Tentative]]:
        chance = _chance_permille(job, source, bought)
        lags = known_lags(self._market.ledger, *job)
        for each in self._tentative(job):
            key = f"{name}#{each.want.step_key}"
            yield (
                replace(
                    each.want,
                    want_id=hashlib.sha256(key.encode()).hexdigest()[:32],
                    source=source,
                    expected_at=at,
                    lags_ms=lags or (0,),
                    probability_permille=chance,
                ),
                each,
            )

    def _due(self, run: DagsterRun, now: datetime) -> datetime:
        """Returns when a run that waits was due; now, where it has waited for longer than such
        runs take to ask for their first CU."""
        due = due_at(self._instance, run) or now
        lags = known_lags(self._market.ledger, *job_of(run))
        usual = timedelta(milliseconds=max(lags, default=0))
        return due if now - due <= usual else now

    def _tentative(self, job: Job) -> list[Tentative]:
        """Returns what a launch of the job would ask for; nothing where that cannot be told."""
        known = self._known.get(job)
        if known is None or time.monotonic() - known[0] > TENTATIVE_SECONDS:
            try:
                found = self._auction(job)
            except CUMarketError as error:
                # As a launch of it would: that will say so where somebody reads it.
                logger.info("nothing bought ahead: %s", error, extra={"action": "ahead"})
                found = []
            known = self._known[job] = (time.monotonic(), found)
        return known[1]

    def _auction(self, job: Job) -> list[Tentative]:
        plan = last_plan(self._instance, job)
        code = None if plan is None else code_of(plan[0])
        if plan is None or code is None:
            return []
        run, snapshot = plan
        executor, branch = executor_of(run, snapshot)
        outline = outline_of_snapshot(run, snapshot)
        is_routed = executor == MARKET and branch in (None, MARKET)
        if not is_routed or is_recommending(self._market.settings.mode, outline.tags):
            return []
        outline = replace(outline, run_id="")
        cleared = propose(self._market, outline, Situation(earliest_ms={}))
        environment = {PRELOAD_VARIABLE: json.dumps(code)}
        found: dict[tuple[WorkerKey, str], Tentative] = {}
        for award in _first_awards(cleared, outline):
            each = self._tentative_of(award, cleared, outline, run, environment)
            if each is None:
                continue
            is_shared = not self._market.providers[award.provider].capabilities.exclusive
            place = WorkerKey(award.provider, each.launch.worker_key, each.want.fit)
            slot = (place, "" if is_shared else award.request_id)
            before = found.get(slot)
            if before is None or before.want.size.fits_in(each.want.size):
                found[slot] = each
        return list(found.values())

    def _tentative_of(
        self,
        award: Award,
        cleared: Cleared,
        outline: RunOutline,
        run: DagsterRun,
        environment: dict[str, str],
    ) -> Tentative | None:
        provider = self._market.providers[award.provider]
        foresight = foresighted(provider)
        if foresight is None:
            return None
        step = next(each for each in outline.steps if each.step_key == award.request_id)
        request = next(r for r in cleared.demand.requests if r.request_id == award.request_id)
        allocation = _allocation(award, self._market.now())
        if is_share(allocation):
            return None  # its run opens the CU itself, ahead of the step
        tags = relevant_tags(provider, step.tags)
        key = worker_key_of(provider, allocation, tags)
        launch = WorkerLaunch(
            run_id="",
            worker_key=key.place,
            arguments=WORKER_ARGUMENTS,
            environment=environment,
            working_directory=os.getcwd(),
            allocation=allocation,
            tags=tags,
            starter=self._buyer,
            run=run,
            instance=self._instance,
        )
        location = job_of(run)[0]
        fit = fit_of(foresight, key, launch)
        known = known_startups(self._market.ledger, location, str(key))
        if known.fit != fit or not known.times_ms:
            return None  # not measured yet; or its run workers start there what this process cannot
        want = Want(
            want_id="",
            code_location=location,
            job=run.job_name,
            step_key=award.request_id,
            account=cleared.demand.run.account or DEFAULT_ACCOUNT,
            source="",
            expected_at=cleared.auction.held_at,
            fit=fit,
            provider=award.provider,
            resource_id=award.resource_id,
            capacity_id=award.capacity_id,
            size=award.size,
            price_microusd_per_hour=award.price_microusd_per_hour,
            value_of_time_microusd_per_hour=request.value_of_time_microusd_per_hour,
            startups_ms=known.times_ms,
            minimum_ms=cleared.round.minimum_ms(award.bid_id),
        )
        return Tentative(want=want, provider=foresight, launch=launch)


def _first_awards(cleared: Cleared, outline: RunOutline) -> list[Award]:
    """Returns the awards of steps that wait for no other, and for no room by the plan."""
    first = {step.step_key for step in outline.steps if not step.depends_on}
    awards = [award for award in cleared.plan.awards if award.request_id in first]
    earliest = min((award.start_ms for award in awards), default=0)
    return [award for award in awards if award.start_ms == earliest]


def _allocation(award: Award, now: datetime) -> Allocation:
    return allocation_of(award, "", "", 1, now)


def _chance_permille(job: Job, source: str, bought: Sequence[Purchase]) -> int:
    """Returns how likely a purchase for such a launch is used, from those that were made before.

    What gave way to others, or went with its buyer, says nothing of the launch.
    """
    of_job = [p for p in bought if (p.code_location, p.job, p.source) == (*job, source)]
    used = sum(p.state is PurchaseState.USED for p in of_job)
    in_vain = sum(
        p.state is PurchaseState.LET_GO and p.outcome.startswith("nobody") for p in of_job
    )
    return 1000 * (used + PRIOR_USED) // (used + in_vain + PRIOR_USED + PRIOR_LET_GO)
