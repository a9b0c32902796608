"""What each step's inputs measure, from the events of the run that wrote them.

Bytes are those of an output's file, or as its metadata say (output_sizes.py); rows are what its
author said of it by ``dagster/row_count``. An event that says where an output was kept does not say
of which mapped output: it is the one whose STEP_OUTPUT came before it.

Private: StepOutputData, the only event that tells a mapping key; seen in 1.13.27.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from dagster import DagsterEvent
from dagster._core.execution.plan.outputs import StepOutputData

from cu_market.dagster_compat.output_sizes import output_bytes, said_bytes
from cu_market.domain.inputs import InputData
from cu_market.domain.outline import StepOutline, template_key

ROW_COUNT = "dagster/row_count"

_Key = tuple[str, str, str]
"""Step key, output name, mapping key or empty."""


@dataclass(frozen=True, slots=True)
class _Inputs:
    bytes: int | None
    rows: int | None
    keys: int | None
    sources: dict[str, int | None]


class MeasuredOutputs:
    """What the run's outputs measure, as their events tell it."""

    def __init__(self) -> None:
        # Dictionaries for their order and their quick look-up: a thousand may be mapped.
        self._written: dict[tuple[str, str], dict[str, None]] = {}
        self._latest: dict[tuple[str, str], str] = {}
        self._templates: dict[str, dict[str, str]] = {}
        self._bytes: dict[_Key, int] = {}
        self._rows: dict[_Key, int] = {}

    def note(self, event: DagsterEvent) -> None:
        """Takes an output's size or rows from its event; other events tell nothing."""
        step_key, data = event.step_key, event.event_specific_data
        if step_key is None:
            return
        if event.is_step_up_for_retry:
            for output in [each for each in self._written if each[0] == step_key]:
                del self._written[output]  # its next attempt may write fewer
        if isinstance(data, StepOutputData):
            self._note_written(step_key, data)
        elif (found := output_bytes(event)) is not None:
            name, size = found
            self._bytes[step_key, name, self._latest.get((step_key, name), "")] = size

    def measured(self, step: StepOutline, step_key: str) -> StepOutline:
        """Returns a step with what its inputs measure, as far as they are written.

        What no IO manager has stored in a file (a dependency without a value, None) has no size.

        Args:
            step: as the plan has it; a template for all steps that are mapped.
            step_key: the step itself.
        """
        found = self._inputs(step, step_key)
        features = replace(step.features, input_rows=found.rows, upstream_keys=found.keys)
        inputs = tuple(
            InputData(source=source, size_bytes=size) for source, size in found.sources.items()
        )
        return replace(step, input_bytes=found.bytes, features=features, inputs=inputs)

    def _note_written(self, step_key: str, data: StepOutputData) -> None:
        handle = data.step_output_handle
        mapping_key = handle.mapping_key or ""
        output = (step_key, handle.output_name)
        self._written.setdefault(output, {})[mapping_key] = None
        self._latest[output] = mapping_key
        siblings = self._templates.setdefault(template_key(step_key), {})
        siblings[_mapping_key(step_key)] = step_key
        said = data.metadata.get(ROW_COUNT)
        rows = None if said is None else said.value
        key = (step_key, handle.output_name, mapping_key)
        if isinstance(rows, int) and rows >= 0:
            self._rows[key] = rows
        size = said_bytes(data.metadata)
        if size is not None:
            self._bytes[key] = size

    def _inputs(self, step: StepOutline, step_key: str) -> _Inputs:
        own = _mapping_key(step_key)
        outputs: list[_Key] = []
        gathered = 0
        sources: dict[str, int | None] = {}
        for source, name in step.sources:
            found = list(self._outputs(source, name, own))
            gathered += len(found) if _is_gathered(source, found, own) else 0
            outputs += found
            size = _total(self._bytes, found)
            before = sources.get(source)
            sources[source] = before if size is None else size + (before or 0)
        return _Inputs(
            bytes=_total(self._bytes, outputs),
            rows=_total(self._rows, outputs),
            keys=gathered or None,
            sources=sources,
        )

    def _outputs(self, source: str, name: str, own: str) -> Iterable[_Key]:
        steps: Iterable[str] = [source]
        if _mapping_key(source) == "?":
            siblings = self._templates.get(source, {})
            steps = siblings.values() if not own else [siblings[own]] if own in siblings else []
        for step_key in steps:
            written = self._written.get((step_key, name), {})
            for mapping_key in (each for each in ("", own) if each in written) if own else written:
                yield step_key, name, mapping_key


def _is_gathered(source: str, found: list[_Key], own: str) -> bool:
    """Whether a step that is not mapped itself reads outputs that are."""
    return not own and (_mapping_key(source) == "?" or any(key for _, _, key in found))


def _mapping_key(step_key: str) -> str:
    head, bracket, rest = step_key.rpartition("[")
    return rest[:-1] if bracket and head and rest.endswith("]") else ""


def _total(known: dict[_Key, int], outputs: list[_Key]) -> int | None:
    found = [known[key] for key in outputs if key in known]
    return sum(found) if found else None
