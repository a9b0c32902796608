"""Workers that are started ahead of their run: looked after, taken over, let go."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from dataclasses import replace

import pytest

from cu_market.conformance.tested import ProviderUnderTest
from cu_market.conformance.told_worker import until, wait_readable
from cu_market.deo.worker.frames import Decoder, encode
from cu_market.ral.places import WORKER_ARGUMENTS, foresighted
from cu_market.ral.provider import (
    AdoptableWorker,
    Adopting,
    Foresighted,
    HolderStatus,
    Provider,
    Standby,
    Worker,
    WorkerLaunch,
)


class AheadConformance(ProviderUnderTest):
    """See the module's docstring. The market's own worker is started: what stands by loads code."""

    @pytest.fixture
    def foresight(self, starting: Provider) -> Foresighted:
        """The provider, if its workers can be started ahead."""
        found = foresighted(starting)
        if found is None:
            assert not starting.capabilities.ahead, "declares ahead, and is not Foresighted"
            pytest.skip("declares no ahead")
        assert starting.capabilities.reap, "declares ahead: what is let go is reaped"
        return found

    @pytest.fixture
    def ahead(self, foresight: Foresighted, starting: Provider) -> Iterator[list[str]]:
        """Holders of workers that stand by; ended after the test."""
        holders: list[str] = []
        yield holders
        with contextlib.suppress(OSError):
            starting.reap(holders)

    def market_launch(self, provider: Provider, run_id: str | None = None) -> WorkerLaunch:
        """Returns the launch of a worker of the market's own."""
        starter = f"conformance/{os.getpid()}/{uuid.uuid4().hex}"
        launch = self.launch_on(provider, starter=starter, run_id=run_id)
        return replace(launch, arguments=WORKER_ARGUMENTS)

    @staticmethod
    def serves(worker: Worker) -> bool:
        """Whether the market's worker answers: told to load what is no code, it says so."""
        worker.send(encode({"kind": "load", "outline": {"no": "outline"}}))
        decoder = Decoder()
        while True:
            wait_readable(worker)
            data = worker.receive()
            if not data:
                return False
            for frame in decoder.feed(data):
                return bool(frame["kind"] == "failed")

    @pytest.mark.parametrize("is_awaited", [True, False])
    def test_it_is_taken_over_for_a_run(
        self, foresight: Foresighted, starting: Provider, ahead: list[str], is_awaited: bool
    ) -> None:
        """Ready, or while it is starting; whoever takes it ends it as any worker of its own."""
        ahead.append(foresight.start_ahead(self.market_launch(starting)))
        if is_awaited:
            until(lambda: foresight.look_after(ahead[0]) is Standby.READY, "its standing by")
        worker = foresight.take_over(ahead[0], self.market_launch(starting))
        assert worker.holder == ahead[0]
        assert self.serves(worker)
        assert starting.check(worker.holder) is HolderStatus.RUNNING
        worker.close()
        until(lambda: starting.check(ahead[0]) is not HolderStatus.RUNNING, "its end")

    def test_it_is_adopted_as_any_other_of_its_run(
        self, foresight: Foresighted, starting: Provider, ahead: list[str]
    ) -> None:
        """Where workers of the provider are: by the run worker that follows who took it over."""
        if not isinstance(starting, Adopting):
            pytest.skip("is not Adopting")
        ahead.append(foresight.start_ahead(self.market_launch(starting)))
        launch = replace(self.market_launch(starting), code_version="1", is_adoptable=True)
        first = foresight.take_over(ahead[0], launch)
        assert isinstance(first, AdoptableWorker)
        assert self.serves(first)
        first.leave()
        second = starting.adopt(ahead[0], launch)
        assert second is not None
        assert self.serves(second)
        second.close()
        until(lambda: starting.check(ahead[0]) is not HolderStatus.RUNNING, "its end")

    def test_what_is_let_go_is_gone(
        self, foresight: Foresighted, starting: Provider, ahead: list[str]
    ) -> None:
        """It is reaped by its holder, and can be taken no more."""
        ahead.append(foresight.start_ahead(self.market_launch(starting)))
        assert foresight.look_after(ahead[0]) is not Standby.GONE
        assert list(starting.reap(ahead)) == ahead
        until(lambda: foresight.look_after(ahead[0]) is Standby.GONE, "its end")
        with pytest.raises(OSError):  # noqa: PT011 - which one is the provider's choice
            foresight.take_over(ahead[0], self.market_launch(starting))

    def test_whose_launch_it_is_makes_no_other_worker(
        self, foresight: Foresighted, starting: Provider
    ) -> None:
        """What fits one run fits the next; what a worker that starts ahead is told is no matter."""
        launch = self.market_launch(starting)
        told = replace(self.market_launch(starting), environment={"CU_MARKET_PRELOAD": "{}"})
        assert foresight.fit(launch) == foresight.fit(self.market_launch(starting))
        assert foresight.fit(launch) == foresight.fit(told)
