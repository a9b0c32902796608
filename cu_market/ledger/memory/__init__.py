"""The ledger in memory: the twin that tests and simulations use. Gone with its process."""

from cu_market.ledger.memory.ledger import InMemoryLedger

__all__ = ["InMemoryLedger"]
