"""Both ends of a channel by way of the ledger's database, for CUs that nothing else reaches."""
