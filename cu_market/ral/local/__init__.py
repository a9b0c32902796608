"""The local provider: this machine's cores and memory, cut to the asked size."""
