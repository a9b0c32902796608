from __future__ import annotations

from cu_market.deo.worker.samples import FIRST_MS, KEPT, PARCEL_MS, Samples

LIMIT = 1000


def test_nothing_is_told_of_short_steps_and_of_those_far_from_their_limit() -> None:
    samples = Samples()
    samples.add(FIRST_MS - 50, LIMIT)
    assert samples.take(LIMIT) == []
    far = Samples()
    far.add(10 * FIRST_MS, LIMIT // 2 - 1)
    assert far.take(LIMIT) == []


def test_parcels_hold_every_sample_once_in_order_from_the_first() -> None:
    samples, told, parcels = Samples(), [], 0
    every = [(ms, ms // 10) for ms in range(0, 10_000, 50)]
    for sample in every:
        samples.add(*sample)
        parcel = samples.take(LIMIT)
        parcels += bool(parcel)
        told += parcel
    assert told == every[: len(told)]
    assert told[-1][0] > 9_000
    assert parcels <= 10_000 // PARCEL_MS


def test_what_waits_is_bounded_and_its_newest_half_is_whole() -> None:
    samples = Samples()
    for place in range(5_000):
        samples.add(50 * place, 1)
    samples.add(250_000, LIMIT)
    told = samples.take(LIMIT)
    assert len(told) <= KEPT
    assert told[0] == (0, 1)
    newest = [ms for ms, _ in told[-KEPT // 4 :]]
    assert newest == list(range(newest[0], 250_001, 50))
