"""Workers that outlive who started them, where a provider says that its own do."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from dataclasses import replace

import pytest

from cu_market.conformance.tested import ProviderUnderTest
from cu_market.conformance.told_worker import receive_line, tell, until
from cu_market.ral.provider import (
    AdoptableWorker,
    Adopting,
    HolderStatus,
    Provider,
    Worker,
    WorkerLaunch,
)


class AdoptionConformance(ProviderUnderTest):
    """See the module's docstring."""

    @pytest.fixture
    def adopting(self, starting: Provider) -> Provider:
        """The provider, if it declares that its workers can be adopted."""
        if not starting.capabilities.adoptable_seconds:
            pytest.skip("declares no adoptable_seconds")
        assert isinstance(starting, Adopting)
        return starting

    @pytest.fixture
    def adoptable(self, adopting: Provider) -> Iterator[tuple[WorkerLaunch, list[Worker]]]:
        """A launch of a worker that may be adopted, and the workers of it; ended after the test."""
        launch = self.launch_on(adopting, starter=f"conformance/{os.getpid()}/{uuid.uuid4().hex}")
        launch = replace(launch, code_version="1", is_adoptable=True)
        workers: list[Worker] = []
        yield launch, workers
        for worker in workers:
            worker.close()
            adopting.stop(worker.holder)

    def test_what_is_left_is_adopted_from_where_it_was_acknowledged(
        self, adopting: Provider, adoptable: tuple[WorkerLaunch, list[Worker]]
    ) -> None:
        """Nothing that was not acknowledged is missing, and nothing else comes again."""
        launch, workers = adoptable
        workers.append(adopting.start(launch))
        (first,) = workers
        assert isinstance(first, AdoptableWorker)
        assert tell(first, "say one") == "one"
        first.acknowledge(len("one\n"))
        assert tell(first, "say two") == "two"
        first.leave()
        assert isinstance(adopting, Adopting)
        second = adopting.adopt(first.holder, launch)
        assert second is not None
        workers[:] = [second]
        assert second.holder == first.holder
        assert receive_line(second) == "two"
        assert tell(second, "say three") == "three"
        assert adopting.check(second.holder) is HolderStatus.RUNNING

    def test_only_by_the_same_code_and_only_what_is_there(
        self, adopting: Provider, adoptable: tuple[WorkerLaunch, list[Worker]]
    ) -> None:
        """Else there is nothing to adopt, and what is there is left alone."""
        launch, workers = adoptable
        workers.append(adopting.start(launch))
        (worker,) = workers
        assert tell(worker, "say hello") == "hello"
        assert isinstance(adopting, Adopting)
        assert adopting.adopt(worker.holder, replace(launch, code_version="2")) is None
        for stranger in ("elsewhere/1/1", "nonsense", "", f"{worker.holder}-not"):
            assert adopting.adopt(stranger, launch) is None
        assert tell(worker, "say still here") == "still here"

    def test_a_runs_workers_are_ended_but_those_that_are_spared(
        self, adopting: Provider, adoptable: tuple[WorkerLaunch, list[Worker]]
    ) -> None:
        """Whoever has started them."""
        launch, workers = adoptable
        workers.append(adopting.start(launch))
        (worker,) = workers
        assert tell(worker, "say hello") == "hello"
        assert isinstance(adopting, Adopting)
        assert adopting.reap_run(launch.run_id, [worker.holder]) == 0
        assert adopting.reap_run(str(uuid.uuid4())) == 0
        assert tell(worker, "say spared") == "spared"
        assert adopting.reap_run(launch.run_id) == 1
        until(lambda: adopting.check(worker.holder) is HolderStatus.ENDED, "its end")
