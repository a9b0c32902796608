"""Captures a step's output to its files without Dagster's four helper processes.

LocalComputeLogManager starts a ``tail`` and a Python watcher for each of stdout and stderr, to
mirror the files to the console: about 50 ms of CPU a step, and processes in the step's own tree.
A market worker mirrors the files itself.

Private: dagster._core.storage.local_compute_log_manager.mirror_stream_to_file and
dagster._core.execution.compute_logs.redirect_to_file; seen in 1.13.27.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from dagster._core.execution.compute_logs import redirect_to_file
from dagster._core.storage import local_compute_log_manager
from dagster._utils import ensure_file


@contextmanager
def files_without_tails(announce: Callable[[str, str], None]) -> Iterator[None]:
    """Within it, captured output goes to its file only, and its path is announced."""

    @contextmanager
    def mirror(stream: TextIO, path: str) -> Iterator[Any]:
        ensure_file(path)
        announce(path, "stderr" if stream is sys.stderr else "stdout")
        with redirect_to_file(stream, path):
            yield None

    module: Any = local_compute_log_manager
    original = module.mirror_stream_to_file
    module.mirror_stream_to_file = mirror
    try:
        yield
    finally:
        module.mirror_stream_to_file = original
