"""What a call leaves behind: a response whose body is still open."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resilient.balance.picker import Pick
    from resilient.core.bound import Bound
    from resilient.policy.limit import LimitState


class Held:
    """What a response with an open body still occupies; `release` gives it back, once."""

    __slots__ = ("_limit", "_pick", "bound")

    def __init__(self, bound: Bound, pick: Pick, limit: LimitState | None) -> None:
        self.bound = bound
        self._pick: Pick | None = pick
        self._limit = limit

    def broke(self, error: Exception, now: float) -> None:
        """The body ended in an error: counted against the endpoint, beside its good headers."""
        if self._pick is not None:
            self.bound.late_failure(self._pick.stats, self.bound.classifier.classify(None, error), now)

    def release(self) -> None:
        """The body was read, closed or lost."""
        pick, self._pick = self._pick, None
        if pick is not None:
            pick.release()
            if self._limit is not None:
                self._limit.release()
