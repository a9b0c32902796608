"""What is wrong with a home's dagster.yaml that Dagster itself does not say, or not in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import yaml

from cu_market.domain.problem import InvalidInputError, Problem
from cu_market.domain.tags import nearest_name

_OWN = ("run_launcher", "config")
"""Where the market's launchers are configured."""


def check_dagster_yaml(path: Path) -> None:
    """Returns if the file can be read and means what it seems to.

    Raises:
        InvalidInputError: no YAML, a name that stands twice in one place (YAML takes the last), or
            a misspelt ``market``.
    """
    try:
        root = yaml.compose(path.read_text(), yaml.SafeLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        said = " ".join(str(error).split())
        problem = Problem(
            where="dagster.yaml", value=str(path), what=f"cannot be read: {said}", remedy="mend it"
        )
        raise InvalidInputError([problem]) from error
    problems = [] if root is None else [*_doubles(root, ()), *_strangers(root)]
    if problems:
        raise InvalidInputError(problems)


def _doubles(node: yaml.Node, place: tuple[str, ...]) -> Iterator[Problem]:
    children = _children(node)
    for name, count in Counter(name for name, _ in children).items():
        if count > 1:
            yield Problem(
                where=f"dagster.yaml: {'.'.join(place) or 'top'}",
                value=name,
                what=f"{count} entries with one name: only the last would count",
                remedy="give each its own name",
            )
    for name, child in children:
        yield from _doubles(child, (*place, name))


def _strangers(root: yaml.Node) -> Iterator[Problem]:
    """Yields names beside ``market`` that are nearly it: Dagster says so only at a launch."""
    node: yaml.Node | None = root
    for step in _OWN:
        node = dict(_children(node)).get(step)
    names = [name for name, _ in _children(node)]
    if "market" in names:
        return
    for name in names:
        if nearest_name(name, ["market"]):
            yield Problem(
                where=f"dagster.yaml: {'.'.join(_OWN)}",
                value=name,
                what="no such setting",
                remedy="did you mean market?",
            )


def _children(node: yaml.Node | None) -> list[tuple[str, yaml.Node]]:
    """Returns the entries of a mapping, or of a list by their places."""
    if isinstance(node, yaml.MappingNode):
        return [(str(key.value), value) for key, value in node.value]
    if isinstance(node, yaml.SequenceNode):
        return [(str(place), value) for place, value in enumerate(node.value)]
    return []
