"""What a call leaves behind: a response whose body is still open."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resilient.core.outcome import Kind, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from resilient.balance.picker import Pick
    from resilient.core.bound import Bound
    from resilient.core.lag import Lag
    from resilient.policy.limit import LimitState


class Held:
    """What a response with an open body still occupies; `release` gives it back, once.

    If its headers were a success, its end decides what the attempt says about the endpoint: one
    result per attempt, or an endpoint that breaks all of its bodies would look half good.
    """

    __slots__ = ("_lag", "_limit", "_picks", "_route", "_seconds", "bound")

    def __init__(
        self,
        bound: Bound,
        pick: Pick,
        limit: LimitState | None,
        outcome: Outcome,
        route: Callable[[], str | None] | None = None,
        lag: Lag | None = None,
    ) -> None:
        self.bound = bound
        self._picks = [pick]
        """A list, since of two threads that close a response at once only one gets it by `pop`."""
        self._limit = limit
        self._seconds = outcome.seconds if outcome.kind is Kind.SUCCESS else None
        """Those of the headers, until the end of the body decides."""
        self._route = route
        self._lag = lag

    def broke(self, error: Exception, now: float) -> None:
        """The body ended in an error: counted against the endpoint.

        Not a timeout: how long a stream may be idle is known to its reader alone. Nor while our
        own event loop is late, since the peer may have given up on us.
        """
        seconds, self._seconds = self._seconds, None
        outcome = self.bound.classifier.classify(None, error)
        is_ours = outcome.is_timeout or (self._lag is not None and self._lag.is_high(now))
        if seconds is not None and outcome.kind is Kind.FAILURE and not is_ours:
            for pick in tuple(self._picks):
                pick.stats.failures += 1
                self.bound.judge(pick.stats, outcome, now, self._route)

    def release(self, now: float) -> bool:
        """The body was read, closed or lost; False if that was already known."""
        try:
            pick = self._picks.pop()
        except IndexError:
            return False
        if self._seconds is not None:
            outcome = Outcome(Kind.SUCCESS)
            outcome.seconds, self._seconds = self._seconds, None
            self.bound.judge(pick.stats, outcome, now, self._route)
        pick.release()
        if self._limit is not None:
            self._limit.release()
        return True
