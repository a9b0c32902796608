"""The commands of the predictive scaling engine: `cu-market pse ...`."""
