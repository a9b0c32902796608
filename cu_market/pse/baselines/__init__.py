"""The rules that sizing is compared with, each a Predictor."""
