"""`cu-market check`: whether everything that a run will need is there, tried for real."""
