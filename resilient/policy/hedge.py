"""Hedge: a second attempt beside a slow one, to another endpoint; the first success wins.

Dean and Barroso, "The Tail at Scale" (CACM 2013); Finagle's BackupRequestFilter for the moving
delay and the two budgets.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from resilient.core import check
from resilient.core.outcome import Kind, Outcome
from resilient.policy.budget import RetryBudget
from resilient.policy.percentile import MovingPercentile

_KNOWN = 5  # samples of a route that say more about it than all those of the service: mostly their maximum
_PERCENTILE = re.compile(r"p(\d+(?:\.\d+)?)", re.ASCII)
MAX_ROUTES = 32
"""Routes of a service whose latencies are kept apart; a stale one makes room, or the one with the fewest samples."""

Route = Callable[[], Hashable | None]
"""Names the route of a call; asked only where it matters."""


@check.setting
@dataclass(frozen=True, slots=True)
class Hedge:
    """When to start a second attempt beside one that takes long.

    `delay`: seconds, or a percentile such as "p95" of the recent latencies of the request's route;
    of the whole service while fewer than 5 are known for the route, and then nothing is hedged
    while fewer than 20 are known for the service. `max_extra_ratio`: hedges per call, at most;
    each draws from the retry budget as well. `minimum_delay`: a percentile below it is raised to
    it (Finagle: 1 ms).

    Only what is idempotent and has a body that can be sent twice is hedged. A failure never
    beats a success that is still to come. The loser is cancelled; in a thread, where nothing
    can be cancelled, it is abandoned and its response closed when it comes.
    """

    delay: check.Seconds | str = "p95"
    max_extra_ratio: float = 0.05
    minimum_delay: check.Seconds = 0.001

    def __post_init__(self) -> None:
        if isinstance(self.delay, str):
            _percentile(self.delay)
        else:
            check.seconds("Hedge.delay", self.delay, zero=True)
        check.ratio("Hedge.max_extra_ratio", self.max_extra_ratio)
        check.seconds("Hedge.minimum_delay", self.minimum_delay, zero=True)

    def bind(self) -> HedgeState:
        """A hedge that has measured nothing."""
        return HedgeState(self)


def _percentile(text: str) -> float:
    match = _PERCENTILE.fullmatch(text)
    value = float(match[1]) if match is not None else 0.0
    if not 0 < value < 100:
        raise check.fault("Hedge.delay", text, "seconds, or a percentile such as 'p95'")
    return value / 100


class HedgeState:
    """The measured delays and the budget of one service."""

    __slots__ = ("_budget", "_latencies", "_routes", "setting")

    def __init__(self, setting: Hedge) -> None:
        self.setting = setting
        self._latencies = MovingPercentile(_percentile(setting.delay)) if isinstance(setting.delay, str) else None
        self._routes: dict[Hashable, MovingPercentile] = {}
        # No floor: a client with few requests would exceed the share by it (Finagle's
        # maxExtraLoad has none either).
        self._budget = RetryBudget(ratio=setting.max_extra_ratio, min_per_second=0).bind()

    def begin(self, now: float, route: Route | None = None) -> float | None:
        """Count a call; returns the seconds after which it may be hedged, or None if nothing is known."""
        self._budget.deposit(now)
        if self._latencies is None:
            return float(self.setting.delay)
        own = self._routes.get(None if route is None else route())
        seconds = own.value() if own is not None else None
        if seconds is None:
            seconds = self._latencies.value()
        return None if seconds is None else max(seconds, self.setting.minimum_delay)

    def observe(self, outcome: Outcome, now: float, route: Route | None = None) -> None:
        """Learn the latency of an attempt.

        Only of successes, timeouts and losers: these say how long one may have to wait. A failure
        is often fast, and would drag the delay down (Finagle).
        """
        if self._latencies is None:
            return
        if outcome.kind is Kind.SUCCESS or outcome.reason in ("timeout", "superseded"):
            self._latencies.record(outcome.seconds, now)
            name = None if route is None else route()
            if name is not None:
                self._of(name, now).record(outcome.seconds, now)

    def _of(self, route: Hashable, now: float) -> MovingPercentile:
        known = self._routes.get(route)
        if known is None:
            assert self._latencies is not None
            while len(self._routes) >= MAX_ROUTES:
                # A copy in one step, since other threads make room too, and no lock is taken.
                least = min(list(self._routes.items()), key=lambda one: (one[1].ends >= now, one[1].samples))[0]
                self._routes.pop(least, None)
            known = self._routes[route] = MovingPercentile(self._latencies.ratio, minimum=_KNOWN)
        return known

    def withdraw(self, now: float) -> bool:
        """Take what one hedge costs from the hedges' own budget."""
        return self._budget.withdraw(now)

    def give_back(self, now: float) -> None:
        """Undo a withdrawal: the hedge was not made."""
        self._budget.give_back(now)
