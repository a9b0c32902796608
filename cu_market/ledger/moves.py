"""What each move makes of an allocation: pure, and the same for every ledger.

A ledger finds the row, asks here what becomes of it, and stores the answer. So a rule (who may
move, what a lease costs, when it ended) is said once, and the twins cannot drift apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from cu_market.domain.allocation import (
    HOLDING,
    Allocation,
    AllocationKey,
    AllocationState,
    IllegalTransitionError,
    check_transition,
)
from cu_market.domain.auction import Auction
from cu_market.domain.lease import Refusal, RunLease
from cu_market.domain.problem import InvalidInputError, Problem, require
from cu_market.domain.purchase import OPEN, Purchase, PurchaseState
from cu_market.domain.rental import Rental, RentalState
from cu_market.domain.resources import ResourceVector
from cu_market.domain.usage import Usage
from cu_market.ledger.errors import AwardTakenError, LeaseLostError

_MICROSECOND = timedelta(microseconds=1)


def name_of(key: AllocationKey) -> str:
    """Returns the key as messages name it."""
    run_id, step_key, attempt = key
    return f"run {run_id!r} step {step_key!r} attempt {attempt}"


def check_aware(where: str, value: datetime) -> None:
    """Raises InvalidInputError unless the time has a time zone."""
    require(value.tzinfo is not None, where, value, "has no time zone", "give an aware UTC time")


def check_auction(
    auction: Auction, awards: Sequence[Allocation], rentals: Sequence[Rental] = ()
) -> None:
    """Raises InvalidInputError with all that is wrong with an auction's awards and rentals."""
    check_aware(f"Auction {auction.auction_id!r}.held_at", auction.held_at)
    problems = [
        Problem(
            where=f"auction {auction.auction_id!r}: rental {rental.rental_id!r}",
            value=f"{rental.state} of run {rental.run_id!r}, auction {rental.auction_id!r}",
            what="not planned for that auction's run",
            remedy="plan each rental under the auction that is recorded",
        )
        for rental in rentals
        if (rental.run_id, rental.auction_id, rental.state)
        != (auction.run_id, auction.auction_id, RentalState.PLANNED)
    ]
    for award in awards:
        where = f"auction {auction.auction_id!r}: award of {name_of(award.key)}"
        expected: tuple[tuple[str, object, object], ...] = (
            ("state", award.state, AllocationState.AWARDED),
            ("auction_id", award.auction_id, auction.auction_id),
            ("run_id", award.run_id, auction.run_id),
        )
        problems += [
            Problem(
                where=f"{where}: {name}",
                value=str(value),
                what=f"not {str(wanted)!r}",
                remedy="award each step under the auction that is recorded",
            )
            for name, value, wanted in expected
            if value != wanted
        ]
    for key, count in Counter(award.key for award in awards).items():
        if count > 1:
            problems.append(
                Problem(
                    where=f"auction {auction.auction_id!r}: awards of {name_of(key)}",
                    value=str(count),
                    what="more than one award",
                    remedy="award each attempt once",
                )
            )
    if problems:
        raise InvalidInputError(problems)


def refuse_taken(
    auction: Auction, awards: Sequence[Allocation], owners: Mapping[AllocationKey, str]
) -> None:
    """Raises AwardTakenError, naming each award whose key has a row already.

    Args:
        owners: auction_id of each row that is there, by key.
    """
    taken = [
        f"{name_of(award.key)} was awarded by auction {owners[award.key]!r}"
        for award in awards
        if award.key in owners
    ]
    if taken:
        raise AwardTakenError(
            f"auction {auction.auction_id!r} cannot be recorded: {'; '.join(taken)}; "
            "award the next attempt"
        )


def before(award: Allocation) -> AllocationKey:
    """Returns the key of the attempt that an award takes the place of."""
    return (award.run_id, award.step_key, award.attempt - 1)


def is_superseded(row: Allocation | None, there: Allocation | None) -> bool:
    """Whether an award may take the place of a row: it is AWARDED, and nobody has moved it yet.

    Args:
        row: of the attempt before the award's.
        there: of the award's own attempt.
    """
    return row is not None and row.state is AllocationState.AWARDED and there is None


def oldest_first(allocations: Iterable[Allocation]) -> list[Allocation]:
    """Returns allocations by award time and then key."""
    return sorted(allocations, key=lambda each: (each.awarded_at, *each.key))


def refusal(
    capacity_id: str, size: ResourceVector, held: ResourceVector, capacity: ResourceVector
) -> Refusal | None:
    """Returns why this size has no room beside what is held, or None where it has."""
    short_of = (held + size).exceeds(capacity)
    if not short_of:
        return None
    return Refusal(capacity_id=capacity_id, short_of=short_of, free=capacity.minus(held))


def expired(
    wanted: Allocation | Rental, capacity: ResourceVector, held: ResourceVector, now: datetime
) -> Refusal | None:
    """Returns that the offer which was awarded has ended, or None where it holds."""
    until = wanted.valid_until
    if until is None or now < until:
        return None
    return Refusal(
        capacity_id=wanted.capacity_id,
        short_of=(),
        free=capacity.minus(held),
        reason=f"{wanted.resource_id} was offered until {until.isoformat(timespec='seconds')}",
        is_expired=True,
    )


def unrented(wanted: Allocation, rental: Rental | None) -> Refusal | None:
    """Returns that an award is a share of a rental that is not open, or another run's; None where
    it is neither, or no share of one."""
    if rental is None:
        return None
    is_own = rental.run_id == wanted.run_id
    if is_own and rental.state is RentalState.OPEN:
        return None
    why = f"is {rental.state}" if is_own else "is another run's"
    return Refusal(
        capacity_id=wanted.capacity_id,
        short_of=(),
        free=ResourceVector(),
        reason=f"{wanted.resource_id} is rented no more: it {why}",
        is_expired=True,
    )


def opened(row: Rental | None, rental: Rental, now: datetime) -> Rental:
    """Returns a planned rental as opened; one that is open, unchanged.

    Raises:
        LeaseLostError: there is none, or it has been closed.
    """
    check_aware("rent: now", now)
    if row is None:
        raise LeaseLostError(f"rental {rental.rental_id!r}: the ledger has none of that name")
    if row.state is RentalState.OPEN:
        return row
    if row.state is not RentalState.PLANNED:
        raise LeaseLostError(f"rental {rental.rental_id!r}: is {row.state}, and opens no more")
    return replace(row, state=RentalState.OPEN, opened_at=now)


def check_leasable(row: Allocation | None, wanted: Allocation, expires_at: datetime) -> None:
    """Raises LeaseLostError unless there is no row yet, or one that is still AWARDED."""
    check_aware(f"lease of {name_of(wanted.key)}: expires_at", expires_at)
    if row is not None:
        _check_move(row, AllocationState.LEASED)


def is_same_lease(
    row: Allocation | None, wanted: Allocation, expires_at: datetime, now: datetime
) -> bool:
    """Whether the row is the lease that this very call has made before, its answer lost."""
    if row is None or row.state is not AllocationState.LEASED:
        return False
    return row == leased(
        row, wanted, fencing_token=row.fencing_token, expires_at=expires_at, now=now
    )


def leased(
    row: Allocation | None,
    wanted: Allocation,
    *,
    fencing_token: int,
    expires_at: datetime,
    now: datetime,
) -> Allocation:
    """Returns the lease: the wanted terms, with the auction that the row remembers."""
    return replace(
        wanted,
        state=AllocationState.LEASED,
        auction_id=wanted.auction_id if row is None else row.auction_id,
        awarded_at=wanted.awarded_at if row is None else row.awarded_at,
        fencing_token=fencing_token,
        leased_at=now,
        lease_expires_at=expires_at,
        accepted_at=None,
        ended_at=None,
        cost_microusd=None,
        accrued_microusd=0,
        priced_since=None,
    )


def accepted(
    row: Allocation | None, key: AllocationKey, fencing_token: int, now: datetime
) -> Allocation:
    """Returns the accepted lease; unchanged if this token's holder had accepted before.

    Whether the lease's time is over does not matter until somebody has said EXPIRED: the expiry
    clock stands still while the control plane is down, which a worker cannot know.

    Raises:
        LeaseLostError: the token is not the row's, or the lease has ended.
    """
    fenced = _fenced(row, key, fencing_token)
    if fenced.state is AllocationState.ACCEPTED:
        return fenced
    _check_move(fenced, AllocationState.ACCEPTED)
    return replace(fenced, state=AllocationState.ACCEPTED, accepted_at=now)


def settled(
    row: Allocation | None, key: AllocationKey, fencing_token: int, ended_at: datetime
) -> Allocation:
    """Returns the settled lease with its cost; unchanged if it was settled before.

    Raises:
        LeaseLostError: the token is not the row's, or nothing was ever leased.
    """
    fenced = _fenced(row, key, fencing_token)
    if fenced.state is AllocationState.SETTLED:
        return fenced
    _check_move(fenced, AllocationState.SETTLED)
    end = fenced.ended_at or ended_at
    return replace(
        fenced, state=AllocationState.SETTLED, ended_at=end, cost_microusd=fenced.cost_until(end)
    )


def check_usage(key: AllocationKey, usage: Usage | None) -> None:
    """Raises InvalidInputError where a usage is of another attempt."""
    if usage is not None:
        own = (usage.run_id, usage.step_key, usage.attempt)
        require(
            own == key,
            f"settle of {name_of(key)}: usage",
            name_of(own),
            "belongs to another attempt",
            "settle each attempt with its own usage",
        )


def grown(
    row: Allocation | None,
    key: AllocationKey,
    fencing_token: int,
    *,
    size: ResourceVector,
    price_microusd_per_hour: int,
    now: datetime,
) -> Allocation:
    """Returns the lease at a larger size and its price; unchanged if it has grown so before.

    Raises:
        LeaseLostError: the token is not the row's, or the lease has ended.
    """
    check_aware(f"growth of {name_of(key)}: now", now)
    fenced = _fenced(row, key, fencing_token)
    if fenced.state not in HOLDING:
        raise LeaseLostError(f"{name_of(key)}: is {fenced.state}, and holds nothing that can grow")
    if (fenced.size, fenced.price_microusd_per_hour) == (size, price_microusd_per_hour):
        return fenced
    require(
        fenced.size.fits_in(size),
        f"growth of {name_of(key)}: size",
        size,
        f"not at least what it holds, {fenced.size}",
        "let a lease grow only",
    )
    return replace(
        fenced,
        size=size,
        price_microusd_per_hour=price_microusd_per_hour,
        # The minimum is the whole lease's: it is counted once, at the end.
        accrued_microusd=replace(fenced, minimum_ms=0).cost_until(now),
        priced_since=now,
    )


def _fenced(row: Allocation | None, key: AllocationKey, fencing_token: int) -> Allocation:
    if row is None:
        raise LeaseLostError(f"{name_of(key)}: the ledger has no such attempt; nothing was leased")
    if row.fencing_token == 0:
        raise LeaseLostError(f"{name_of(key)}: is {row.state}, but nothing was ever leased")
    if row.fencing_token != fencing_token:
        raise LeaseLostError(
            f"{name_of(key)}: fencing token {fencing_token} is not the lease's "
            f"({row.fencing_token}); stop this attempt's work"
        )
    return row


def _check_move(row: Allocation, wanted: AllocationState) -> None:
    try:
        check_transition(row.state, wanted)
    except IllegalTransitionError as error:
        raise LeaseLostError(f"{name_of(row.key)}: {error}") from error


def newest_first(allocations: Iterable[Allocation]) -> list[Allocation]:
    """Returns allocations by award time and then key, newest first."""
    return sorted(allocations, key=lambda each: (each.awarded_at, *each.key), reverse=True)


def held_run(before: RunLease | None, run_id: str, holder: str, expires_at: datetime) -> RunLease:
    """Returns a run's lease, extended for its holder or taken over by another.

    A holder that said goodbye stays gone (a heartbeat of it may still be under way); a new holder,
    as after a run resume, begins anew.
    """
    check_aware(f"lease of run {run_id!r}: expires_at", expires_at)
    if before is None or before.holder != holder:
        return RunLease(run_id=run_id, holder=holder, expires_at=expires_at)
    if before.ended_at is not None:
        return before
    return replace(before, expires_at=max(before.expires_at, expires_at))


def taken_purchase(row: Purchase | None, run_id: str, now: datetime) -> Purchase | None:
    """Returns the purchase as a run's own, unchanged if it was that before; None where it is not
    open to be taken."""
    check_aware("take_purchase: now", now)
    if row is not None and row.state is PurchaseState.TAKEN and row.run_id == run_id:
        return row
    if row is None or row.state not in OPEN:
        return None
    return replace(row, state=PurchaseState.TAKEN, run_id=run_id, taken_at=now)


def used_purchase(row: Purchase, now: datetime) -> Purchase:
    """Returns a taken purchase whose room a lease has: it has cost what it had stood for."""
    return replace(
        row,
        state=PurchaseState.USED,
        ended_at=now,
        cost_microusd=row.cost_until(now),
        outcome="used",
    )


def let_go_purchase(
    row: Purchase | None, run_id: str, outcome: str, now: datetime
) -> Purchase | None:
    """Returns the purchase, let go; None unless it is open, or taken by that very run."""
    check_aware("let_go: now", now)
    is_own = row is not None and row.state is PurchaseState.TAKEN and row.run_id == run_id
    if row is None or not (is_own if run_id else row.state in OPEN):
        return None
    return replace(
        row,
        state=PurchaseState.LET_GO,
        ended_at=now,
        cost_microusd=row.cost_let_go(now),
        outcome=outcome,
    )
