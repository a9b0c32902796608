"""The solver in a process of its own."""
