"""What people already have becomes usage under keys that do not change; bad rows are counted."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from cu_market.domain.problem import InvalidInputError
from cu_market.pse.imports.prometheus import usages_of_metrics
from cu_market.pse.imports.tasks import usages_of_trace
from cu_market.pse.traces.nextflow import parse_nextflow

TRACE = """process,rchar,rss,peak_rss,realtime,memory,cpus,start,complete
ALIGN,100,5e8,6e8,2000,8000000000,2,1.7e12,1.700000002e12
ALIGN,-,5e8,-,-,8000000000,2,1.7e12,1.700000002e12
SORT,50,-,-,1000,1000000000,1,1.7e12,1.700000001e12
"""


def test_a_traces_tasks_become_steps() -> None:
    bad: Counter[str] = Counter()
    (usage,) = usages_of_trace(parse_nextflow(TRACE, "x"), location="lab", bad=bad)
    assert (usage.identity.code_location, usage.identity.node) == ("lab", "ALIGN")
    assert usage.measurement.peak_memory_bytes == 600_000_000
    assert (usage.memory_bytes, usage.cpu_millis, usage.input_bytes) == (8 * 10**9, 2000, 100)
    assert (usage.ended_at - usage.started_at).total_seconds() == 2
    assert bad == {"no realtime": 1, "no memory": 1}
    again = list(usages_of_trace(parse_nextflow(TRACE, "x"), location="lab", bad=Counter()))
    assert again == [usage]


def series(metric: str, pod: str, *values: tuple[float, str]) -> dict[str, object]:
    labels = {"__name__": metric, "pod": pod, "container": "step"}
    return {"metric": labels, "values": [list(each) for each in values]}


def test_containers_metrics_become_steps() -> None:
    document = {
        "data": {
            "result": [
                series("container_memory_working_set_bytes", "a", (10, "100"), (40, "300")),
                series("container_cpu_usage_seconds_total", "a", (10, "1.5"), (40, "4.0")),
                series("container_memory_working_set_bytes", "b", (10, "NaN")),
                series("kube_other", "a", (10, "1")),
            ]
        }
    }
    bad: Counter[str] = Counter()
    text = json.dumps([document])
    (usage,) = usages_of_metrics(text, name="m", location="k", bad=bad)
    assert usage.measurement.peak_memory_bytes == 300
    assert (usage.measurement.wall_ms, usage.measurement.cpu_ms) == (30_000, 2500)
    assert usage.step_key == "step[a]"
    assert bad == {"no values": 1, "metric kube_other": 1}
    with pytest.raises(InvalidInputError, match=r"data\.result"):
        list(usages_of_metrics('{"x": 1}', name="m", location="k", bad=bad))
