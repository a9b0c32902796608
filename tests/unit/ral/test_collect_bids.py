from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest

from cu_market.domain.bid import Bid, Rates
from cu_market.domain.plan import LossReason
from cu_market.domain.profile import CUProfile, ResourcePool
from cu_market.domain.request import ResourceRequest
from cu_market.domain.resources import ResourceVector
from cu_market.domain.units import GB
from cu_market.ral import bids as bids_module
from cu_market.ral.bids import BidRound, ask_pools, collect_bids

NOW = datetime(2025, 1, 1, tzinfo=UTC)
ROOM = ResourceVector(cpu_millis=4000, memory_bytes=16 * GB)
REQUEST = ResourceRequest(
    request_id="step",
    timestamp=NOW,
    duration_ms=1000,
    needs=ResourceVector(cpu_millis=1000, memory_bytes=GB),
)


def profile(name: str = "p", **changes: Any) -> CUProfile:
    fields: dict[str, Any] = {
        "cu_id": f"{name}/cu",
        "provider": name,
        "location": "there",
        "capacity_id": name,
        "cpu_millis": 2000,
        "memory_bytes": 8 * GB,
        "price_microusd_per_hour": 100,
    }
    return CUProfile(**{**fields, **changes})


def bid(name: str = "p", **changes: Any) -> Bid:
    fields: dict[str, Any] = {
        "bid_id": f"{name}/1",
        "profile": profile(name),
        "price_microusd_per_hour": 100,
    }
    return Bid(**{**fields, **changes})


def forged(record: Any, **fields: Any) -> Any:
    """A copy with fields written past its constructor, as a hostile provider would."""
    copy = replace(record)
    for name, value in fields.items():
        object.__setattr__(copy, name, value)
    return copy


class Scripted:
    """A provider that answers what it was told to."""

    def __init__(
        self, name: str, answer: Callable[[], Any], pool: Callable[[], Any] | None = None
    ) -> None:
        self.name = name
        self._answer = answer
        self._pool = pool

    def bid(self, requests: Sequence[ResourceRequest], now: datetime) -> Any:
        return self._answer()

    def pool(self) -> Any:
        if self._pool is not None:
            return self._pool()
        return ResourcePool(profiles=(profile(self.name),), capacities={self.name: ROOM})


def ask(*providers: Any, deadline_seconds: float = 60, **more: Any) -> BidRound:
    return collect_bids(providers, [REQUEST], now=NOW, deadline_seconds=deadline_seconds, **more)


def only_problem(round_: BidRound, name: str = "p") -> str:
    (problem,) = round_.problems[name]
    assert problem.remedy
    return str(problem)


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def test_sound_bids_stand_in_the_order_of_the_providers() -> None:
    round_ = ask(Scripted("b", lambda: [bid("b")]), Scripted("a", lambda: [bid("a")]))
    assert round_.bids == (bid("b"), bid("a"))
    assert set(round_.pool.capacities) == {"a", "b"}
    assert round_.problems == {}
    assert round_.seconds >= 0


def test_providers_are_asked_at_the_same_time() -> None:
    together = threading.Barrier(3)  # passes only if all three wait at once

    def answer(name: str) -> Callable[[], list[Bid]]:
        def meet() -> list[Bid]:
            together.wait(timeout=60)
            return [bid(name)]

        return meet

    round_ = ask(*(Scripted(name, answer(name)) for name in "abc"))
    assert [b.provider for b in round_.bids] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("offer", "said"),
    [
        (forged(bid(), price_microusd_per_hour=-1), "not between 0 and"),
        (forged(bid(), price_microusd_per_hour=math.nan), "not a whole number"),
        (forged(bid(), price_microusd_per_hour=math.inf), "not a whole number"),
        (forged(bid(), price_microusd_per_hour=10**5000), "not between 0 and"),
        (forged(bid(), performance_millis=0), "not a whole number above 0"),
        (forged(bid(), performance_millis=10**9), "not between 0 and"),
        (forged(bid(), quantity=math.nan), "not a whole number"),
        (forged(bid(), quantity=0), "below 1"),
        (forged(bid(), valid_until="tomorrow"), "not a time"),
        (forged(bid(), valid_until=datetime(2025, 1, 1)), "has no time zone"),
        (forged(bid(), bid_id=None), "not a name"),
        (forged(bid(), bid_id=""), "not a name"),
        (forged(bid(), profile=None), "not a CUProfile"),
        (forged(bid(), rates=(1, 2)), "not a Rates"),
        (
            bid(rates=forged(Rates(core_microusd_per_hour=1, gb_microusd_per_hour=1),
                             gb_microusd_per_hour=-math.inf)),
            "Rates.gb_microusd_per_hour='-inf': not a whole number",
        ),
        (bid(profile=profile(cpu_millis=4001)), "offers 4001, its capacity 'p' has 4000"),
        (bid(profile=profile(memory_bytes=17 * GB)), "offer at most what there is"),
        (bid(profile=profile(gpu_count=1, gpu_type="A100")), "offers 1, its capacity 'p' has 0"),
        (bid(quantity=3), "offers 6000, its capacity 'p' has 4000"),
        (bid(profile=profile(provider="q")), "not who offers; write 'p'"),
        (bid(profile=profile(capacity_id="q")), "not in its pool"),
        ({"price": 3}, "not a Bid"),
        (None, "not a Bid"),
    ],
)  # fmt: skip
def test_an_unsound_bid_is_dropped_and_named_and_the_others_stand(offer: Any, said: str) -> None:
    sound = bid(bid_id="p/sound")
    round_ = ask(Scripted("p", lambda: [offer, sound]), Scripted("o", lambda: [bid("o")]))
    assert round_.bids == (sound, bid("o"))
    assert said in only_problem(round_)
    assert only_problem(round_).startswith("provider 'p': bid")


def test_elastic_bids_are_bounded_by_their_capacity_not_by_quantity() -> None:
    rates = Rates(core_microusd_per_hour=1, gb_microusd_per_hour=1)
    assert len(ask(Scripted("p", lambda: [bid(rates=rates, quantity=9)])).bids) == 1


def test_a_bid_id_offered_twice_counts_once_also_between_providers() -> None:
    round_ = ask(
        Scripted("p", lambda: [bid(), bid()]),
        Scripted("q", lambda: [bid("q", bid_id="p/1")]),
    )
    assert round_.bids == (bid(),)
    assert "offered twice" in only_problem(round_)
    assert "offered twice" in only_problem(round_, "q")


def test_nobody_sells_from_anothers_capacity() -> None:
    pool = ResourcePool(profiles=(profile("q", capacity_id="p"),), capacities={"p": ROOM.times(9)})
    thief = Scripted("q", lambda: [bid("q", profile=profile("q", capacity_id="p"))], lambda: pool)
    round_ = ask(Scripted("p", lambda: [bid()]), thief)
    assert round_.bids == (bid(),)
    assert round_.pool.capacities == {"p": ROOM}
    assert "belongs to provider 'p'" in str(round_.problems["q"][0])


def test_a_subclass_of_bid_brings_no_methods_of_its_own() -> None:
    class Cheat(Bid):
        def price_for(self, needs: ResourceVector) -> int:
            return -(10**9)

    cheat = Cheat(bid_id="p/1", profile=profile(), price_microusd_per_hour=100)
    (taken,) = ask(Scripted("p", lambda: [cheat])).bids
    assert type(taken) is Bid
    assert taken.price_for(REQUEST.needs) == 100


@pytest.mark.parametrize(
    "pool",
    [
        None,
        forged(ResourcePool(), capacities={"p": None}),
        forged(ResourcePool(), capacities={3: ROOM}),
        forged(ResourcePool(), capacities={"p": forged(ROOM, cpu_millis=math.inf)}),
    ],
)
def test_an_unsound_pool_costs_its_bids(pool: Any) -> None:
    round_ = ask(Scripted("p", lambda: [bid()], lambda: pool), Scripted("o", lambda: [bid("o")]))
    assert round_.bids == (bid("o"),)
    assert "pool" in str(round_.problems["p"][0])


@pytest.mark.parametrize(
    ("unsound", "said"),
    [
        (profile(cpu_millis=5000), "more than its capacity 'p' has"),
        (profile("q"), "not who offers"),
        (profile(capacity_id="z"), "no such capacity"),
        (forged(profile(), memory_bytes=-1), "not between 0 and"),
        ("cu", "not a CUProfile"),
    ],
)
def test_an_unsound_profile_is_left_out_of_the_pool(unsound: Any, said: str) -> None:
    sound = profile(cu_id="p/sound")
    pool = forged(ResourcePool(), profiles=(unsound, sound, sound), capacities={"p": ROOM})
    round_ = ask(Scripted("p", list, lambda: pool))
    assert round_.pool.profiles == (sound,)
    first, second = round_.problems["p"]
    assert said in str(first)
    assert "two CUs with one cu_id" in str(second)


@pytest.mark.parametrize(
    "error", [RuntimeError("no route to host"), SystemExit(3), KeyboardInterrupt()]
)
def test_a_provider_that_raises_costs_only_itself(error: BaseException) -> None:
    def answer() -> Any:
        raise error

    round_ = ask(Scripted("p", answer), Scripted("o", lambda: [bid("o")]))
    assert round_.bids == (bid("o"),)
    assert f"raised {type(error).__name__}" in only_problem(round_)


@pytest.mark.parametrize("answer", [None, 7])
def test_an_answer_that_is_no_sequence(answer: Any) -> None:
    assert "raised TypeError" in only_problem(ask(Scripted("p", lambda: answer)))


def test_an_endless_answer_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bids_module, "MAX_BIDS", 3)
    round_ = ask(Scripted("p", lambda: (bid(bid_id=f"p/{n}") for n in count())))
    assert len(round_.bids) == 3
    assert "more than 3 bids" in only_problem(round_)


def test_silence_costs_a_deadline_once_and_one_thread(gate: threading.Event) -> None:
    asked = []
    is_asked = threading.Event()

    def never() -> list[Bid]:
        asked.append(threading.current_thread())
        is_asked.set()
        gate.wait()
        return [bid("mute")]

    def mute() -> Any:
        return Scripted("mute", never)  # anew every round, as a daemon may load it

    other = Scripted("o", lambda: [bid("o")])
    first = ask(mute(), deadline_seconds=0.05)
    assert "no answer within 0.05 s" in only_problem(first, "mute")
    is_asked.wait()  # its thread may begin only after the deadline
    second = ask(mute(), other)  # a deadline of a minute, which nobody waits for
    assert second.bids == (bid("o"),)
    assert "has not answered an earlier question yet" in only_problem(second, "mute")
    assert len(asked) == 1
    gate.set()
    asked[0].join()
    assert ask(mute()).bids == (bid("mute"),)


@pytest.mark.parametrize(
    ("declared", "measured", "counted"),
    [(1000, 700, 700), (1000, 1300, 1000), (500, 700, 500), (1000, 0, 1)],
)
def test_a_measured_score_lowers_the_declared_one(
    declared: int, measured: int, counted: int
) -> None:
    provider = Scripted("p", lambda: [bid(performance_millis=declared)])
    (taken,) = ask(provider, performance={"p/cu": measured, "else": 1}).bids
    assert taken.performance_millis == counted


@pytest.mark.parametrize(
    ("needs", "gpu_type", "reason", "detail"),
    [
        ({"cpu_millis": 8000}, None, LossReason.TOO_FEW_CORES, "asks 8 cores, has 2"),
        ({"memory_bytes": 9 * 2**30}, None, LossReason.TOO_LITTLE_MEMORY, "asks 9.0 GiB, has"),
        ({"gpu_count": 1}, "A100", LossReason.NO_SUCH_GPU, "asks 1 x A100, has 0 x GPU"),
    ],
)
def test_what_nobody_bids_for_is_explained_by_the_pool(
    needs: dict[str, int], gpu_type: str | None, reason: LossReason, detail: str
) -> None:
    large = replace(REQUEST, needs=ResourceVector(**needs), gpu_type=gpu_type)
    (loss,) = ask(Scripted("p", list)).refusals_for(large)
    assert (loss.provider, loss.resource_id, loss.reason) == ("p", "p/cu", reason)
    assert detail in loss.detail


def test_a_cu_that_was_offered_needs_no_explanation() -> None:
    large = replace(REQUEST, needs=ResourceVector(cpu_millis=8000))
    assert ask(Scripted("p", lambda: [bid()])).refusals_for(large) == ()


def test_of_pools_asked_again_only_what_is_named_is_read_and_that_as_strictly() -> None:
    class Raising:
        @property
        def cu_id(self) -> str:
            raise RuntimeError("boom")

    sound = profile(cu_id="p/sound", capacity_id="own")
    unsound = forged(profile(cu_id="p/unsound"), memory_bytes=-1)
    others = [profile(cu_id="p/other", capacity_id="others"), Raising(), "no profile"]

    odd = SimpleNamespace(
        profiles=(sound, unsound, *others),
        capacities={"own": ROOM, "p": ROOM, "others": ROOM, "named": ROOM, "free": "much"},
    )
    found = ask_pools(
        [Scripted("p", list, lambda: odd), Scripted("q", list, lambda: 1 / 0)],
        cu_ids={"p/sound", "p/unsound", "p/gone"},
        capacity_ids={"named", "free"},
        deadline_seconds=60,
    )
    assert found.keys() == {"p"}
    assert found["p"].profiles == (sound,)
    assert found["p"].capacities == {"own": ROOM, "p": ROOM, "named": ROOM}
