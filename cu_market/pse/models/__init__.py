"""The learned predictor: a mixture of closed-form experts, borrowing while it knows little."""
