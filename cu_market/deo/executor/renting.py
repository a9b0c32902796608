"""CUs that a run rents whole: opened when a step is due there, closed when the last one has ended.

A rental is opened where one of its steps is ready and the plan's time for it has come, or nothing
of the run is running, so that a run which is ahead of its plan does not stand still; and, while its
steps still wait, where what they wait for is expected to end within the CU's start-up. From then on
it holds all of its size of its provider's capacity, and is billed; its steps lease their sizes of
it.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from cu_market.deo.executor.capacities import Capacities
from cu_market.domain.allocation import Allocation
from cu_market.domain.lease import Refusal
from cu_market.domain.rental import STANDING_RENTALS, Rental, RentalState, is_share
from cu_market.domain.resources import ResourceVector
from cu_market.ledger.errors import LeaseLostError
from cu_market.market.accounts.purse import Purse
from cu_market.market.ahead.standing import give_way
from cu_market.market.auction import Market

FIRST_PAUSE_SECONDS, MOST_PAUSE_SECONDS = 2.0, 60.0
"""How long nothing is started on a CU that is gone and that nobody else can take the place of."""

NOT_DUE = "not due"
"""Why a step waits whose CU is to be opened later, by the plan."""


class Renting:
    """One run's rentals.

    Args:
        market: open.
        run_id: the run.
        purse: what it may spend.
        capacities: of the providers.
    """

    def __init__(self, market: Market, run_id: str, purse: Purse, capacities: Capacities) -> None:
        self._market = market
        self._run_id = run_id
        self._purse = purse
        self._capacities = capacities
        self._known: dict[str, Rental] = {}
        self._starts: dict[str, datetime] = {}
        self._opens: dict[str, datetime] = {}
        self._pauses: dict[str, tuple[float, float]] = {}
        self._read()

    def of(self, award: Allocation) -> Rental | None:
        """Returns the rental that an award is a share of; None where it is of none."""
        if not is_share(award):
            return None
        if award.capacity_id not in self._known:
            self._read()
        return self._known.get(award.capacity_id)

    def is_open(self, award: Allocation) -> bool:
        """Whether an award is a share of a CU that is rented now: its room is paid for."""
        rental = self.of(award)
        return rental is not None and rental.state is RentalState.OPEN

    def is_early(self, award: Allocation) -> bool:
        """Whether a step is to start later than now, by the plan of what is left: it would take the
        room of what is planned there."""
        start = self._starts.get(award.step_key)
        return start is not None and is_share(award) and self._market.now() < start

    def follow(self, starts: Mapping[str, datetime], opens: Mapping[str, datetime]) -> None:
        """Takes when steps are to start, and when CUs are to be opened, by step and rental_id."""
        self._starts, self._opens = dict(starts), dict(opens)
        self._read()

    def is_over(self, award: Allocation) -> bool:
        """Whether an award is a share of a CU that is rented no more, or that can be no more."""
        rental = self.of(award)
        if rental is None:
            return is_share(award)
        if rental.state is not RentalState.PLANNED:
            return rental.state is not RentalState.OPEN
        return rental.valid_until is not None and rental.valid_until <= self._market.now()

    def bought(self, award: Allocation) -> Allocation:
        """Returns what an award takes of its provider's capacity: of a CU that is to be rented, all
        of it."""
        rental = self.of(award)
        return award if rental is None else rental.whole()

    def pause(self, resource_id: str) -> float:
        """Has nothing started for a while on a CU that did not deliver; returns seconds, twice as
        many each time."""
        seconds, _ = self._pauses.get(resource_id, (FIRST_PAUSE_SECONDS / 2, 0.0))
        seconds = min(MOST_PAUSE_SECONDS, 2 * seconds)
        self._pauses[resource_id] = (seconds, time.monotonic() + seconds)
        return seconds

    def open(self, award: Allocation, *, is_due: bool = False) -> Refusal | str | None:
        """Opens the rental that an award is a share of, where it is to be.

        Args:
            award: whose step is ready, or soon will be.
            is_due: whatever the plan says.

        Returns:
            None where it is open, or there is none; why not: NOT_DUE, or no room, money or turn.
        """
        rental = self.of(award)
        if time.monotonic() < self._pauses.get(award.resource_id, (0.0, 0.0))[1]:
            return NOT_DUE
        if rental is None or rental.state is not RentalState.PLANNED:
            return None
        now = self._market.now()
        if not is_due and now < rental.opens_at:
            return NOT_DUE
        whole = rental.whole()
        capacity = self._capacities.of(whole)
        objection = self._purse.objection(whole, capacity)
        if objection is not None:
            return objection
        try:
            outcome = self._market.ledger.rent(rental, capacity=capacity, now=now)
        except LeaseLostError:
            self._read()  # a daemon has closed it: its steps are auctioned again
            return None
        if isinstance(outcome, Refusal) and outcome.is_expired:
            return None
        if isinstance(outcome, Refusal):
            if give_way(self._market, whole, capacity):
                return self.open(award, is_due=is_due)
            return outcome
        self._known[outcome.rental_id] = outcome
        return None

    def room(self, award: Allocation) -> ResourceVector:
        """Returns the total that an award's lease is checked against."""
        rental = self.of(award)
        return self._capacities.of(award) if rental is None else rental.size

    def open_ids(self) -> set[str]:
        """Returns the ids of those that are open."""
        return {key for key, each in self._known.items() if each.state is RentalState.OPEN}

    def has_standing(self) -> bool:
        """Whether any CU is rented now, or is to be."""
        return bool(self.standing_ids())

    def standing_ids(self) -> set[str]:
        """Returns the ids of those that are open, or are to be."""
        return {key for key, each in self._known.items() if each.state in STANDING_RENTALS}

    def knows(self, rental_ids: Collection[str]) -> bool:
        """Whether the run has, or had, any of these."""
        self._read()
        return any(rental_id in self._known for rental_id in rental_ids)

    def planned(self) -> list[Rental]:
        """Returns those that are to be opened."""
        return [each for each in self._known.values() if each.state is RentalState.PLANNED]

    def close(self, kept: Collection[str] = ()) -> Sequence[Rental]:
        """Closes what no step is on, nor is to be; returns what was closed now.

        Args:
            kept: ids of those that a step will be leased on which has no award in the ledger.
        """
        if not self.has_standing():
            return []
        closed = self._market.ledger.close_rentals(self._run_id, now=self._market.now(), kept=kept)
        self._known.update((rental.rental_id, rental) for rental in closed)
        return closed

    def _read(self) -> None:
        """Reads the ledger's rows; one that is to be opened, when the last plan says."""
        rows = self._market.ledger.rentals(run_id=self._run_id)
        self._known = {
            each.rental_id: replace(each, opens_at=self._opens.get(each.rental_id, each.opens_at))
            for each in rows
        }
