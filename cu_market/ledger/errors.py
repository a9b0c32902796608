"""What a ledger may answer with instead: it cannot be used, or somebody else was quicker."""

from __future__ import annotations

from cu_market.domain.problem import CUMarketError


class LedgerError(CUMarketError):
    """The ledger cannot be used; the message says why and what to do."""


class AwardTakenError(LedgerError):
    """An award's key has a row already: somebody has awarded that attempt meanwhile."""


class LeaseLostError(CUMarketError):
    """The caller's fencing token is no longer the row's, or the state forbids the move."""
