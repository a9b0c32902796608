"""A resumed run's state machine stands where the event log is, wherever that was cut."""

from collections.abc import Sequence

import dagster as dg
import pytest
from dagster import DagsterEvent, DagsterEventType
from dagster._core.execution.api import create_execution_plan
from dagster._core.execution.retries import RetryMode

from cu_market.dagster_compat.gate import GatedExecution

STARTS = {DagsterEventType.STEP_START, DagsterEventType.STEP_RESTARTED}
ENDS = {
    DagsterEventType.STEP_SUCCESS,
    DagsterEventType.STEP_FAILURE,
    DagsterEventType.STEP_UP_FOR_RETRY,
    DagsterEventType.STEP_SKIPPED,
}


@dg.op(out=dg.DynamicOut(int))
def spread():
    for number in range(3):
        yield dg.DynamicOutput(number, mapping_key=str(number))


@dg.op
def work(number: int) -> int:
    return number


@dg.op
def gather(numbers: list[int]) -> int:
    return sum(numbers)


@dg.op(out=dg.Out(int, is_required=False))
def nothing():
    yield from ()


@dg.op
def skipped(number: int) -> int:
    return number


@dg.op(retry_policy=dg.RetryPolicy(max_retries=1))
def moody(context: dg.OpExecutionContext) -> int:
    if context.retry_number == 0:
        raise ValueError("not today")
    return 1


@dg.op
def failing() -> int:
    raise ValueError("never")


@dg.op
def abandoned(number: int) -> int:
    return number


@dg.job
def every_job() -> None:
    gather(spread().map(work).collect())
    skipped(nothing())
    moody()
    abandoned(failing())


@pytest.fixture(scope="module")
def events() -> Sequence[DagsterEvent]:
    """What a run of the job has told, in order."""
    with dg.DagsterInstance.ephemeral() as instance:
        result = every_job.execute_in_process(instance=instance, raise_on_error=False)
        logs = instance.all_logs(result.run_id)
    return [entry.dagster_event for entry in logs if entry.dagster_event is not None]


def replayed(events: Sequence[DagsterEvent]) -> tuple[GatedExecution, set[str]]:
    # One step at once: more than that are found in flight, as the market starts what has room.
    active = GatedExecution(
        create_execution_plan(every_job), retry_mode=RetryMode.ENABLED, max_concurrent=1
    )
    return active, {step.key for step in active.replay(events)}


def test_what_began_and_did_not_end_is_in_flight_after_every_event(
    events: Sequence[DagsterEvent],
) -> None:
    for cut in range(len(events) + 1):
        wanted: set[str] = set()
        for event in events[:cut]:
            if event.event_type in STARTS:
                wanted.add(event.step_key or "")
            elif event.event_type in ENDS:
                wanted.discard(event.step_key or "")
        _, in_flight = replayed(events[:cut])
        assert in_flight == wanted


def test_after_all_of_it_nothing_is_left_but_to_tell_of_abandoned_steps(
    events: Sequence[DagsterEvent],
) -> None:
    active, in_flight = replayed(events)
    assert in_flight == set()
    assert list(active.executable_keys()) == []
    assert active.get_known_state().dynamic_mappings == {"spread": {"result": ["0", "1", "2"]}}
    assert {step.key for step in active.get_steps_to_abandon()} == {"abandoned"}
    assert active.get_steps_to_skip() == []


def test_a_step_that_was_let_go_ahead_out_of_order_is_in_flight(
    events: Sequence[DagsterEvent],
) -> None:
    # Dagster's own order would have let another one go first, and fail for this one's success.
    order = [e for e in events if e.step_key == "moody"]
    _, in_flight = replayed(order[:1])
    assert in_flight == {"moody"}
    active, in_flight = replayed(order)
    assert in_flight == set()
    assert "spread" in active.executable_keys()
