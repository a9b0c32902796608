"""How much of one amount is taken over time: a step function of whole numbers."""

from __future__ import annotations

from bisect import bisect_left, bisect_right


class Timeline:
    """One room (a capacity's memory, a bid's units) with a constant limit.

    Attributes:
        limit: what there is.
    """

    __slots__ = ("_times", "_used", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._times: list[int] = [0]
        self._used: list[int] = [0]  # _used[k] holds from _times[k] until _times[k + 1]

    def used_at(self, at_ms: int) -> int:
        """Returns what is taken at that moment."""
        return self._used[max(0, bisect_right(self._times, at_ms) - 1)]

    def take(self, start_ms: int, end_ms: int, amount: int) -> None:
        """Adds an amount over [start, end); a negative one gives it back."""
        if end_ms <= start_ms:
            return
        first, last = self._cut(start_ms), self._cut(end_ms)
        for k in range(first, last):
            self._used[k] += amount

    def conflict_end(self, start_ms: int, end_ms: int, amount: int) -> int | None:
        """Returns when the last lack of room within [start, end) ends.

        Returns:
            start_ms if the amount has room throughout; None if it will never have.
        """
        k = max(0, bisect_right(self._times, start_ms) - 1)
        clear_ms = start_ms
        while k < len(self._times) and (self._times[k] < end_ms or self._times[k] <= start_ms):
            if self._used[k] + amount > self.limit:
                if k + 1 == len(self._times):
                    return None
                clear_ms = self._times[k + 1]
            k += 1
        return clear_ms

    def _cut(self, at_ms: int) -> int:
        """Makes a step at that moment and returns its index."""
        k = bisect_left(self._times, at_ms)
        if k < len(self._times) and self._times[k] == at_ms:
            return k
        self._times.insert(k, at_ms)
        self._used.insert(k, self._used[k - 1] if k else 0)
        return k
