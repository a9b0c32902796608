"""A session's bytes arrive once and in order, wherever its connections are cut."""

from __future__ import annotations

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
