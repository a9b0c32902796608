"""Placing requests one after the other, and moving them where that costs less: compiled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cu_market.dnm.compiled import Array, compiled, kept_on_disk, sources
from cu_market.dnm.compiled.draws import below
from cu_market.dnm.selection.arrays import INFEASIBLE, UNSERVED
from cu_market.dnm.selection.multipliers import SHIFT

PUSH_BIDS = 8
PUSH_OTHERS = 4
"""A request may push so many others from so many of its cheapest bids: more cost more time than
they save."""


class Offered(NamedTuple):
    """What no move changes; see arrays.Selection and its uses_in_arrays.

    Attributes:
        costs: (n, m); INFEASIBLE where the bid cannot serve the request.
        penalties: (n,) of leaving a request out.
        first: (n,) index of its start.
        behind: (n, m) index of the first start at or after the pair's end.
        use_of, use_rooms, use_amounts: (m + 1,), (K,), (K, n).
    """

    costs: Array
    penalties: Array
    first: Array
    behind: Array
    use_of: Array
    use_rooms: Array
    use_amounts: Array


class Held(NamedTuple):
    """A selection: changed in place.

    Attributes:
        choice: (n,) a bid or UNSERVED.
        free: (R, T) what is left of each room at each start.
    """

    choice: Array
    free: Array


@compiled
def fits(offered: Offered, held: Held, i: int, b: int) -> bool:
    """Whether the bid has room for the request from its start to its end."""
    first, behind = offered.first[i], offered.behind[i, b]
    for k in range(offered.use_of[b], offered.use_of[b + 1]):
        room, amount = offered.use_rooms[k], offered.use_amounts[k, i]
        for t in range(first, behind):
            if held.free[room, t] < amount:
                return False
    return True


@compiled
def take(offered: Offered, held: Held, i: int, b: int, times: int) -> None:
    """Takes what the request holds at the bid, so many times, from what is free."""
    for k in range(offered.use_of[b], offered.use_of[b + 1]):
        room, amount = offered.use_rooms[k], offered.use_amounts[k, i]
        for t in range(offered.first[i], offered.behind[i, b]):
            held.free[room, t] -= times * amount


@compiled
def put(offered: Offered, held: Held, i: int, b: int) -> None:
    """Moves the request to the bid, or nowhere."""
    old = held.choice[i]
    if old != UNSERVED:
        take(offered, held, i, old, -1)
    if b != UNSERVED:
        take(offered, held, i, b, 1)
    held.choice[i] = b


@compiled
def paid(offered: Offered, i: int, b: int) -> int:
    """Returns what the request costs there, or nowhere."""
    return offered.penalties[i] if b == UNSERVED else offered.costs[i, b]  # type: ignore[no-any-return]


@compiled
def cheapest(
    offered: Offered,
    held: Held,
    i: int,
    limit: int | np.int64,
    without: int,
    costs: Array,
) -> int:
    """Returns the bid with room that costs the request least, or UNSERVED.

    Args:
        offered, held: see above; the request stands nowhere.
        i: the request.
        limit: a bid must cost less.
        without: a bid that is not wanted, or UNSERVED.
        costs: (n, m) those of offered, or reduced costs.
    """
    best, least = UNSERVED, limit
    for b in range(offered.costs.shape[1]):
        if offered.costs[i, b] >= INFEASIBLE or b == without:
            continue
        if costs[i, b] < least and fits(offered, held, i, b):
            best, least = b, costs[i, b]
    return best


def _compiled_placing(texts: str) -> Callable[..., None]:
    @kept_on_disk
    def run(
        offered: Offered,
        held: Held,
        order: Array,
        reduced: Array,
        of: Array,
        bids: Array,
        shares: Array,
        ranks: Array,
    ) -> None:
        """Places every request on the bid with room of its largest share, then of least reduced
        cost, then of least cost.

        Args:
            offered, held: see above; nothing stands anywhere.
            order: of the requests.
            reduced: (n, m).
            of, bids, shares: see relaxation.Shares.
            ranks: room for a value a bid.
        """
        assert len(texts) > 0
        for i in order:
            for k in range(of[i], of[i + 1]):
                ranks[bids[k]] = shares[k]
            best, most, least, cost = UNSERVED, -1.0, 0, 0
            for b in range(offered.costs.shape[1]):
                if offered.costs[i, b] >= INFEASIBLE:
                    continue
                is_better = (
                    best == UNSERVED
                    or ranks[b] > most
                    or (
                        ranks[b] == most
                        and (
                            reduced[i, b] < least
                            or (reduced[i, b] == least and offered.costs[i, b] < cost)
                        )
                    )
                )
                if is_better and fits(offered, held, i, b):
                    best, most = b, ranks[b]
                    least, cost = reduced[i, b], offered.costs[i, b]
            for k in range(of[i], of[i + 1]):
                ranks[bids[k]] = 0.0
            if best != UNSERVED:
                put(offered, held, i, best)

    return run


@compiled
def swap(offered: Offered, held: Held, i: int, j: int, b: int, saved: int) -> bool:
    """Puts i where j was, and j on its next best bid, if that costs less in all."""
    old, own = held.choice[i], offered.costs[j, b]
    put(offered, held, j, UNSERVED)
    put(offered, held, i, UNSERVED)
    if fits(offered, held, i, b):
        put(offered, held, i, b)
        other = cheapest(offered, held, j, own + saved, b, offered.costs)
        if other != UNSERVED:
            put(offered, held, j, other)
            return True
        put(offered, held, i, UNSERVED)
    put(offered, held, i, old)
    put(offered, held, j, b)
    return False


@compiled
def push(offered: Offered, held: Held, i: int) -> bool:
    """Moves another one off one of the request's cheapest bids, where both cost less then."""
    count, now = held.choice.shape[0], paid(offered, i, held.choice[i])
    last, last_cost = UNSERVED, -1
    for _ in range(PUSH_BIDS):
        b, cost = UNSERVED, now
        for k in range(offered.costs.shape[1]):
            other = offered.costs[i, k]
            is_next = other > last_cost or (other == last_cost and k > last)
            if is_next and other < cost:
                b, cost = k, other
        if b == UNSERVED:
            return False
        last, last_cost = b, cost
        tried = 0
        for j in range(count):
            if (
                held.choice[j] == b
                and j != i
                and offered.first[j] < offered.behind[i, b]
                and offered.behind[j, b] > offered.first[i]
            ):
                if swap(offered, held, i, j, b, now - cost):
                    return True
                tried += 1
                if tried == PUSH_OTHERS:
                    break
    return False


def _compiled_moves(texts: str) -> Callable[..., bool]:
    @kept_on_disk
    def run(offered: Offered, held: Held, least: Array, pushing: Array) -> bool:
        """Moves single requests to cheaper bids with room, and lets some push others aside.

        Args:
            offered, held: see above.
            least: (n,) what each request costs at least.
            pushing: requests that may push another one aside.

        Returns:
            whether anything moved.
        """
        assert len(texts) > 0
        has_moved = False
        for i in range(least.shape[0]):
            old = held.choice[i]
            now = paid(offered, i, old)
            if now > least[i]:
                put(offered, held, i, UNSERVED)
                b = cheapest(offered, held, i, now, UNSERVED, offered.costs)
                put(offered, held, i, old if b == UNSERVED else b)
                has_moved = has_moved or b != UNSERVED
        for i in pushing:
            if paid(offered, i, held.choice[i]) > least[i] and push(offered, held, i):
                has_moved = True
        return has_moved

    return run


def _compiled_trials(texts: str) -> Callable[..., None]:
    @kept_on_disk
    def run(
        offered: Offered,
        held: Held,
        reduced: Array,
        wanting: Array,
        taken: Array,
        old: Array,
        draws: Array,
        count: int,
    ) -> None:
        """Takes some requests off and places them anew, so many times; keeps what is no dearer.

        One that is not where it would cost least at the prices goes first, and with it some of
        those that are in its way there.

        Args:
            offered, held: see above.
            reduced: (n, m) reduced costs.
            wanting: requests that are drawn from.
            taken, old: room for as many requests as are taken off at a time.
            draws: see draws.
            count: trials.
        """
        assert len(texts) > 0
        if wanting.shape[0] == 0:
            return
        requests, many = held.choice.shape[0], offered.costs.shape[1]
        for _ in range(count):
            i = wanting[below(draws, wanting.shape[0])]
            goal, least = UNSERVED, offered.penalties[i] << SHIFT
            for b in range(many):
                if reduced[i, b] < least and b != held.choice[i]:
                    goal, least = b, reduced[i, b]
            if goal == UNSERVED:
                continue
            taken[0], size = i, 1
            most = 1 + below(draws, taken.shape[0] - 1)
            offset = below(draws, requests)
            for k in range(requests):
                j = (k + offset) % requests
                at = held.choice[j]
                if j == i or at == UNSERVED or size > most:
                    continue
                if offered.first[j] < offered.behind[i, goal] and (
                    offered.behind[j, at] > offered.first[i]
                ):
                    shares = False
                    for one in range(offered.use_of[goal], offered.use_of[goal + 1]):
                        for two in range(offered.use_of[at], offered.use_of[at + 1]):
                            if offered.use_rooms[one] == offered.use_rooms[two]:
                                shares = True
                    if shares:
                        taken[size] = j
                        size += 1
                        if size == taken.shape[0]:
                            break
            before = 0
            for k in range(size):
                old[k] = held.choice[taken[k]]
                before += paid(offered, taken[k], old[k])
                put(offered, held, taken[k], UNSERVED)
            after = 0
            by_price = below(draws, 2)
            for k in range(size):
                j = int(taken[k])
                if by_price:
                    b = cheapest(offered, held, j, INFEASIBLE, UNSERVED, reduced)
                else:
                    b = cheapest(offered, held, j, INFEASIBLE, UNSERVED, offered.costs)
                put(offered, held, j, b)
                after += paid(offered, j, b)
                if after > before:
                    break
            if after > before:
                for k in range(size):
                    put(offered, held, taken[k], UNSERVED)
                for k in range(size):
                    put(offered, held, taken[k], old[k])

    return run


_TEXTS = sources(Path(__file__).parent)
place_all = _compiled_placing(_TEXTS)
move_single = _compiled_moves(_TEXTS)
place_anew = _compiled_trials(_TEXTS)
