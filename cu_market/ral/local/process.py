"""Processes named so that a restart, a reused pid or another host cannot be mistaken for them.

A holder is ``host/pid/start``. On Linux, start is ``boot.namespace.ticks``: the boot, the pid
namespace and the clock ticks from boot to the process's start. Wall-clock start times, which
psutil gives, move when the clock is set; ticks do not. A launched worker's start ends in
``+token``: every process it starts inherits the token in its environment, by which orphans are
found after the worker itself has died.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil

from cu_market.ral.provider import HolderStatus

RUN_ID_VARIABLE = "CU_MARKET_RUN_ID"
WORKER_VARIABLE = "CU_MARKET_WORKER_TOKEN"
CHANNEL_VARIABLE = "CU_MARKET_CHANNEL_FD"

_KILL_SECONDS = 5.0
_POLL_SECONDS = 0.005

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessIdentity:
    """A holder, taken apart.

    Attributes:
        host: hostname.
        pid: process id on that host.
        place: boot and pid namespace, empty where the system has neither.
        started: ticks since boot, or seconds since the epoch where there are no ticks.
        token: what its descendants carry in WORKER_VARIABLE, or empty.
    """

    host: str
    pid: int
    place: str
    started: str
    token: str = ""

    def __str__(self) -> str:
        start = f"{self.place}.{self.started}" if self.place else self.started
        return f"{self.host}/{self.pid}/{start}" + (f"+{self.token}" if self.token else "")


def current_holder() -> str:
    """Returns the holder that names this process."""
    return holder_of(os.getpid())


def holder_of(pid: int, token: str = "") -> str:
    """Returns the holder that names a process of this host.

    Raises:
        ProcessLookupError: there is no such process.
    """
    started = _started(pid)
    if started is None:
        raise ProcessLookupError(f"no process {pid} on this host")
    return str(
        ProcessIdentity(
            host=socket.gethostname(), pid=pid, place=_place(), started=started, token=token
        )
    )


def parse_holder(holder: str) -> ProcessIdentity | None:
    """Returns the holder taken apart, or None if it names no process."""
    host, _, rest = holder.rpartition("/")
    host, _, pid = host.rpartition("/")
    start, _, token = rest.partition("+")
    place, _, started = start.rpartition(".") if start.count(".") > 1 else ("", "", start)
    if not host or not pid.isdigit() or not started:
        return None
    return ProcessIdentity(host=host, pid=int(pid), place=place, started=started, token=token)


def is_alive(holder: str) -> HolderStatus:
    """Returns whether that very process still runs; UNKNOWN where this process cannot see.

    A zombie has ended. After a reboot everything from before has ended. Another host's process,
    or another container's under the same hostname, is UNKNOWN.
    """
    identity = parse_holder(holder)
    if identity is None or identity.host != socket.gethostname():
        return HolderStatus.UNKNOWN
    if identity.place != _place():
        rebooted = identity.place.partition(".")[0] != _place().partition(".")[0]
        return HolderStatus.ENDED if rebooted and identity.place else HolderStatus.UNKNOWN
    if _started(identity.pid) != identity.started:
        return HolderStatus.ENDED
    try:
        is_running = _runs(psutil.Process(identity.pid))
    except psutil.NoSuchProcess:
        return HolderStatus.ENDED
    return HolderStatus.RUNNING if is_running else HolderStatus.ENDED


def run_processes(run_id: str) -> list[psutil.Process]:
    """Returns this user's processes that a run's workers started, the workers included.

    Descendants are among them whatever their environment; the caller itself never is.
    """
    return _family({}, RUN_ID_VARIABLE, run_id)


def worker_processes(holder: str) -> list[psutil.Process]:
    """Returns what is left of a worker: itself, its descendants, its orphans. Empty if unknown."""
    identity = parse_holder(holder)
    status = is_alive(holder)
    if identity is None or status is HolderStatus.UNKNOWN:
        return []
    roots = {}
    if status is HolderStatus.RUNNING:
        try:
            roots[identity.pid] = psutil.Process(identity.pid)
        except psutil.NoSuchProcess:
            _log.debug("worker ended while it was looked at", extra={"action": "look"})
    return _family(roots, WORKER_VARIABLE, identity.token)


def kill_tree(holder: str) -> bool:
    """Kills a worker and all it started, in whatever session; returns whether anything was left.

    Returns once they are gone. What the kernel does not let go of within 5 s (a process in an
    uninterruptible wait) is logged; it dies when it wakes.
    """
    return _kill_until_gone(lambda: worker_processes(holder), holder)


def kill_run(run_id: str) -> bool:
    """Kills every process of a run's workers, as kill_tree does."""
    return _kill_until_gone(lambda: run_processes(run_id), run_id)


def _kill_until_gone(look: Callable[[], list[psutil.Process]], name: str) -> bool:
    """Kills what look returns, again and again until it returns nothing: trees grow meanwhile."""
    deadline = time.monotonic() + _KILL_SECONDS
    was_left = False
    while left := look():
        was_left = True
        for process in left:
            try:
                process.kill()  # psutil compares the start time first: a reused pid is spared
            except psutil.NoSuchProcess:
                continue
            except psutil.AccessDenied:
                _log.warning("may not kill process", extra={"action": "kill", "pid": process.pid})
        if time.monotonic() > deadline:
            pids = [process.pid for process in left]
            _log.warning(
                "processes outlive SIGKILL", extra={"action": "kill", "of": name, "pids": pids}
            )
            break
        # Not wait(): reaping a child here would take its exit code from whoever started it.
        time.sleep(_POLL_SECONDS)
    return was_left


def _family(roots: dict[int, psutil.Process], variable: str, value: str) -> list[psutil.Process]:
    """Returns the roots, processes whose environment says variable=value, and all descendants.

    Parents come before their children, so that what forks is killed first. Zombies are left out.
    """
    children: dict[int, list[psutil.Process]] = defaultdict(list)
    for pid in psutil.pids():
        try:
            process = psutil.Process(pid)
            children[process.ppid()].append(process)
            if value and _is_marked(process, variable, value):
                roots.setdefault(pid, process)
        except psutil.Error:
            continue  # ended while it was looked at, or another user's: not of this family
    family: dict[int, psutil.Process] = {}
    frontier = list(roots.values())
    while frontier:
        process = frontier.pop(0)
        if process.pid not in family and process.pid != os.getpid():
            family[process.pid] = process
            frontier.extend(children[process.pid])
    return [process for process in family.values() if _runs(process)]


def _is_marked(process: psutil.Process, variable: str, value: str) -> bool:
    """Whether it is this user's and was started with variable=value in its environment."""
    return process.uids().real == os.getuid() and process.environ().get(variable) == value


def _runs(process: psutil.Process) -> bool:
    """Whether it has not ended; a zombie has."""
    try:
        return process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False


def _started(pid: int) -> str | None:
    """Returns when a process started, as the holder writes it, or None if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return None
    except ProcessLookupError:
        return None
    else:
        # The second field, the command's name, may hold spaces and brackets: count behind it.
        return stat.rpartition(")")[2].split()[19]
    try:
        return str(psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return None


@cache
def _boot() -> str:
    """Returns eight characters that change with every boot, empty where there is no such id."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")[:8]
    except OSError:
        return ""


def _place() -> str:
    """Returns ``boot.namespace`` of this process, empty where the system has neither.

    Containers may share a hostname (host networking) but not the pids in it: a pid is only
    compared within one pid namespace. Read anew each time, since a fork may enter another.
    """
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""
    return f"{_boot()}.{namespace.strip('pid:[]')}"
