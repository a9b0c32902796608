"""What every provider must keep, as tests that a provider's own suite inherits."""
