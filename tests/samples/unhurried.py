"""Settings of a market that a busy machine does not hurry: no bid, no plan is cut off by time."""

from __future__ import annotations

UNHURRIED = {"bid_deadline_seconds": 60.0, "solve_seconds": 60.0, "second_price_seconds": 60.0}
