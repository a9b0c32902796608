"""Forecasts of a workflow's tasks by what the market has seen before, as production makes them.

What was seen is kept in a ledger; each task is sized as a run's step is (``market.demand``), on the
cores that were recorded: on fewer it would not have taken as long. A kind is the same wherever it
was recorded. Nothing is configured: where nothing is known a task gets a gibibyte and is taken to
last for a minute. Recordings follow one another in the order in which they are given, attempts in
the order in which they ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from cu_market.dnm.renegotiation import UNTOLD, Spread
from cu_market.dnm.schedule import MachineType, Task
from cu_market.domain.outline import StepOutline
from cu_market.domain.request import StepIdentity
from cu_market.domain.resources import ResourceVector
from cu_market.domain.spec import ComputeSpec
from cu_market.domain.usage import Ending, Usage
from cu_market.ledger.memory import InMemoryLedger
from cu_market.market.demand.past import read_past
from cu_market.market.demand.sizes import size_of
from cu_market.market.settings import MarketSettings
from cu_market.pse.models.forecaster import LearnedForecaster
from cu_market.pse.sizing import SizedStep
from cu_market.sim.attempts import EPOCH
from cu_market.sim.forecasts import Forecasts, Learned
from cu_market.sim.recorded import Recorded


def learn(
    recorded: Recorded, history: Sequence[Recorded], machines: Sequence[MachineType]
) -> Learned:
    """Returns what the market expects of a workflow's tasks, given what it has seen before.

    Memory is learned from the attempts of which it was recorded, and reserved by forecast for the
    tasks of which it was: of others nothing can be said.

    Args:
        recorded: what is to run.
        history: what was seen, the oldest first.
        machines: types that can be had; the largest that has a task's cores cuts its headroom.
    """
    seen = _in_order(history)
    weighed = [usage for usage in seen if usage.measurement.peak_memory_bytes]
    times = _sizes(recorded, seen, machines)
    sizes = times if len(weighed) == len(seen) else _sizes(recorded, weighed, machines)
    sizes = {task_id: size for task_id, size in sizes.items() if recorded.peaks.get(task_id)}
    told = {task_id: size.forecast for task_id, size in times.items() if size.forecast is not None}
    return Learned(
        forecasts=Forecasts(
            expected_ms={task_id: max(1, size.duration_ms) for task_id, size in times.items()},
            spreads={task_id: _spread(size) for task_id, size in times.items()},
            reserved={
                task.task_id: min(
                    sizes[task.task_id].needs.memory_bytes, _largest(task, machines).memory_bytes
                )
                for task in recorded.tasks
                if task.task_id in sizes
            },
            foreseen={
                task_id: size.forecast
                for task_id, size in sizes.items()
                if size.forecast is not None
            },
        ),
        recordings=len(history),
        known=frozenset(task_id for task_id, forecast in told.items() if forecast.attempts),
        borrowed=frozenset(task_id for task_id, forecast in told.items() if not forecast.attempts),
        itself=tuple(each.place for each in history if _is_same(each, recorded)),
    )


def _steps(recorded: Recorded) -> list[StepOutline]:
    """Returns the tasks as the market would know them just before they start."""
    ended = {each.step_key: each for each in recorded.attempts if each.ending is Ending.OK}
    found = []
    for task in recorded.tasks:
        key = task.task_id
        kind = recorded.kinds.get(key, key)
        usage = ended.get(key)
        if usage is None:
            found.append(StepOutline(step_key=key, op_name=kind, identity=StepIdentity(node=kind)))
        else:
            found.append(
                StepOutline(
                    step_key=key,
                    op_name=kind,
                    identity=_anywhere(usage).identity,
                    code_version=usage.code_version,
                    input_bytes=usage.input_bytes,
                    features=usage.features,
                )
            )
    return found


def _in_order(history: Sequence[Recorded]) -> list[Usage]:
    """Returns all attempts, each recording's after those of the one before."""
    found: list[Usage] = []
    end = EPOCH
    for number, one in enumerate(history):
        begin = min((usage.started_at for usage in one.attempts), default=EPOCH)
        shifted = [
            replace(
                _anywhere(usage),
                run_id=f"{number} {usage.run_id}",
                started_at=end + (usage.started_at - begin),
                ended_at=end + (usage.ended_at - begin),
            )
            for usage in one.attempts
        ]
        end = max((usage.ended_at for usage in shifted), default=end)
        found += shifted
    return found


def _anywhere(usage: Usage) -> Usage:
    return replace(usage, identity=replace(usage.identity, code_location=""))


def _sizes(
    recorded: Recorded, seen: Iterable[Usage], machines: Sequence[MachineType]
) -> dict[str, SizedStep]:
    """Returns what each task is to be given, by task, as a run's steps are sized."""
    ledger = InMemoryLedger()
    ledger.keep_usages(seen)
    steps = _steps(recorded)
    past = read_past(ledger, {step.identity for step in steps})
    settings, model = MarketSettings(), LearnedForecaster()
    return {
        task.task_id: size_of(
            step,
            ComputeSpec(),
            past,
            settings=settings,
            model=model,
            override=ComputeSpec(cpu_millis=task.cpu_millis),
            largest=_largest(task, machines),
        )
        for step, task in zip(steps, recorded.tasks, strict=True)
    }


def _largest(task: Task, machines: Sequence[MachineType]) -> ResourceVector:
    """Returns the cores and the memory of the types that have the task's cores."""
    holding = [machine for machine in machines if machine.cpu_millis >= task.cpu_millis]
    return ResourceVector(
        cpu_millis=max(machine.cpu_millis for machine in holding),
        memory_bytes=max(machine.memory_bytes for machine in holding),
    )


def _spread(size: SizedStep) -> Spread:
    band = size.duration_quantiles_ms
    return UNTOLD if band is None else Spread.from_band(band.p50, band.p95)


def _is_same(one: Recorded, other: Recorded) -> bool:
    return one.tasks == other.tasks and one.kinds == other.kinds
