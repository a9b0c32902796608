"""What an attempt leaves for those who forecast: one row of usage."""

from __future__ import annotations

from datetime import datetime, timedelta

from cu_market.domain.allocation import Allocation
from cu_market.domain.outline import StepOutline
from cu_market.domain.rental import offered_name
from cu_market.domain.spec import ComputeSpec
from cu_market.domain.usage import Ending, Measurement, Usage


def usage_of(
    lease: Allocation,
    step: StepOutline,
    ending: Ending,
    measurement: Measurement,
    *,
    job_name: str,
    spec: ComputeSpec,
    ended_at: datetime,
) -> Usage:
    """Returns the row of an attempt.

    Args:
        lease: under which it ran.
        step: with the bytes of its inputs, where they were measured.
        ending, measurement: as its worker told them.
        job_name: of its run.
        spec: what its own tags say.
        ended_at: when its end was taken up.
    """
    return Usage(
        run_id=lease.run_id,
        step_key=lease.step_key,
        attempt=lease.attempt,
        identity=step.identity,
        job_name=job_name,
        provider=lease.provider,
        resource_id=offered_name(lease.resource_id),
        started_at=ended_at - timedelta(milliseconds=measurement.wall_ms),
        ended_at=ended_at,
        cpu_millis=lease.size.cpu_millis,
        memory_bytes=lease.size.memory_bytes,
        measurement=measurement,
        ending=ending,
        external=bool(spec.external),
        code_version=step.code_version,
        input_bytes=step.input_bytes,
        features=step.features,
        declared_bytes=spec.memory_bytes,
    )
