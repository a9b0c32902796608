"""A carried pod is greeted once a connection, and reached early only once it has answered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from cu_market.ral.carrier import CutError
from cu_market.ral.kubernetes.routes import CarriedRoute


class Connection:
    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.has_answer = self.is_closed = self.is_cut = False

    def fileno(self) -> int:
        raise NotImplementedError

    def has_buffered(self) -> bool:
        return self.has_answer

    def send(self, data: bytes) -> None:
        if self.is_cut:
            raise CutError("cut")
        self.sent.append(data)

    def receive(self) -> bytes:
        raise NotImplementedError

    def close(self) -> None:
        self.is_closed = True


class Carrier:
    program = "some.module"
    environment: Mapping[str, str] = {}

    def __init__(self) -> None:
        self.made: list[Connection] = []
        self.is_cutting = False

    def connect(self, token: str, run_id: str, epoch: int = 0) -> Any:
        assert (token, run_id, epoch) == ("token", "run", 3)
        self.made.append(Connection())
        self.made[-1].is_cut = self.is_cutting
        return self.made[-1]

    def forget(self, token: str, epoch: int = 0) -> None:
        assert (token, epoch) == ("token", 3)
        self.made.clear()

    def forget_run(self, run_id: str) -> None:
        raise NotImplementedError


class Greeter:
    """Says another word each time."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> bytes:
        self.times += 1
        return b"%d" % self.times


@pytest.fixture
def carrier() -> Carrier:
    return Carrier()


@pytest.fixture
def route(carrier: Carrier) -> CarriedRoute:
    return CarriedRoute(carrier, token="token", run_id="run", epoch=3)


def test_an_early_connection_is_greeted_once_and_waits_for_the_answer(
    route: CarriedRoute, carrier: Carrier
) -> None:
    greet = Greeter()
    assert route.reach_early(greet) is None
    assert route.reach_early(greet) is None
    (made,) = carrier.made
    made.has_answer = True
    assert route.reach_early(greet) is made
    assert made.sent == [b"1"]
    other: Any = route.connect(greet)
    assert other is not made
    assert other.sent == [b"2"]


def test_a_pod_that_runs_before_it_has_answered_keeps_its_connection(
    route: CarriedRoute, carrier: Carrier
) -> None:
    greet = Greeter()
    assert route.reach_early(greet) is None
    found: Any = route.connect(greet)
    assert [found] == carrier.made
    assert found.sent == [b"1"]
    route.close()
    assert not found.is_closed  # it is whoever's who has it


def test_one_that_nobody_answered_on_is_closed_with_the_route(
    route: CarriedRoute, carrier: Carrier
) -> None:
    route.reach_early(Greeter())
    route.close()
    assert carrier.made[0].is_closed


def test_one_that_is_cut_while_it_is_greeted_is_closed(
    route: CarriedRoute, carrier: Carrier
) -> None:
    carrier.is_cutting = True
    assert route.reach_early(Greeter()) is None
    with pytest.raises(CutError):
        route.connect(Greeter())
    assert [each.is_closed for each in carrier.made] == [True, True]


def test_what_is_left_is_forgotten(route: CarriedRoute, carrier: Carrier) -> None:
    route.connect(Greeter())
    route.forget()
    assert carrier.made == []
