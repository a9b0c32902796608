"""From what was recorded and what can be bought to one document a workflow."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cu_market.cli.simulate_tables import write_schedules
from cu_market.domain.problem import InvalidInputError, Problem

if TYPE_CHECKING:
    from rich.console import Console

    from cu_market.dnm.schedule import MachineType
    from cu_market.sim.case import Case
    from cu_market.sim.inputs import SpotTrace
    from cu_market.sim.recorded import Recorded
    from cu_market.sim.setting import SpotPrices

COMPILING = "making the search ready (it is compiled once, in some ten seconds) ..."


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sellers:
    """What can be bought.

    Attributes:
        machines: the eligible types.
        locations: where each of them is.
        spot: what it costs as spot.
        trace: when there is spot, or None for on demand only.
    """

    machines: tuple[MachineType, ...]
    locations: Mapping[str, str]
    spot: SpotPrices
    trace: SpotTrace | None


def simulate_documents(
    recorded: Sequence[Recorded],
    catalogs: Sequence[Path],
    policies: Sequence[str],
    *,
    spot: Path | None,
    schedule_out: Path | None,
    picture_out: Path | None,
    seconds: float,
    options: Mapping[str, Any],
    spot_price_ratio: float = 0.35,
    history: Sequence[Recorded] = (),
    told: Console | None = None,
) -> Iterator[dict[str, Any]]:
    """Yields one document a workflow as soon as it is done; writes schedules where asked.

    Args:
        recorded: what is replayed; all of it is checked before the first is planned.
        catalogs: price catalogues.
        policies: names; all where there are none.
        spot: a trace, or None for on demand only.
        schedule_out: folder for DIR/workflow/policy.csv, or None.
        picture_out: folder for DIR/workflow/policy.png and cost-finish.png, or None.
        seconds: limit of each plan.
        options: further fields of the study's Case.
        spot_price_ratio: spot price over that on demand where the catalogue has none.
        history: what the market has seen before, the oldest first: with it forecasts are learned.
        told: shows which one is planned, on a terminal.

    Raises:
        InvalidInputError: a file or a policy cannot be used.
    """
    from cu_market.cli.simulate_pictures import write_pictures
    from cu_market.dnm.schedule import Budget
    from cu_market.dnm.schedule.search import warm
    from cu_market.market.solver.process import SolverProcess
    from cu_market.sim.study import POLICIES, study_with_outcomes

    _check_policies(policies, POLICIES)
    solver = SolverProcess()
    try:
        solver.warm()  # it is ready when the files are read: no plan's seconds go into its start
        sellers = _read_sellers(catalogs, spot, spot_price_ratio)
        is_written = schedule_out is not None or picture_out is not None
        _check_recorded(recorded, sellers, catalogs, is_written=is_written)
        with told.status(COMPILING) if told is not None else nullcontext():
            warm()
        for number, one in enumerate(recorded, start=1):
            doing = f"{number} of {len(recorded)}: {one.name}, {len(one.tasks)} steps ..."
            with told.status(doing) if told is not None else nullcontext():
                case = _case(one, sellers, history, options)
                document, outcomes = study_with_outcomes(
                    case,
                    policies or POLICIES,
                    solver=solver,
                    budget=Budget(limit_seconds=seconds),
                    clock=time.perf_counter,
                )
            if schedule_out is not None:
                write_schedules(schedule_out / one.name, case, outcomes)
            if picture_out is not None:
                write_pictures(picture_out / one.name, document, outcomes)
            yield document
    finally:
        solver.close()


def _check_policies(policies: Sequence[str], known: Sequence[str]) -> None:
    """Raises InvalidInputError for each policy that nobody knows."""
    remedy = f"one of {', '.join(known)}"
    wrong = [
        Problem(where="--policy", value=name, what="no such policy", remedy=remedy)
        for name in sorted(set(policies) - set(known))
    ]
    if wrong:
        raise InvalidInputError(wrong)


def _read_sellers(catalogs: Sequence[Path], spot: Path | None, spot_price_ratio: float) -> _Sellers:
    from cu_market.sim.inputs import read_sold, read_spot
    from cu_market.sim.setting import SpotPrices

    sold = read_sold(catalogs)
    return _Sellers(
        machines=tuple(each.machine for each in sold),
        locations={each.machine.name: each.location for each in sold},
        spot=SpotPrices(
            permille=round(1000 * spot_price_ratio),
            by_type={
                each.machine.name: each.spot_microusd_per_hour
                for each in sold
                if each.spot_microusd_per_hour is not None
            },
        ),
        trace=None if spot is None else read_spot(spot),
    )


def _check_recorded(
    recorded: Sequence[Recorded], sellers: _Sellers, catalogs: Sequence[Path], *, is_written: bool
) -> None:
    """Raises InvalidInputError with everything that stands in the way of any replay."""
    from cu_market.sim.recorded import problems_of

    problems = [problem for one in recorded for problem in problems_of(one, sellers.machines)]
    if not sellers.machines:
        problems = [_nothing_eligible(catalogs)]
    if is_written:
        problems += _same_names(recorded)
    if problems:
        raise InvalidInputError(problems)


def _case(
    one: Recorded, sellers: _Sellers, history: Sequence[Recorded], options: Mapping[str, Any]
) -> Case:
    from cu_market.sim.case import Case
    from cu_market.sim.learning import learn
    from cu_market.sim.setting import Traffic

    return Case(
        name=one.name,
        tasks=one.tasks,
        kinds=one.kinds,
        machines=sellers.machines,
        trace=sellers.trace,
        spot=sellers.spot,
        peaks=one.peaks,
        traffic=Traffic(moved=one.moved, locations=sellers.locations),
        learned=learn(one, history, sellers.machines) if history else None,
        **options,
    )


def _nothing_eligible(catalogs: Sequence[Path]) -> Problem:
    return Problem(
        where="--catalog",
        value=", ".join(map(str, catalogs)),
        what="none of its types is eligible: amd64, no accelerator, not t*, generation 5 or later, "
        "ClockMHz present",
        remedy="give a catalogue with the columns Arch and ClockMHz and such types",
    )


def _same_names(recorded: Sequence[Recorded]) -> list[Problem]:
    """Returns a problem for each that would write where one before it has written."""
    seen: set[str] = set()
    found = []
    for one in recorded:
        if one.name in seen:
            what = f"another one is called {one.name}, too, and would be written over"
            remedy = "rename one, or simulate them one by one into folders of their own"
            found.append(Problem(where=one.place, value=one.name, what=what, remedy=remedy))
        seen.add(one.name)
    return found
