"""Replay of recorded workflows on virtual time through the production planner and predictor."""
