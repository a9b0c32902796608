"""Assets that compute on a GPU, as the tests' library tells of it; a provider that sells one."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg

from cu_market import compute, market_executor
from cu_market.domain.profile import CUProfile
from cu_market.domain.request import ResourceRequest
from cu_market.ral.local.provider import LocalProvider


class GpuProvider(LocalProvider):
    """This machine, with a GPU."""

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__(name, **options)
        self.capacity = replace(self.capacity, gpu_count=1)

    def _can_serve(self, request: ResourceRequest) -> bool:
        return request.needs.fits_in(self.capacity)

    def _profile(self, cu_id: str, storage_bytes: int) -> CUProfile:
        profile = super()._profile(cu_id, storage_bytes)
        return replace(profile, gpu_type="A100", gpu_count=1)


def do(*lines: str) -> None:
    """Has the devices do something until the meter has seen it twice."""
    asked = Path(os.environ["NVML_ASKED"])
    state = Path(os.environ["NVML_STATE"])
    written = state.with_suffix(".new")
    written.write_text("".join(f"{line}\n" for line in lines))
    written.replace(state)  # at once: a half-written state is a device that fails
    before = asked.stat().st_size
    ends_at = time.monotonic() + 240
    while asked.stat().st_size < before + 2:
        assert time.monotonic() < ends_at, "nobody asks the devices"
        time.sleep(0.02)


@dg.asset
def accounted() -> None:
    """Is found in the driver's account."""
    do("devices 1", f"process {os.getpid()} {3 * 2**30} 50", f"used {4 * 2**30} 70")


@dg.asset(op_tags=compute(gpu="A100"))
def unaccounted() -> None:
    """Holds a GPU whose driver keeps no account of processes."""
    do("devices 1", "unsupported accounts", f"used {4 * 2**30} 70")


defs = dg.Definitions(
    assets=[accounted, unaccounted],
    jobs=[
        dg.define_asset_job(f"{name}_job", selection=name) for name in ("accounted", "unaccounted")
    ],
    executor=market_executor,
)
