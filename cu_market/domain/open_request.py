"""What a run still asks of the market: kept beside its award, for the auctions of other runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from cu_market.domain.inputs import InputData, Place
from cu_market.domain.request import Kept, Quantiles, ResourceRequest, Sizing, StepIdentity
from cu_market.domain.resources import ResourceVector
from cu_market.domain.scaling import Scaling


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenRequest:
    """One step's request as its auction knew it.

    Attributes:
        run_id, step_key: whose.
        account: who pays.
        job_name: of the run, for those who read of it.
        moves: how often its award was moved of free will.
        budget_microusd: of its run, as its last auction knew it, or None.
        request: its times count from its timestamp.
    """

    run_id: str
    step_key: str
    account: str
    job_name: str
    moves: int = 0
    budget_microusd: int | None = None
    request: ResourceRequest


def request_record(request: ResourceRequest) -> dict[str, Any]:
    """Returns a request as a JSON-ready record; request_from reads it."""
    record = asdict(request)
    return {
        **record,
        "timestamp": request.timestamp.isoformat(),
        "sizing": str(request.sizing),
        "labels": [list(label) for label in request.labels],
    }


def request_from(record: Mapping[str, Any]) -> ResourceRequest:
    """Returns the request of a record; what one of an earlier version does not say is as if it was
    left out."""
    parts = {
        "needs": ResourceVector,
        "identity": StepIdentity,
        "duration_quantiles_ms": Quantiles,
        "memory_quantiles": Quantiles,
        "scaling": Scaling,
    }
    values = dict(record)
    for name, kind in parts.items():
        values[name] = None if values[name] is None else kind(**values[name])
    if values.get("kept") is not None:
        values["kept"] = Kept(location=values["kept"]["location"], by=tuple(values["kept"]["by"]))
    values["timestamp"] = datetime.fromisoformat(values["timestamp"])
    values["sizing"] = Sizing(values["sizing"])
    for name in ("depends_on", "providers", "locations"):
        values[name] = tuple(values[name])
    values["inputs"] = tuple(_input(data) for data in record["inputs"])
    values["labels"] = tuple((name, value) for name, value in values["labels"])
    return ResourceRequest(**values)


def _input(record: Mapping[str, Any]) -> InputData:
    place = record["place"]
    return InputData(
        source=record["source"],
        size_bytes=record["size_bytes"],
        place=None if place is None else Place(**place),
    )
