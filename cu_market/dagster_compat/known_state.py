"""The part of a run's known state that one step needs, as JSON for its worker.

The whole state names every output and every mapping key of the run: at a thousand mapped steps it
would be a thousand times longer than what the step asks of it.

Private: KnownExecutionState, StepOutputHandle, StepHandle and its kin; seen in 1.13.27.
"""

from __future__ import annotations

from dagster._core.execution.plan.handle import ResolvedFromDynamicStepHandle
from dagster._core.execution.plan.state import KnownExecutionState
from dagster._core.execution.plan.step import ExecutionStep
from dagster._serdes import serialize_value


def known_state_for(step: ExecutionStep, state: KnownExecutionState) -> str:
    """Returns the step's own known state, serialised.

    Kept: its retry count, the outputs that its inputs may load, its own mapping key (all mappings
    for a step that is not mapped, which may collect them), versions and parents as they are.
    """
    wanted = {
        handle
        for step_input in step.step_inputs
        for handle in step_input.get_step_output_handle_dependencies()
    }
    attempts = state.previous_retry_attempts.get(step.key, 0)
    mappings = state.dynamic_mappings
    if isinstance(step.handle, ResolvedFromDynamicStepHandle) and len(mappings) == 1:
        mapping_key = step.handle.mapping_key
        mappings = {
            source: {
                output: None if keys is None else [key for key in (mapping_key,) if key in keys]
                for output, keys in outputs.items()
            }
            for source, outputs in mappings.items()
        }
    return serialize_value(
        KnownExecutionState(
            previous_retry_attempts={step.key: attempts} if attempts else {},
            dynamic_mappings=mappings,
            ready_outputs={handle for handle in wanted if handle in state.ready_outputs},
            step_output_versions=state.step_output_versions,
            parent_state=state.parent_state,
        )
    )
