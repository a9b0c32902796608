"""The kernel's count of kills for memory is found under either version of control groups."""

from __future__ import annotations

from pathlib import Path

import pytest

from cu_market.deo.worker.kernel_oom import kernel_oom_kills

EVENTS = "low 0\nhigh 0\nmax 3\noom 2\noom_kill 2\noom_group_kill 0\n"
CONTROL = "oom_kill_disable 0\nunder_oom 0\noom_kill 5\n"


@pytest.mark.parametrize(
    ("group", "files", "kills"),
    [
        ("0::/app.slice\n", {"sys/fs/cgroup/app.slice/memory.events": EVENTS}, 2),
        ("0::/\n", {"sys/fs/cgroup/memory.events": EVENTS}, 2),
        # In a container of version 1 the path is the host's, and the mount is the container's.
        ("4:memory:/kubepods/pod1/c\n", {"sys/fs/cgroup/memory/memory.oom_control": CONTROL}, 5),
        ("9:cpu:/x\n4:memory:/x\n", {"sys/fs/cgroup/memory/x/memory.oom_control": CONTROL}, 5),
        ("4:memory:/x\n", {}, None),
        ("4:memory:/x\n", {"sys/fs/cgroup/memory/x/memory.oom_control": "under_oom 0\n"}, None),
    ],
)
def test_kills(tmp_path: Path, group: str, files: dict[str, str], kills: int | None) -> None:
    for name, text in {"proc/self/cgroup": group, **files}.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert kernel_oom_kills(tmp_path) == kills


def test_this_machine_is_read_without_an_error() -> None:
    kills = kernel_oom_kills()
    assert kills is None or kills >= 0
