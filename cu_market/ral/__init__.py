"""Resource abstraction layer: providers, their registry, and the collection of their bids."""
