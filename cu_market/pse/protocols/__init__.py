"""How a predictor is judged: replays of traces, in the published order and in the order of life."""
