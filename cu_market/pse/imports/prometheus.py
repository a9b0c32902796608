"""Container metrics in Prometheus's JSON form: answers of /api/v1/query_range, as saved to a file.

Read are container_memory_working_set_bytes (or _rss, _usage_bytes) and
container_cpu_usage_seconds_total, one series a container; what is not one of them is counted. A
pod's labels name the step: ``dagster/op`` or ``dagster/job`` where they are there (cAdvisor has
them as label_dagster_op), else the container's.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from cu_market.domain.problem import InvalidInputError, Problem
from cu_market.domain.request import StepIdentity
from cu_market.domain.usage import Ending, Measurement, Usage
from cu_market.pse.imports.tasks import import_id
from cu_market.pse.traces.nextflow import read_number

MEMORY = (
    "container_memory_working_set_bytes",
    "container_memory_rss",
    "container_memory_usage_bytes",
)
CPU = "container_cpu_usage_seconds_total"
STEP_LABELS = ("label_dagster_op", "label_dagster_job", "container", "pod")

Series = list[tuple[float, float]]


def usages_of_metrics(text: str, *, name: str, location: str, bad: Counter[str]) -> Iterator[Usage]:
    """Yields one usage a container of which memory is known.

    Args:
        text: one answer, or a list of answers.
        name: of the file; part of the keys.
        location: the code location that the steps are to belong to.
        bad: takes what could not be read, by what was wrong.

    Raises:
        InvalidInputError: not JSON, or no answer of Prometheus.
    """
    memory: dict[tuple[str, str], Series] = defaultdict(list)
    cpu: dict[tuple[str, str], Series] = defaultdict(list)
    for labels, series in _series(text, name, bad):
        step = next((str(labels[each]) for each in STEP_LABELS if labels.get(each)), "")
        metric = labels.get("__name__")
        if not step or not series:
            bad["no container" if not step else "no values"] += 1
        elif metric in MEMORY:
            memory[step, str(labels.get("pod", ""))] += series
        elif metric == CPU:
            cpu[step, str(labels.get("pod", ""))] += series
        else:
            bad[f"metric {metric}"] += 1
    for (step, pod), series in sorted(memory.items()):
        first, last = min(series)[0], max(series)[0]
        used = sorted(cpu.get((step, pod), ()))
        cpu_ms = round(1000 * max(0.0, used[-1][1] - used[0][1])) if used else 0
        peak = round(max(value for _, value in series))
        yield Usage(
            run_id=import_id(name),
            step_key=f"{step}[{pod}]",
            attempt=1,
            identity=StepIdentity(code_location=location, node=step),
            job_name=name,
            provider="import",
            resource_id=f"import/{name}",
            started_at=datetime.fromtimestamp(first, UTC),
            ended_at=datetime.fromtimestamp(last, UTC),
            cpu_millis=0,
            memory_bytes=peak,
            measurement=Measurement(
                wall_ms=max(1, round(1000 * (last - first))), cpu_ms=cpu_ms, peak_memory_bytes=peak
            ),
            ending=Ending.OK,
        )


def _series(text: str, name: str, bad: Counter[str]) -> Iterator[tuple[Mapping[str, Any], Series]]:
    try:
        document = json.loads(text)
        answers = document if isinstance(document, list) else [document]
        results = [each for answer in answers for each in answer["data"]["result"]]
    except (ValueError, KeyError, TypeError) as error:
        problem = Problem(
            where=f"metrics '{name}'",
            value=text[:40],
            what="no answer of Prometheus: data.result is not there",
            remedy="save what /api/v1/query_range answers, one answer or a list of them",
        )
        raise InvalidInputError([problem]) from error
    for each in results:
        pairs = each.get("values") or ([each["value"]] if "value" in each else [])
        series = []
        for at, value in pairs:
            number = read_number(value, "value", bad)
            if number is not None:
                series.append((float(at), number))
        yield each.get("metric", {}), series
