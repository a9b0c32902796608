"""Frozen records, integers with units, transition tables. Standard library only."""
