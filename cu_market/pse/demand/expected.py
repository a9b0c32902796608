"""From launches that are expected to CUs that will be asked for: ResourceRequests over time.

expected steps = the steps of a job's last plan x its launches: ticks of its schedules, queued
runs and remaining backfill partitions (exact), and what its sensors and people launch (a band).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from cu_market.domain.request import ResourceRequest, StepIdentity
from cu_market.domain.resources import ResourceVector
from cu_market.domain.units import MS_PER_HOUR

JobRef = tuple[str, str]
"""(code location, job)."""

NORMAL_P90 = 1.2816


class Source(StrEnum):
    """Why a launch is expected."""

    SCHEDULE = "schedule"
    QUEUE = "queue"
    BACKFILL = "backfill"
    ARRIVALS = "arrivals"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepNeed:
    """One step of a job's plan, sized.

    Attributes:
        step_key: in the plan.
        identity: what history is kept by.
        needs: of one CU.
        duration_ms: expected, on the reference machine.
        cu_type: ``cpu``, or the GPU's name.
    """

    step_key: str
    identity: StepIdentity
    needs: ResourceVector
    duration_ms: int
    cu_type: str = "cpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """Launches of a job that are expected at about the same time.

    Attributes:
        job: which.
        at: aware UTC.
        source: why.
        mean: how many.
        p10, p50, p90: the band; all equal where it is exact.
    """

    job: JobRef
    at: datetime
    source: Source
    mean: float
    p10: int
    p50: int
    p90: int

    @classmethod
    def exact(cls, job: JobRef, at: datetime, source: Source, count: int = 1) -> Launch:
        """Returns launches that are known to come."""
        return cls(job=job, at=at, source=source, mean=count, p10=count, p50=count, p90=count)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedRequest:
    """One step's demand in one hour.

    Attributes:
        request: timestamp, CU type, quantity (the median, at least 1), duration, needs.
        job: whose step it is.
        source: why it is expected.
        mean: expected CUs.
        p10, p50, p90: CUs.
    """

    request: ResourceRequest
    job: JobRef
    source: Source
    mean: float
    p10: int
    p50: int
    p90: int

    def to_record(self) -> dict[str, object]:
        """Returns the request under the mission's names, with its band."""
        return {
            **self.request.to_record(),
            "location": self.job[0],
            "job": self.job[1],
            "source": str(self.source),
            "quantity_mean": self.mean,
            "quantity_p10": self.p10,
            "quantity_p50": self.p50,
            "quantity_p90": self.p90,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class HourOfDemand:
    """What one hour asks for of one type of CU, over all jobs.

    Attributes:
        hour: its beginning.
        cu_type: which.
        core_hours: mean, then its band.
        core_hours_p10, core_hours_p90: by a normal law of independent launches.
        gb_hours: mean.
        quantity: CUs, mean.
    """

    hour: datetime
    cu_type: str
    core_hours: float
    core_hours_p10: float
    core_hours_p90: float
    gb_hours: float
    quantity: float


def expected_requests(
    plans: Mapping[JobRef, Sequence[StepNeed]], launches: Iterable[Launch]
) -> list[ExpectedRequest]:
    """Returns one request a step and hour (and source), earliest first.

    Launches of the same job, hour and source are added up; jobs without a plan ask for nothing.
    """
    found: list[ExpectedRequest] = []
    for (job, hour, source), group in sorted(_grouped(launches).items()):
        mean, p10, p50, p90 = _added(group)
        at = min(launch.at for launch in group)
        for step in plans.get(job, ()):
            request = ResourceRequest(
                request_id=step.step_key,
                timestamp=at if source is not Source.ARRIVALS else hour,
                cu_type=step.cu_type,
                quantity=max(1, p50),
                duration_ms=step.duration_ms,
                needs=step.needs,
                identity=step.identity,
                reason=f"{source}: {mean:.1f} launches of {job[1]}",
            )
            found.append(
                ExpectedRequest(
                    request=request, job=job, source=source, mean=mean, p10=p10, p50=p50, p90=p90
                )
            )
    return sorted(found, key=lambda each: (each.request.timestamp, each.job, each.source))


def demand_by_hour(requests: Iterable[ExpectedRequest]) -> list[HourOfDemand]:
    """Returns one row an hour and CU type, earliest first."""
    groups: dict[tuple[datetime, str], list[ExpectedRequest]] = defaultdict(list)
    for each in requests:
        groups[hour_of(each.request.timestamp), each.request.cu_type].append(each)
    rows = []
    for (hour, cu_type), group in sorted(groups.items()):
        work = [r.request.needs.cpu_millis / 1000 * _hours(r.request) for r in group]
        mean = sum(w * r.mean for w, r in zip(work, group, strict=True))
        # Steps of one launch come together: their deviations add up, those of launches do not.
        deviations: dict[tuple[JobRef, Source], float] = defaultdict(float)
        for share, r in zip(work, group, strict=True):
            deviations[r.job, r.source] += share * (r.p90 - r.p10) / (2 * NORMAL_P90)
        reach = NORMAL_P90 * math.sqrt(sum(each * each for each in deviations.values()))
        rows.append(
            HourOfDemand(
                hour=hour,
                cu_type=cu_type,
                core_hours=mean,
                core_hours_p10=max(0.0, mean - reach),
                core_hours_p90=mean + reach,
                gb_hours=sum(
                    r.request.needs.memory_bytes / 1e9 * _hours(r.request) * r.mean for r in group
                ),
                quantity=sum(r.mean for r in group),
            )
        )
    return rows


def hour_of(moment: datetime) -> datetime:
    """Returns the beginning of its hour."""
    return moment.replace(minute=0, second=0, microsecond=0)


def hourly_counts(moments: Iterable[datetime], *, since: datetime, until: datetime) -> list[int]:
    """Returns how many of these fall into each whole hour of since to until.

    Args:
        since, until: whole hours, aware.
    """
    counts = [0] * max(0, round((until - since) / timedelta(hours=1)))
    for moment in moments:
        place = (moment - since) // timedelta(hours=1)
        if 0 <= place < len(counts):
            counts[place] += 1
    return counts


def _grouped(launches: Iterable[Launch]) -> dict[tuple[JobRef, datetime, Source], list[Launch]]:
    groups: dict[tuple[JobRef, datetime, Source], list[Launch]] = defaultdict(list)
    for launch in launches:
        groups[launch.job, hour_of(launch.at), launch.source].append(launch)
    return groups


def _added(group: Sequence[Launch]) -> tuple[float, int, int, int]:
    return (
        sum(each.mean for each in group),
        sum(each.p10 for each in group),
        sum(each.p50 for each in group),
        sum(each.p90 for each in group),
    )


def _hours(request: ResourceRequest) -> float:
    return request.duration_ms / MS_PER_HOUR
