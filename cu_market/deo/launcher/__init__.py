"""The run launcher: auctions a run before its base launches it; health; reaper."""
