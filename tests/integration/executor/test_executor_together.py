"""Two real runs in a pool that is too small: the urgent one goes first, nothing runs twice."""

from __future__ import annotations

from pathlib import Path

import pytest
from execution_record import Bench
from running import Running, wait_until
from unhurried import UNHURRIED

from cu_market.domain.allocation import AllocationState

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(1800),
    pytest.mark.filterwarnings("ignore:The `__fields__` attribute is deprecated"),
]

PRICES = {"core_usd_per_hour": 36, "gb_usd_per_hour": 0}


def provider(*names: str, cores: float = 1) -> dict[str, object]:
    """Returns a machine of so many cores under each of these names, the last the dearest."""
    return {
        name: {
            "kind": "local",
            "cores": cores,
            "memory": "512MiB",
            "tariffs": [{"name": "only", **PRICES, "core_usd_per_hour": 36 * (k + 1)}],
        }
        for k, name in enumerate(names)
    }


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    """Where the steps leave what they did."""
    folder = tmp_path / "marks"
    folder.mkdir()
    return folder


class Pair:
    """A patient run whose first step holds the only core, and an urgent one that comes later.

    Args:
        bench: where they run.
        marks: what they did.
        said: the market's settings.
        tags: of the urgent run.
    """

    def __init__(self, bench: Bench, marks: Path, said: dict[str, object], **tags: str) -> None:
        self.bench = bench
        self._marks = marks
        self._workers: list[Running] = []
        try:
            self._workers.append(Running("patient", marks, said))
            wait_until((marks / "begun").exists)
            (first,) = bench.instance.get_runs()
            self.patient = first.run_id
            self._workers.append(Running("urgent", marks, said, **tags))
            self.until_awarded()
        except BaseException:
            self.kill()
            raise

    def until_awarded(self) -> None:
        """Returns once the urgent run has its award."""
        wait_until(lambda: len(self.bench.instance.get_runs()) == 2)
        (self.urgent,) = {run.run_id for run in self.bench.instance.get_runs()} - {self.patient}
        wait_until(lambda: bool(self.bench.allocations(self.urgent)))

    def told(self) -> list[str]:
        """Returns what the patient run's page says of runs cleared together."""
        said = self.bench.engine_messages(self.patient)
        return [message for message in said if message.startswith("Cleared together")]

    def end(self) -> None:
        """Lets the first step end, and both runs."""
        (self._marks / "go").touch()
        assert [worker.end() for worker in self._workers] == [self.patient, self.urgent]
        for run_id in (self.patient, self.urgent):
            assert self.bench.record(run_id).status == "SUCCESS"
        found = [mark for mark in self._marks.iterdir() if "." in mark.name]
        assert len(found) == 3
        assert all(mark.read_text() == "ran\n" for mark in found)  # nothing ran twice

    def kill(self) -> None:
        """Ends what still runs."""
        for worker in self._workers:
            worker.kill()


def test_an_urgent_run_goes_before_a_step_that_waits(bench: Bench, marks: Path) -> None:
    said = {**UNHURRIED, "providers": provider("small")}
    pair = Pair(bench, marks, said, deadline_seconds="1800")
    try:
        wait_until(lambda: bool(pair.told()))  # its own run worker has written it
        pair.end()
    finally:
        pair.kill()
    (sentence,) = pair.told()
    assert f"Cleared together with run {pair.urgent} (urgent): long_one stays" in sentence
    assert "later, after quick_one. Why: all together then cost" in sentence
    patient = {(row.step_key, row.attempt): row for row in bench.allocations(pair.patient)}
    assert patient["long_one", 1].state is AllocationState.RELEASED
    assert not patient["long_one", 1].fencing_token  # the award that was moved was never leased
    long_one = patient["long_one", 2]
    (quick_one,) = bench.allocations(pair.urgent)
    assert {long_one.state, quick_one.state} == {AllocationState.SETTLED}
    assert quick_one.fencing_token < long_one.fencing_token


def test_an_urgent_run_sends_a_step_that_waits_elsewhere(bench: Bench, marks: Path) -> None:
    # Five seconds of waiting for the cheap core are dearer to the patient run than the dear one.
    said = {
        **UNHURRIED,
        "providers": provider("small", "other"),
        "value_of_time_usd_per_hour": 1_000_000,
    }
    pair = Pair(bench, marks, said, deadline_seconds="1800", max_price_usd_per_hour="40")
    try:
        wait_until(lambda: bool(pair.told()))
        pair.end()
    finally:
        pair.kill()
    (sentence,) = pair.told()
    assert "long_one moves from small/only to other/only at $72.000000 an hour" in sentence
    rows = {row.step_key: row for row in bench.allocations(pair.patient) if row.fencing_token}
    (quick_one,) = bench.allocations(pair.urgent)
    assert quick_one.resource_id == "small/only"
    places = {step: row.resource_id for step, row in rows.items()}
    assert places == {"before": "small/only", "long_one": "other/only"}
    assert {row.state for row in (*rows.values(), quick_one)} == {AllocationState.SETTLED}
