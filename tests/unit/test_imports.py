"""What importing the package, and running a step, must not load."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("pulp", "highspy", "sklearn", "mlflow", "pandas", "sqlalchemy", "alembic")


def loaded_by(code: str) -> set[str]:
    """Returns the heavy modules that a fresh interpreter has after running the code."""
    output = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    return {name.partition(".")[0] for name in output.split()} & set(HEAVY)


def test_importing_the_package_loads_nothing_of_anyones() -> None:
    code = "import cu_market, sys\nassert 'dagster' not in sys.modules"
    assert loaded_by(code) == set()


@pytest.mark.parametrize(
    "code",
    [
        "from cu_market import compute, market_executor",
        "from cu_market import MarketRunLauncher",
        "import cu_market.deo.worker.zygote, cu_market.deo.worker.step\n"
        "import cu_market.dagster_compat.step_execution",
    ],
    ids=["a user's module", "an instance's launcher", "a step's process"],
)
def test_what_every_process_imports_is_light(code: str) -> None:
    dagsters_own = loaded_by("import dagster, dagster._core.execution.api, dagster._core.instance")
    assert loaded_by(code) - dagsters_own <= {"sqlalchemy", "alembic"}


def test_a_run_worker_that_negotiates_never_imports_the_solver() -> None:
    code = "import cu_market.deo.executor.executor, cu_market.market.opening"
    assert loaded_by(code) & {"pulp", "highspy", "numba", "sklearn", "mlflow", "pandas"} == set()


def test_the_command_line_loads_what_is_heavy_only_where_a_command_runs() -> None:
    unwanted = "{'dagster', 'pydantic', 'numpy'}"
    code = f"import cu_market.cli.app, sys\nassert not {unwanted} & {{*sys.modules}}"
    assert loaded_by(code) == set()
