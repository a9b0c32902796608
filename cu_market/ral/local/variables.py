"""Environment variables between whoever starts a worker and the worker: light, as that is."""

STANDBY_VARIABLE = "CU_MARKET_STANDBY_SECONDS"
"""Set where a worker was started ahead of its run: how long it stands by without a look."""
