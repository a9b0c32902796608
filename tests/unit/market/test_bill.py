"""Bills and comparisons by worked examples."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cu_market.domain.allocation import Allocation, AllocationState
from cu_market.domain.auction import Auction
from cu_market.domain.bid import Bid, Rates
from cu_market.domain.profile import CUProfile
from cu_market.domain.request import StepIdentity
from cu_market.domain.resources import ResourceVector
from cu_market.domain.units import GB
from cu_market.domain.usage import Ending, Measurement, Usage
from cu_market.ledger.memory import InMemoryLedger
from cu_market.market.bill import bill_of, read_bill
from cu_market.market.comparison import savings, static_cost

T0 = datetime(2026, 1, 1, tzinfo=UTC)
RATES = Rates(core_microusd_per_hour=36_000, gb_microusd_per_hour=18_000)
WHOLE = ResourceVector(cpu_millis=4000, memory_bytes=16 * GB)


def size(cores: float, gb: float) -> ResourceVector:
    return ResourceVector(cpu_millis=round(1000 * cores), memory_bytes=round(GB * gb))


def auction(run_id: str, rates: Rates | None = RATES) -> Auction:
    offers = []
    for name, factor in (("standard", 2), ("economy", 1)):
        profile = CUProfile(
            cu_id=f"local/{name}",
            provider="local",
            location="here",
            capacity_id="local",
            cpu_millis=WHOLE.cpu_millis,
            memory_bytes=WHOLE.memory_bytes,
            price_microusd_per_hour=432_000 * factor,
        )
        offers.append(
            Bid(
                bid_id=name,
                profile=profile,
                price_microusd_per_hour=profile.price_microusd_per_hour,
                rates=rates,
            ).to_record()
        )
    return Auction(
        auction_id=f"auction-{run_id}",
        run_id=run_id,
        held_at=T0,
        mode="market",
        place="launcher",
        report={"bids": offers, "steps": []},
    )


def award(
    run_id: str,
    step: str,
    needs: ResourceVector,
    *,
    attempt: int = 1,
    provider: str = "local",
) -> Allocation:
    return Allocation(
        run_id=run_id,
        step_key=step,
        attempt=attempt,
        state=AllocationState.AWARDED,
        auction_id=f"auction-{run_id}",
        bid_id="economy",
        provider=provider,
        resource_id=f"{provider}/economy",
        capacity_id=provider,
        size=needs,
        price_microusd_per_hour=RATES.price_microusd_per_hour(needs),
        expected_ms=1000,
        awarded_at=T0,
    )


def run_step(
    ledger: InMemoryLedger,
    row: Allocation,
    begins: float,
    seconds: float,
    *,
    peak_bytes: int = 100,
    ending: Ending = Ending.OK,
) -> None:
    began = T0 + timedelta(seconds=begins)
    ended = began + timedelta(seconds=seconds)
    leased = ledger.lease(row, capacity=WHOLE, expires_at=ended, now=began)
    assert isinstance(leased, Allocation)
    usage = Usage(
        run_id=row.run_id,
        step_key=row.step_key,
        attempt=row.attempt,
        identity=StepIdentity(node=row.step_key),
        provider=row.provider,
        resource_id=row.resource_id,
        started_at=began,
        ended_at=ended,
        cpu_millis=row.size.cpu_millis,
        memory_bytes=row.size.memory_bytes,
        measurement=Measurement(
            wall_ms=round(1000 * seconds), cpu_ms=500, peak_memory_bytes=peak_bytes
        ),
        ending=ending,
    )
    ledger.settle(leased.key, leased.fencing_token, ended_at=ended, usage=usage)


def test_a_bill_adds_up_by_step_and_by_provider_over_all_attempts() -> None:
    ledger = InMemoryLedger()
    # 1 core and 1 GB are 54,000 micro-dollars an hour: 15 a second. 1 core and 2 GB: 20 a second.
    run_step(
        ledger,
        award("r", "fit", size(1, 1)),
        0,
        10,
        peak_bytes=GB,
        ending=Ending.OUT_OF_MEMORY,
    )
    run_step(ledger, award("r", "fit", size(1, 2), attempt=2), 10, 5, peak_bytes=GB + 1)
    run_step(ledger, award("r", "plot", size(1, 1), provider="cloud"), 15, 1)
    run_step(ledger, award("other", "plot", size(1, 1)), 0, 99)

    bill = read_bill(ledger, "r")

    assert bill.cost_microusd == 10 * 15 + 5 * 20 + 15
    fit = bill.step("fit")
    assert fit is not None
    assert (fit.attempts, fit.cost_microusd, fit.lease_us) == (2, 250, 15_000_000)
    assert (fit.size, fit.peak_memory_bytes, fit.ending) == (size(1, 2), GB + 1, "ok")
    assert fit.cpu_ms == 1000
    assert [(line.name, line.cost_microusd) for line in bill.by_provider] == [
        ("cloud", 15),
        ("local", 250),
    ]
    assert bill.wall_us == 16_000_000
    assert bill.open_leases == 0
    assert bill.to_record()["cost_usd"] == 0.000265


def test_a_lease_that_is_still_held_is_counted_and_not_billed() -> None:
    ledger = InMemoryLedger()
    ledger.lease(award("r", "fit", size(1, 1)), capacity=WHOLE, expires_at=T0, now=T0)
    bill = read_bill(ledger, "r")
    assert (bill.cost_microusd, bill.open_leases, bill.by_step) == (0, 1, ())


def test_an_empty_bill_is_nothing_and_takes_no_time() -> None:
    bill = bill_of("r", [], [])
    assert (bill.cost_microusd, bill.wall_us, bill.by_provider) == (0, 0, ())


def two_runs() -> InMemoryLedger:
    ledger = InMemoryLedger()
    ledger.record_auction(auction("first"), [])
    ledger.record_auction(auction("third"), [])
    run_step(ledger, award("first", "fit", size(2, 8)), 0, 60)
    run_step(ledger, award("third", "fit", size(1, 2)), 0, 40)  # 20 a second: 800
    run_step(ledger, award("third", "new", size(1, 1)), 40, 10)  # 15 a second: 150
    return ledger


def test_savings_price_the_first_runs_size_for_the_runs_own_time() -> None:
    ledger = two_runs()
    saving = savings(
        ledger.allocations(run_id="third"),
        ledger.allocations(run_id="first"),
        ledger.auctions("third"),
    )
    # 2 cores and 8 GB are 216,000 an hour, 60 a second, for the third run's own 40 seconds.
    assert saving.at_first_sizes_microusd == 40 * 60 + 150
    assert saving.cost_microusd == 950
    assert saving.ratio == 950 / 2550
    assert saving.unmatched == ("new",)


def test_a_run_against_itself_saves_nothing() -> None:
    rows = two_runs().allocations(run_id="first")
    saving = savings(rows, rows, [auction("first")])
    assert saving.ratio == 1.0


def test_a_cu_that_is_sold_whole_costs_the_same_at_any_size() -> None:
    ledger = two_runs()
    saving = savings(
        ledger.allocations(run_id="third"),
        ledger.allocations(run_id="first"),
        [auction("third", rates=None)],
    )
    assert saving.ratio == 1.0


def test_a_static_machine_is_the_dearest_cu_from_first_lease_to_last_end() -> None:
    ledger = two_runs()
    static = static_cost(read_bill(ledger, "third"), ledger.auctions("third"))
    assert static is not None
    assert static.resource_id == "local/standard"
    assert static.cost_microusd == 864_000 * 50 // 3600
    assert static_cost(read_bill(ledger, "third"), []) is None
