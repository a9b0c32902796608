from __future__ import annotations

from pathlib import Path

import pytest

from cu_market.domain.units import GIB
from cu_market.ral.local.machine import default_reserve_bytes, read_machine

V2_MOUNT = "41 31 0:38 {root} /sys/fs/cgroup rw,relatime shared:9 - cgroup2 cgroup2 rw\n"
V1_MOUNTS = (
    "32 31 0:29 {root} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "35 31 0:32 {root} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
)


def write_tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def read(root: Path) -> tuple[int, int, str, str]:
    machine = read_machine(root, usable_cores=8, physical_bytes=64 * GIB)
    return (
        machine.cpu_millis,
        machine.memory_bytes,
        machine.cpu_source,
        machine.memory_source,
    )


def test_without_control_groups_the_machine_is_what_the_kernel_schedules(tmp_path: Path) -> None:
    assert read(tmp_path) == (8000, 64 * GIB, "affinity", "physical")


def test_version_2_tightest_limit_may_be_an_ancestors(tmp_path: Path) -> None:
    write_tree(
        tmp_path,
        {
            "proc/self/cgroup": "0::/pod/app\n",
            "proc/self/mountinfo": V2_MOUNT.format(root="/"),
            "sys/fs/cgroup/pod/app/cpu.max": "max 100000\n",
            "sys/fs/cgroup/pod/app/memory.max": f"{8 * GIB}\n",
            "sys/fs/cgroup/pod/cpu.max": "150000 100000\n",
            "sys/fs/cgroup/pod/memory.max": f"{4 * GIB}\n",
        },
    )
    assert read(tmp_path) == (1500, 4 * GIB, "cpu.max", "memory.max")


def test_version_2_in_a_container_with_its_own_namespace(tmp_path: Path) -> None:
    write_tree(
        tmp_path,
        {
            "proc/self/cgroup": "0::/\n",
            "proc/self/mountinfo": V2_MOUNT.format(root="/"),
            "sys/fs/cgroup/cpu.max": "50000 100000\n",
            "sys/fs/cgroup/memory.max": f"{2 * GIB}\n",
        },
    )
    assert read(tmp_path) == (500, 2 * GIB, "cpu.max", "memory.max")


@pytest.mark.parametrize("path", ["/../outside", "/elsewhere"])
def test_a_group_outside_of_the_mount_is_read_at_the_mount_point(tmp_path: Path, path: str) -> None:
    write_tree(
        tmp_path,
        {
            "proc/self/cgroup": f"0::{path}\n",
            "proc/self/mountinfo": V2_MOUNT.format(root="/inside"),
            "sys/fs/cgroup/cpu.max": "100000 100000\n",
        },
    )
    assert read(tmp_path)[0] == 1000


def test_version_1_in_a_container_that_sees_its_hosts_path(tmp_path: Path) -> None:
    write_tree(
        tmp_path,
        {
            "proc/self/cgroup": "5:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n0::/\n",
            "proc/self/mountinfo": V1_MOUNTS.format(root="/docker/abc"),
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "250000\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{3 * GIB}\n",
        },
    )
    assert read(tmp_path) == (2500, 3 * GIB, "cpu.cfs_quota_us", "memory.limit_in_bytes")


def test_version_1_without_limits_changes_nothing(tmp_path: Path) -> None:
    write_tree(
        tmp_path,
        {
            "proc/self/cgroup": "5:memory:/a\n3:cpu,cpuacct:/a\n",
            "proc/self/mountinfo": V1_MOUNTS.format(root="/"),
            "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "9223372036854771712\n",
        },
    )
    assert read(tmp_path) == (8000, 64 * GIB, "affinity", "physical")


def test_both_versions_mounted_at_once_each_count(tmp_path: Path) -> None:
    hybrid = V1_MOUNTS.format(root="/") + (
        "41 31 0:38 / /sys/fs/cgroup/with\\040space rw - cgroup2 cgroup2 rw\n"
    )
    write_tree(
        tmp_path,
        {
            "proc/self/cgroup": "5:memory:/a\n0::/b\n",
            "proc/self/mountinfo": hybrid,
            "sys/fs/cgroup/memory/a/memory.limit_in_bytes": f"{3 * GIB}\n",
            "sys/fs/cgroup/with space/b/cpu.max": "300000 100000\n",
        },
    )
    assert read(tmp_path)[:2] == (3000, 3 * GIB)


def test_unreadable_nonsense_is_no_limit(tmp_path: Path) -> None:
    write_tree(
        tmp_path,
        {
            "proc/self/cgroup": "0::/\nbroken\n",
            "proc/self/mountinfo": "nonsense\n" + V2_MOUNT.format(root="/"),
            "sys/fs/cgroup/cpu.max": "what\n",
            "sys/fs/cgroup/memory.max": "max\n",
        },
    )
    assert read(tmp_path)[:2] == (8000, 64 * GIB)


def test_this_machine_has_something() -> None:
    machine = read_machine()
    assert machine.cpu_millis > 0
    assert machine.memory_bytes > 0


@pytest.mark.parametrize(
    ("memory", "reserve"),
    [(64 * GIB, 64 * GIB // 10), (4 * GIB, GIB), (GIB, GIB // 2), (100, 50)],
)
def test_reserve_is_a_tenth_at_least_a_gib_at_most_half(memory: int, reserve: int) -> None:
    assert default_reserve_bytes(memory) == reserve
