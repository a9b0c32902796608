"""What carries bytes to a worker that its provider cannot reach: handed in, see WorkerLaunch.

A provider knows how to start a worker where nothing else leads to it; whoever runs the market knows
a way that both ends have, such as the ledger's database. Neither knows the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from cu_market.domain.problem import CUMarketError


class CutError(CUMarketError, OSError):
    """A connection is of no use any more, or none could be made; another may be."""


class Channel(Protocol):
    """One connection to a worker's host, for use by one thread.

    Every method but close raises CutError, or the provider's own error, where it is cut.
    """

    def fileno(self) -> int:
        """Returns a descriptor that is readable when receive() would not block."""

    def has_buffered(self) -> bool:
        """Whether receive() would not block, though the descriptor does not show it."""

    def send(self, data: bytes) -> None:
        """Sends bytes."""

    def receive(self) -> bytes:
        """Returns what has arrived, perhaps nothing of interest: then it is empty."""

    def close(self) -> None:
        """Closes the connection at once."""


class Carrier(Protocol):
    """Makes connections by some way of its own.

    Attributes:
        program: Python module that the worker's host runs beside it as the other end, with the
            token in its environment; it talks to the host's socket as an exec's bridge does.
        environment: more of its environment: where to go, by reference; never a secret's value.
    """

    program: str
    environment: Mapping[str, str]

    def connect(self, token: str, run_id: str, epoch: int = 0) -> Channel:
        """Returns a new connection; one that there was with this token is over. Its other end need
        not be there yet.

        Args:
            token: the session's.
            run_id: whose worker.
            epoch: of a run worker that has taken over from another it is later than that one's.

        Raises:
            CutError: not now, or the worker has one of a later epoch.
        """

    def forget(self, token: str, epoch: int = 0) -> None:
        """Clears away what is left of a worker's connections up to an epoch; nobody will ask for it
        again."""

    def forget_run(self, run_id: str) -> None:
        """Clears away what is left of all connections of a run that has ended."""
