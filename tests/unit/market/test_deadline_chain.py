"""A chain with a deadline: what comes first leaves the rest its time."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sellers import Seller, market_of, run, step

from cu_market.domain.problem import InvalidInputError
from cu_market.market.auction import Cleared

SLOW = {"performance_millis": 500}


def cleared(hours: float) -> Cleared:
    """The auction of two steps of an hour, one after the other; on the cheap CU of two hours."""
    market = market_of(Seller("slow", 0.5, bid_fields=SLOW), Seller("quick", 2.0))
    chain = (step("a"), replace(step("b"), depends_on=("a",)))
    tags = {"deadline_seconds": f"{3600 * hours:g}", "value_of_time_usd_per_hour": "0"}
    return market.clear(run(*chain, **tags), place="launcher")


@pytest.mark.parametrize(
    ("hours", "winners"),
    [(4, ("slow", "slow")), (3, ("slow", "quick")), (2.5, ("quick", "quick")), (2, ("quick",) * 2)],
)
def test_the_first_step_takes_no_time_that_the_last_one_needs(
    hours: float, winners: tuple[str, str]
) -> None:
    first, last = cleared(hours).plan.awards
    assert (first.provider, last.provider) == winners
    assert last.start_ms + last.expected_ms <= 3_600_000 * hours


def test_what_is_too_late_at_its_quickest_says_so() -> None:
    with pytest.raises(InvalidInputError, match="quick/cu: asks the end by 6840 s, ends at 7200 s"):
        cleared(1.9)
