"""Flights out of New York in 2013: a data team's pipeline, from raw files to a trained model."""
