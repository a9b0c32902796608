"""Gives a CU up over a time in which nothing runs where starting another is no dearer."""

from __future__ import annotations

from cu_market.dnm.schedule.bundle import Bundle, Catalogue, make, peak_of
from cu_market.dnm.schedule.packing import Packing


def split_idle(packing: Packing) -> None:
    """Gives up a CU over a time in which nothing runs where starting another is no dearer."""
    for key in list(packing.bundles):
        old = packing.bundles[key]
        end = _worthless_gap(packing.catalogue, old)
        if end is None:
            continue
        left = make(packing.catalogue, [s for s in old.stays if s.start_ms < end], old.mask)
        right = make(packing.catalogue, [s for s in old.stays if s.start_ms >= end], old.mask)
        assert left is not None  # what held more holds less
        assert right is not None
        packing.set(key, left)
        packing.set(-1, right)  # what is left of it is looked at in a later round


def _worthless_gap(catalogue: Catalogue, bundle: Bundle) -> int | None:
    """Returns where the first time without a task begins over which to give the CU up."""
    times, used = bundle.times, bundle.used
    for k in range(len(times) - 1):
        if used[k] == (0, 0, 0):
            before = catalogue.cheapest(peak_of(used[:k]), bundle.mask, times[k] - times[0])
            after = catalogue.cheapest(
                peak_of(used[k + 1 :]), bundle.mask, times[-1] - times[k + 1]
            )
            if before and after and before[0] + after[0] <= bundle.cost:
                return times[k]
    return None
