"""A step's GPU use, from its own process to event log, ledger and command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from dagster import AssetKey, DagsterInstance
from nvml_library import NvmlLibrary, find_compiler

from cu_market.domain.usage import GpuScope

pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed: pip install 'cu-market[gpu]'")

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(900),
    pytest.mark.skipif(find_compiler() is None, reason="no C compiler: no library to ask"),
]

JOB = Path(__file__).with_name("gpu_job.py")


DAGSTER_YAML = """
run_launcher:
  module: cu_market
  class: MarketRunLauncher
  config:
    market: {providers: {machine: {kind: "gpu_job:GpuProvider"}}}
"""


@pytest.mark.parametrize(
    ("asset", "gib", "percent", "scope"),
    [("accounted", 3, 50, GpuScope.PROCESS), ("unaccounted", 4, 70, GpuScope.DEVICE)],
)
def test_gpu_use_is_told_on_the_asset_and_kept_in_the_ledger(
    tmp_path: Path, asset: str, gib: int, percent: int, scope: GpuScope
) -> None:
    library, home = NvmlLibrary(tmp_path), tmp_path / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text(DAGSTER_YAML)
    library.say("devices 1")
    environment = {
        **library.environment,
        "DAGSTER_HOME": str(home),
        "PYTHONPATH": str(JOB.parent),  # of the provider
    }

    def run(*command: str) -> str:
        done = subprocess.run(
            [sys.executable, *command], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("-m", "dagster", "job", "execute", "-f", str(JOB), "-j", f"{asset}_job")

    with DagsterInstance.from_config(str(home)) as instance:
        event = instance.get_latest_materialization_event(AssetKey(asset))
    assert event is not None
    assert event.asset_materialization is not None
    told = {name: entry.value for name, entry in event.asset_materialization.metadata.items()}
    assert told["cu/gpu_peak_memory_gb"] == pytest.approx(gib * 2**30 / 10**9)
    assert told["cu/gpu_scope"] == scope
    utilisation = told["cu/gpu_utilisation"]
    assert isinstance(utilisation, float)
    assert 0 < utilisation <= percent / 100  # before it computed it was idle

    market = ["-c", "from cu_market.cli.app import main; main()"]
    explained = json.loads(run(*market, "explain", "last", "--json"))
    (line,) = explained["billed"]
    assert line["gpu_peak_memory_gb"] == pytest.approx(gib * 2**30 / 10**9)
    assert line["gpu_scope"] == scope
    assert 0 < line["gpu_busy_seconds"] <= line["wall_seconds"] * percent / 100
    assert f"{gib}.0 GiB of GPU memory" in run(*market, "explain", "last", asset)
    assert f"{gib}.0 GiB" in run(*market, "pse", "show", asset)
