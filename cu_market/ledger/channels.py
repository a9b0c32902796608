"""Channels by way of the ledger's database, where nothing else reaches a worker.

A *link* is one connection of a channel: two streams of numbered parcels, one each way. Whoever
leases opens a new link where an older one was cut; the newest is the channel's, and what is under
way on others is forgotten. A parcel is a row until its receiver says that it has it. Nothing is
kept in a database session, so a pooler may stand between; nothing need survive a crash of the
server, since both ends keep what the other has not confirmed (``ral/kubernetes/session.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

Parcel = tuple[int, bytes]
"""Number, from 1 without a gap, and body; an empty body says that no more follow."""


class Sender(StrEnum):
    """Whose parcels: the run worker's, or those of the worker that it is connected to."""

    HOME = "home"
    WORKER = "worker"

    @property
    def other(self) -> Sender:
        """The other end."""
        return Sender.WORKER if self is Sender.HOME else Sender.HOME


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """What one end of a link has to say.

    Attributes:
        channel: which.
        link: that it believes to be the present one; empty: it only asks which is.
        parcels: to be stored; those that are there already are left as they are.
        seen_to: only later parcels of the other end are asked for.
        taken_to: parcels of the other end up to here are done with, and deleted; 0: none.
    """

    channel: str
    link: str = ""
    parcels: Sequence[Parcel] = ()
    seen_to: int = 0
    taken_to: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What the database has for one end of a link.

    Attributes:
        link: the channel's present one; None where there is no such channel. Where it is not the
            one of the post, nothing of the post was done.
        parcels: of the other end after ``seen_to``, in order.
        stale: numbers up to ``seen_to`` that are still, or again, there.
        unread: own parcels that were under way before this post's were stored.
    """

    link: str | None
    parcels: Sequence[Parcel] = ()
    stale: Sequence[int] = ()
    unread: int = 0


class Channels(Protocol):
    """Every method is one transaction; called again because its answer was lost, it does no harm.

    All raise LedgerError where the database cannot be used.
    """

    def open(self, channel: str, run_id: str, link: str, *, epoch: int = 0, now: datetime) -> bool:
        """Makes a link the channel's present one, and deletes what was under way on the last.

        Args:
            channel: whose.
            run_id: whose worker it leads to.
            link: its name, new.
            epoch: of the run worker; one that has taken over from another has a later one.
            now: the time.

        Returns:
            False where the present link is of a later epoch: then nothing was done.
        """

    def take(self, channel: str, taker: str) -> str | None:
        """Returns the present link, taken by this taker, or None where there is none.

        A link that another taker has is given up: its parcels may be half read. The run worker then
        finds it gone, and opens another.
        """

    def exchange(self, sender: Sender, posts: Sequence[Post]) -> Mapping[str, Delivery]:
        """Stores, deletes and returns parcels, of many channels at once; by channel."""

    def forget(self, channel: str, *, epoch: int = 0) -> None:
        """Deletes a channel and all that is under way, unless its link is of a later epoch."""

    def forget_run(self, run_id: str) -> int:
        """Deletes every channel of a run; returns how many."""

    def forget_dead(self, *, before: datetime) -> int:
        """Deletes channels opened before that whose run has no living run worker, and parcels that
        are on nobody's link; returns how many channels."""
