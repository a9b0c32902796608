"""Turns a run's outline into sized requests: tags, history and forecasts become demand."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from cu_market.domain.gpu import normalise_gpu_name
from cu_market.domain.inputs import InputData
from cu_market.domain.outline import RunOutline, StepOutline
from cu_market.domain.problem import InvalidInputError, Problem
from cu_market.domain.request import ResourceRequest, Sizing
from cu_market.domain.resources import ResourceVector
from cu_market.domain.scaling import Scaling
from cu_market.domain.spec import ComputeSpec, Interruptible, OnOom, RunSpec, target_names
from cu_market.domain.tags import (
    check_override_targets,
    check_providers,
    parse_run_tags,
    parse_step_tags,
)
from cu_market.domain.units import MICROUSD
from cu_market.domain.vocabulary import OVERRIDE_PREFIX
from cu_market.market.demand.inputs import inputs_of
from cu_market.market.demand.past import Past
from cu_market.market.demand.sizes import size_of
from cu_market.market.renegotiation.replan import Situation
from cu_market.market.settings import MarketSettings
from cu_market.pse.forecast import Forecaster
from cu_market.pse.models.forecaster import LearnedForecaster
from cu_market.pse.sizing import SizedStep, everything_said

LATE_MICROUSD_PER_HOUR = 1000 * MICROUSD
"""What an hour is worth to a run that cannot meet its deadline any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """A run's steps, sized.

    Attributes:
        requests: one a step, in the outline's order.
        sized: by step key: size, reason and everything that was said.
        run: what was said of the run.
        left_microusd: what is left of the run's budget for these steps, or None.
    """

    requests: tuple[ResourceRequest, ...]
    sized: Mapping[str, SizedStep]
    run: RunSpec
    left_microusd: int | None = None

    def retries_after_oom(self, step_key: str) -> bool:
        """Whether a step ended for memory is to be tried again with more."""
        return self.sized[step_key].spec.on_oom is not OnOom.FAIL


def read_specs(
    outline: RunOutline, providers: Collection[str] | None = None
) -> tuple[RunSpec, dict[str, ComputeSpec]]:
    """Returns what the tags say of the run and of each step.

    Args:
        outline: the run's steps.
        providers: names of all there are, or None where it does not matter.

    Raises:
        InvalidInputError: with every problem of every tag.
    """
    run, problems = parse_run_tags(outline.tags)
    specs: dict[str, ComputeSpec] = {}
    places = [("run", run.step_defaults)]
    places += [(f"run: step {each.target}", each.spec) for each in run.overrides]
    read: dict[tuple[str, tuple[tuple[str, str], ...]], ComputeSpec] = {}
    names: set[str] = set()
    for step in outline.steps:
        label = step.identity.node or step.op_name
        key = (label, tuple(sorted(step.tags.items())))
        if key not in read:
            read[key], found = parse_step_tags(step.tags, f"op '{label}'")
            problems.extend(found)
            places.append((f"op '{label}'", read[key]))
        specs[step.step_key] = read[key]
        names |= _names(step)
    problems.extend(check_override_targets(run, names))
    if providers is not None:
        problems.extend(check_providers(places, providers))
    if problems:
        raise InvalidInputError(_without_repeats(problems))
    return run, specs


def merged_specs(outline: RunOutline) -> dict[str, ComputeSpec]:
    """Returns everything that is said of each step: by its launch, its op, its job and run.

    Raises:
        InvalidInputError: with every problem of every tag.
    """
    run, specs = read_specs(outline)
    return {
        step.step_key: everything_said(
            specs[step.step_key],
            partition=step.identity.partition,
            override=run.override_for(_names(step), step.identity.partition),
            job=run.step_defaults,
        )
        for step in outline.steps
    }


def tags_for(outline: RunOutline, step: StepOutline) -> dict[str, str]:
    """Returns the run's tags without overrides of other steps, which would name nobody alone."""
    return _tags_naming(outline, _names(step))


def _tags_naming(outline: RunOutline, names: Collection[str]) -> dict[str, str]:
    """Returns the run's tags without overrides of what is not among these names."""
    return {
        name: value
        for name, value in outline.tags.items()
        if not name.startswith(OVERRIDE_PREFIX)
        or name.removeprefix(OVERRIDE_PREFIX).partition("@")[0] in names
    }


def size_run(
    outline: RunOutline,
    past: Past,
    *,
    now: datetime,
    settings: MarketSettings,
    largest: ResourceVector | None = None,
    providers: Collection[str] | None = None,
    forecaster: Forecaster | None = None,
    floors: Mapping[str, int] | None = None,
) -> Demand:
    """Returns the run's demand.

    Args:
        outline: the run's steps.
        past: what is known of its steps and of those that they may borrow from.
        now: the auction's time.
        settings: defaults and thresholds.
        largest: the largest CU there is: headroom is cut at it.
        providers: names of all there are: a step bound to another is a mistake.
        forecaster: what turns history into distributions; the learned one unless given.
        floors: bytes by step key that an attempt ended for memory has shown to be too few.

    Raises:
        InvalidInputError: with every problem of every tag.
    """
    run, specs = read_specs(outline, providers)
    model = forecaster or LearnedForecaster()
    sized: dict[str, SizedStep] = {}
    requests: list[ResourceRequest] = []
    by_key = {step.step_key: step for step in outline.steps}
    for step in outline.steps:
        spec = specs[step.step_key]
        size = size_of(
            step,
            spec,
            past,
            settings=settings,
            model=model,
            override=run.override_for(_names(step), step.identity.partition),
            job=run.step_defaults,
            largest=largest,
        )
        size = _raised(size, (floors or {}).get(step.step_key, 0))
        sized[step.step_key] = size
        inputs = inputs_of(step, by_key, past)
        requests.append(_request(step, size, run, now, settings, inputs))
    return Demand(requests=tuple(requests), sized=sized, run=run)


def part_of(outline: RunOutline, steps: Collection[str]) -> RunOutline:
    """Returns the outline of these steps alone, free of dependencies on all others and of overrides
    of steps that are not among them."""
    wanted = set(steps)
    kept = tuple(
        replace(step, depends_on=tuple(p for p in step.depends_on if p in wanted))
        for step in outline.steps
        if step.step_key in wanted
    )
    names = {name for step in kept for name in _names(step)}
    return replace(outline, tags=_tags_naming(outline, names), steps=kept)


def in_situation(demand: Demand, situation: Situation) -> Demand:
    """Returns the demand of steps not started as their run stands: what is left of the deadline,
    and when what runs now lets them start."""
    requests = tuple(
        replace(
            request,
            earliest_start_ms=situation.earliest_ms.get(request.request_id, 0),
            latest_finish_ms=None
            if request.latest_finish_ms is None
            else max(1, request.latest_finish_ms - situation.elapsed_ms),
        )
        for request in demand.requests
    )
    return replace(demand, requests=requests)


def without_deadline(demand: Demand) -> Demand:
    """Returns the demand of a run that is late: no deadline, and time is worth more than money."""
    requests = tuple(
        replace(
            request,
            latest_finish_ms=None,
            value_of_time_microusd_per_hour=max(
                LATE_MICROUSD_PER_HOUR, request.value_of_time_microusd_per_hour
            ),
        )
        for request in demand.requests
    )
    return replace(demand, requests=requests)


def _request(
    step: StepOutline,
    size: SizedStep,
    run: RunSpec,
    now: datetime,
    settings: MarketSettings,
    inputs: tuple[InputData, ...],
) -> ResourceRequest:
    spec = size.spec
    value_of_time = run.value_of_time_microusd_per_hour
    return ResourceRequest(
        request_id=step.step_key,
        timestamp=now,
        cu_type=size.gpu_type or "cpu",
        duration_ms=size.duration_ms,
        scaling=_scaling(size),
        needs=size.needs,
        gpu_type=normalise_gpu_name(size.gpu_type) if size.gpu_type else None,
        sizing=size.sizing,
        reason=size.reason,
        identity=step.identity,
        duration_quantiles_ms=size.duration_quantiles_ms,
        memory_quantiles=size.memory_quantiles,
        depends_on=step.depends_on,
        latest_finish_ms=run.deadline_ms,
        max_price_microusd_per_hour=spec.max_price_microusd_per_hour,
        value_of_time_microusd_per_hour=(
            settings.value_of_time_microusd_per_hour if value_of_time is None else value_of_time
        ),
        providers=spec.providers or (),
        locations=spec.locations or (),
        together=spec.together or "",
        priority=step.priority,
        run_priority=run.priority or 0,
        interruptible=spec.interruptible is not Interruptible.FALSE,
        retry_must_fit=spec.interruptible is not Interruptible.ALWAYS,
        inputs=inputs,
        external=bool(spec.external),
    )


def _scaling(size: SizedStep) -> Scaling | None:
    """Returns how the step's time scales, so that it takes its duration on the cores it needs."""
    known = size.forecast.scaling if size.forecast else None
    if known is None or not size.duration_ms:
        return None
    return known.rebased(size.duration_ms, size.needs.cpu_millis)


def _raised(size: SizedStep, floor_bytes: int) -> SizedStep:
    if size.needs.memory_bytes >= floor_bytes:
        return size
    return replace(
        size,
        needs=replace(size.needs, memory_bytes=floor_bytes),
        sizing=Sizing.LEARNED_BOUND,
        reason=f"learned bound: an attempt was ended for memory; before that {size.reason}",
    )


def _names(step: StepOutline) -> frozenset[str]:
    return target_names(step.identity, step.op_name)


def _without_repeats(problems: Sequence[Problem]) -> list[Problem]:
    return list(dict.fromkeys(problems))
