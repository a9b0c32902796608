"""The builder of a step's tags, as people write it in their own code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from cu_market.domain.problem import InvalidInputError, Problem
from cu_market.domain.spec import ComputeSpec, PartitionRule
from cu_market.domain.tags import format_step_tags, parse_settings
from cu_market.domain.vocabulary import STEP_TAGS

Setting = str | int | float | bool | Sequence[str]
"""What a partition's rule may set one argument to."""


def compute(
    *,
    cpu: float | str | None = None,
    memory: str | int | None = None,
    gpu: str | None = None,
    gpu_count: int | None = None,
    duration: float | str | None = None,
    max_price: float | str | None = None,
    provider: str | Sequence[str] | None = None,
    location: str | Sequence[str] | None = None,
    together: str | None = None,
    sizing: Literal["auto", "fixed"] | None = None,
    on_oom: Literal["retry", "fail"] | None = None,
    risk: Literal["cost", "balanced", "safe"] | None = None,
    external: bool | None = None,
    interruptible: bool | Literal["always"] | None = None,
    min_cpu: float | str | None = None,
    min_memory: str | int | None = None,
    partitions: Mapping[str, str | Mapping[str, Setting]] | None = None,
) -> dict[str, str]:
    """Returns plain, searchable tags that say what a step needs.

    ``@dg.asset(op_tags=compute(cpu=2, memory="8GiB"))``. What is left out is left to the forecast,
    the job's tags or the defaults.

    Args:
        cpu: cores: 2, 0.5, ``500m``.
        memory: ``8GiB``, ``512MB``, or a count of bytes.
        gpu: the GPU's name.
        gpu_count: how many GPUs; one where only ``gpu`` is said.
        duration: on the reference machine: seconds, or ``90s``, ``5m``, ``2h``.
        max_price: dollars an hour; dearer bids are refused.
        provider: only this one, or these.
        location: only here.
        together: a name: steps of its run that say the same one run in one location.
        sizing: ``auto`` (as if left out) lets a forecast replace the size, ``fixed`` does not.
        on_oom: ``retry`` (as if left out) with more memory, or ``fail``.
        risk: how much a failed attempt weighs against memory held for nothing.
        external: the step only waits for a remote system: nothing is learned from it.
        interruptible: whether it may run where it can be revoked: True where a retry would still
            end before the deadline, ``always``, or False.
        min_cpu: never fewer cores.
        min_memory: never less memory.
        partitions: sizes of particular partitions by shell-style pattern of their key, the first
            match counts: ``{"2024-*": {"memory": "16GiB"}}`` or ``{"2024-*": "memory=16GiB"}``.

    Raises:
        InvalidInputError: with every problem found.
    """
    arguments = locals()
    rules = arguments.pop("partitions")
    problems: list[Problem] = []
    spec = _read_arguments(arguments, "compute", problems)
    if rules:
        spec = spec.merged_over(ComputeSpec(partition_rules=_read_partitions(rules, problems)))
    if problems:
        raise InvalidInputError(problems)
    return format_step_tags(spec)


def _read_arguments(
    arguments: Mapping[str, object], where: str, problems: list[Problem]
) -> ComputeSpec:
    """Returns the spec of given arguments; what is wrong is added to problems."""
    found: dict[str, object] = {}
    for rule in STEP_TAGS:
        value = arguments.get(rule.argument)
        if value is None:
            continue
        try:
            found[rule.field] = rule.kind.read_argument(value)
        except ValueError as error:
            problems.append(
                Problem(
                    where=f"{where}({rule.argument})",
                    value=str(value),
                    what=str(error),
                    remedy=rule.kind.argument_remedy,
                )
            )
    return ComputeSpec(**found)  # type: ignore[arg-type]


def _read_partitions(rules: object, problems: list[Problem]) -> tuple[PartitionRule, ...]:
    if not isinstance(rules, Mapping):
        problems.append(_no_settings("compute(partitions)", rules, '{"2024-*": "memory=16GiB"}'))
        return ()
    read = []
    for pattern, said in rules.items():
        where = f"compute(partitions[{pattern!r}])"
        if not isinstance(said, str | Mapping):
            problems.append(_no_settings(where, said, '"memory=16GiB" or {"memory": "16GiB"}'))
            continue
        settings = said if isinstance(said, str) else _as_settings(said)
        spec, wrong = parse_settings(settings, where)
        problems.extend(wrong)
        read.append(PartitionRule(pattern=pattern, spec=spec))
    return tuple(read)


def _no_settings(where: str, value: object, example: str) -> Problem:
    return Problem(where=where, value=str(value), what="not settings", remedy=f"write {example}")


def _as_settings(said: Mapping[str, Setting]) -> str:
    """Returns ``memory=8GiB,cpu=2`` of a mapping; None is as if it were left out."""
    return ",".join(
        f"{key}={'|'.join(map(str, value)) if isinstance(value, list | tuple) else value}"
        for key, value in said.items()
        if value is not None
    )
