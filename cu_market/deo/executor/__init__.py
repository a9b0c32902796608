"""The executor: routes a run's steps to the CUs that won them."""
