"""A run's bill: every attempt that held a lease, every CU that was rented, and sums of them.

Pure functions over the ledger's rows; money is exact, in whole micro-dollars. The cost of an
attempt is the one its settlement wrote, that of a rental the one its closing did; nothing is priced
again here. A rental's bill is paid by its steps' shares, and what they leave by the run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cu_market.domain.allocation import Allocation, AllocationState
from cu_market.domain.rental import Rental, RentalState
from cu_market.domain.resources import ResourceVector
from cu_market.domain.units import MICROUSD
from cu_market.domain.usage import Usage
from cu_market.ledger.interface import Ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class BillLine:
    """What one attempt, one step or one provider is billed in a run.

    Attributes:
        name: the step's key or the provider's name.
        attempts: leases that were settled.
        resource_ids: the CUs that it ran on, in the order in which they were leased.
        size: of the last lease; for a provider, the largest amount of each dimension.
        lease_us: microseconds of all leases together.
        cost_microusd: sum of the settled costs.
        peak_memory_bytes: the highest of the measured peaks, or None where nothing was measured.
        cpu_ms: measured CPU-milliseconds in all.
        wall_ms: measured milliseconds in all.
        gpu_peak_bytes: the highest of the measured peaks of GPU memory, or None.
        gpu_busy_ms: GPU-milliseconds in all, at full utilisation, or None where nobody tells.
        gpu_scope: whose the GPU figures of the last measured attempt are, or empty.
        ending: how the last measured attempt ended, or empty.
    """

    name: str
    attempts: int
    resource_ids: tuple[str, ...]
    size: ResourceVector
    lease_us: int
    cost_microusd: int
    peak_memory_bytes: int | None
    cpu_ms: int
    wall_ms: int
    ending: str
    gpu_peak_bytes: int | None = None
    gpu_busy_ms: int | None = None
    gpu_scope: str = ""

    def to_record(self) -> dict[str, object]:
        """Returns the line ready for JSON: seconds, GB, dollars."""
        peak, gpu_peak, busy = self.peak_memory_bytes, self.gpu_peak_bytes, self.gpu_busy_ms
        return {
            "name": self.name,
            "attempts": self.attempts,
            "resource_ids": list(self.resource_ids),
            "cpu_cores": self.size.cpu_millis / 1000,
            "memory_gb": self.size.memory_bytes / 10**9,
            "lease_seconds": self.lease_us / 10**6,
            "cost_microusd": self.cost_microusd,
            "cost_usd": self.cost_microusd / MICROUSD,
            "peak_memory_gb": None if peak is None else peak / 10**9,
            "cpu_seconds": self.cpu_ms / 1000,
            "wall_seconds": self.wall_ms / 1000,
            "ending": self.ending,
            "gpu_peak_memory_gb": None if gpu_peak is None else gpu_peak / 10**9,
            "gpu_busy_seconds": None if busy is None else busy / 1000,
            "gpu_scope": self.gpu_scope,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class RentalLine:
    """What one rented CU is billed in a run.

    Attributes:
        name: of the CU.
        provider: whose it is.
        steps: which had a lease on it, in the order of their leases.
        size: all of it.
        held_us: microseconds from its opening to its last step's end.
        cost_microusd: the whole bill.
        rest_microusd: what of that is on no step's line.
    """

    name: str
    provider: str
    steps: tuple[str, ...]
    size: ResourceVector
    held_us: int
    cost_microusd: int
    rest_microusd: int

    def to_record(self) -> dict[str, object]:
        """Returns the line ready for JSON: seconds, GB, dollars."""
        return {
            "name": self.name,
            "provider": self.provider,
            "steps": list(self.steps),
            "cpu_cores": self.size.cpu_millis / 1000,
            "memory_gb": self.size.memory_bytes / 10**9,
            "held_seconds": self.held_us / 10**6,
            "cost_microusd": self.cost_microusd,
            "cost_usd": self.cost_microusd / MICROUSD,
            "rest_usd": self.rest_microusd / MICROUSD,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class RunBill:
    """One run's bill.

    Attributes:
        run_id: the run.
        by_step: one line a step, all its attempts, in the order of their first leases.
        by_provider: one line a provider, by name; with what shares leave of its rentals' bills.
        rentals: one line a CU that was rented whole, in the order of their openings.
        cost_microusd: the whole bill: the sum by provider; by step, and the rests of the rentals.
        open_leases: leases not settled, rentals not closed yet: the bill still grows by them.
        began_at, ended_at: first lease and last end, or None where nothing was leased.
    """

    run_id: str
    by_step: tuple[BillLine, ...]
    by_provider: tuple[BillLine, ...]
    cost_microusd: int
    open_leases: int
    began_at: datetime | None
    ended_at: datetime | None
    rentals: tuple[RentalLine, ...] = ()

    @property
    def wall_us(self) -> int:
        """Microseconds from the first lease to the last end."""
        if self.began_at is None or self.ended_at is None:
            return 0
        return elapsed_us(self.began_at, self.ended_at)

    def step(self, step_key: str) -> BillLine | None:
        """Returns one step's line, or None."""
        return next((line for line in self.by_step if line.name == step_key), None)

    def to_record(self) -> dict[str, object]:
        """Returns the bill ready for JSON."""
        return {
            "run_id": self.run_id,
            "cost_microusd": self.cost_microusd,
            "cost_usd": self.cost_microusd / MICROUSD,
            "open_leases": self.open_leases,
            "wall_seconds": self.wall_us / 10**6,
            "by_step": [line.to_record() for line in self.by_step],
            "by_provider": [line.to_record() for line in self.by_provider],
            "rentals": [line.to_record() for line in self.rentals],
        }


def elapsed_us(began_at: datetime, ended_at: datetime) -> int:
    """Returns whole microseconds between two times, cut at zero; total_seconds() is a float."""
    return max(0, (ended_at - began_at) // timedelta(microseconds=1))


def lease_us(row: Allocation) -> int:
    """Returns microseconds for which a row was held; 0 where it never was or still is."""
    if row.leased_at is None or row.ended_at is None:
        return 0
    return elapsed_us(row.leased_at, row.ended_at)


def settled_rows(allocations: Iterable[Allocation]) -> list[Allocation]:
    """Returns the rows that are billed, in the order of their leases."""
    rows = [
        row
        for row in allocations
        if row.state is AllocationState.SETTLED and row.leased_at is not None
    ]
    return sorted(rows, key=lambda row: (row.leased_at, row.step_key, row.attempt))


def bill_of(
    run_id: str,
    allocations: Sequence[Allocation],
    usages: Sequence[Usage],
    rentals: Sequence[Rental] = (),
) -> RunBill:
    """Returns a run's bill from the ledger's rows; rows of other runs are left out."""
    own = [row for row in allocations if row.run_id == run_id]
    rows = settled_rows(own)
    used = {(u.step_key, u.attempt): u for u in usages if u.run_id == run_id}
    steps: dict[str, list[Allocation]] = {}
    providers: dict[str, list[Allocation]] = {}
    for row in rows:
        steps.setdefault(row.step_key, []).append(row)
        providers.setdefault(row.provider, []).append(row)
    waiting = {
        AllocationState.LEASED,
        AllocationState.ACCEPTED,
        AllocationState.EXPIRED,
        AllocationState.REVOKED,
    }
    rented = [each for each in rentals if each.run_id == run_id and each.opened_at is not None]
    lines = tuple(_rental(each, rows) for each in sorted(rented, key=_opening))
    rests: dict[str, int] = {}
    for line in lines:
        rests[line.provider] = rests.get(line.provider, 0) + line.rest_microusd
    named = sorted({*providers, *rests})
    return RunBill(
        run_id=run_id,
        by_step=tuple(_line(name, group, used) for name, group in steps.items()),
        by_provider=tuple(
            _sum(name, providers.get(name, ()), used, rests.get(name, 0)) for name in named
        ),
        rentals=lines,
        cost_microusd=sum(row.cost_microusd or 0 for row in rows) + sum(rests.values()),
        open_leases=sum(row.state in waiting for row in own)
        + sum(each.state is RentalState.OPEN for each in rented),
        began_at=min((row.leased_at for row in rows if row.leased_at), default=None),
        ended_at=max((row.ended_at for row in rows if row.ended_at), default=None),
    )


def read_bill(ledger: Ledger, run_id: str) -> RunBill:
    """Returns a run's bill, read from the ledger."""
    rows, usages = ledger.allocations(run_id=run_id), ledger.usages(run_id=run_id)
    return bill_of(run_id, rows, usages, ledger.rentals(run_id=run_id))


def _opening(rental: Rental) -> tuple[datetime, str]:
    return rental.opened_at or rental.planned_at, rental.rental_id


def _rental(rental: Rental, rows: Sequence[Allocation]) -> RentalLine:
    steps = (row.step_key for row in rows if row.capacity_id == rental.rental_id)
    return RentalLine(
        name=rental.resource_id,
        provider=rental.profile.provider,
        steps=tuple(dict.fromkeys(steps)),
        size=rental.size,
        held_us=elapsed_us(_opening(rental)[0], rental.closed_at) if rental.closed_at else 0,
        cost_microusd=rental.cost_microusd or 0,
        rest_microusd=rental.rest_microusd or 0,
    )


def _line(name: str, rows: Sequence[Allocation], used: Mapping[tuple[str, int], Usage]) -> BillLine:
    """Returns one step's line: sums over its attempts, the size of the last one."""
    found = [used[row.step_key, row.attempt] for row in rows if (row.step_key, row.attempt) in used]
    gpus = [u.measurement for u in found if u.measurement.gpu_scope is not None]
    busy = [m.gpu_busy_millis * m.wall_ms for m in gpus if m.gpu_busy_millis is not None]
    return BillLine(
        name=name,
        attempts=len(rows),
        resource_ids=tuple(dict.fromkeys(row.resource_id for row in rows)),
        size=rows[-1].size if rows else ResourceVector(),
        lease_us=sum(lease_us(row) for row in rows),
        cost_microusd=sum(row.cost_microusd or 0 for row in rows),
        peak_memory_bytes=max((u.measurement.peak_memory_bytes for u in found), default=None),
        cpu_ms=sum(u.measurement.cpu_ms for u in found),
        wall_ms=sum(u.measurement.wall_ms for u in found),
        ending=str(found[-1].ending) if found else "",
        gpu_peak_bytes=max((m.gpu_peak_bytes or 0 for m in gpus), default=None),
        gpu_busy_ms=sum(busy) // 1000 if busy else None,
        gpu_scope=(gpus[-1].gpu_scope or "") if gpus else "",
    )


def _sum(
    name: str, rows: Sequence[Allocation], used: Mapping[tuple[str, int], Usage], rest: int
) -> BillLine:
    """Returns one provider's line: sums over its leases and what they leave of its rentals' bills,
    the largest size it gave."""
    line = _line(name, rows, used)
    largest = ResourceVector()
    for row in rows:
        largest = largest.largest(row.size)
    return BillLine(
        name=line.name,
        attempts=line.attempts,
        resource_ids=tuple(sorted(line.resource_ids)),
        size=largest,
        lease_us=line.lease_us,
        cost_microusd=line.cost_microusd + rest,
        peak_memory_bytes=line.peak_memory_bytes,
        cpu_ms=line.cpu_ms,
        wall_ms=line.wall_ms,
        ending="",
        gpu_peak_bytes=line.gpu_peak_bytes,
        gpu_busy_ms=line.gpu_busy_ms,
        gpu_scope=line.gpu_scope,
    )
