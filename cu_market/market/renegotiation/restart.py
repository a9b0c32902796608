"""Whether a step that runs is better ended and run again elsewhere: a pure rule.

What it has done so far is lost, so all of it is weighed against what is left of it:

    stays     price of its lease x what is left,  ends after what is left
    again     all of it there: lease, egress, expected loss, and what its later end costs

It is ended where that saves SAVING_RATIO and the run still ends in time, or where the run would be
late and ends sooner (``dnm.renegotiation.worth``). Once a step.
"""

from __future__ import annotations

from dataclasses import dataclass

from cu_market.dnm.renegotiation import weigh
from cu_market.dnm.renegotiation.worth import UNASKED_MICROUSD
from cu_market.domain.allocation import Allocation
from cu_market.domain.plan import Award
from cu_market.domain.request import ResourceRequest
from cu_market.domain.units import MS_PER_HOUR, divide_half_even, format_usd

LEAST_LEFT_MS = 30_000
"""A step that is expected to end sooner is left alone: looking would cost more than it saves."""

SAVING_RATIO = 0.3
"""Of what is left of it: forecasts err by as much, and what has been done is lost for certain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restart:
    """A running step that is ended to run again elsewhere.

    Attributes:
        lease: what it holds.
        award: where it would run again.
        left_ms: what is left of it where it runs.
        stays_microusd: what that costs.
        again_microusd: what all of it costs there.
        is_saving: it saves money; else the run ends sooner.
    """

    lease: Allocation
    award: Award
    left_ms: int
    stays_microusd: int
    again_microusd: int
    is_saving: bool

    def sentence(self) -> str:
        """Returns why, in words."""
        there, lasts = self.award.resource_id, (self.award.start_ms + self.award.expected_ms) / 1000
        what = (
            f"{format_usd(self.stays_microusd)} and {self.left_ms / 1000:.1f} s are left of it on "
            f"{self.lease.resource_id}; all of it takes {format_usd(self.again_microusd)} and "
            f"{lasts:.1f} s on {there}"
        )
        return what if self.is_saving else f"the run would end late: {what}"


def restart_of(
    lease: Allocation,
    request: ResourceRequest,
    award: Award | None,
    *,
    left_ms: int,
    after_ms: int,
    latest_ms: int | None,
    spare_microusd: int | None,
) -> Restart | None:
    """Returns the restart of a step that runs, or None where it is better left alone.

    Args:
        lease: what it holds.
        request: the step as it would be auctioned now.
        award: what an auction of it would bring now, or None.
        left_ms: what is expected to be left of it where it runs.
        after_ms: what must follow it until the run's end.
        latest_ms: what is left of the run's deadline, or None.
        spare_microusd: what the run may spend beyond what it is expected to now, or None.
    """
    if award is None or award.resource_id == lease.resource_id or not request.interruptible:
        return None
    again_ms = award.start_ms + award.expected_ms
    later_ms = max(0, again_ms - left_ms)
    delay = divide_half_even(request.value_of_time_microusd_per_hour * later_ms, MS_PER_HOUR)
    again = award.money_microusd + award.loss_microusd
    stays = divide_half_even(lease.price_microusd_per_hour * left_ms, MS_PER_HOUR)
    worth = weigh(
        present_microusd=stays,
        moved_microusd=again + delay,
        stays_ms=left_ms + after_ms,
        moved_ms=again_ms + after_ms,
        latest_ms=latest_ms,
        least_microusd=UNASKED_MICROUSD,
    )
    is_in_time = latest_ms is None or again_ms + after_ms <= latest_ms
    is_saving = worth.is_saving and is_in_time and stays - again - delay > SAVING_RATIO * stays
    is_affordable = spare_microusd is None or again - stays <= spare_microusd
    if not is_affordable or not (is_saving or worth.is_sooner):
        return None
    return Restart(
        lease=lease,
        award=award,
        left_ms=left_ms,
        stays_microusd=stays,
        again_microusd=again,
        is_saving=is_saving,
    )
