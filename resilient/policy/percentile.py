"""A moving percentile of latencies, in constant memory."""

from __future__ import annotations

from math import exp, log

_GROWTH = log(1.1)  # of the width of buckets: an answer is at most 10 % too high
_SHORTEST = 1e-5
_BUCKETS = 180  # from 10 us to about five minutes


class MovingPercentile:
    """The percentile of what was recorded within the last one to two `window`s.

    Two histograms with logarithmic buckets, one being filled, one kept: the older goes when
    the younger has covered a window. The answer is looked up again after every 32 samples. There
    is none before the `minimum`: few samples say little about a tail.
    """

    __slots__ = ("_answer", "_current", "_minimum", "_previous", "ends", "ratio", "samples", "window")

    def __init__(self, ratio: float, window: float = 30.0, minimum: int = 20) -> None:
        self.ratio = ratio
        self._minimum = minimum
        self.window = window
        self._current = [0] * _BUCKETS
        self._previous = [0] * _BUCKETS
        self.ends = float("-inf")
        """When the histogram that is being filled is complete."""
        self.samples = 0
        """How many were recorded in all."""
        self._answer: float | None = None

    def record(self, seconds: float, now: float) -> None:
        """Count one latency."""
        if now >= self.ends:
            self._turn(now)
        bucket = int(log(max(seconds, _SHORTEST) / _SHORTEST) / _GROWTH)
        self._current[min(bucket, _BUCKETS - 1)] += 1
        self.samples += 1
        if self.samples & 31 == 0 or self._answer is None:
            self._answer = self._look_up()

    def _turn(self, now: float) -> None:
        # After a long silence both halves are old.
        idle = now >= self.ends + self.window
        self._previous = [0] * _BUCKETS if idle else self._current
        self._current = [0] * _BUCKETS
        self.ends = now + self.window
        self._answer = self._look_up()

    def _look_up(self) -> float | None:
        total = sum(self._current) + sum(self._previous)
        if total < self._minimum:
            return None
        wanted = self.ratio * total
        for bucket in range(_BUCKETS):
            wanted -= self._current[bucket] + self._previous[bucket]
            if wanted <= 0:
                return _SHORTEST * exp((bucket + 1) * _GROWTH)
        return None

    def value(self) -> float | None:
        """Seconds; None while too little has been recorded."""
        return self._answer
