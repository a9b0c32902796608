"""Runs cleared together: what other runs wait for, planned and moved with a run's own steps."""
