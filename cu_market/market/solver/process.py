"""The solver in a process of its own: kept warm, killed at its limit, believed in nothing.

A solver's own time limit runs over (seen: 0.01 s became 0.28 s with HiGHS, 0.58 s with CBC), and
one that hangs inside a library cannot be interrupted from the same process.

The child asks Linux for its parent's death signal, and Linux means the parent *thread*: a child
started by a thread that ends is killed although the process lives on (seen on 6.18). Auctions are
held by short-lived threads, so the child is started by a thread that stays as long as it may be
needed.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from cu_market.dnm.programs.instance import ProgramData, to_json
from cu_market.dnm.programs.linear import (
    LinearAnswer,
    LinearProgram,
    linear_answer_from_json,
    program_to_json,
)
from cu_market.dnm.programs.solve import SolverAnswer, answer_from_json

logger = logging.getLogger(__name__)

GRACE_SECONDS = 0.5
"""Beyond the solver's own limit, before it is killed."""

START_SECONDS = 5.0
"""Within these a child must say that it is ready: it imports PuLP and HiGHS first."""

MAX_ANSWER_BYTES = 64 * 2**20

Said = TypeVar("Said")


class SolverProcess:
    """Solves programs in a child process. Nothing is started before warm or the first solve.

    Args:
        command: the child, for tests that inject hostile ones.
        grace_seconds: beyond the limit, before the child is killed.
        start_seconds: that a child may take before it is ready; the limit counts from then.
    """

    def __init__(
        self,
        command: Sequence[str] | None = None,
        *,
        grace_seconds: float = GRACE_SECONDS,
        start_seconds: float = START_SECONDS,
    ) -> None:
        self._command = tuple(command or (sys.executable, "-m", "cu_market.market.solver.child"))
        self._grace_seconds = grace_seconds
        self._start_seconds = start_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._is_ready = False
        self._keeper: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()

    def warm(self) -> None:
        """Starts the child ahead of its first program; does not wait for it to be ready."""
        with self._lock:
            self._start()

    def solve(self, data: ProgramData, *, limit_seconds: float, gap: float) -> SolverAnswer:
        """Returns the child's answer; a failure with its reason where there is none in time.

        A child that hangs is killed at limit_seconds and the grace, its answer marked as cut; one
        that dies or answers garbage is replaced at the next program.
        """
        question = {"data": to_json(data), "limit_seconds": limit_seconds, "gap": gap}
        try:
            return self._ask(question, limit_seconds, answer_from_json)
        except TimeoutError as error:
            return SolverAnswer(failure=_failed(error), is_cut=True)
        except (OSError, ValueError, RuntimeError) as error:
            return SolverAnswer(failure=_failed(error))

    def solve_linear(
        self, program: LinearProgram, *, limit_seconds: float, gap: float = 0.0
    ) -> LinearAnswer:
        """Returns the child's answer to a linear or integer program; otherwise as solve."""
        question = {
            "linear": program_to_json(program),
            "limit_seconds": limit_seconds,
            "gap": gap,
        }
        try:
            return self._ask(question, limit_seconds, linear_answer_from_json)
        except TimeoutError as error:
            return LinearAnswer(failure=_failed(error), is_cut=True)
        except (OSError, ValueError, RuntimeError) as error:
            return LinearAnswer(failure=_failed(error))

    def _ask(
        self, question: Mapping[str, object], limit_seconds: float, read: Callable[[object], Said]
    ) -> Said:
        """Returns what the child says, read; kills a child that is late, dies or talks nonsense.

        Raises:
            TimeoutError: no answer at limit_seconds and the grace.
            OSError, ValueError, RuntimeError: it died, or said what cannot be read.
        """
        line = json.dumps(question, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            try:
                self._start()
                self._await_ready()
                said = self._exchange(line, limit_seconds + self._grace_seconds)
                return read(json.loads(said))
            except (OSError, ValueError, RuntimeError):  # a TimeoutError is an OSError
                self._kill()
                raise

    def close(self) -> None:
        """Ends the child and its keeper; a later program would start both again."""
        with self._lock:
            self._kill()
            if self._keeper is not None:
                self._keeper.shutdown()
                self._keeper = None

    def _start(self) -> None:
        """Starts the child unless it lives.

        Raises:
            OSError: it cannot be started.
            RuntimeError: the interpreter is shutting down, no thread can be started.
        """
        if self._process is not None and self._process.poll() is None:
            return
        self._kill()
        if self._keeper is None:
            self._keeper = ThreadPoolExecutor(1, thread_name_prefix="cu_market solver keeper")
        self._process = self._keeper.submit(self._spawn).result()

    def _spawn(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [*self._command, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)
        return process

    def _await_ready(self) -> None:
        """Takes the child's first line, whatever it says; does nothing once it has been taken."""
        if not self._is_ready:
            self._exchange(b"", self._start_seconds)
            self._is_ready = True

    def _exchange(self, line: bytes, seconds: float) -> bytes:
        """Sends a line, if it is not empty, and returns the next one that arrives.

        Raises:
            TimeoutError: not within so many seconds.
            OSError: the child has ended.
        """
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        deadline = time.monotonic() + seconds
        outgoing, incoming = memoryview(line), bytearray()
        with selectors.DefaultSelector() as selector:
            if outgoing:
                selector.register(process.stdin, selectors.EVENT_WRITE)
            selector.register(process.stdout, selectors.EVENT_READ)
            while not incoming.endswith(b"\n"):
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f"no answer within {seconds:.2f} s: the solver was killed")
                for key, _ in selector.select(left):
                    if key.fileobj is process.stdin:
                        outgoing = outgoing[os.write(key.fd, outgoing[:65536]) :]
                        if not outgoing:
                            selector.unregister(process.stdin)
                        continue
                    data = os.read(key.fd, 1 << 20)
                    if not data:
                        raise OSError(f"the solver ended with code {process.wait()}")
                    incoming += data
                    if len(incoming) > MAX_ANSWER_BYTES:
                        raise ValueError("an answer without end")
        return bytes(incoming)

    def _kill(self) -> None:
        process, self._process = self._process, None
        self._is_ready = False
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # CBC runs as a child of the child
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


def _failed(error: Exception) -> str:
    """Logs a failure and returns its reason."""
    is_timeout = isinstance(error, TimeoutError)
    reason = str(error) if is_timeout else f"{type(error).__name__}: {error}"
    logger.warning(
        "solver failed, so what was found without it stands: %s",
        reason,
        extra={"action": "solver_failed", "reason": reason},
    )
    return reason
