"""What will be asked of the market in the hours to come, read from a Dagster instance."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta

from dagster import DagsterInstance

from cu_market.dagster_compat.upcoming import (
    Job,
    arrivals,
    last_outline,
    queued,
    remaining_backfills,
    ticks,
)
from cu_market.domain.request import StepIdentity
from cu_market.ledger.interface import Ledger
from cu_market.market.demand.champions import published_forecaster
from cu_market.market.demand.past import read_past
from cu_market.market.demand.requests import size_run
from cu_market.market.settings import MarketSettings
from cu_market.pse.demand.arrivals import forecast_arrivals
from cu_market.pse.demand.expected import (
    ExpectedRequest,
    Launch,
    Source,
    StepNeed,
    expected_requests,
    hour_of,
    hourly_counts,
)

LOOK_BACK = timedelta(weeks=26)


def future_demand(
    instance: DagsterInstance,
    ledger: Ledger,
    settings: MarketSettings,
    *,
    hours: int,
    now: datetime | None = None,
) -> list[ExpectedRequest]:
    """Returns what is expected to be asked for in the next hours.

    Args:
        instance: whose schedules, queue, backfills and past runs are read.
        ledger: of histories and champions.
        settings: the market's.
        hours: how far ahead, at most a week.
        now: the present, unless given.
    """
    moment = now or datetime.now(UTC)
    launches = [
        Launch.exact(job, at, Source.SCHEDULE)
        for job, at in ticks(instance, moment, timedelta(hours=hours))
    ]
    launches += [Launch.exact(job, moment, Source.QUEUE) for job, _ in queued(instance)]
    launches += [
        Launch.exact(job, moment, Source.BACKFILL, left)
        for job, left in remaining_backfills(instance)
    ]
    launches += _arriving(instance, moment, hours)
    plans = {
        job: _needs(instance, ledger, settings, job, moment)
        for job in {each.job for each in launches}
    }
    return expected_requests(plans, launches)


def _arriving(instance: DagsterInstance, now: datetime, hours: int) -> list[Launch]:
    """Returns what sensors and people will launch, hour by hour, from how they did."""
    moments: dict[Job, list[datetime]] = defaultdict(list)
    for job, at in arrivals(instance, now - LOOK_BACK):
        moments[job].append(at)
    until = hour_of(now)
    found: list[Launch] = []
    for job, times in sorted(moments.items()):
        since = hour_of(min(times))
        counts = hourly_counts(times, since=since, until=until)
        if not counts:
            continue  # all within the present hour: too little to go by
        first = 24 * since.weekday() + since.hour
        forecast = forecast_arrivals(counts, first_hour_of_week=first, hours=hours)
        for place in range(hours):
            if forecast.p90[place] > 0:
                found.append(
                    Launch(
                        job=job,
                        at=until + timedelta(hours=place),
                        source=Source.ARRIVALS,
                        mean=float(forecast.mean[place]),
                        p10=int(forecast.p10[place]),
                        p50=int(forecast.p50[place]),
                        p90=int(forecast.p90[place]),
                    )
                )
    return found


def _needs(
    instance: DagsterInstance, ledger: Ledger, settings: MarketSettings, job: Job, now: datetime
) -> list[StepNeed]:
    outline = last_outline(instance, job)
    if outline is None:
        return []
    demand = size_run(
        outline,
        read_past(ledger, {step.identity for step in outline.steps}),
        now=now,
        settings=settings,
        forecaster=published_forecaster(ledger, [job[0]]),
    )
    return [
        StepNeed(
            step_key=request.request_id,
            identity=request.identity or StepIdentity(node=request.request_id),
            needs=request.needs,
            duration_ms=request.duration_ms,
            cu_type=request.cu_type,
        )
        for request in demand.requests
    ]
