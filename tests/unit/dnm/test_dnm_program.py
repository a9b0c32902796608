from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from cu_market.dnm.bounds.bound import lagrangian_bound
from cu_market.dnm.programs.instance import ProgramData, Row, dumps, from_json
from cu_market.dnm.programs.program import _run_cbc, _run_highs, build, scale_of
from cu_market.dnm.programs.solve import (
    SolverAnswer,
    answer_from_json,
    answer_to_json,
    no_clock,
    read_choice,
)


@pytest.fixture(autouse=True)
def _no_migration_warnings() -> Iterator[None]:
    """What solve() does before it calls the functions that are tested one by one here."""
    from pulp.v4_migration import set_v4_migration_warnings

    set_v4_migration_warnings(False)
    yield
    set_v4_migration_warnings(True)


TWO_ON_ONE = ProgramData(
    penalties_microusd=(1000, 1000),
    column_requests=(0, 0, 1, 1),
    column_bids=(0, 1, 0, 1),
    column_costs_microusd=(100, 300, 100, 500),
    rows=(Row(name="bid 0 units at 0 ms", limit=1, columns=(0, 2), amounts=(1, 1)),),
)
HUGE = ProgramData(
    penalties_microusd=TWO_ON_ONE.penalties_microusd,
    column_requests=TWO_ON_ONE.column_requests,
    column_bids=TWO_ON_ONE.column_bids,
    column_costs_microusd=TWO_ON_ONE.column_costs_microusd,
    rows=(Row(name="m", limit=10**11 + 6, columns=(0, 2), amounts=(10**11 + 3, 10**11 + 5)),),
)


@pytest.mark.parametrize("run", [_run_highs, _run_cbc])
@pytest.mark.parametrize("data", [TWO_ON_ONE, HUGE])
def test_both_solvers_find_the_optimum_and_duals_that_prove_it(run, data) -> None:  # type: ignore[no-untyped-def]
    # CBC counts by the wall's clock, in a process of its own: no limit that a busy machine meets.
    answer = run(data, limit_seconds=600, gap=0.0, clock=no_clock)
    assert not answer.is_cut, answer
    assert read_choice(data, answer) == {0: 1, 1: 0}, answer
    assert 390 <= lagrangian_bound(data, answer.duals) <= 400, answer


def test_the_program_says_what_its_docstring_says() -> None:
    problem, x = build(TWO_ON_ONE)
    assert [variable.name for variable in x] == ["x_0_0", "x_0_1", "x_1_0", "x_1_1"]
    assert {name: str(row) for name, row in problem.constraints.items()} == {
        "served_0": "x_0_0 + x_0_1 + z_0 = 1.0",
        "served_1": "x_1_0 + x_1_1 + z_1 = 1.0",
        "room_0": "x_0_0 + x_1_0 <= 1.0",
    }


def test_large_numbers_are_scaled_by_a_power_of_two_only() -> None:
    assert scale_of(TWO_ON_ONE.rows[0]) == 1
    assert scale_of(HUGE.rows[0]) == 2**17


def test_any_multipliers_give_a_valid_bound() -> None:
    for mu in (0.0, 1.0, 199.99, 200.0, 350.5, 1e9):
        assert lagrangian_bound(TWO_ON_ONE, {0: mu}) <= 400
    assert lagrangian_bound(TWO_ON_ONE, {0: 200.0}) == 400
    assert lagrangian_bound(TWO_ON_ONE, {}) == 200


def test_data_and_answers_cross_as_json() -> None:
    assert from_json(json.loads(dumps(TWO_ON_ONE))) == TWO_ON_ONE
    answer = SolverAnswer(solver="s", values={3: 1.0}, duals={0: 0.5}, claimed_bound_microusd=4.5)
    assert answer_from_json(json.loads(json.dumps(answer_to_json(answer)))) == answer


@pytest.mark.parametrize(
    "value", [{}, {"rows": []}, json.loads(dumps(TWO_ON_ONE)) | {"column_bids": [0.5]}]
)
def test_what_is_no_program_is_refused(value: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="not a program's data"):
        from_json(value)


@pytest.mark.parametrize("value", [[], {}, answer_to_json(SolverAnswer()) | {"values": [[1]]}])
def test_what_is_no_answer_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="not a solver's answer"):
        answer_from_json(value)


def test_planning_without_a_solver_imports_none() -> None:
    code = (
        "import sys, cu_market.dnm, cu_market.market.solver.process\n"
        "print([m for m in ('pulp', 'highspy', 'numpy', 'sqlalchemy') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
