"""What a provider offers: its pool, its bids, their prices; nothing is started."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from cu_market.conformance.tested import NOW, ProviderUnderTest
from cu_market.domain.resources import ResourceVector
from cu_market.ral.bids import collect_bids
from cu_market.ral.provider import Observant, Provider


class OffersConformance(ProviderUnderTest):
    """See the module's docstring."""

    def test_has_all_that_the_market_calls(self, provider: Provider) -> None:
        """Methods and attributes of the Provider protocol."""
        assert isinstance(provider, Provider)
        assert provider.name == self.configured.name
        assert "/" not in provider.name

    def test_every_cu_is_its_own_and_fits_its_capacity(self, provider: Provider) -> None:
        """Names begin with the provider's; no CU is larger than what it is cut from."""
        pool = provider.pool()
        assert pool.profiles
        for profile in pool.profiles:
            assert profile.provider == provider.name
            assert profile.cu_id.startswith(f"{provider.name}/")
            assert profile.capacity_id.partition("/")[0] == provider.name
            assert profile.size.fits_in(pool.capacities[profile.capacity_id])

    def test_bids_pass_the_markets_own_checks(self, provider: Provider) -> None:
        """As an auction reads them: nothing of them is dropped."""
        requests = [self.request_for(self.small)]
        bids = provider.bid(requests, NOW)
        checked = collect_bids([provider], requests, now=NOW, deadline_seconds=60)
        assert bids, "no bid for a small step: give it room, or another size as `small`"
        assert checked.problems == {}
        assert [b.bid_id for b in checked.bids] == [b.bid_id for b in bids]

    def test_bids_are_of_the_pools_cus(self, provider: Provider) -> None:
        """And have room for what was asked."""
        known = {profile.cu_id for profile in provider.pool().profiles}
        for bid in provider.bid([self.request_for(self.small)], NOW):
            assert bid.profile.cu_id in known
            assert self.small.fits_in(bid.profile.size)

    def test_bids_hold_beyond_the_moment(self, provider: Provider) -> None:
        """An offer that ends says when, later than it was made: else nobody could win it."""
        for bid in provider.bid([self.request_for(self.small)], NOW):
            assert bid.valid_until is None or bid.valid_until > NOW

    def test_too_large_is_a_bid_not_made(self, provider: Provider) -> None:
        """A no is data, not an exception."""
        endless = ResourceVector(cpu_millis=10**9, memory_bytes=10**18)
        assert list(provider.bid([self.request_for(endless)], NOW)) == []
        assert list(provider.bid([], NOW)) == []

    def test_a_gpu_that_nobody_makes_is_a_bid_not_made(self, provider: Provider) -> None:
        """No CU without a GPU is sold as one with."""
        odd = ResourceVector(cpu_millis=100, memory_bytes=self.small.memory_bytes, gpu_count=1)
        request = replace(self.request_for(odd), gpu_type="a GPU that nobody makes")
        assert list(provider.bid([request], NOW)) == []

    def test_one_that_fits_is_bid_for_among_others_that_do_not(self, provider: Provider) -> None:
        """A round asks for all steps of a run at once."""
        endless = ResourceVector(cpu_millis=10**9, memory_bytes=10**18)
        sizes = (endless, self.small, endless)
        asked = [
            replace(self.request_for(size), request_id=f"step {number}")
            for number, size in enumerate(sizes)
        ]
        assert provider.bid(asked, NOW)

    def test_elastic_prices_rise_with_size_up_to_the_wholes(self, provider: Provider) -> None:
        """Elastic ones have rates, and only they."""
        bids = provider.bid([self.request_for(self.small)], NOW)
        assert {bid.rates is not None for bid in bids} == {provider.capabilities.elastic}
        for bid in bids:
            whole = bid.profile.size
            steps = [
                ResourceVector(
                    cpu_millis=whole.cpu_millis * part // 10,
                    memory_bytes=whole.memory_bytes * part // 10,
                    gpu_count=whole.gpu_count * part // 10,
                )
                for part in range(11)
            ]
            prices = [bid.price_for(size) for size in steps]
            assert all(low <= high for low, high in pairwise(prices))
            assert bid.price_for(whole) == bid.price_microusd_per_hour

    def test_what_it_hears_of_use_is_of_its_own_capacities(self, provider: Provider) -> None:
        """Told what is leased, it still bids."""
        if not hasattr(provider, "observe"):
            pytest.skip("has no prices that follow use")
        assert isinstance(provider, Observant), "with observe() it needs observed: it is told none"
        assert set(provider.observed) <= set(provider.pool().capacities)
        provider.observe({name: ResourceVector() for name in provider.observed})
        assert provider.bid([self.request_for(self.small)], NOW)

    def test_limits_are_within_the_lease(self, provider: Provider) -> None:
        """A step is never allowed more than was leased for it."""
        for bid in provider.bid([self.request_for(self.small)], NOW):
            limits = provider.limits(self.lease_of(bid))
            assert 0 < limits.cpu_millis <= bid.size_for(self.small).cpu_millis
            assert 0 < limits.memory_bytes <= bid.size_for(self.small).memory_bytes
            assert 0 <= limits.niceness <= 19

    def test_equal_allocations_have_equal_worker_keys(self, provider: Provider) -> None:
        """Else no worker could ever stay warm."""
        bid = provider.bid([self.request_for(self.small)], NOW)[0]
        assert len({provider.worker_key(self.lease_of(bid)) for _ in range(2)}) == 1

    def test_each_bid_has_a_worker_and_one_for_all_is_that_of_every_bid(
        self, provider: Provider
    ) -> None:
        """That one is started before anything is awarded: nothing of an award may tell it apart."""
        bids = provider.bid([self.request_for(self.small)], NOW)
        keys = {provider.worker_key(self.lease_of(bid)) for bid in bids}
        assert all(keys)
        if provider.capabilities.one_worker:
            assert keys == {provider.name}
            assert not provider.capabilities.exclusive
            assert provider.capabilities.tags == ()

    def test_a_lease_of_a_cu_that_is_sold_no_more_is_answered(self, provider: Provider) -> None:
        """Its configuration may have changed since the award."""
        bid = provider.bid([self.request_for(self.small)], NOW)[0]
        gone = replace(self.lease_of(bid), resource_id=f"{provider.name}/sold no more")
        assert provider.limits(gone).memory_bytes <= gone.size.memory_bytes
        assert provider.worker_key(gone)

    def test_two_of_one_configuration_say_the_same(self, provider: Provider) -> None:
        """Launcher, run worker and command line each load their own."""
        again = self.load()
        assert {p.cu_id for p in again.pool().profiles} == {
            p.cu_id for p in provider.pool().profiles
        }
        assert again.capabilities == provider.capabilities
