"""A market of a few machines on a ledger in memory, whose clock a test sets."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from unhurried import UNHURRIED

from cu_market.domain.allocation import Allocation, AllocationState
from cu_market.domain.auction import Auction
from cu_market.domain.outline import RunOutline, StepOutline
from cu_market.domain.request import StepIdentity
from cu_market.domain.units import GIB
from cu_market.ledger.memory import InMemoryLedger
from cu_market.market.auction import Cleared, Market
from cu_market.market.settings import MarketSettings
from cu_market.ral.local.machine import Machine
from cu_market.ral.local.provider import LocalProvider

T0 = datetime(2026, 1, 1, tzinfo=UTC)
MACHINE = Machine(cpu_millis=8000, memory_bytes=16 * GIB)


class Fair:
    """A market of two machines of one core each: one cheap, one dear; its clock stands still. They
    are in one location, or each in one of its own name where they are apart."""

    def __init__(
        self,
        *,
        prices: dict[str, float] | None = None,
        cores: float = 1,
        is_apart: bool = False,
    ) -> None:
        self.now = T0
        self.ledger = InMemoryLedger()
        providers = [
            LocalProvider.from_config(
                name,
                {
                    "cores": cores,
                    "memory": "4GiB",
                    **({"location": name} if is_apart else {}),
                    "tariffs": [{"name": "t", "core_usd_per_hour": price, "gb_usd_per_hour": 0}],
                },
                machine=MACHINE,
            )
            for name, price in (prices or {"cheap": 1, "dear": 3}).items()
        ]
        self.market = Market(
            settings=MarketSettings(**UNHURRIED),
            ledger=self.ledger,
            providers=providers,
            now=lambda: self.now,
        )

    def clear(
        self,
        run: str,
        *durations: str,
        chain: bool = False,
        queued: Sequence[RunOutline] = (),
        **tags: str,
    ) -> Cleared:
        """Holds the auction of a run whose steps s0, s1, ... take so long."""
        outline = self.outline(run, *durations, chain=chain, **tags)
        return self.market.clear(outline, place="launcher", queued=queued)

    @staticmethod
    def outline(run: str, *durations: str, chain: bool = False, **tags: str) -> RunOutline:
        steps = tuple(
            StepOutline(
                step_key=f"s{n}",
                op_name=f"s{n}",
                identity=StepIdentity(node=f"{run}.s{n}"),
                tags={
                    "cu/cpu_cores": "1",
                    "cu/memory_gb": "0.1",
                    "cu/duration_seconds": duration,
                },
                depends_on=(f"s{n - 1}",) if chain and n else (),
            )
            for n, duration in enumerate(durations)
        )
        said = {f"cu/{name}": value for name, value in tags.items()}
        return RunOutline(run_id=run, job_name=f"job of {run}", tags=said, steps=steps)

    def lease(self, row: Allocation) -> Allocation:
        """Leases an award; its run lives."""
        self.ledger.hold_run(row.run_id, "h", expires_at=self.now + timedelta(hours=1))
        given = self.ledger.lease(
            row,
            capacity=self.market.capacity(row.capacity_id, row.provider),
            expires_at=self.now + timedelta(hours=1),
            now=self.now,
        )
        assert isinstance(given, Allocation)
        return given

    def rows(self, run: str, *states: AllocationState) -> Sequence[Allocation]:
        return sorted(
            self.ledger.allocations(run_id=run, states=states or None), key=lambda row: row.key
        )

    def moved(self, run: str) -> Auction:
        """Returns the only auction that has moved a run's steps."""
        (auction,) = [each for each in self.ledger.auctions(run) if each.place == "together"]
        return auction
