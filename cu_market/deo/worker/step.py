"""Runs one step in its own process: forked from a warm worker, or started fresh where a fork is
unsafe (``python -m cu_market.deo.worker.step``)."""

from __future__ import annotations

import os
import signal
import socket
import sys
from typing import Any

from cu_market.deo.worker.channel import StepChannel, read_frame
from cu_market.deo.worker.frames import Frame
from cu_market.deo.worker.limits import reseed, set_niceness, set_thread_pools
from cu_market.deo.worker.resident import read_own_memory

STEP_FD_VARIABLE = "CU_MARKET_STEP_FD"


def run_step(connection: socket.socket, loaded: Any, step: Frame) -> int:
    """Executes a step over a connection; returns the process's exit code.

    Args:
        connection: blocking socket to the zygote.
        loaded: a dagster_compat LoadedRun.
        step: the ``step`` frame.
    """
    from cu_market.dagster_compat.serdes import serialize_value
    from cu_market.dagster_compat.step_execution import execute_step

    set_niceness(int(step["niceness"]))
    set_thread_pools(int(step["cpu_millis"]), step["thread_variables"])
    channel = StepChannel(connection, serialize_value)
    error = execute_step(loaded, step["step_key"], step["known_state"], channel)
    memory = read_own_memory()  # takes milliseconds, while the last entries are being stored
    channel.flush()
    channel.finish(serialize_value(error) if error is not None else None, memory)
    return 0


def run_forked(connection: socket.socket, loaded: Any, step: Frame) -> None:
    """Becomes a step's process after a fork; never returns."""
    code = 1
    try:
        os.setsid()  # its own group, so that it can be ended with all that it starts
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        reseed()
        code = run_step(connection, loaded, step)
    except BaseException:  # noqa: BLE001 - whatever it is, it must not unwind into the zygote's loop
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def main() -> int:
    """Runs a step in a fresh process: loads the code first."""
    from cu_market.dagster_compat.step_execution import LoadedRun, RunOutline

    connection = socket.socket(fileno=int(os.environ.pop(STEP_FD_VARIABLE)))
    step = read_frame(connection)
    loaded = LoadedRun(RunOutline(**step["outline"]))
    return run_step(connection, loaded, step)


if __name__ == "__main__":
    sys.exit(main())
