"""One end of a link, without a database: numbers, limits, gaps, and when to look again."""

from __future__ import annotations

import pytest

from cu_market.deo.channel.link import (
    LONGEST_SECONDS,
    MAX_BODY_BYTES,
    MOST_UNREAD,
    PATIENT_BYTES,
    SHORTEST_SECONDS,
    Link,
    LinkError,
    channel_of,
)
from cu_market.ledger.channels import Delivery


def make_link() -> Link:
    return Link("c", "one", 0.0)


def looked(link: Link, now: float, *parcels: tuple[int, bytes], unread: int = 0) -> list[bytes]:
    post = link.post()
    return list(link.took(post, Delivery(link="one", parcels=parcels, unread=unread), now))


def test_a_post_is_the_same_until_it_was_answered() -> None:
    link = make_link()
    link.write(b"a")
    first = link.post()
    link.write(b"b")
    assert link.post().parcels[:1] == first.parcels == ((1, b"a"),)
    link.took(first, Delivery(link="one"), 0.0)
    assert link.post().parcels == ((2, b"b"),)


def test_what_waits_for_its_receiver_is_bounded() -> None:
    link = make_link()
    link.write(b"x" * (2 * MOST_UNREAD * MAX_BODY_BYTES))
    assert link.is_full
    post = link.post()
    assert [len(body) for _, body in post.parcels] == [MAX_BODY_BYTES] * MOST_UNREAD
    link.took(post, Delivery(link="one"), 0.0)
    assert looked(link, 0.1, unread=MOST_UNREAD) == []
    assert link.post().parcels == ()
    looked(link, 0.2, unread=MOST_UNREAD - 1)  # one was taken
    assert [number for number, _ in link.post().parcels] == [MOST_UNREAD + 1]


def test_the_end_comes_after_all_else() -> None:
    link = make_link()
    link.write(b"last")
    link.end()
    assert link.post().parcels == ((1, b"last"), (2, b""))
    looked(link, 0.0)
    assert link.is_delivered
    other = make_link()
    assert looked(other, 0.0, (1, b"last"), (2, b"")) == [b"last"]
    assert other.has_ended


def test_a_missing_parcel_ends_the_link() -> None:
    with pytest.raises(LinkError, match="parcel 2 came after 0"):
        looked(make_link(), 0.0, (2, b"b"))


@pytest.mark.parametrize("present", [None, "two"])
def test_another_link_ends_this_one(present: str | None) -> None:
    link = make_link()
    with pytest.raises(LinkError):
        link.took(link.post(), Delivery(link=present), 0.0)


def test_only_what_was_taken_is_deleted_and_once() -> None:
    link = make_link()
    assert looked(link, 0.0, (1, b"a")) == [b"a"]
    assert link.post().taken_to == 0
    link.taken()
    assert link.post().taken_to == 1
    looked(link, 0.1)
    assert link.post().taken_to == 0


def test_a_parcel_that_came_back_is_deleted_again() -> None:
    link = make_link()
    looked(link, 0.0, (1, b"a"))
    link.taken()
    looked(link, 0.1)
    link.took(link.post(), Delivery(link="one", stale=(1,)), 0.2)
    assert link.post().taken_to == 1


def test_looks_are_rarer_the_longer_it_is_silent() -> None:
    link = make_link()
    assert link.next_look <= 0.0
    pauses = []
    now = 0.0
    while now < 60:
        looked(link, now)
        pauses.append(link.next_look - now)
        now = link.next_look
    assert pauses[0] == pytest.approx(SHORTEST_SECONDS)
    assert pauses == pytest.approx(sorted(pauses))
    assert pauses[-1] == pytest.approx(LONGEST_SECONDS)
    assert len(pauses) < 200
    looked(link, now, (1, b"a"))
    assert link.next_look - now == pytest.approx(SHORTEST_SECONDS)
    link.write(b"x" * PATIENT_BYTES)
    assert link.next_look - now == pytest.approx(SHORTEST_SECONDS)
    link.write(b"that is stored at once")
    assert link.next_look <= now


def test_a_channels_name_does_not_tell_its_token() -> None:
    assert channel_of("token") != channel_of("other")
    assert "token" not in channel_of("token")
