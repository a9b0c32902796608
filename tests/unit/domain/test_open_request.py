"""Requests as they are kept beside their awards: read back, those of earlier versions too."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from cu_market.domain.open_request import request_from, request_record
from cu_market.domain.request import Kept, ResourceRequest
from cu_market.domain.resources import ResourceVector

REQUEST = ResourceRequest(
    request_id="run/a",
    run_id="run",
    timestamp=datetime(2026, 1, 1, tzinfo=UTC),
    duration_ms=1,
    needs=ResourceVector(cpu_millis=1000, memory_bytes=1),
    together="scratch",
    kept=Kept(location="here", by=("b", "c")),
)


def test_where_a_request_is_kept_is_read_back() -> None:
    assert request_from(json.loads(json.dumps(request_record(REQUEST)))) == REQUEST
    assert REQUEST.own_name == "a"


def test_a_record_from_before_there_was_keeping_together_is_read() -> None:
    record = request_record(REQUEST)
    del record["together"], record["kept"]
    read = request_from(record)
    assert (read.together, read.kept) == ("", None)
