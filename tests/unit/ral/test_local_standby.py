"""A worker of this machine that stands by: looked after, taken over once, or gone by itself."""

from __future__ import annotations

import select
import time
from collections.abc import Iterator
from dataclasses import replace

import psutil
import pytest

from cu_market.deo.worker.frames import Decoder, encode
from cu_market.ral.local import standby
from cu_market.ral.local.process import is_alive, kill_tree, parse_holder
from cu_market.ral.local.worker_process import LocalWorker, collect_ended
from cu_market.ral.provider import HolderStatus, Standby, WorkerLaunch

pytestmark = pytest.mark.skipif(not standby.IS_POSSIBLE, reason="abstract sockets are Linux's")

LAUNCH = WorkerLaunch(
    run_id="purchase", worker_key="local", arguments=("-m", "cu_market.deo.worker")
)


@pytest.fixture
def started() -> Iterator[list[str]]:
    holders: list[str] = []
    yield holders
    for holder in holders:
        kill_tree(holder)


def begin(started: list[str], seconds: float = 60.0) -> str:
    holder = standby.start_standby(LAUNCH, seconds=seconds)
    started.append(holder)
    return holder


def wait(holder: str, wanted: Standby, seconds: float = 240.0) -> None:
    deadline = time.monotonic() + seconds
    while (found := standby.look_after(holder)) is not wanted:
        assert time.monotonic() < deadline, f"{found} after {seconds} s, wanted {wanted}"
        assert found is not Standby.GONE
        select.select([], [], [], 0.05)


def answer(worker: LocalWorker) -> str:
    """Returns the kind of the worker's first frame."""
    decoder = Decoder()
    while True:
        assert select.select([worker], [], [], 240)[0]
        data = worker.receive()
        assert data, "the channel closed"
        for frame in decoder.feed(data):
            return str(frame["kind"])


@pytest.mark.parametrize("is_awaited", [True, False])
def test_it_is_taken_over_ready_or_while_it_loads(
    started: list[str], monkeypatch: pytest.MonkeyPatch, is_awaited: bool
) -> None:
    # So long its interpreter may take to start, which a busy machine's does not keep.
    monkeypatch.setattr(standby, "_HEAR_SECONDS", 240.0)
    holder = begin(started, seconds=240.0)
    if is_awaited:
        wait(holder, Standby.READY)
    worker = standby.take_over(holder, replace(LAUNCH, run_id="run"))
    assert worker.holder == holder
    worker.send(encode({"kind": "load", "outline": {"no": "outline"}}))
    assert answer(worker) == "failed"  # it serves: it could not load what is none
    if is_awaited:
        monkeypatch.setattr(standby, "_HEAR_SECONDS", 0.1)  # it is there, and answers nobody else
        with pytest.raises(OSError, match="refused"):
            standby.take_over(holder, LAUNCH)
    identity = parse_holder(holder)
    assert identity is not None
    process = psutil.Process(identity.pid)
    worker.close()
    collect_ended()
    process.wait(240)
    assert worker.exit_code() == 1
    assert is_alive(holder) is HolderStatus.ENDED


def test_one_that_nobody_looks_after_ends(started: list[str]) -> None:
    holder = begin(started, seconds=0.5)
    identity = parse_holder(holder)
    assert identity is not None
    psutil.Process(identity.pid).wait(240)
    assert standby.look_after(holder) is Standby.GONE
    with pytest.raises(OSError, match="refused"):
        standby.take_over(holder, LAUNCH)


def test_what_names_no_worker_is_gone() -> None:
    assert standby.look_after("elsewhere/1/2.3.4+token") is Standby.GONE
    with pytest.raises(OSError, match="no worker"):
        standby.take_over("pod:cluster/default/x", LAUNCH)


def test_what_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    before = standby.fit_of(LAUNCH)
    assert standby.fit_of(replace(LAUNCH, run_id="another")) == before
    assert standby.fit_of(replace(LAUNCH, working_directory="/")) != before
    monkeypatch.setenv("A_STEP_MAY_READ_IT", "1")
    assert standby.fit_of(LAUNCH) != before
