"""A step whose memory creeps towards its limit gets more in place, before it is ended for it."""

from __future__ import annotations

import pytest
from execution_record import MARKET, Bench

from cu_market.deo.worker.recorder import POINTS
from cu_market.domain.usage import Ending

MIB = 2**20

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    # Dagster reads its config classes in a way that pydantic has deprecated.
    pytest.mark.filterwarnings("ignore:The `__fields__` attribute is deprecated"),
]


def creep(bench: Bench, mib: int) -> str:
    ops = {"creeping": {"config": {"mib": mib}}}
    return bench.run("creeps", MARKET, ops=ops, file="input_jobs.py")


def test_a_creeping_step_grows_before_its_limit_is_hit(bench: Bench) -> None:
    run_id = creep(bench, 480)
    (usage,) = bench.usages(run_id)  # one attempt: nothing was ended for memory
    assert usage.ending is Ending.OK
    assert usage.measurement.peak_memory_bytes > 480 * MIB
    (row,) = [row for row in bench.allocations(run_id) if row.state == "SETTLED"]
    assert row.size.memory_bytes == usage.memory_bytes > 480 * MIB
    told = [m for m in bench.engine_messages(run_id) if "grows in place" in m]
    assert told
    assert "Step creeping grows in place on local/" in told[0]
    assert "from 256.0 MiB to" in told[0]
    assert "memory grows by" in told[0]
    curve = bench.curve("creeping")
    assert len(curve) > POINTS  # its first run was profiled finely
    assert max(curve.memory_bytes) > 480 * MIB
    # Each price was billed for its time.
    assert row.priced_since is not None
    assert row.leased_at is not None
    assert row.ended_at is not None
    assert row.leased_at < row.priced_since < row.ended_at
    assert 0 < row.accrued_microusd < (row.cost_microusd or 0)
    whole = row.price_microusd_per_hour * (row.duration_seconds or 0) / 3600
    assert (row.cost_microusd or 0) < whole
