"""Recorded executions of workflows, as tasks: the readers."""
