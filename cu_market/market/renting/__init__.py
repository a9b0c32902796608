"""Renting: CUs that are sold whole are shared between the steps of the run that has them."""
