from __future__ import annotations

import json

import pytest
from trace_samples import make_tasks, to_csv

from cu_market.domain.problem import InvalidInputError
from cu_market.pse.traces.nextflow import parse_nextflow
from cu_market.pse.traces.wfformat import parse_wfformat


@pytest.mark.parametrize("separator", [",", "\t"])
def test_a_nextflow_trace_is_read_as_it_was_written(separator: str) -> None:
    tasks = make_tasks(40)
    found = parse_nextflow("\ufeff" + to_csv(tasks, separator), "flow")
    assert list(found.tasks) == tasks
    assert not found.bad


def test_missing_figures_are_none_and_bad_ones_are_counted() -> None:
    header = "process,rchar,rss,realtime,memory,peak_rss,start\n"
    text = header + "A,1.7e12,-,5,,nan,-3\n" + "-,1,1,1,1,1,1\n" + "B,x,inf,1e3,8,9,10\n" + "C,5\n"
    found = parse_nextflow(text, "t")
    a, b, c = found.tasks
    assert (a.row, a.input_bytes, a.rss_bytes, a.preset_bytes) == (0, 1.7e12, None, None)
    assert (a.peak_rss_bytes, a.start_ms, a.realtime_ms) == (None, None, 5.0)
    assert (b.row, b.input_bytes, b.rss_bytes, b.realtime_ms) == (2, None, None, 1000.0)
    assert (c.row, c.input_bytes, c.rss_bytes) == (3, 5.0, None)
    assert dict(found.bad) == {"start": 1, "process": 1, "rchar": 1, "rss": 1}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "process, rchar, rss, realtime, memory"),
        ("process,rchar,rss,memory\nA,1,1,1\n", "realtime"),
        ("process,rchar,rss,realtime,memory\n", "no line names a process"),
    ],
)
def test_what_is_no_trace_is_refused_by_what_it_lacks(text: str, named: str) -> None:
    with pytest.raises(InvalidInputError, match=named):
        parse_nextflow(text, "t")


def document(**execution: object) -> str:
    tasks = [
        {"id": "split_ID01", "runtimeInSeconds": 2, "memoryInBytes": 100, "readBytes": 7},
        {"id": "blast_ID02", "runtimeInSeconds": 3, "memoryInBytes": 900, "coreCount": 2},
        {"id": "blast_ID03", "runtimeInSeconds": "x", "memoryInBytes": -1},
    ]
    specification = {
        "tasks": [
            {"id": "split_ID01", "name": "split_ID01"},
            {"id": "blast_ID02", "name": "blast_ID02", "parents": ["split_ID01"],
             "inputFiles": ["a", "b"]},
            {"id": "blast_ID03", "name": "blast_ID03", "parents": ["blast_ID02"]},
        ],
        "files": [{"id": "a", "sizeInBytes": 10}, {"id": "b", "sizeInBytes": 20}],
    }  # fmt: skip
    return json.dumps(
        {"workflow": {"specification": specification, "execution": {"tasks": tasks} | execution}}
    )


def test_wfformat_tasks_start_when_their_parents_have_ended() -> None:
    found = parse_wfformat(document(), "blast")
    split, first, second = found.tasks
    assert [task.process for task in found.tasks] == ["split", "blast", "blast"]
    assert (split.start_ms, first.start_ms, second.start_ms) == (0, 2000, 5000)
    assert (split.input_bytes, first.input_bytes, second.input_bytes) == (7, 30, None)
    assert (first.peak_rss_bytes, first.realtime_ms, first.cpus) == (900, 3000, 2)
    assert (second.peak_rss_bytes, second.realtime_ms) == (None, None)
    assert dict(found.bad) == {"runtimeInSeconds": 1, "memoryInBytes": 1}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"workflow": {"execution": {}}}'])
def test_what_is_no_wfformat_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match="no WfFormat document"):
        parse_wfformat(text, "t")
