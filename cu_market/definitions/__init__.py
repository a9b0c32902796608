"""The predictive scaling engine as Dagster assets, in a code location of its own."""
