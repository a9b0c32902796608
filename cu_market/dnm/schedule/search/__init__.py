"""Large-neighbourhood search: takes some CUs or a slice of time away and puts it back better.

Each round takes tasks off their CUs (some CUs that stand near each other in time, what runs in a
slice of time, or a path of the graph), inserts them again in a drawn order, and keeps the outcome
if it is not much dearer than the best so far; how much is lowered to nothing on the way
(record-to-record travel: Dueck, "New optimization heuristics", 1993; the neighbourhoods: Shaw,
"Using constraint programming and local search methods to solve vehicle routing problems", 1998).

Draws come from a fixed seed, so equal input gives an equal schedule whenever the clock did not cut.
The rounds are compiled (numba): a round takes some ten microseconds instead of most of a
millisecond, and plans get better with the rounds.
"""

from cu_market.dnm.schedule.search.driver import WIDEST, Outcome, Pool, search, warm

__all__ = ["WIDEST", "Outcome", "Pool", "search", "warm"]
