"""Run workers in processes of their own, and waiting for what they do."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from execution_record import HERE


class Running:
    """A run worker in a process of its own."""

    def __init__(self, name: str, folder: Path, said: Mapping[str, Any], **tags: str) -> None:
        named = {f"cu/{key}": value for key, value in tags.items()}
        self._process = subprocess.Popen(
            [
                *(sys.executable, str(HERE / "account_run.py"), name, str(folder)),
                *(json.dumps(said), json.dumps(named)),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def end(self) -> str:
        """Returns the run's id once it has ended."""
        out, _ = self._process.communicate(timeout=900)
        return out.split()[-1]

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 600
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
