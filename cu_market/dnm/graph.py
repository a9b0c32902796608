"""The run's graph at reference speed: earliest starts, tails and slack, in milliseconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cu_market.domain.problem import InvalidInputError, Problem
from cu_market.domain.request import ResourceRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """What the dependencies say, one entry per request in the order given.

    Attributes:
        parents: indices of the requests that must end first.
        order: indices, parents before children; ties by the order given.
        earliest_start_ms: start when everything before runs at once at reference speed.
        tail_ms: longest path from the request's start to the end of the run, itself included.
        slack_ms: how much later it may end without the run ending later.
    """

    parents: tuple[tuple[int, ...], ...]
    order: tuple[int, ...]
    earliest_start_ms: tuple[int, ...]
    tail_ms: tuple[int, ...]
    slack_ms: tuple[int, ...]


def analyse(requests: Sequence[ResourceRequest]) -> Graph:
    """Returns the critical-path figures of the requests.

    ES_i = max(own earliest start, max_{p before i} ES_p + d_p);
    tail_i = d_i + max_{c after i} tail_c;  slack_i = max_j (ES_j + d_j) - ES_i - tail_i, with j of
    the same run: that another run ends later makes nothing of this one less urgent.

    Raises:
        InvalidInputError: two requests with one id, a dependency on an unknown or on itself, or a
            cycle.
    """
    parents = _parents(requests)
    order = _topological(requests, parents)
    duration = [request.duration_ms for request in requests]
    start = [request.earliest_start_ms for request in requests]
    for i in order:
        start[i] = max([start[i], *(start[p] + duration[p] for p in parents[i])])
    tail = list(duration)
    for i in reversed(order):
        for p in parents[i]:
            tail[p] = max(tail[p], duration[p] + tail[i])
    makespan: dict[str, int] = {}
    for i, request in enumerate(requests):
        end = start[i] + duration[i]
        makespan[request.run_id] = max(makespan.get(request.run_id, 0), end)
    return Graph(
        parents=parents,
        order=order,
        earliest_start_ms=tuple(start),
        tail_ms=tuple(tail),
        slack_ms=tuple(
            makespan[request.run_id] - start[i] - tail[i] for i, request in enumerate(requests)
        ),
    )


def _parents(requests: Sequence[ResourceRequest]) -> tuple[tuple[int, ...], ...]:
    index: dict[str, int] = {}
    problems: list[Problem] = []
    for i, request in enumerate(requests):
        if request.request_id in index:
            problems.append(
                Problem(
                    where="ResourceRequest.request_id",
                    value=request.request_id,
                    what="two requests with one id",
                    remedy="give each request of an auction its own id",
                )
            )
        index[request.request_id] = i
    for request in requests:
        unknown = [name for name in request.depends_on if name not in index]
        problems += [
            Problem(
                where=f"ResourceRequest {request.request_id!r}.depends_on",
                value=name,
                what="no such request in this auction",
                remedy="name a request of the same auction, or leave out what has already ended",
            )
            for name in unknown
        ]
    if problems:
        raise InvalidInputError(problems)
    return tuple(
        tuple(sorted({index[name] for name in request.depends_on})) for request in requests
    )


def _topological(
    requests: Sequence[ResourceRequest], parents: Sequence[Sequence[int]]
) -> tuple[int, ...]:
    children: list[list[int]] = [[] for _ in requests]
    missing = [len(ps) for ps in parents]
    for i, ps in enumerate(parents):
        for p in ps:
            children[p].append(i)
    order: list[int] = [i for i, count in enumerate(missing) if count == 0]
    for i in order:  # grows while it is walked: Kahn's algorithm
        for child in children[i]:
            missing[child] -= 1
            if missing[child] == 0:
                order.append(child)
    if len(order) < len(requests):
        stuck = [requests[i].request_id for i, count in enumerate(missing) if count > 0]
        raise InvalidInputError(
            [
                Problem(
                    where="ResourceRequest.depends_on",
                    value=", ".join(sorted(stuck)),
                    what="these wait for one another: a cycle, or behind one",
                    remedy="remove one dependency of the cycle",
                )
            ]
        )
    return tuple(order)
