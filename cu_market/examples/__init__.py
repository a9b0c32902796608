"""Pipelines to try the market on."""
