"""Renegotiation: what has not started is asked for anew, moved where it pays, grown in place."""
