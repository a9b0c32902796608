"""Accounts: whose turn it is, and what an account or a run may still spend."""
