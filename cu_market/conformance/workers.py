"""Workers on a provider's CUs: started, observed, talked to, ended, found again after a crash."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from cu_market.conformance.tested import ProviderUnderTest
from cu_market.conformance.told_worker import (
    is_gone,
    own_place,
    receive_line,
    tell,
    until,
    wait_readable,
)
from cu_market.domain.units import MIB
from cu_market.ral.provider import HolderStatus, Provider, Worker

STRANGERS = ("elsewhere/1/1", "nonsense", "", "a/b/c/d", "pod:nobody/nowhere/nothing")
"""Holders that no provider has given."""

# A run worker in small: starts a worker, tells who it is, and waits to be killed.
_STARTER = """
import json, signal, sys
from cu_market.conformance.suite import ProviderConformance
from cu_market.conformance.tested import Configured
from cu_market.conformance.told_worker import tell
said = json.loads(sys.argv[1])
tested = ProviderConformance()
tested.configured = Configured(
    name=said["name"], options=said["options"], ledger=said["ledger"]
)
provider = tested.load()
worker = provider.start(tested.launch_on(provider, starter=said["starter"], run_id=said["run_id"]))
tell(worker, "say hello")
print(worker.holder, flush=True)
signal.pause()
"""


class WorkersConformance(ProviderUnderTest):
    """See the module's docstring."""

    @pytest.fixture
    def starter(self) -> str:
        """Names this process as the starter of workers, as a run worker's holder names it."""
        return f"conformance/{os.getpid()}/{uuid.uuid4().hex}"

    @pytest.fixture
    def workers(self, starting: Provider) -> Iterator[list[Worker]]:
        """Workers that a test has started; ended after it."""
        started: list[Worker] = []
        yield started
        for worker in started:
            worker.close()
            starting.stop(worker.holder)
            worker.exit_code()

    @pytest.fixture
    def worker(self, starting: Provider, workers: list[Worker], starter: str) -> Worker:
        """A worker that answers."""
        workers.append(starting.start(self.launch_on(starting, starter=starter)))
        return workers[0]

    @staticmethod
    def is_here(worker: Worker) -> bool:
        """Whether the worker's processes can be seen from this one."""
        return tell(worker, "place") == own_place()

    # -- started and talked to

    def test_a_worker_hears_and_answers(self, starting: Provider, worker: Worker) -> None:
        """Over its channel, as bytes, in order."""
        assert tell(worker, "say hello") == "hello"
        assert tell(worker, "say " + "x" * 1000) == "x" * 1000
        assert worker.exit_code() is None
        assert starting.check(worker.holder) is HolderStatus.RUNNING

    def test_a_worker_has_the_launchs_environment(
        self, starting: Provider, workers: list[Worker], starter: str
    ) -> None:
        """In its own process, with nothing lost on the way."""
        said = {"CU_MARKET_SAID": "so; 'and' $HOME \"twice\""}
        workers.append(starting.start(self.launch_on(starting, starter=starter, environment=said)))
        assert tell(workers[0], "variable CU_MARKET_SAID") == said["CU_MARKET_SAID"]

    def test_a_launch_says_where_and_where_to_log(
        self, starting: Provider, workers: list[Worker], starter: str, tmp_path: Path
    ) -> None:
        """On this host it is obeyed; elsewhere this host's directory and file mean nothing."""
        workers.append(starting.start(self.launch_on(starting, starter=starter)))
        there = "/no-such-place"
        wrong = [
            self.launch_on(starting, starter=starter, working_directory=there),
            self.launch_on(starting, starter=starter, log_path=f"{there}/log"),
        ]
        if not self.is_here(workers[0]):
            for launch in wrong:
                workers.append(starting.start(launch))
                assert tell(workers[-1], "where") not in ("", there)
            return
        log = tmp_path / "log"
        launch = self.launch_on(
            starting, starter=starter, working_directory=str(tmp_path), log_path=str(log)
        )
        workers.append(starting.start(launch))
        assert tell(workers[-1], "where") == str(tmp_path)
        assert tell(workers[-1], "print to the log") == "printed"
        assert log.read_text() == "to the log\n"
        for launch in wrong:
            with pytest.raises(OSError, match="no-such-place"):
                starting.start(launch)

    def test_megabytes_both_ways_do_not_lock_up(self, worker: Worker) -> None:
        """Both ends' pipes are full at some time."""
        data = os.urandom(4 * MIB)
        worker.send(f"copy {len(data)}\n".encode() + data)
        back = b""
        while len(back) < len(data):
            wait_readable(worker)
            back += worker.receive()
        assert back == data
        assert tell(worker, "say still here") == "still here"

    # -- ended

    def test_closing_the_channel_reaches_the_worker(
        self, starting: Provider, worker: Worker
    ) -> None:
        """It then ends itself, and what is left of it is found by its holder."""
        is_here = self.is_here(worker)
        pid = int(tell(worker, "child"))
        worker.close()
        until(lambda: starting.check(worker.holder) is not HolderStatus.RUNNING, "its end")
        if starting.capabilities.reap and is_here:
            assert list(starting.reap([worker.holder])) == [worker.holder]
            assert is_gone(pid)

    def test_a_worker_that_ends_by_itself(self, starting: Provider, worker: Worker) -> None:
        """Its end is seen, its exit code told, and its channel says so."""
        tell(worker, "say hello")
        worker.send(b"exit 7\n")
        until(lambda: starting.check(worker.holder) is HolderStatus.ENDED, "its end")
        wait_readable(worker)
        assert worker.receive() == b""
        until(lambda: worker.exit_code() is not None, "its exit code")
        assert worker.exit_code() == 7
        with pytest.raises(OSError):  # noqa: PT011 - which one is the system's choice
            worker.send(b"say anything\n")

    def test_stop_ends_it_and_all_it_started_at_once(
        self, starting: Provider, worker: Worker
    ) -> None:
        """Children, those in sessions of their own, and orphans; again, it does nothing."""
        is_here = self.is_here(worker)
        pids = [int(tell(worker, how)) for how in ("child", "session", "orphan")]
        starting.stop(worker.holder)
        until(lambda: starting.check(worker.holder) is HolderStatus.ENDED, "its end")
        until(lambda: worker.exit_code() is not None, "its exit code")
        assert worker.exit_code() != 0
        if is_here:
            assert all(is_gone(pid) for pid in pids)
        starting.stop(worker.holder)

    def test_stop_spares_another_worker_of_the_same_run(
        self, starting: Provider, workers: list[Worker], starter: str
    ) -> None:
        """Holders tell workers apart."""
        for attempt in (1, 2):
            launch = self.launch_on(starting, starter=starter)
            workers.append(starting.start(launch))
            tell(workers[-1], f"say {attempt}")
        first, second = workers
        assert first.holder != second.holder
        tell(first, "orphan")
        orphan = int(tell(second, "orphan"))
        is_here = self.is_here(second)
        starting.stop(first.holder)
        assert tell(second, "say spared") == "spared"
        assert not (is_here and is_gone(orphan))

    # -- found again

    def test_what_a_killed_starter_left_is_reaped(self, starting: Provider, starter: str) -> None:
        """Whether the worker noticed or not: afterwards nothing of it is left, once."""
        if not starting.capabilities.reap:
            pytest.skip("declares no reap")
        said = {
            "name": self.configured.name,
            "options": dict(self.configured.options),
            "ledger": self.configured.ledger,
            "starter": starter,
            "run_id": str(uuid.uuid4()),
        }
        with subprocess.Popen(
            [sys.executable, "-c", _STARTER, json.dumps(said)], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            holder = process.stdout.readline().strip()
            process.send_signal(signal.SIGKILL)
        assert holder, "the starter has failed, see above"
        starting.reap([holder])
        until(lambda: starting.check(holder) is HolderStatus.ENDED, "the end of what was left")
        assert list(starting.reap([holder])) == []

    def test_reap_names_those_of_which_something_was_left(
        self, starting: Provider, workers: list[Worker], starter: str
    ) -> None:
        """And no others."""
        if not starting.capabilities.reap:
            pytest.skip("declares no reap")
        workers.append(starting.start(self.launch_on(starting, starter=starter)))
        tell(workers[0], "say hello")
        holder = workers[0].holder
        assert list(starting.reap([*STRANGERS, holder])) == [holder]
        until(lambda: starting.check(holder) is HolderStatus.ENDED, "its end")
        assert list(starting.reap([*STRANGERS, holder])) == []

    def test_holders_of_others_are_unknown_and_left_alone(self, starting: Provider) -> None:
        """A ledger holds those of every provider, also of ones that are configured no more."""
        for holder in STRANGERS:
            assert starting.check(holder) is not HolderStatus.RUNNING
            starting.stop(holder)
        if starting.capabilities.reap:
            assert list(starting.reap(STRANGERS)) == []

    def test_a_held_up_reader_gets_all_that_was_sent(self, worker: Worker) -> None:
        """Whatever had been sent before the worker ended arrives before the end does."""
        worker.send(b"say one\nsay two\nexit 0\n")
        assert receive_line(worker).split() in (["one"], ["one", "two"])
        rest = b""
        while True:
            wait_readable(worker)
            part = worker.receive()
            if not part:
                break
            rest += part
        assert rest in (b"", b"two\n")
