"""Frames survive any way of being cut, and what is no frame is refused."""

from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cu_market.deo.worker.channel import StepChannel, read_frame
from cu_market.deo.worker.frames import MAX_FRAME_BYTES, Decoder, FrameError, encode, wrap
from cu_market.deo.worker.resident import read_own_memory

FRAMES = st.lists(st.dictionaries(st.text(), st.integers() | st.text() | st.none()), max_size=5)


@given(frames=FRAMES, size=st.integers(min_value=1, max_value=50))
def test_frames_arrive_whole_however_they_are_cut(frames: list[dict], size: int) -> None:
    data = b"".join(encode(frame) for frame in frames)
    decoder = Decoder()
    arrived = []
    for start in range(0, len(data), size):
        arrived += decoder.feed(data[start : start + size])
    assert arrived == frames


def test_an_unread_body_is_a_frame_again() -> None:
    (body,) = Decoder().feed_raw(encode({"kind": "log"}))
    assert wrap(body) == encode({"kind": "log"})


@pytest.mark.parametrize("body", [b"[]", b"no JSON"])
def test_what_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(FrameError, match="a frame that is not"):
        Decoder().feed(struct.pack(">I", len(body)) + body)


def test_a_length_beyond_belief_is_refused() -> None:
    with pytest.raises(FrameError, match="at most"):
        Decoder().feed(struct.pack(">I", MAX_FRAME_BYTES + 1))


def test_a_frame_is_read_from_a_socket() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(encode({"kind": "step"}))
        assert read_frame(ours) == {"kind": "step"}
        theirs.close()
        with pytest.raises(ConnectionError, match="closed before a frame arrived"):
            read_frame(ours)


def test_a_finished_step_says_so() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        channel = StepChannel(theirs, str)
        channel.flush()  # nothing was sent: nothing to wait for
        channel.announce_log("/folder/step.out", "stdout")
        assert read_frame(ours) == {"kind": "log", "path": "/folder/step.out", "output": "stdout"}
        memory = read_own_memory()
        channel.finish(None, memory)
        assert read_frame(ours) == {"kind": "finished", "error": None, "memory": memory}
    assert 0 < memory["private_bytes"] <= memory["resident"]["total_bytes"]
    assert memory["resident"]["peak_bytes"] >= memory["resident"]["total_bytes"]
