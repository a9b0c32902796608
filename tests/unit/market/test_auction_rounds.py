"""What is withdrawn between bid and commit: the rest is asked again, at most three times."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import pytest
from sellers import NOW, Seller, market_of, run, step

from cu_market.domain.profile import ResourcePool
from cu_market.domain.resources import ResourceVector
from cu_market.market.auction import Cleared, Market
from cu_market.market.unserved import MarketUnavailableError
from cu_market.ral import answers
from cu_market.ral.provider import Observant


def test_an_award_remembers_how_long_its_offer_holds() -> None:
    until = NOW + timedelta(minutes=5)
    market = market_of(Seller("brief", 0.1, bid_fields={"valid_until": until}), Seller("lasting"))
    found = market.clear(run(step("a"), step("b", provider="lasting")), place="launcher")
    assert {key: row.valid_until for key, row in found.allocations.items()} == {
        "a": until,
        "b": None,
    }


def clear(*sellers: Seller, is_wanted: Callable[[], bool] = lambda: True) -> Cleared:
    market = market_of(*sellers)
    return market.clear(run(step("a"), step("b")), place="launcher", is_wanted=is_wanted)


def won(found: Cleared) -> set[str]:
    return {allocation.resource_id for allocation in found.allocations.values()}


def rounds(found: Cleared) -> list[str]:
    return [note for note in found.auction.report["notes"] if note.startswith("round ")]


def test_a_cu_that_has_gone_is_replaced_and_told() -> None:
    found = clear(Seller("flighty", 0.1, leaves_after=1), Seller("steady", 1.0))
    assert won(found) == {"steady/cu"}
    assert rounds(found) == [
        "round 1: flighty/cu was withdrawn (no longer in its provider's pool), which had won a, b"
    ]
    assert [bid["cu_id"] for bid in found.auction.report["bids"]] == ["steady/cu"]


def test_a_dominated_bid_takes_the_place_of_the_one_that_it_was_dropped_for() -> None:
    one = Seller("flighty", 0.1, leaves_after=1)
    found = clear(one, Seller("steady", 0.2), Seller("dear", 3.0))
    assert won(found) == {"steady/cu"}


def test_an_offer_that_ended_meanwhile_is_no_longer_taken() -> None:
    moments = iter([NOW, NOW + timedelta(seconds=2), NOW + timedelta(seconds=2)])
    brief = Seller("brief", 0.1, bid_fields={"valid_until": NOW + timedelta(seconds=1)})
    market = market_of(brief, Seller("steady", 1.0))
    market.now = lambda: next(moments)
    found = market.clear(run(step("a")), place="launcher")
    assert won(found) == {"steady/cu"}
    assert "offered until 2026-01-01T00:00:01+00:00" in rounds(found)[0]


@dataclass
class Shrinking(Seller):
    """Has room for one CU less each time that it is asked."""

    def pool(self) -> ResourcePool:
        found = super().pool()
        self.quantity -= 1
        return found


def test_room_that_others_took_meanwhile_is_withdrawn() -> None:
    found = clear(Shrinking("full", 0.1, quantity=1), Seller("steady", 1.0))
    assert won(found) == {"steady/cu"}
    assert "round 1: full/cu was withdrawn" in rounds(found)[0]


@dataclass
class Wide(Seller):
    """Lists more CUs of the same kind, each with a capacity of its own."""

    others: int = 0

    def pool(self) -> ResourcePool:
        found = super().pool()
        for profile in found.profiles:
            names = [f"{self.name}/other{number}" for number in range(self.others)]
            more = [replace(profile, cu_id=name, capacity_id=name) for name in names]
            found = found.merged(
                ResourcePool(
                    profiles=tuple(more), capacities={each.cu_id: each.size for each in more}
                )
            )
        return found


def copies(monkeypatch: pytest.MonkeyPatch, others: int) -> int:
    """Returns how many records are copied in an auction in which two pools are read, and both of
    them again."""
    copied: list[object] = []
    one = answers._copy

    def counted(record: object, kind: type[ResourceVector]) -> ResourceVector:
        copied.append(record)
        return one(record, kind)

    with monkeypatch.context() as patch:
        patch.setattr(answers, "_copy", counted)
        flighty = Seller("flighty", 0.1, leaves_after=1)
        assert won(clear(flighty, Wide("wide", 1.0, others=others))) == {"wide/cu"}
    return len(copied)


def test_what_nobody_won_is_not_copied_when_pools_are_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    once_read = 2 * 200  # a CU and its capacity
    assert copies(monkeypatch, 200) - copies(monkeypatch, 0) == once_read


def test_three_rounds_and_no_more() -> None:
    flighty = [Seller(f"f{n}", 0.1 * n, leaves_after=1) for n in (1, 2)]
    found = clear(*flighty, Seller("steady", 1.0))
    assert [note[:14] for note in rounds(found)] == ["round 1: f1/cu", "round 2: f2/cu"]
    flighty.append(Seller("f3", 0.5, leaves_after=1))
    for seller in flighty:
        seller.asked = 0
    with pytest.raises(MarketUnavailableError, match="after 3 rounds: round 1: f1/cu") as raised:
        clear(*flighty, Seller("steady", 1.0))
    assert str(raised.value).endswith("see with `cu-market pool` what those providers offer")


def test_where_nobody_fills_the_gap_the_auction_may_be_held_again_later() -> None:
    said = r"round 1: .* nobody else serves a, b now; there may be room .* or add a provider"
    with pytest.raises(MarketUnavailableError, match=said):
        clear(Seller("flighty", 0.1, leaves_after=1))


def test_nobody_is_asked_again_for_a_caller_that_waits_no_longer() -> None:
    steady = Seller("steady", 1.0)
    said = "the caller waits no longer; lower the setting bid_deadline_seconds"
    with pytest.raises(MarketUnavailableError, match=said):
        clear(Seller("flighty", 0.1, leaves_after=1), steady, is_wanted=lambda: False)
    assert steady.asked == 1


@dataclass
class Silent(Seller):
    """Answers once, and never again."""

    def pool(self) -> ResourcePool:
        if self.asked:
            raise ConnectionError("no route to host")
        return super().pool()


def test_the_word_of_who_does_not_answer_again_stands() -> None:
    found = clear(Silent("silent", 0.1), Seller("steady", 1.0))
    assert won(found) == {"silent/cu"}
    assert rounds(found) == []


@dataclass
class Away(Seller):
    """Never answers; its prices follow use."""

    told: list[Mapping[str, ResourceVector]] = field(default_factory=list)

    @property
    def observed(self) -> Sequence[str]:
        return (f"{self.name}/cu",)

    def observe(self, held: Mapping[str, ResourceVector]) -> None:
        self.told.append(held)

    def pool(self) -> ResourcePool:
        raise ConnectionError("no route to host")


def test_who_does_not_answer_is_told_of_use_and_keeps_nobody_from_the_others() -> None:
    away = Away("away", 0.1)
    assert isinstance(away, Observant)
    assert won(clear(away, Seller("steady", 1.0))) == {"steady/cu"}
    assert {"away/cu": ResourceVector()} in away.told


def test_nothing_was_written_where_no_plan_stood() -> None:
    market: Market = market_of(Seller("flighty", 0.1, leaves_after=1))
    with pytest.raises(MarketUnavailableError):
        market.clear(run(step("a")), place="launcher")
    assert market.ledger.auctions("run") == []
    assert isinstance(market.now(), datetime)
