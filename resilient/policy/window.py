"""Window: how many of the results of the last seconds were failures."""

from __future__ import annotations

BUCKETS = 10
"""Per window, as in Hystrix and Polly: the oldest result in it is 0.9 to 1.0 windows old."""


class Window:
    """Results and failures of the last `length` seconds, in a ring of ten buckets.

    Buckets begin at multiples of their width, so a result always falls into the same one,
    whatever was recorded before it. After a pause longer than the window nothing of the
    ring is left. A time before that of the latest result counts as that of the latest.

    The ring holds the buckets that are complete; what is in `results` beyond them belongs to
    the current one. So counting is one addition, and `turn` does the work.
    """

    __slots__ = ("_failures", "_results", "_tick", "_width", "end", "failures", "results")

    def __init__(self, length: float) -> None:
        self._width = length / BUCKETS
        self._results = [0] * BUCKETS
        self._failures = [0] * BUCKETS
        self._tick = 0
        self.end = float("-inf")
        """When the current bucket is complete: `turn` has to come before a result is counted."""
        self.results = 0
        """In the window as of the latest result."""
        self.failures = 0
        """How many of them were failures."""

    def record(self, failed: bool, now: float) -> None:
        """Count one result."""
        if now >= self.end:
            self.turn(now)
        self.results += 1
        if failed:
            self.failures += 1

    def turn(self, now: float) -> None:
        """Put the current bucket into the ring, and forget those that have left the window."""
        tick = max(self._tick, int(now // self._width))
        slot = self._tick % BUCKETS
        self._results[slot] = self.results - sum(self._results)
        self._failures[slot] = self.failures - sum(self._failures)
        for passed in range(max(self._tick + 1, tick - BUCKETS + 1), tick + 1):
            self._results[passed % BUCKETS] = self._failures[passed % BUCKETS] = 0
        self._tick = tick
        self.end = (tick + 1) * self._width
        self.results = sum(self._results)
        self.failures = sum(self._failures)
