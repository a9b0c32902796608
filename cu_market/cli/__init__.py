"""``cu-market``."""
