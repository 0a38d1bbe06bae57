"""What a call leaves behind: a response whose body is still open."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from resilient.balance.picker import Pick
    from resilient.core.bound import Bound
    from resilient.core.lag import Lag
    from resilient.policy.limit import LimitState


class Held:
    """What a response with an open body still occupies; `release` gives it back, once."""

    __slots__ = ("_lag", "_limit", "_picks", "_route", "bound")

    def __init__(
        self,
        bound: Bound,
        pick: Pick,
        limit: LimitState | None,
        route: Callable[[], str] | None = None,
        lag: Lag | None = None,
    ) -> None:
        self.bound = bound
        self._route = route
        self._lag = lag
        self._picks = [pick]
        """A list: of two threads that close a response at once, only one gets the pick from `pop`."""
        self._limit = limit

    def broke(self, error: Exception, now: float) -> None:
        """The body ended in an error: counted against the endpoint, although its headers were a success.

        Not while our own event loop is late: the peer may have given up on us.
        """
        if self._lag is not None and self._lag.is_high(now):
            return
        for pick in tuple(self._picks):
            self.bound.late_failure(pick.stats, self.bound.classifier.classify(None, error), now, self._route)

    def release(self) -> bool:
        """The body was read, closed or lost; False if that was already known."""
        try:
            pick = self._picks.pop()
        except IndexError:
            return False
        pick.release()
        if self._limit is not None:
            self._limit.release()
        return True
