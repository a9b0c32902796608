"""What a study is told of one workflow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cu_market.dnm.schedule import MachineType, Task
from cu_market.sim.forecasts import Learned
from cu_market.sim.inputs import SpotTrace
from cu_market.sim.setting import SpotPrices, Traffic


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
        learned: what history tells the market, in the place of errors; or None.
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
    learned: Learned | None = None
