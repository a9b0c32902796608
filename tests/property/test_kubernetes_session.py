"""A session's bytes arrive once and in order, wherever its connections are cut, and whoever takes
over from an end that is lost gets all that it had not stored."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cu_market.ral.kubernetes.session import Session, SessionError

_ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, 1), st.binary(min_size=1, max_size=400)),
        st.tuples(st.just("carry"), st.integers(0, 1), st.integers(1, 300)),
        st.tuples(st.just("cut"), st.just(0), st.just(0)),
    ),
    max_size=60,
)


class Wire:
    """Two sessions and a connection that may be cut at any byte."""

    def __init__(self) -> None:
        self.ends = (Session("token"), Session("token"))
        self.in_flight = (bytearray(), bytearray())
        self.written = (bytearray(), bytearray())
        self.received = (bytearray(), bytearray())
        self.connect()

    def connect(self) -> None:
        for end, flight in zip(self.ends, self.in_flight, strict=True):
            flight.clear()
            end.connected()

    def write(self, side: int, data: bytes) -> None:
        self.ends[side].write(data)
        self.written[side].extend(data)

    def carry(self, side: int, size: int) -> bool:
        """Brings at most size bytes from one side to the other; whether there were any."""
        flight = self.in_flight[side]
        while len(flight) < size and (data := self.ends[side].to_send()):
            flight.extend(data)
        data = bytes(flight[:size])
        del flight[:size]
        self.received[1 - side].extend(self.ends[1 - side].feed(data))
        return bool(data)


@given(_ACTIONS)
def test_nothing_is_lost_and_nothing_comes_twice(actions: list[tuple[str, int, bytes]]) -> None:
    wire = Wire()
    for kind, side, argument in actions:
        if kind == "write":
            wire.write(side, argument)
        elif kind == "carry":
            wire.carry(side, int(argument))
            assert wire.written[side].startswith(wire.received[1 - side])
        else:
            wire.connect()
    wire.connect()
    while wire.carry(0, 1000) | wire.carry(1, 1000):
        pass
    assert wire.received[1] == wire.written[0]
    assert wire.received[0] == wire.written[1]
    assert all(end.is_delivered for end in wire.ends)


@given(_ACTIONS, st.integers(1, 50))
def test_an_end_comes_after_all_that_was_written(
    actions: list[tuple[str, int, bytes]], size: int
) -> None:
    wire = Wire()
    for kind, side, argument in actions:
        if kind == "write":
            wire.write(side, argument)
        elif kind == "cut":
            wire.connect()
    wire.ends[0].end("done")
    while wire.carry(0, size) | wire.carry(1, size):
        if wire.ends[1].peer_end is not None:
            assert wire.received[1] == wire.written[0]
    assert wire.ends[1].peer_end == "done"


def test_another_token_is_refused() -> None:
    ours, theirs = Session("one"), Session("another")
    for end in (ours, theirs):
        end.connected()
    with pytest.raises(SessionError, match="token"):
        ours.feed(theirs.to_send())


def test_data_before_a_greeting_is_refused() -> None:
    with pytest.raises(SessionError, match="before the greeting"):
        Session("t").feed(b"\x02" + bytes(8) + b"\x00\x00\x00\x01x")


def test_what_waits_is_bounded_by_its_writer() -> None:
    session = Session("t", limit_bytes=10)
    session.write(b"x" * 10)
    assert not session.is_full
    session.write(b"x")
    assert session.is_full


_SUCCESSIONS = st.lists(
    st.one_of(
        st.tuples(st.just("speak"), st.binary(min_size=1, max_size=400)),
        st.tuples(st.just("order"), st.integers(1, 400)),
        st.tuples(st.just("down"), st.integers(1, 300)),
        st.tuples(st.just("up"), st.integers(1, 300)),
        st.tuples(st.just("store"), st.integers(1, 500)),
        st.tuples(st.just("meet"), st.just(0)),
        st.tuples(st.just("cut"), st.just(0)),
        st.tuples(st.just("lose"), st.just(0)),
    ),
    max_size=80,
)


class Succession:
    """A pod that stays, and run workers that follow each other, each of them lost in its turn."""

    def __init__(self) -> None:
        self.pod = Session("token")
        self.spoken = bytearray()
        self.heard_orders = bytearray()
        self.epoch = 0
        self.stored_to = 0
        self.orders: list[list[bytes]] = []
        self.begin()

    def begin(self) -> None:
        """Has a run worker begin: the first, or one that takes over."""
        self.run_worker = Session("token", epoch=self.epoch, is_told=True)
        self.received = bytearray()
        self.stored = 0
        self.orders.append([])
        self.connect()

    def connect(self) -> None:
        self.down_flight, self.up_flight = bytearray(), bytearray()
        self.pod.connected()
        self.run_worker.connected()

    def lose(self) -> None:
        self.epoch += 1
        self.begin()

    def speak(self, data: bytes) -> None:
        self.pod.write(data)
        self.spoken += data

    def order(self, size: int) -> None:
        """Writes an order that names its run worker and its number, and is long."""
        own = self.orders[-1]
        own.append(b"<%d.%d:%s>" % (self.epoch, len(own), b"x" * size))
        self.run_worker.write(own[-1])

    def down(self, size: int) -> bool:
        """Carries orders to the pod; whether there was anything."""
        while len(self.down_flight) < size and (data := self.run_worker.to_send()):
            self.down_flight += data
        data = bytes(self.down_flight[:size])
        del self.down_flight[:size]
        self.heard_orders += self.pod.feed(data)
        return bool(data)

    def meet(self, _: int) -> None:
        """Carries about as much as the greetings are long."""
        for _turn in range(3):
            self.down(60)
            self.up(60)

    def up(self, size: int) -> bool:
        """Carries what was spoken; checks that it follows what had been stored before."""
        while len(self.up_flight) < size and (data := self.pod.to_send()):
            self.up_flight += data
        data = bytes(self.up_flight[:size])
        del self.up_flight[:size]
        self.received += self.run_worker.feed(data)
        return bool(data)

    @property
    def begins_at(self) -> int:
        """Where in all that was spoken this run worker's share begins, by what it has got."""
        return self.spoken.find(self.received)

    def store(self, size: int) -> None:
        size = min(size, len(self.received) - self.stored)
        self.run_worker.store(size)
        self.stored += size


@patch("cu_market.ral.kubernetes.session.MAX_BODY_BYTES", 60)  # so that orders come in parts
@given(_SUCCESSIONS)
def test_whoever_takes_over_gets_all_that_was_not_stored(
    actions: list[tuple[str, Any]],
) -> None:
    run = Succession()
    begins, stored_to = 0, 0  # of the present run worker's share; how far any of them has stored
    for kind, argument in actions:
        if kind == "speak":
            # Told apart by where they are, so that nothing can stand for something else.
            run.speak(b"[%d]" % len(run.spoken) + argument)
        elif kind == "lose":
            run.lose()
            begins = -1
        elif kind == "cut":
            run.connect()
        else:
            getattr(run, kind)(argument)
        if run.received and begins < 0:
            begins = run.begins_at
            assert 0 <= begins <= stored_to  # nothing is missing between the two
        assert run.spoken[max(begins, 0) :].startswith(run.received)
        stored_to = max(stored_to, max(begins, 0) + run.stored)
    run.lose()
    run.order(100)  # before it has reached the pod
    while run.up(1000) | run.down(1000):
        pass
    assert run.heard_orders.endswith(run.orders[-1][0])
    assert run.spoken.endswith(run.received)
    assert len(run.spoken) - len(run.received) <= stored_to
    run.order(10)
    while run.up(1000) | run.down(1000):
        pass
    assert run.pod.is_delivered
    # Of each run worker's orders the pod has heard the first few, whole, and all of the last one's.
    rest = bytes(run.heard_orders)
    for orders in run.orders:
        for order in orders:
            if not rest.startswith(order):
                assert orders is not run.orders[-1]
                break
            rest = rest[len(order) :]
    assert rest == b""


@given(st.lists(st.integers(1, 600_000), min_size=1, max_size=6))
def test_a_write_longer_than_a_message_arrives_whole(sizes: list[int]) -> None:
    ours, theirs = Session("t", epoch=0), Session("t")
    for end in (ours, theirs):
        end.connected()
    theirs.feed(ours.to_send())
    ours.feed(theirs.to_send())
    for size in sizes:
        ours.write(b"x" * size)
    whole = 0
    ends = [sum(sizes[: n + 1]) for n in range(len(sizes))]
    while data := ours.to_send():
        whole += len(theirs.feed(data))
        assert whole in (0, *ends)
    assert whole == ends[-1]


def test_what_a_lost_writer_had_begun_to_write_never_arrives() -> None:
    pod, first = Session("t"), Session("t", epoch=0)
    for end in (pod, first):
        end.connected()
    pod.feed(first.to_send())
    first.feed(pod.to_send())
    first.write(b"x" * 300_000)
    assert pod.feed(first.to_send()) == b""  # a part of it
    second = Session("t", epoch=1)
    second.write(b"whole")
    for end in (pod, second):
        end.connected()
    pod.feed(second.to_send())
    second.feed(pod.to_send())
    assert pod.feed(second.to_send() + second.to_send()) == b"whole"


def test_one_that_was_followed_is_refused() -> None:
    pod = Session("t")
    first, second = Session("t", epoch=0), Session("t", epoch=5)
    for run_worker in (first, second):
        run_worker.connected()
        greeting = run_worker.to_send()
        assert pod.admits(greeting)
        pod.connected()
        pod.feed(greeting)
    first.connected()
    assert pod.admits(first.to_send()) is False
    older = Session("t", epoch=4)
    older.connected()
    assert pod.admits(older.to_send()) is False


def test_a_stranger_is_not_admitted_and_a_beginning_is_waited_for() -> None:
    pod = Session("token")
    for stranger in (b"\x07" + bytes(12), b"\x01" + bytes(8) + b"\x00\x10\x00\x00"):
        assert pod.admits(stranger) is False
    greeting = Session("token", epoch=0)
    greeting.connected()
    said = greeting.to_send()
    assert pod.admits(said[:5]) is None
    assert pod.admits(said[:15]) is None
    assert pod.admits(said) is True


def test_what_is_received_and_not_stored_is_kept() -> None:
    pod, run_worker = Session("t"), Session("t", epoch=0, is_told=True)
    for end in (pod, run_worker):
        end.connected()
    pod.feed(run_worker.to_send())
    run_worker.feed(pod.to_send())
    pod.write(b"one")
    assert run_worker.feed(pod.to_send()) == b"one"
    pod.feed(run_worker.to_send())
    assert pod.is_delivered
    successor = Session("t", epoch=1, is_told=True)
    for end in (pod, successor):
        end.connected()
    pod.feed(successor.to_send())
    assert successor.feed(pod.to_send()) + successor.feed(pod.to_send()) == b"one"
    with pytest.raises(ValueError, match="stored 7 more bytes"):
        successor.store(7)
