"""Groups that no one location can hold: which steps, where each could run, what to do."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from sellers import Seller, market_of, run, step

from cu_market.domain.inputs import Place
from cu_market.domain.problem import InvalidInputError
from cu_market.domain.request import ResourceRequest
from cu_market.market.unserved import NoRoomYetError

HERE, THERE = Place(location="here"), Place(location="there")


@dataclass
class Cluster(Seller):
    """A seller that has less room now than it may have later."""

    could_cores: int = 0

    def could_serve(self, request: ResourceRequest) -> bool:
        return request.needs.cpu_millis <= 1000 * self.could_cores


def small(place: Place) -> Seller:
    return Seller("small", 1.0, place=place)


def large(place: Place, **more: object) -> Seller:
    return Seller("large", 9.0, place=place, profile={"cpu_millis": 16_000}, **more)  # type: ignore[arg-type]


def refused(*sellers: Seller, **tags: str) -> InvalidInputError:
    steps = step("a", cpu_cores="9"), step("b", provider="small")
    with pytest.raises(InvalidInputError) as error:
        market_of(*sellers).clear(run(*steps, **tags), place="launcher")
    return error.value


def test_steps_that_no_location_holds_are_told_with_those_that_each_could_use() -> None:
    (problem,) = refused(small(HERE), large(THERE), together="x").problems
    assert str(problem) == (
        "steps 'a', 'b': tag cu/together='x': no one location has a CU for each of them: a could "
        "run in there; b could run in here; let them run in one location (their sizes, "
        "cu/location, cu/provider), add a provider that has room for all of them there, or give "
        "what hands on no files another name"
    )


def test_the_same_steps_are_served_in_one_location_or_apart() -> None:
    steps = step("a", cpu_cores="9"), step("b", provider="small")
    for place, tags in ((THERE, {}), (HERE, {"together": "x"})):
        cleared = market_of(small(HERE), large(place)).clear(run(*steps, **tags), place="launcher")
        assert {row.provider for row in cleared.allocations.values()} == {"small", "large"}


def test_a_step_that_fits_nowhere_is_told_for_itself() -> None:
    (problem,) = refused(small(HERE), small_as("other", THERE), together="x").problems
    assert problem.where == "step 'a'"
    assert "asks 9 cores" in problem.what


def small_as(name: str, place: Place) -> Seller:
    return Seller(name, 1.0, place=place)


def test_room_later_helps_only_where_all_of_a_group_may_have_it() -> None:
    steps = step("a", provider="large"), step("b", cpu_cores="9", provider="small")

    def clear(place: Place) -> None:
        later = Cluster("small", 1.0, place=place, could_cores=16)
        sellers = later, large(THERE)
        market_of(*sellers).clear(run(*steps, together="x"), place="launcher")

    with pytest.raises(NoRoomYetError, match="step 'b'"):
        clear(THERE)
    with pytest.raises(InvalidInputError, match="step 'b'"):
        clear(HERE)
