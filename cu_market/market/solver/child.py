"""The solver's process: ``python -m cu_market.market.solver.child``.

Says that it is ready once its libraries are loaded; then reads one program a line from standard
input and writes one answer a line to standard output. Ends when its input ends, or when its parent
dies, whichever comes first.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
import time
from typing import Any

from cu_market.dnm.programs.instance import from_json
from cu_market.dnm.programs.linear import LinearAnswer, linear_answer_to_json, program_from_json
from cu_market.dnm.programs.linear_program import solve_linear
from cu_market.dnm.programs.program import solve
from cu_market.dnm.programs.solve import SolverAnswer, answer_to_json

PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """Asks Linux to kill this process when its parent dies; elsewhere end of input must do."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)  # it died before the kernel was asked


def main() -> int:
    """Serves until the input ends. What a solver prints goes to standard error."""
    die_with_parent(int(sys.argv[1]))
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    with contextlib.suppress(ImportError):
        import highspy  # noqa: F401 - loaded here, so that the first program does not wait for it
        import pulp  # noqa: F401
    answers.write(json.dumps({"ready": True}) + "\n")
    for line in sys.stdin:
        answers.write(json.dumps(_answer(line)) + "\n")
    return 0


def _answer(line: str) -> dict[str, object]:
    try:
        question = json.loads(line)
        if "linear" in question:
            return linear_answer_to_json(_linear(question))
        answer = solve(
            from_json(question["data"]),
            limit_seconds=float(question["limit_seconds"]),
            gap=float(question["gap"]),
            clock=time.monotonic,
        )
    except Exception as error:  # noqa: BLE001 - the parent is told, whatever it is
        answer = SolverAnswer(failure=f"{type(error).__name__}: {error}")
    return answer_to_json(answer)


def _linear(question: dict[str, Any]) -> LinearAnswer:
    try:
        return solve_linear(
            program_from_json(question["linear"]),
            limit_seconds=float(question["limit_seconds"]),
            gap=float(question["gap"]),
        )
    except Exception as error:  # noqa: BLE001 - the parent is told, whatever it is
        return LinearAnswer(failure=f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    sys.exit(main())
