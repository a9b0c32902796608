"""Reads tags of steps and runs into specs, and writes specs as tags.

Tags are read without ever raising: what is wrong comes back as Problems, all of them, so that a
launch can name every mistake before anything is spent.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from cu_market.domain.kubernetes_tag import parse_kubernetes_tag
from cu_market.domain.problem import Problem
from cu_market.domain.spec import ComputeSpec, Override, PartitionRule, RunSpec
from cu_market.domain.tag_values import read_whole
from cu_market.domain.units import GIB, MIB
from cu_market.domain.vocabulary import (
    DAGSTER_PRIORITY_TAG,
    KUBERNETES_TAG,
    OVERRIDE_PREFIX,
    PARTITIONS_TAG,
    PREFIX,
    RUN_TAGS,
    STEP_TAGS,
    WRITTEN_TAGS,
    TagRule,
)

MAX_RUN_TAG_CHARACTERS = 200
"""Postgres indexes run tags, and refuses index rows of a few thousand characters."""

_BINARY = (("GiB", GIB), ("MiB", MIB))

_STEP_RULES = {rule.name: rule for rule in STEP_TAGS}
_RUN_RULES = {rule.name: rule for rule in RUN_TAGS}
_ARGUMENTS = {rule.argument: rule for rule in STEP_TAGS}


def parse_step_tags(tags: Mapping[str, Any], where: str) -> tuple[ComputeSpec, list[Problem]]:
    """Returns what an op's tags say about its step, and everything wrong with them.

    Args:
        tags: the op's tags; those outside ``cu/`` are left alone, except that requests in a
            ``dagster-k8s/config`` tag size the step where no ``cu/`` tag does.
        where: whose tags, for messages: ``op 'train'``.
    """
    found: dict[str, Any] = {}
    origins: list[tuple[str, str]] = []
    problems: list[Problem] = []
    for name, value in sorted(tags.items()):
        rule = _STEP_RULES.get(name)
        if rule is not None:
            _read(rule, value, where, found, origins, problems)
        elif name == PARTITIONS_TAG:
            rules = _parse_partitions(value, f"{where}: tag {name}", problems)
            if rules:
                found["partition_rules"] = rules
        elif name in _RUN_RULES or name.startswith(OVERRIDE_PREFIX):
            problems.append(_misplaced(name, value, where, "a run", "the job's or the run's tags"))
        elif name.startswith(PREFIX) and name not in WRITTEN_TAGS:
            problems.append(_unknown(name, value, where, [*_STEP_RULES, PARTITIONS_TAG]))
    spec = ComputeSpec(**found, origins=tuple(origins))
    if KUBERNETES_TAG in tags:
        requested, wrong = parse_kubernetes_tag(tags[KUBERNETES_TAG], where)
        spec, problems = spec.merged_over(requested), problems + wrong
    return spec, problems


def _dagster_priority(tags: Mapping[str, Any]) -> int:
    """Returns the priority by which Dagster starts queued runs; what cannot be read is 0."""
    try:
        return read_whole(tags.get(DAGSTER_PRIORITY_TAG, 0))
    except ValueError:
        return 0


def parse_run_tags(tags: Mapping[str, Any], where: str = "run") -> tuple[RunSpec, list[Problem]]:
    """Returns what a run's tags say, and everything wrong with them.

    Step tags found here are the defaults of the run's steps: Dagster copies a job's tags into
    its runs. A ``dagster-k8s/config`` tag on a job speaks of the run's own pod and is left alone.
    """
    found: dict[str, Any] = {}
    defaults: dict[str, Any] = {}
    origins: list[tuple[str, str]] = []
    overrides: list[Override] = []
    problems: list[Problem] = []
    for name, value in sorted(tags.items()):
        if name in _RUN_RULES:
            _read(_RUN_RULES[name], value, where, found, [], problems)
        elif name in _STEP_RULES:
            _read(_STEP_RULES[name], value, where, defaults, origins, problems)
        elif name.startswith(OVERRIDE_PREFIX):
            overrides.extend(_parse_override(name, value, where, problems))
        elif name == PARTITIONS_TAG:
            problems.append(_misplaced(name, value, where, "an op", "the op's tags"))
        elif name.startswith(PREFIX) and name not in WRITTEN_TAGS:
            known = [*_RUN_RULES, *_STEP_RULES, OVERRIDE_PREFIX + "<op or asset>"]
            problems.append(_unknown(name, value, where, known))
    overrides.sort(key=lambda o: (o.target, not o.partition, -len(o.partition), o.partition))
    if "priority" not in found and (priority := _dagster_priority(tags)):
        found["priority"] = priority
    spec = ComputeSpec(**defaults, origins=tuple(origins))
    return RunSpec(**found, step_defaults=spec, overrides=tuple(overrides)), problems


def parse_settings(
    written: object, where: str, origin: str = ""
) -> tuple[ComputeSpec, list[Problem]]:
    """Returns what ``memory=8GiB,cpu=2`` says, and everything wrong with it.

    Keys are compute()'s arguments. Several names in one setting are separated by ``|``.

    Args:
        written: the settings.
        where: the place, for messages.
        origin: how the place is named in reasons: ``cu/for.train``.
    """
    found: dict[str, Any] = {}
    origins: list[tuple[str, str]] = []
    problems: list[Problem] = []
    for part in str(written).split(","):
        key, sign, value = (piece.strip() for piece in part.partition("="))
        rule = _ARGUMENTS.get(key)
        if not sign or not value:
            remedy = "write settings such as memory=8GiB,cpu=2"
            problems.append(
                Problem(
                    where=where, value=str(written), what=f"{part!r} sets nothing", remedy=remedy
                )
            )
        elif rule is None:
            problems.append(_unknown(key, value, where, list(_ARGUMENTS), noun="setting"))
        elif rule.field in found:
            problems.append(
                Problem(where=where, value=str(written), what=f"{key} twice", remedy="say it once")
            )
        else:
            try:
                found[rule.field] = rule.kind.read_argument(value)
                origins.append((rule.field, f"{origin} {key}={value}".strip()))
            except ValueError as error:
                problems.append(
                    Problem(
                        where=f"{where}: {key}",
                        value=value,
                        what=str(error),
                        remedy=rule.kind.argument_remedy,
                    )
                )
    return ComputeSpec(**found, origins=tuple(origins)), problems


def check_override_targets(run: RunSpec, known: Iterable[str], where: str = "run") -> list[Problem]:
    """Returns a problem for each override whose op or asset the run does not have.

    Args:
        run: the parsed run tags.
        known: the names of all its steps, see target_names.
        where: whose tags, for messages.
    """
    names = sorted(set(known))
    return [
        _unknown(o.target, "", f"{where}: tag {OVERRIDE_PREFIX}{o.target}", names, noun="step")
        for o in run.overrides
        if o.target not in names
    ]


def check_providers(
    specs: Iterable[tuple[str, ComputeSpec]], known: Iterable[str]
) -> list[Problem]:
    """Returns a problem for each provider that a step is bound to and that there is none of.

    Args:
        specs: what was said, each with where: ``op 'train'``.
        known: the names of the configured providers.
    """
    names = sorted(set(known))
    tag = _ARGUMENTS["provider"].name
    return [
        _unknown(name, name, f"{where}: tag {tag}", names, noun="provider")
        for where, spec in specs
        for name in spec.providers or ()
        if name not in names
    ]


def format_step_tags(spec: ComputeSpec) -> dict[str, str]:
    """Returns the tags that parse_step_tags reads back as the same spec."""
    tags = {
        rule.name: rule.kind.write(getattr(spec, rule.field))
        for rule in STEP_TAGS
        if getattr(spec, rule.field) is not None
    }
    if spec.partition_rules is not None:
        rules = {rule.pattern: format_settings(rule.spec) for rule in spec.partition_rules}
        tags[PARTITIONS_TAG] = json.dumps(rules)
    return tags


def format_settings(spec: ComputeSpec) -> str:
    """Returns settings that parse_settings reads back as the same spec, without its rules."""
    return ",".join(
        f"{rule.argument}={_setting(rule, getattr(spec, rule.field))}"
        for rule in STEP_TAGS
        if getattr(spec, rule.field) is not None
    )


def _setting(rule: TagRule, value: Any) -> str:
    if rule.field.endswith("memory_bytes"):
        unit = next((u for u, factor in _BINARY if value % factor == 0), "B")
        return f"{value // dict(_BINARY).get(unit, 1)}{unit}"
    return rule.kind.write(value).replace(",", "|")


def _read(
    rule: TagRule,
    value: object,
    where: str,
    found: dict[str, Any],
    origins: list[tuple[str, str]],
    problems: list[Problem],
) -> None:
    """Puts a tag's value into found and its origin into origins, or what is wrong into problems."""
    try:
        found[rule.field] = rule.kind.read_tag(value)
    except ValueError as error:
        problems.append(
            Problem(
                where=f"{where}: tag {rule.name}",
                value=str(value),
                what=str(error),
                remedy=rule.kind.tag_remedy,
            )
        )
    else:
        origins.append((rule.field, f"{rule.name}={value}"))


def _parse_partitions(
    value: object, where: str, problems: list[Problem]
) -> tuple[PartitionRule, ...]:
    """Returns the rules of a ``cu/partitions`` tag; patterns stand in the value, since Dagster
    1.13 warns of tag keys with other characters than letters, digits and ``_.-``."""
    try:
        written = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        written = None
    if not isinstance(written, Mapping) or not written:
        remedy = """write a JSON object such as {"2024-*": "memory=8GiB,cpu=2"}"""
        problems.append(
            Problem(where=where, value=str(value), what="not a JSON object", remedy=remedy)
        )
        return ()
    rules = []
    for pattern, settings in written.items():
        origin = f"{PARTITIONS_TAG} {pattern}:"
        spec, wrong = parse_settings(settings, f"{where}: {pattern}", origin)
        problems.extend(wrong)
        rules.append(PartitionRule(pattern=str(pattern), spec=spec))
    return tuple(rules)


def _parse_override(
    name: str, value: object, where: str, problems: list[Problem]
) -> Sequence[Override]:
    target, _, partition = name.removeprefix(OVERRIDE_PREFIX).partition("@")
    place = f"{where}: tag {name}"
    if not target:
        remedy = f"write {OVERRIDE_PREFIX}<op or asset>"
        problems.append(Problem(where=place, value=str(value), what="names no step", remedy=remedy))
        return ()
    if len(str(value)) > MAX_RUN_TAG_CHARACTERS:
        problems.append(
            Problem(
                where=place,
                value=str(value),
                what=f"{len(str(value))} characters, more than {MAX_RUN_TAG_CHARACTERS}",
                remedy="say less in one tag",
            )
        )
    spec, wrong = parse_settings(value, place, name)
    problems.extend(wrong)
    return (Override(target=target, partition=partition, spec=spec),)


def _misplaced(name: str, value: object, where: str, subject: str, place: str) -> Problem:
    return Problem(
        where=f"{where}: tag {name}",
        value=str(value),
        what=f"speaks of {subject}",
        remedy=f"put it into {place}",
    )


def _unknown(
    name: str, value: object, where: str, known: Sequence[str], noun: str = "tag"
) -> Problem:
    """Returns a problem that offers the nearest known name, if any is near."""
    near = nearest_name(name, known)
    listed = ", ".join(sorted(known)[:20]) or "none"
    return Problem(
        where=f"{where}: {noun} {name}",
        value=str(value),
        what=f"unknown {noun}",
        remedy=f"did you mean {near}?" if near else f"known: {listed}",
    )


def nearest_name(name: str, known: Iterable[str]) -> str | None:
    """Returns the known name that is most like this one, or None if none is.

    The ``cu/`` that all tags share does not count: it would make any two of them alike. A name
    that a known one continues (``cu/memory`` for ``cu/memory_gb``) is near, however short.
    """
    bare = {k.removeprefix(PREFIX): k for k in sorted(known)}
    wanted = name.removeprefix(PREFIX).lower()
    continued = [k for k in bare if len(wanted) >= 3 and k.startswith(wanted)]
    found = continued or get_close_matches(wanted, list(bare), n=1, cutoff=0.6)
    return bare[found[0]] if found else None
