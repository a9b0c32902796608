"""Scaling ahead: what will be asked for, and which CUs are started before it is."""
