"""Steps that have never run borrow from those of their code location that have."""

from __future__ import annotations

from dataclasses import replace

import pytest
from test_pse_drivers import attempt

from cu_market.domain.request import Sizing, StepIdentity
from cu_market.domain.resources import ResourceVector
from cu_market.domain.spec import ComputeSpec, Risk, SizingMode
from cu_market.domain.units import GIB, MIB
from cu_market.domain.usage import Ending, Usage
from cu_market.pse import Forecast, size_step
from cu_market.pse.models.borrowing import borrow_forecast

LARGEST = ResourceVector(cpu_millis=2000, memory_bytes=16 * GIB)
NEW = StepIdentity(code_location="here", node="load_orders")


def lent(
    node: str, *peaks_mib: float, declared_mib: int | None = None, ending: Ending = Ending.OK
) -> list[Usage]:
    identity = StepIdentity(code_location="here", node=node)
    declared = None if declared_mib is None else declared_mib * MIB
    return [
        attempt(n, peak, identity=identity, declared_bytes=declared, ending=ending)
        for n, peak in enumerate(peaks_mib)
    ]


def borrowed(
    usages: list[Usage], declared_mib: int | None = None, *, default_bytes: int = GIB
) -> Forecast | None:
    return borrow_forecast(
        NEW,
        usages,
        declared_bytes=None if declared_mib is None else declared_mib * MIB,
        default_bytes=default_bytes,
    )


def three(declared_mib: int | None = None) -> list[Usage]:
    nodes = ("load_customers", "load_items", "load_stores")
    return [u for node in nodes for u in lent(node, *[200.0] * 12, declared_mib=declared_mib)]


def test_what_steps_of_like_names_needed_is_expected() -> None:
    usages = [*three(), *lent("train_model", *[3000.0] * 12)]
    found = borrowed(usages)
    assert found is not None
    assert (found.attempts, found.borrowed_from) == (0, 4)
    assert found.memory.p50 < 600 * MIB  # loaders are like loaders
    assert "from 4 other steps" in found.in_words()
    other = borrow_forecast(
        replace(NEW, node="train_models"), usages, declared_bytes=None, default_bytes=GIB
    )
    assert other is not None
    assert other.allocation_bytes() > 2000 * MIB > found.allocation_bytes()


def test_how_far_declared_tags_were_off_is_carried_over() -> None:
    found = borrowed(three(declared_mib=2048), declared_mib=8192)
    assert found is not None
    assert found.memory.p50 == pytest.approx(8192 / 2048 * 200 * MIB, rel=0.5)
    assert found.allocation_bytes(Risk.SAFE) <= 8192 * MIB
    # Nothing that nobody had asked memory for tells how far asking is off.
    assert borrowed(three(), declared_mib=8192) is None


def test_too_few_steps_are_no_sample_and_its_own_are_not_others() -> None:
    two = [u for u in three() if u.identity.node != "load_items"]
    assert borrowed(two) is None
    assert borrowed([*two, *lent(NEW.node, 200)]) is None
    assert borrowed([*two, *lent("killed", 200, ending=Ending.OUT_OF_MEMORY)]) is None
    assert borrowed([]) is None


def size(borrowed_forecast: Forecast | None, **said: object) -> tuple[int, Sizing, str]:
    declared = ComputeSpec(**said)  # type: ignore[arg-type]
    sized = size_step(declared, borrowed=borrowed_forecast, largest=LARGEST)
    return sized.needs.memory_bytes, sized.sizing, sized.reason


def test_borrowed_sizes_stand_before_the_default_and_behind_tags() -> None:
    found = borrowed(three())
    assert found is not None
    memory, sizing, reason = size(found)
    assert (memory, sizing) == (found.allocation_bytes(Risk.BALANCED), Sizing.BORROWED)
    assert 200 * MIB < memory < GIB
    assert "other steps of the location" in reason
    assert size(found, memory_bytes=4 * GIB)[:2] == (4 * GIB, Sizing.DECLARED)
    assert size(None)[:2] == (GIB, Sizing.DEFAULT)
    fixed = size(found, sizing=SizingMode.FIXED)
    assert fixed[1] is Sizing.DEFAULT


def test_under_cost_the_borrowed_ratio_stands_before_the_tag() -> None:
    found = borrowed(three(declared_mib=2048), declared_mib=8192)
    memory, sizing, _ = size(found, memory_bytes=8 * GIB, risk=Risk.COST)
    assert sizing is Sizing.BORROWED
    assert memory < 4 * GIB
    for risk in (Risk.BALANCED, Risk.SAFE):
        assert size(found, memory_bytes=8 * GIB, risk=risk)[1] is Sizing.DECLARED


def test_a_step_with_a_past_of_its_own_borrows_nothing() -> None:
    own = attempt(1, 500, identity=NEW)
    from cu_market.pse.models.forecaster import LearnedForecaster

    known = LearnedForecaster().forecast(NEW, [own])
    sized = size_step(ComputeSpec(), forecast=known, borrowed=borrowed(three()))
    assert sized.sizing is Sizing.FORECAST
    assert sized.needs.memory_bytes >= 500 * MIB
