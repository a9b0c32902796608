"""Usage as a table and back: what the assets hand to one another."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from cu_market.domain.features import StepFeatures
from cu_market.domain.request import StepIdentity
from cu_market.domain.usage import Ending, Measurement, Usage

if TYPE_CHECKING:
    import pandas as pd

MEASURED = (
    "wall_ms",
    "cpu_ms",
    "peak_memory_bytes",
    "baseline_bytes",
    "read_bytes",
    "written_bytes",
    "waited_ms",
    "gpu_peak_bytes",
    "gpu_busy_millis",
    "gpu_scope",
)
PLAIN = (
    "run_id",
    "step_key",
    "attempt",
    "code_version",
    "job_name",
    "provider",
    "resource_id",
    "started_at",
    "ended_at",
    "cpu_millis",
    "memory_bytes",
    "input_bytes",
    "declared_bytes",
    "external",
)
OPTIONAL = ("input_bytes", "declared_bytes", "waited_ms", "gpu_peak_bytes", "gpu_busy_millis")
LATER = ("gpu_peak_bytes", "gpu_busy_millis", "gpu_scope")
"""Tables that were stored by earlier versions do not have them."""

IDENTITY = ("code_location", "node", "partition")


def frame_of(usages: Iterable[Usage]) -> pd.DataFrame:
    """Returns one row an attempt, oldest first; columns as the fields are named."""
    import pandas as pd

    rows = [
        {name: getattr(usage.identity, name) for name in IDENTITY}
        | {name: getattr(usage, name) for name in PLAIN}
        | {name: getattr(usage.measurement, name) for name in MEASURED}
        | {"ending": str(usage.ending), "features": json.dumps(usage.features.to_record())}
        for usage in sorted(usages, key=lambda u: (u.ended_at, u.run_id, u.step_key, u.attempt))
    ]
    columns = [*IDENTITY, *PLAIN, *MEASURED, "ending", "features"]
    return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(OPTIONAL, "Int64"))


def usages_of(frame: pd.DataFrame) -> list[Usage]:
    """Returns the attempts of a table; the other way of frame_of."""
    import pandas as pd

    found = []
    for row in frame.to_dict("records"):
        optional = {name: None if pd.isna(row.get(name)) else int(row[name]) for name in OPTIONAL}
        plain: dict[str, Any] = {name: row.get(name) for name in PLAIN}
        moments = {n: pd.Timestamp(row[n]).to_pydatetime() for n in ("started_at", "ended_at")}
        found.append(
            Usage(
                identity=StepIdentity(**{str(name): row[name] for name in IDENTITY}),
                measurement=Measurement(
                    **{n: row[n] for n in MEASURED if n not in LATER}
                    | _only(optional, MEASURED)
                    | {"gpu_scope": None if pd.isna(row.get("gpu_scope")) else row["gpu_scope"]}
                ),
                ending=Ending(row["ending"]),
                features=StepFeatures.from_record(json.loads(row.get("features") or "{}")),
                **plain | moments | _only(optional, PLAIN),
            )
        )
    return found


def _only(values: dict[str, int | None], names: tuple[str, ...]) -> dict[str, int | None]:
    return {name: value for name, value in values.items() if name in names}
