"""Requests that already stand in a ``dagster-k8s/config`` tag, read as a spec.

Requests size the step; where a resource has only a limit, Kubernetes takes the limit as its
request, and so does this. Other parts of the tag are not looked at.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from decimal import ROUND_CEILING, Decimal
from typing import Any

from cu_market.domain.problem import Problem
from cu_market.domain.spec import ComputeSpec
from cu_market.domain.tag_values import check_magnitude, read_cores, read_count
from cu_market.domain.units import MIB, parse_decimal
from cu_market.domain.vocabulary import KUBERNETES_TAG

_QUANTITY = re.compile(r"^([0-9.]+(?:[eE][+-]?[0-9]+)?)(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|)$")
_FACTOR: Mapping[str, Decimal] = {
    "m": Decimal("0.001"),
    "": Decimal(1),
    **{s: Decimal(1000) ** (i + 1) for i, s in enumerate(("k", "M", "G", "T", "P", "E"))},
    **{s: Decimal(1024) ** (i + 1) for i, s in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"))},
}


def parse_memory_quantity(written: object) -> int:
    """Returns bytes from a Kubernetes quantity: ``64Mi``, ``1G``, ``128974848``, ``129e6``.

    Raises:
        ValueError: not a quantity, or less than 1 MiB.
    """
    match = _QUANTITY.match(str(written).strip())
    if match is None:
        raise ValueError("not a Kubernetes quantity")
    check_magnitude(match.group(1))
    size = parse_decimal(match.group(1)) * _FACTOR[match.group(2)]
    if size < MIB:
        raise ValueError("less than 1 MiB")
    return int(size.to_integral_value(rounding=ROUND_CEILING))


def parse_kubernetes_tag(written: object, where: str) -> tuple[ComputeSpec, list[Problem]]:
    """Returns the spec that a ``dagster-k8s/config`` tag's requests amount to, and problems.

    Args:
        written: the tag's value: JSON text or a mapping.
        where: whose tag: ``op 'train'``.
    """
    place = f"{where}: tag {KUBERNETES_TAG}"
    config = written
    if isinstance(written, str):
        try:
            config = json.loads(written)
        except ValueError:
            problem = Problem(
                where=place, value=written, what="not JSON", remedy="write a JSON object"
            )
            return ComputeSpec(), [problem]
    resources = _child(_child(config, "container_config", "containerConfig"), "resources")
    requests, limits = _child(resources, "requests"), _child(resources, "limits")
    return _read_resources({**limits, **requests}, frozenset(requests), place)


def _child(node: object, *names: str) -> dict[str, Any]:
    """Returns the first of these children that is a mapping, or an empty one."""
    if isinstance(node, Mapping):
        for name in names:
            if isinstance(node.get(name), Mapping):
                return {str(key): value for key, value in node[name].items()}
    return {}


def _read_resources(
    amounts: Mapping[str, Any], requested: frozenset[str], place: str
) -> tuple[ComputeSpec, list[Problem]]:
    found: dict[str, Any] = {}
    origins: list[tuple[str, str]] = []
    problems: list[Problem] = []
    for name, value in sorted(amounts.items()):
        if name == "cpu":
            field, read, remedy = "cpu_millis", read_cores, "write cores, such as 2 or 500m"
        elif name == "memory":
            field, read, remedy = "memory_bytes", parse_memory_quantity, "write 512Mi or 2Gi"
        elif name.endswith("/gpu"):
            field, read, remedy = "gpu_count", read_count, "write a whole number above 0"
        else:
            continue  # ephemeral storage, huge pages, devices: nothing that the market sells
        group = "requests" if name in requested else "limits"
        try:
            found[field] = read(value)
        except ValueError as error:
            spot = f"{place}: container_config.resources.{group}.{name}"
            problems.append(Problem(where=spot, value=str(value), what=str(error), remedy=remedy))
        else:
            origins.append((field, f"{KUBERNETES_TAG} {group}.{name}={value}"))
    return ComputeSpec(**found, origins=tuple(origins)), problems
