"""Selection at scale: thousands of requests and hundreds of bids, starts given, in arrays."""
