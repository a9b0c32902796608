from __future__ import annotations

import os
import socket
from dataclasses import replace

import psutil
import pytest

from cu_market.ral.local.process import (
    ProcessIdentity,
    current_holder,
    holder_of,
    is_alive,
    kill_tree,
    parse_holder,
    run_processes,
    worker_processes,
)
from cu_market.ral.provider import HolderStatus


def identity() -> ProcessIdentity:
    found = parse_holder(current_holder())
    assert found is not None
    return found


def test_a_holder_is_host_pid_and_start() -> None:
    host, pid, start = current_holder().split("/")
    assert (host, pid) == (socket.gethostname(), str(os.getpid()))
    assert start


def test_the_same_process_has_the_same_holder_every_time() -> None:
    assert current_holder() == holder_of(os.getpid()) == current_holder()
    assert is_alive(current_holder()) is HolderStatus.RUNNING


def test_a_token_survives_taking_apart_and_putting_together() -> None:
    holder = holder_of(os.getpid(), "abc")
    found = parse_holder(holder)
    assert found == replace(identity(), token="abc")
    assert str(found) == holder
    assert is_alive(holder) is HolderStatus.RUNNING


@pytest.mark.parametrize("holder", ["", "host", "host/1", "host/x/1", "/1/1", "host/1/", "a/-1/1"])
def test_what_names_no_process_is_unknown_and_left_alone(holder: str) -> None:
    assert parse_holder(holder) is None
    assert is_alive(holder) is HolderStatus.UNKNOWN
    assert kill_tree(holder) is False


def test_a_reused_pid_has_ended() -> None:
    assert is_alive(str(replace(identity(), started="1"))) is HolderStatus.ENDED


def test_another_hosts_process_is_unknown() -> None:
    assert is_alive(str(replace(identity(), host="elsewhere"))) is HolderStatus.UNKNOWN


def test_a_holder_without_place_is_unknown() -> None:
    # Only a system without boot ids and namespaces writes one; here it cannot be compared.
    assert is_alive(str(replace(identity(), place=""))) is HolderStatus.UNKNOWN


@pytest.mark.skipif(not identity().place, reason="no boot id on this system")
def test_another_namespace_is_unknown_and_another_boot_has_ended() -> None:
    boot, _, namespace = identity().place.partition(".")
    elsewhere = str(replace(identity(), place=f"{boot}.1"))
    before = str(replace(identity(), place=f"00000000.{namespace}"))
    assert is_alive(elsewhere) is HolderStatus.UNKNOWN
    assert is_alive(before) is HolderStatus.ENDED


def test_no_process_no_holder() -> None:
    free = max(psutil.pids()) + 1_000_000_000
    with pytest.raises(ProcessLookupError):
        holder_of(free)


def test_nobody_carries_an_unknown_or_empty_run_id() -> None:
    assert run_processes("no such run") == []
    assert run_processes("") == []


def test_the_caller_is_never_among_what_is_ended() -> None:
    assert os.getpid() not in [process.pid for process in worker_processes(current_holder())]
