"""Lower bounds that hold whatever a solver said."""
