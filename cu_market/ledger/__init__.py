"""The ledger: auctions, leases, settlements, history. Its modules are imported where used."""
