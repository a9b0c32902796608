"""The first allocation and what follows each failure, at the least expected cost."""
