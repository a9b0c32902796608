"""What a run asks for: its outline, its past and its forecasts as sized requests."""
