"""A library that speaks as NVIDIA's does: there may be no GPU here, but its callers are real."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("nvml.c")


class NvmlLibrary:
    """The library, compiled into a folder. Processes that find it there see what ``say`` has said.

    Attributes:
        environment: of such a process.
        state: the file that the library reads.
        asked: a file that grows with each answer about memory.
    """

    def __init__(self, folder: Path) -> None:
        compiler = find_compiler()
        assert compiler is not None
        target = folder / "libnvidia-ml.so.1"
        command = [compiler, "-shared", "-fPIC", "-Wall", "-Werror", "-o", str(target), str(SOURCE)]
        subprocess.run(command, check=True)
        self.state, self.asked = folder / "state", folder / "asked"
        self.asked.touch()
        self.environment = {
            **os.environ,
            "LD_LIBRARY_PATH": str(folder),
            "NVML_STATE": str(self.state),
            "NVML_ASKED": str(self.asked),
        }

    def say(self, *lines: str) -> None:
        """Sets what the devices do; nvml.c tells the language."""
        self.state.write_text("".join(f"{line}\n" for line in lines))


def find_compiler() -> str | None:
    """Returns a C compiler, or None."""
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
