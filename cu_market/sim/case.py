"""What a study is told of one workflow, and what the market is told of the workflow's tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cu_market.dnm.renegotiation import Spread
from cu_market.dnm.schedule import MachineType, Task
from cu_market.sim.inputs import SpotTrace
from cu_market.sim.setting import SpotPrices, Traffic


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecasts:
    """What the market is told of a workflow's tasks, by task.

    Attributes:
        expected_ms: medians.
        spreads: of what happens about them; exact where not given.
        reserved: memory in bytes, where forecasts of it may be wrong; else the workload's.
    """

    expected_ms: Mapping[str, int]
    spreads: Mapping[str, Spread] = field(default_factory=dict)
    reserved: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What a study is told.

    Attributes:
        name: the workflow's.
        tasks, machines: see Workload.
        kinds: of the tasks; forecasts of one kind are held together.
        deadline_factor: times the static plan's finish.
        runtime_error: sigma of the forecast's error.
        replays: of each policy.
        seed: of errors and of the trace's offsets.
        trace: of spot, or None: all on demand.
        spot: what spot costs.
        memory_error: sigma of the error of forecasts of memory.
        peaks: recorded, by task, in bytes; of others memory is known.
        traffic: what is moved between tasks, and where the types are.
        reacts: whether the market renegotiates.
        plans: with an error, so many plans are made and replayed in turn.
    """

    name: str
    tasks: tuple[Task, ...]
    machines: tuple[MachineType, ...]
    deadline_factor: float = 1.0
    runtime_error: float = 0.0
    replays: int = 100
    seed: int = 0
    trace: SpotTrace | None = None
    spot: SpotPrices = field(default_factory=SpotPrices)
    memory_error: float = 0.0
    peaks: Mapping[str, int] = field(default_factory=dict)
    traffic: Traffic = field(default_factory=Traffic)
    reacts: bool = True
    plans: int = 5
    kinds: Mapping[str, str] = field(default_factory=dict)
