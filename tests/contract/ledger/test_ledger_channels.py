"""Channels: parcels arrive once each, in order, on the present link alone, and nothing stays."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from cu_market.ledger.channels import Delivery, Parcel, Post, Sender
from cu_market.ledger.interface import Ledger

T0 = datetime(2025, 1, 1, tzinfo=UTC)
HOME, WORKER = Sender.HOME, Sender.WORKER


def exchange(
    ledger: Ledger,
    sender: Sender,
    *parcels: Parcel,
    link: str = "one",
    channel: str = "c",
    seen_to: int = 0,
    taken_to: int = 0,
) -> Delivery:
    post = Post(channel=channel, link=link, parcels=parcels, seen_to=seen_to, taken_to=taken_to)
    return ledger.channels.exchange(sender, [post])[channel]


@pytest.fixture
def channels(ledger: Ledger) -> Ledger:
    """The ledger, with a channel ``c`` of run ``r`` whose link is ``one``."""
    ledger.channels.open("c", "r", "one", now=T0)
    return ledger


def test_parcels_arrive_in_order_whatever_their_bytes(channels: Ledger) -> None:
    bodies = [bytes(range(256)), b"\0", b"x" * 300_000, b""]
    sent = list(enumerate(bodies, 1))
    exchange(channels, HOME, *sent)
    assert exchange(channels, WORKER).parcels == tuple(sent)
    assert exchange(channels, HOME).parcels == ()  # one's own do not come back


def test_what_was_seen_is_not_sent_again_and_what_was_taken_is_gone(channels: Ledger) -> None:
    exchange(channels, HOME, (1, b"a"), (2, b"b"), (3, b"c"))
    found = exchange(channels, WORKER, seen_to=2)
    assert found.parcels == ((3, b"c"),)
    assert found.stale == (1, 2)
    assert exchange(channels, HOME).unread == 3
    exchange(channels, WORKER, seen_to=3, taken_to=2)
    assert exchange(channels, HOME).unread == 1
    assert exchange(channels, WORKER, seen_to=2) == Delivery(link="one", parcels=((3, b"c"),))


def test_a_parcel_posted_twice_is_there_once(channels: Ledger) -> None:
    for _ in range(2):
        exchange(channels, HOME, (1, b"a"), (2, b"b"))
    assert exchange(channels, WORKER).parcels == ((1, b"a"), (2, b"b"))


def test_one_posted_again_after_it_was_taken_is_told_apart(channels: Ledger) -> None:
    exchange(channels, HOME, (1, b"a"))
    exchange(channels, WORKER, seen_to=1, taken_to=1)
    exchange(channels, HOME, (1, b"a"))
    assert exchange(channels, WORKER, seen_to=1) == Delivery(link="one", stale=(1,))


def test_a_new_link_begins_empty_and_the_former_does_nothing_any_more(channels: Ledger) -> None:
    exchange(channels, HOME, (1, b"old"))
    exchange(channels, WORKER, (1, b"old too"))
    channels.channels.open("c", "r", "two", now=T0)
    late = exchange(channels, WORKER, (2, b"late"), taken_to=1)
    assert late == Delivery(link="two")
    assert exchange(channels, HOME, link="two") == Delivery(link="two")
    exchange(channels, HOME, (1, b"new"), link="two")
    assert exchange(channels, WORKER, link="two").parcels == ((1, b"new"),)


def test_the_same_link_opened_again_keeps_what_is_on_it(channels: Ledger) -> None:
    exchange(channels, HOME, (1, b"a"))
    assert channels.channels.take("c", "me") == "one"
    channels.channels.open("c", "r", "one", now=T0)
    assert exchange(channels, WORKER).parcels == ((1, b"a"),)
    assert channels.channels.take("c", "me") == "one"


def test_a_link_that_another_has_taken_is_given_up(channels: Ledger) -> None:
    exchange(channels, HOME, (1, b"a"))
    assert channels.channels.take("c", "dead") == "one"
    assert channels.channels.take("c", "successor") is None
    assert exchange(channels, HOME) == Delivery(link=None)
    channels.channels.open("c", "r", "two", now=T0)
    assert channels.channels.take("c", "successor") == "two"


def test_whoever_was_followed_by_another_opens_and_forgets_nothing(channels: Ledger) -> None:
    assert channels.channels.open("c", "r", "two", epoch=5, now=T0)
    exchange(channels, WORKER, (1, b"for two"), link="two")
    assert not channels.channels.open("c", "r", "late", now=T0)
    assert not channels.channels.open("c", "r", "late", epoch=4, now=T0)
    channels.channels.forget("c", epoch=4)
    assert exchange(channels, HOME, link="two").parcels == ((1, b"for two"),)
    assert channels.channels.open("c", "r", "again", epoch=5, now=T0)
    assert channels.channels.open("c", "r", "three", epoch=6, now=T0)
    assert exchange(channels, HOME, link="again") == Delivery(link="three")
    channels.channels.forget("c", epoch=6)
    assert channels.channels.take("c", "me") is None


def test_whoever_only_asks_learns_the_link(channels: Ledger) -> None:
    exchange(channels, HOME, (1, b"a"))
    assert exchange(channels, WORKER, link="") == Delivery(link="one")
    assert exchange(channels, WORKER, channel="nobody's", link="") == Delivery(link=None)
    assert channels.channels.take("nobody's", "me") is None


def test_many_channels_in_one_exchange(ledger: Ledger) -> None:
    names = [f"c{n}" for n in range(40)]
    for name in names:
        ledger.channels.open(name, "r", f"link of {name}", now=T0)
    posts = [
        Post(channel=n, link=f"link of {n}", parcels=[(1, n.encode())]) for n in (*names, "no")
    ]
    assert ledger.channels.exchange(HOME, posts)["no"] == Delivery(link=None)
    asked = [Post(channel=n, link=f"link of {n}") for n in names]
    found = ledger.channels.exchange(WORKER, asked)
    assert {n: found[n].parcels for n in names} == {n: ((1, n.encode()),) for n in names}
    seen = [Post(channel=p.channel, link=p.link, seen_to=1, taken_to=1) for p in asked]
    ledger.channels.exchange(WORKER, seen)
    assert all(d.unread == 0 for d in ledger.channels.exchange(HOME, asked).values())


def test_channels_are_forgotten_singly_and_by_run(ledger: Ledger) -> None:
    for name, run_id in (("a", "r"), ("b", "r"), ("c", "r"), ("d", "other")):
        ledger.channels.open(name, run_id, f"link {name}", now=T0)
        exchange(ledger, HOME, (1, b"x"), channel=name, link=f"link {name}")
    ledger.channels.forget("a")
    ledger.channels.forget("a")
    assert exchange(ledger, WORKER, channel="a", link="link a").link is None
    assert ledger.channels.forget_run("r") == 2
    assert ledger.channels.forget_run("r") == 0
    assert exchange(ledger, WORKER, channel="d", link="link d").parcels == ((1, b"x"),)
    # Not even under the same link's name is anything left of the others.
    ledger.channels.open("b", "r", "link b", now=T0)
    assert exchange(ledger, WORKER, channel="b", link="link b") == Delivery(link="link b")


def test_what_dead_runs_left_is_forgotten(ledger: Ledger) -> None:
    hour = timedelta(hours=1)
    for run_id in ("alive", "ended", "never"):
        ledger.channels.open(run_id, run_id, run_id, now=T0)
        if run_id != "never":
            ledger.hold_run(run_id, "host/1/1", expires_at=T0 + hour)
    ledger.channels.open("young", "young", "young", now=T0 + hour)
    ledger.end_run("ended", now=T0)
    assert ledger.channels.forget_dead(before=T0) == 0
    assert ledger.channels.forget_dead(before=T0 + hour) == 2
    left = [n for n in ("alive", "ended", "never", "young") if ledger.channels.take(n, "me")]
    assert left == ["alive", "young"]
