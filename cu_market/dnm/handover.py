"""A plan as an order: who waits for whom, and for whose room, whatever times turn out to be.

A plan's starts are those of its expected times. Where something takes another time, what waits for
its end or for its room starts at another time. So each amount of room is followed from hand to
hand: from what is free now, or returns when a lease ends, to whoever takes it first by plan, and
from there on (a resource flow: Artigues, Michelon, Reusser 2003). Walked in that order with any
times, the plan never takes more than there is.

Whoever gets the order may start later than where each takes any room that is free first, never
sooner.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import add

from cu_market.dnm.offers import Room, RunningLease, rooms_of, takes_of
from cu_market.domain.bid import Bid
from cu_market.domain.plan import Award
from cu_market.domain.request import ResourceRequest
from cu_market.domain.resources import ResourceVector


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One award's place in the order.

    Attributes:
        award, request: what was planned, and for what.
        after: request_ids that have ended before it starts: its parents, and who hands it room.
        not_before_ms: it starts no sooner whatever else happens: its own earliest start, and when
            leases end that return its room.
    """

    award: Award
    request: ResourceRequest
    after: tuple[str, ...]
    not_before_ms: int

    @property
    def waits(self) -> tuple[str, tuple[str, ...], int]:
        """Its name, whom it waits for, and until when; see walk."""
        return self.request.request_id, self.after, self.not_before_ms


@dataclass(slots=True)
class _Piece:
    """Room that one giver leaves; none: it is free from then on."""

    free_ms: int
    amount: int
    giver: str | None = None


def turns_of(
    awards: Sequence[Award],
    requests: Sequence[ResourceRequest],
    bids: Sequence[Bid],
    capacities: Mapping[str, ResourceVector],
    running: Sequence[RunningLease] = (),
) -> tuple[Turn, ...]:
    """Returns a plan's awards in an order in which each comes after all that it waits for.

    Args:
        awards: of a plan that verifies.
        requests, bids: what they are of; more may be given.
        capacities: free room by capacity_id, as the plan had it.
        running: what returns to a capacity later.
    """
    asked = {request.request_id: request for request in requests}
    offered = {bid.bid_id: bid for bid in bids}
    rooms, index = rooms_of(bids, capacities, running)
    pieces = [_pieces(room) for room in rooms]
    planned = {award.request_id for award in awards}
    turns = []
    for award in sorted(awards, key=lambda award: (award.start_ms, award.request_id)):
        request, bid = asked[award.request_id], offered[award.bid_id]
        after = {parent: None for parent in request.depends_on if parent in planned}
        not_before_ms = request.earliest_start_ms
        for room, amount in takes_of(bid, award.size, request.quantity, index):
            for piece in _take(pieces[room], amount, award.start_ms, after):
                if piece.giver is None:
                    not_before_ms = max(not_before_ms, piece.free_ms)
                else:
                    after[piece.giver] = None
            end_ms = award.start_ms + award.expected_ms
            pieces[room].append(_Piece(free_ms=end_ms, amount=amount, giver=award.request_id))
        turns.append(
            Turn(award=award, request=request, after=tuple(after), not_before_ms=not_before_ms)
        )
    return tuple(turns)


def _pieces(room: Room) -> list[_Piece]:
    """Returns what is free now, and what returns later."""
    later = [_Piece(free_ms=until_ms, amount=amount) for until_ms, amount in room.running if amount]
    return [_Piece(free_ms=0, amount=room.limit_at(0)), *later]


def _take(
    pieces: list[_Piece], amount: int, start_ms: int, awaited: Collection[str]
) -> list[_Piece]:
    """Takes so much of what is free by then, and returns whose it was.

    First of those that are awaited in any case, then of what is free now, then of what was free
    first.
    """

    def rank(piece: _Piece) -> tuple[bool, int]:
        return (piece.giver is None or piece.giver not in awaited, piece.free_ms)

    taken = []
    for piece in sorted((p for p in pieces if p.free_ms <= start_ms), key=rank):
        if amount <= 0:
            break
        part = min(amount, piece.amount)
        amount -= part
        piece.amount -= part
        taken.append(piece)
    pieces[:] = [piece for piece in pieces if piece.amount > 0]
    return taken


def walk(
    order: Iterable[tuple[str, Sequence[str], int]], takes_ms: Mapping[str, Sequence[float]]
) -> dict[str, list[float]]:
    """Returns when each ends, case by case.

    Args:
        order: of each its name, who has ended before it starts, and before when it does not; each
            after those that it waits for.
        takes_ms: by name, its time in each case.
    """
    ends: dict[str, list[float]] = {}
    for name, after, not_before_ms in order:
        takes = takes_ms[name]
        starts = last([ends[other] for other in after], cases=len(takes), least=not_before_ms)
        ends[name] = list(map(add, starts, takes))
    return ends


def last(columns: Sequence[Sequence[float]], *, cases: int, least: float = 0.0) -> Sequence[float]:
    """Returns the largest of each case, at least so much."""
    if not columns:
        return [least] * cases
    found = columns[0] if len(columns) == 1 else list(map(max, *columns))
    return found if least <= 0 else [max(least, each) for each in found]
