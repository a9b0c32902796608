"""The market: takes bids, plans, re-checks, commits."""
