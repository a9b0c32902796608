"""SQL of channels: links and the parcels under way on them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    case,
    delete,
    exists,
    false,
    insert,
    or_,
    select,
    update,
)

from cu_market.domain.problem import require
from cu_market.ledger.channels import Delivery, Parcel, Post, Sender
from cu_market.ledger.database import Database
from cu_market.ledger.location import parse_url, shown
from cu_market.ledger.records import to_us
from cu_market.ledger.schema import CHANNELS, HEAD, PARCELS, RUN_LEASES, VERSION


def open_channels(url: str) -> SqlChannels:
    """Returns the channels of the ledger at a URL, whose tables must be there: for a worker's end,
    which may have no right to make them.

    Raises:
        InvalidInputError: the URL names no ledger, or that of another version of cu_market.
        LedgerError: it cannot be reached or read.
    """
    database = Database(parse_url(url))
    stored = database.read(lambda connection: connection.scalar(select(VERSION.c.version_num)))
    require(
        stored == HEAD,
        f"ledger {shown(database.url)}: revision",
        stored,
        f"the cu_market here knows revision {HEAD}",
        "install the run worker's version of cu_market in the worker's image",
    )
    return SqlChannels(database)


class SqlChannels:
    """See channels.Channels."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def open(self, channel: str, run_id: str, link: str, *, epoch: int = 0, now: datetime) -> bool:
        """Makes a link the channel's present one, if that is not of a later epoch."""
        row = {"run_id": run_id, "link": link, "taker": "", "epoch": epoch, "opened_at": to_us(now)}
        return self._database.write(lambda c: _open(c, channel, row), f"channel {channel}")

    def take(self, channel: str, taker: str) -> str | None:
        """Returns the present link, taken by this taker, or None."""
        return self._database.write(lambda c: _take(c, channel, taker), f"channel {channel}")

    def exchange(self, sender: Sender, posts: Sequence[Post]) -> Mapping[str, Delivery]:
        """Stores, deletes and returns parcels."""
        if any(post.parcels or post.taken_to for post in posts):
            return self._database.write(lambda c: _exchange(c, sender, posts, is_write=True))
        return self._database.look(lambda c: _exchange(c, sender, posts, is_write=False))

    def forget(self, channel: str, *, epoch: int = 0) -> None:
        """Deletes a channel and all that is under way, unless its link is of a later epoch."""
        which = and_(CHANNELS.c.channel == channel, CHANNELS.c.epoch <= epoch)
        self._database.write(lambda c: _forget(c, which), f"channel {channel}")

    def forget_run(self, run_id: str) -> int:
        """Deletes every channel of a run; returns how many."""
        return self._database.write(lambda c: _forget(c, CHANNELS.c.run_id == run_id))

    def forget_dead(self, *, before: datetime) -> int:
        """Deletes what no living run worker can want any more; returns how many channels."""
        return self._database.write(lambda c: _forget_dead(c, before))


def _open(connection: Connection, channel: str, row: Mapping[str, Any]) -> bool:
    is_it = CHANNELS.c.channel == channel
    # Locked before its parcels are, as exchange does: one order for all.
    former = connection.execute(
        select(CHANNELS.c.link, CHANNELS.c.epoch).where(is_it).with_for_update()
    ).first()
    if former is None:
        connection.execute(insert(CHANNELS).values(channel=channel, **row))
    elif former.epoch > row["epoch"]:
        return False
    elif former.link != row["link"]:  # else the answer to an earlier call was lost
        connection.execute(update(CHANNELS).where(is_it).values(row))
        connection.execute(delete(PARCELS).where(PARCELS.c.link == former.link))
    return True


def _take(connection: Connection, channel: str, taker: str) -> str | None:
    is_it = CHANNELS.c.channel == channel
    row = connection.execute(
        select(CHANNELS.c.link, CHANNELS.c.taker).where(is_it).with_for_update()
    ).first()
    if row is None:
        return None
    if row.taker not in ("", taker):
        _forget(connection, is_it)
        return None
    if not row.taker:
        connection.execute(update(CHANNELS).where(is_it).values(taker=taker))
    link: str = row.link
    return link


def _exchange(
    connection: Connection, sender: Sender, posts: Sequence[Post], *, is_write: bool
) -> dict[str, Delivery]:
    by_channel = {post.channel: post for post in posts}
    found = _read(connection, sender, posts, is_write=is_write)
    live = [
        post for post in posts if post.link and (d := found.get(post.channel)) and d[0] == post.link
    ]
    if is_write:
        stored = [
            {"link": post.link, "sender": sender.value, "number": number, "body": body}
            for post in live
            for number, body in post.parcels
            if number not in found[post.channel][2]
        ]
        if stored:
            connection.execute(insert(PARCELS), stored)
        done = [
            and_(PARCELS.c.link == post.link, PARCELS.c.number <= post.taken_to)
            for post in live
            if post.taken_to
        ]
        if done:
            theirs = PARCELS.c.sender == sender.other.value
            connection.execute(delete(PARCELS).where(theirs, or_(*done)))
    return {
        channel: _delivery(post, *found[channel]) if channel in found else Delivery(link=None)
        for channel, post in by_channel.items()
    }


def _read(
    connection: Connection, sender: Sender, posts: Sequence[Post], *, is_write: bool
) -> dict[str, tuple[str, list[Parcel], set[int]]]:
    """Returns by channel: its link, the other end's parcels, the numbers of the own ones.

    One statement. Bodies are read of those parcels alone that have not been seen yet.
    """
    is_new = [
        and_(PARCELS.c.link == post.link, PARCELS.c.number > post.seen_to)
        for post in posts
        if post.link
    ]
    is_wanted = and_(PARCELS.c.sender == sender.other.value, or_(false(), *is_new))
    body = case((is_wanted, PARCELS.c.body), else_=None)
    query = (
        select(
            CHANNELS.c.channel,
            CHANNELS.c.link,
            PARCELS.c.sender,
            PARCELS.c.number,
            body.label("body"),
        )
        .select_from(CHANNELS.outerjoin(PARCELS, PARCELS.c.link == CHANNELS.c.link))
        .where(CHANNELS.c.channel.in_([post.channel for post in posts]))
        .order_by(CHANNELS.c.channel, PARCELS.c.number)
    )
    if is_write:
        # The link must still be the present one when the parcels are stored.
        query = query.with_for_update(read=True, of=CHANNELS)
    found: dict[str, tuple[str, list[Parcel], set[int]]] = {}
    for row in connection.execute(query):
        _, theirs, own = found.setdefault(row.channel, (row.link, [], set()))
        if row.sender == sender.value:
            own.add(row.number)
        elif row.sender is not None:
            theirs.append((row.number, row.body or b""))
    return found


def _delivery(post: Post, link: str, theirs: Sequence[Parcel], own: set[int]) -> Delivery:
    if link != post.link:
        return Delivery(link=link)
    return Delivery(
        link=link,
        parcels=tuple(each for each in theirs if each[0] > post.seen_to),
        stale=tuple(number for number, _ in theirs if number <= post.seen_to),
        unread=len(own),
    )


def _forget(connection: Connection, which: ColumnElement[bool]) -> int:
    query = select(CHANNELS.c.channel, CHANNELS.c.link).where(which)
    rows = connection.execute(query.order_by(CHANNELS.c.channel).with_for_update()).all()
    return _delete(connection, [row.channel for row in rows], [row.link for row in rows])


def _forget_dead(connection: Connection, before: datetime) -> int:
    is_held = exists().where(
        RUN_LEASES.c.run_id == CHANNELS.c.run_id, RUN_LEASES.c.ended_at.is_(None)
    )
    count = _forget(connection, and_(CHANNELS.c.opened_at < to_us(before), ~is_held))
    connection.execute(delete(PARCELS).where(~exists().where(CHANNELS.c.link == PARCELS.c.link)))
    return count


def _delete(connection: Connection, channels: Iterable[str], links: Iterable[str]) -> int:
    unwanted = list(channels)
    if unwanted:
        connection.execute(delete(PARCELS).where(PARCELS.c.link.in_(list(links))))
        connection.execute(delete(CHANNELS).where(CHANNELS.c.channel.in_(unwanted)))
    return len(unwanted)
