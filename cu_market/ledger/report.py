"""An auction's report as JSON text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from cu_market.domain.problem import InvalidInputError, Problem


def report_text(auction_id: str, report: Mapping[str, Any]) -> str:
    """Returns a report as JSON text.

    Raises:
        InvalidInputError: it holds something that JSON has no word for.
    """
    try:
        return json.dumps(report, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        problem = Problem(
            where=f"Auction {auction_id!r}.report",
            value=type(report).__name__,
            what=f"not JSON: {error}",
            remedy="use strings, finite numbers, booleans, None, lists and dicts",
        )
        raise InvalidInputError([problem]) from error
