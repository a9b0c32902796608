"""What people already have, as usage: traces, metrics, event logs. Pure."""
