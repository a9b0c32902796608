"""What every provider must keep. A provider's own suite inherits ProviderContract."""

from __future__ import annotations

import os
import selectors
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest

from cu_market.domain.allocation import Allocation, AllocationState
from cu_market.domain.bid import Bid
from cu_market.domain.request import ResourceRequest
from cu_market.domain.resources import ResourceVector
from cu_market.domain.units import MIB
from cu_market.ral.bids import collect_bids
from cu_market.ral.local.provider import LocalProvider
from cu_market.ral.provider import HolderStatus, Provider, Worker, WorkerLaunch

NOW = datetime(2025, 1, 1, tzinfo=UTC)

# A worker that does as it is told, one word a line, and ends when its channel does.
WORKER = """
import os, socket, subprocess, sys
channel = socket.socket(fileno=int(os.environ["CU_MARKET_CHANNEL_FD"]))
PAUSE = "import os, signal; print(os.getpid(), flush=True); signal.pause()"
FORKS = {
    "child": PAUSE,
    "session": "import os; os.setsid(); exec(%r)" % PAUSE,
    "orphan": "import os; os.fork() and os._exit(0); os.setsid(); exec(%r)" % PAUSE,
}
lines = channel.makefile("rb")
for line in lines:
    word, _, rest = line.decode().strip().partition(" ")
    if word == "say":
        channel.sendall(rest.encode() + b"\\n")
    elif word == "variable":
        channel.sendall(os.environ.get(rest, "").encode() + b"\\n")
    elif word == "where":
        channel.sendall(os.getcwd().encode() + b"\\n")
    elif word == "print":
        print(rest, flush=True)
        channel.sendall(b"printed\\n")
    elif word in FORKS:
        child = subprocess.Popen([sys.executable, "-c", FORKS[word]], stdout=subprocess.PIPE)
        channel.sendall(child.stdout.readline())
    elif word == "copy":
        left = int(rest)
        while left:
            data = lines.read1(min(left, 65536))
            left -= len(data)
            channel.sendall(data)
    elif word == "exit":
        os._exit(int(rest))
"""


def launch(run_id: str = "contract-run", **more: object) -> WorkerLaunch:
    return WorkerLaunch(
        run_id=run_id,
        worker_key="key",
        arguments=("-c", WORKER),
        **more,  # type: ignore[arg-type]
    )


def request(size: ResourceVector) -> ResourceRequest:
    return ResourceRequest(request_id="step", timestamp=NOW, duration_ms=1000, needs=size)


def wait_readable(worker: Worker) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(worker, selectors.EVENT_READ)
        assert selector.select(timeout=60), "nothing arrived"


def receive_line(worker: Worker) -> str:
    data = b""
    while not data.endswith(b"\n"):
        wait_readable(worker)
        part = worker.receive()
        assert part, "the worker closed its channel"
        data += part
    return data.decode().strip()


def tell(worker: Worker, line: str) -> str:
    worker.send(line.encode() + b"\n")
    return receive_line(worker)


@contextmanager
def when_ended(worker: Worker) -> Iterator[None]:
    """Leaves only once the worker's process has ended, without taking its exit code."""
    descriptor = os.pidfd_open(int(worker.holder.split("/")[1]))
    try:
        yield
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            assert selector.select(timeout=60), "the worker lives on"
    finally:
        os.close(descriptor)


def is_gone(pid: int) -> bool:
    """Whether a process has ended; a zombie that nobody waits for has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


class ProviderContract:
    """Inherit, and give a fixture ``provider`` that returns one with room for a small step."""

    SMALL = ResourceVector(cpu_millis=100, memory_bytes=64 * MIB)

    @pytest.fixture
    def workers(self, provider: Provider) -> Iterator[list[Worker]]:
        started: list[Worker] = []
        yield started
        for worker in started:
            worker.close()
            provider.stop(worker.holder)
            worker.exit_code()

    @pytest.fixture
    def worker(self, provider: Provider, workers: list[Worker]) -> Worker:
        workers.append(provider.start(launch()))
        return workers[0]

    # -- what is offered

    def test_has_all_that_the_market_calls(self, provider: Provider) -> None:
        assert isinstance(provider, Provider)
        assert provider.name
        assert "/" not in provider.name

    def test_every_cu_is_its_own_and_fits_its_capacity(self, provider: Provider) -> None:
        pool = provider.pool()
        assert pool.profiles
        for profile in pool.profiles:
            assert profile.provider == provider.name
            assert profile.cu_id.startswith(f"{provider.name}/")
            assert profile.capacity_id.partition("/")[0] == provider.name
            assert profile.size.fits_in(pool.capacities[profile.capacity_id])

    def test_bids_pass_the_markets_own_checks(self, provider: Provider) -> None:
        bids = provider.bid([request(self.SMALL)], NOW)
        checked = collect_bids([provider], [request(self.SMALL)], now=NOW, deadline_seconds=60)
        assert bids
        assert checked.problems == {}
        assert [b.bid_id for b in checked.bids] == [b.bid_id for b in bids]

    def test_bids_are_of_the_pools_cus(self, provider: Provider) -> None:
        known = {profile.cu_id for profile in provider.pool().profiles}
        for bid in provider.bid([request(self.SMALL)], NOW):
            assert bid.profile.cu_id in known
            assert self.SMALL.fits_in(bid.profile.size)

    def test_too_large_is_a_bid_not_made(self, provider: Provider) -> None:
        endless = ResourceVector(cpu_millis=10**9, memory_bytes=10**18)
        assert list(provider.bid([request(endless)], NOW)) == []
        assert list(provider.bid([], NOW)) == []

    def test_elastic_prices_rise_with_size_up_to_the_wholes(self, provider: Provider) -> None:
        bids = [b for b in provider.bid([request(self.SMALL)], NOW) if b.rates is not None]
        assert bool(bids) == provider.capabilities.elastic
        for bid in bids:
            whole = bid.profile.size
            steps = [
                ResourceVector(
                    cpu_millis=whole.cpu_millis * part // 10,
                    memory_bytes=whole.memory_bytes * part // 10,
                )
                for part in range(11)
            ]
            prices = [bid.price_for(size) for size in steps]
            assert all(low <= high for low, high in pairwise(prices))
            assert bid.price_for(whole) == bid.price_microusd_per_hour

    def test_limits_are_within_the_lease(self, provider: Provider) -> None:
        for bid in provider.bid([request(self.SMALL)], NOW):
            limits = provider.limits(self.allocation(bid))
            assert limits.cpu_millis <= bid.size_for(self.SMALL).cpu_millis
            assert limits.memory_bytes <= bid.size_for(self.SMALL).memory_bytes
            assert 0 <= limits.niceness <= 19

    def test_equal_allocations_have_equal_worker_keys(self, provider: Provider) -> None:
        bid = provider.bid([request(self.SMALL)], NOW)[0]
        keys = {provider.worker_key(self.allocation(bid)) for _ in range(2)}
        assert len(keys) == 1

    # -- workers

    def test_a_worker_hears_and_answers(self, worker: Worker) -> None:
        assert tell(worker, "say hello") == "hello"
        assert worker.exit_code() is None

    def test_a_worker_has_its_run_id_and_the_launchs_environment(
        self, provider: Provider, workers: list[Worker], tmp_path: Path
    ) -> None:
        log = tmp_path / "log"
        workers.append(
            provider.start(
                launch(
                    environment={"SAID": "so"},
                    working_directory=str(tmp_path),
                    log_path=str(log),
                )
            )
        )
        assert tell(workers[0], "variable CU_MARKET_RUN_ID") == "contract-run"
        assert tell(workers[0], "variable SAID") == "so"
        assert tell(workers[0], "where") == str(tmp_path)
        assert tell(workers[0], "print to the log") == "printed"
        assert log.read_text() == "to the log\n"

    def test_megabytes_both_ways_do_not_lock_up(self, worker: Worker) -> None:
        data = os.urandom(4 * MIB)
        worker.send(f"copy {len(data)}\n".encode() + data)
        back = b""
        while len(back) < len(data):
            wait_readable(worker)
            back += worker.receive()
        assert back == data
        assert tell(worker, "say still here") == "still here"

    def test_closing_the_channel_reaches_the_worker(
        self, provider: Provider, worker: Worker
    ) -> None:
        pid = int(tell(worker, "child"))
        with when_ended(worker):
            worker.close()
        assert worker.exit_code() == 0
        assert provider.check(worker.holder) is HolderStatus.ENDED
        assert list(provider.reap([worker.holder])) == [worker.holder]
        assert is_gone(pid)

    def test_a_worker_that_ends_by_itself(self, provider: Provider, worker: Worker) -> None:
        assert provider.check(worker.holder) is HolderStatus.RUNNING
        with when_ended(worker):
            worker.send(b"exit 7\n")
        assert provider.check(worker.holder) is HolderStatus.ENDED
        assert worker.exit_code() == 7
        wait_readable(worker)
        assert worker.receive() == b""
        with pytest.raises(BrokenPipeError):
            worker.send(b"say anything\n")

    def test_stop_ends_it_and_all_it_started_at_once(
        self, provider: Provider, worker: Worker
    ) -> None:
        pids = [int(tell(worker, how)) for how in ("child", "session", "orphan")]
        assert not any(is_gone(pid) for pid in pids)
        provider.stop(worker.holder)
        assert all(is_gone(pid) for pid in pids)
        assert provider.check(worker.holder) is HolderStatus.ENDED
        assert worker.exit_code() == -signal.SIGKILL
        provider.stop(worker.holder)  # again: nothing happens

    def test_stop_spares_another_worker_of_the_same_run(
        self, provider: Provider, workers: list[Worker]
    ) -> None:
        workers += [provider.start(launch()), provider.start(launch())]
        first, second = workers
        assert first.holder != second.holder
        orphan = int(tell(second, "orphan"))
        tell(first, "orphan")
        provider.stop(first.holder)
        assert tell(second, "say spared") == "spared"
        assert not is_gone(orphan)

    def test_reap_names_those_of_which_something_was_left(
        self, provider: Provider, workers: list[Worker]
    ) -> None:
        workers += [provider.start(launch()), provider.start(launch())]
        ended, alive = workers
        orphan = int(tell(ended, "orphan"))
        os.kill(int(ended.holder.split("/")[1]), signal.SIGKILL)
        holders = [ended.holder, alive.holder, "elsewhere/1/1", "nonsense"]
        assert list(provider.reap(holders)) == [ended.holder, alive.holder]
        assert is_gone(orphan)
        assert list(provider.reap(holders)) == []

    def test_what_cannot_be_started_is_an_oserror(self, provider: Provider) -> None:
        with pytest.raises(OSError, match="no-such-directory"):
            provider.start(launch(working_directory="/no-such-directory"))
        with pytest.raises(OSError, match="no-such-directory"):
            provider.start(launch(log_path="/no-such-directory/log"))

    def test_a_holder_of_elsewhere_is_unknown(self, provider: Provider) -> None:
        assert provider.check("elsewhere/1/1") is HolderStatus.UNKNOWN
        provider.stop("elsewhere/1/1")

    def allocation(self, bid: Bid) -> Allocation:
        return Allocation(
            run_id="contract-run",
            step_key="step",
            attempt=1,
            state=AllocationState.LEASED,
            auction_id="auction",
            bid_id=bid.bid_id,
            provider=bid.provider,
            resource_id=bid.profile.cu_id,
            capacity_id=bid.profile.capacity_id,
            size=bid.size_for(self.SMALL),
            price_microusd_per_hour=bid.price_for(self.SMALL),
            expected_ms=1000,
            awarded_at=NOW,
        )


class TestLocalProvider(ProviderContract):
    @pytest.fixture
    def provider(self) -> Provider:
        return LocalProvider.from_config("local", {})
