"""Lag: how late our own event loop is, as far as it affects results.

A loop that is kept busy by other work sees an answer late, and reports its own delay as the
peer's latency. The lag is measured by a timer that ticks while calls are under way
(runtime/lag.py): its ticks come as late as everything else.
"""

from __future__ import annotations

TICK = 0.02  # seconds between ticks: shorter stalls harm nothing, and 50 ticks a second cost nothing
THRESHOLD = 0.05
"""Seconds of lag from which a timeout says nothing about the peer: more than garbage collection takes."""
_NOISE = 0.005  # seconds by which timers are late anyway


class Lag:
    """The lag of one event loop. `threshold`: seconds of it from which a timeout says nothing about the peer."""

    __slots__ = ("_stalled_at", "_ticked", "due", "late", "threshold")

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self.due = float("inf")
        """When the next tick should come; infinity while none is expected."""
        self.late = 0.0
        """By how much the latest tick was late; 0 within the noise of timers."""
        self._ticked = float("-inf")
        self._stalled_at = float("-inf")

    def tick(self, now: float) -> None:
        """The tick that was due has come."""
        late = now - self.due
        self.late = late if late > _NOISE else 0.0
        self._ticked = now
        if late >= self.threshold:
            self._stalled_at = now
        self.due = float("inf")

    def seconds(self, now: float) -> float:
        """How late what happens now may be; 0 within the noise of timers."""
        late = now - self.due  # of a tick that is overdue, and not yet noted
        if now - self._ticked < TICK and self.late > late:
            late = self.late
        return late if late > _NOISE else 0.0

    def is_high(self, now: float) -> bool:
        """True while it is at or above the threshold."""
        return self.seconds(now) >= self.threshold

    def was_high(self, since: float, now: float) -> bool:
        """True if it was at or above the threshold at some moment since then."""
        return self._stalled_at >= since or self.is_high(now)
