"""Distributed execution orchestrator: launcher, executor, workers."""
