"""A step as the market knows it before it is sized: no framework's objects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from cu_market.domain.features import NO_FEATURES, StepFeatures
from cu_market.domain.inputs import InputData
from cu_market.domain.request import StepIdentity


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOutline:
    """One step of a plan.

    Attributes:
        step_key: unique in the run; ``work[?]`` stands for every step that will be mapped.
        op_name: the op's name, by which overrides may speak of it.
        identity: what history is kept by.
        tags: the op's tags, all of them.
        depends_on: step keys that must end first.
        sources: step key and name of each output of this run that it reads.
        priority: Dagster's step priority; larger first.
        code_version: the declared version of its assets' code, or empty.
        input_bytes: of its inputs as measured when upstream wrote them, or None.
        features: what else is known of its work.
        inputs: what is known of each source of its inputs: bytes as measured, and where they lie.
    """

    step_key: str
    op_name: str
    identity: StepIdentity
    tags: Mapping[str, str] = field(default_factory=dict)
    depends_on: tuple[str, ...] = ()
    sources: tuple[tuple[str, str], ...] = ()
    priority: int = 0
    code_version: str = ""
    input_bytes: int | None = None
    features: StepFeatures = NO_FEATURES
    inputs: tuple[InputData, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOutline:
    """A run as the market knows it.

    Attributes:
        run_id, job_name: Dagster's.
        tags: the run's tags over the job's.
        steps: in topological order.
    """

    run_id: str
    job_name: str
    tags: Mapping[str, str] = field(default_factory=dict)
    steps: tuple[StepOutline, ...] = ()


def expanded(steps: Iterable[str], known: Iterable[str]) -> tuple[str, ...]:
    """Returns steps, in the place of one that is mapped those known that were mapped from it."""
    found: list[str] = []
    there = sorted(known)
    for step in steps:
        mapped = [each for each in there if each != step and template_key(each) == step]
        found += mapped or [step]
    return tuple(found)


def template_key(step_key: str) -> str:
    """Returns the step that stands for a mapped one in the plan: ``work[a]`` gives ``work[?]``."""
    head, bracket, _ = step_key.rpartition("[")
    return f"{head}[?]" if bracket and step_key.endswith("]") else step_key
