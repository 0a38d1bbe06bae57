"""Evidence: what the results of an endpoint say about it, kept by the outlier detector."""

from __future__ import annotations

from collections.abc import Hashable

from resilient.policy.window import Window

MAX_ROUTES = 16
"""Routes remembered for each endpoint; the one not heard of for longest makes room."""
_SAMPLES = 100
"""Successes per window whose route is asked for, at most: naming a route costs as much as the rest."""
_STEP = 1.05  # of the median: tenfold in 47 samples, and mostly within 20 % of it when steady


class RouteRun:
    """The failures in a row of one route on one endpoint, and when it was last heard of."""

    __slots__ = ("failures", "seen")

    def __init__(self, now: float) -> None:
        self.failures = 0
        self.seen = now


class Evidence:
    """The results of one endpoint: in a row by cause, in a window, and by route.

    `median` is an estimate of the median latency of successes: each sample moves it by one
    step up or down, so that no single one matters ("Frugal Streaming for Estimating
    Quantiles", 2013, with proportional steps); 0 while there is none.
    """

    __slots__ = (
        "gateway_failures",
        "length",
        "local_failures",
        "median",
        "routes",
        "sampled_until",
        "window",
    )

    def __init__(self, length: float) -> None:
        self.length = length
        self.window = Window(length)
        self.gateway_failures = 0
        """In a row, like `local_failures`."""
        self.local_failures = 0
        self.median = 0.0
        self.routes: dict[Hashable, RouteRun] = {}
        self.sampled_until = float("-inf")
        """Until then the route of a success need not be known, unless something has failed."""

    def clear(self) -> None:
        """Forget everything but the length of the window."""
        self.window = Window(self.length)
        self.gateway_failures = self.local_failures = 0
        self.median = 0.0
        self.routes.clear()

    def measure(self, seconds: float) -> None:
        """Move the median towards the latency of a success."""
        if self.median == 0.0:
            self.median = seconds
        elif seconds > self.median:
            self.median = min(seconds, self.median * _STEP)
        else:
            self.median = max(seconds, self.median / _STEP)

    def heard(self, route: Hashable, now: float, *, failed: bool) -> None:
        """Count the result of a request that was sent, on its route."""
        run = self.routes.get(route)
        if run is None:
            self._make_room()
            run = self.routes[route] = RouteRun(now)
        run.seen = now
        run.failures = run.failures + 1 if failed else 0
        # While one is failing, every success counts, or its failures would seem to be in a row.
        is_failing = failed or any(other.failures and now - other.seen < self.length for _, other in self._known())
        self.sampled_until = float("-inf") if is_failing else now + self.length / _SAMPLES

    def failures_of(self, route: Hashable, since: float) -> int | None:
        """Failures in a row of a route; None if it has not been heard of since then."""
        run = self.routes.get(route)
        return None if run is None or run.seen < since else run.failures

    def _known(self) -> list[tuple[Hashable, RouteRun]]:
        """A copy in one step: other threads may add routes meanwhile, and no lock is taken."""
        return list(self.routes.items())

    def _make_room(self) -> None:
        if len(self.routes) >= MAX_ROUTES:
            latest_first = sorted(self._known(), key=lambda one: one[1].seen, reverse=True)
            for route, _ in latest_first[MAX_ROUTES - 1 :]:
                self.routes.pop(route, None)

    def is_confined(self, route: Hashable, since: float) -> bool:
        """True if what fails is `route` alone, as far as has been heard since `since`.

        That is: another route's latest result was a success, and the others together have
        fewer than two failures at their ends. Two, because a single one is within the noise of
        any service, and a route that fails all the time would meet with one sooner or later.
        """
        others = [run for name, run in self._known() if name != route and run.seen >= since]
        return any(not run.failures for run in others) and sum(run.failures for run in others) < 2

    def is_confined_to_a_route(self, since: float) -> bool:
        """True if what fails is the route with the most failures in a row, alone."""
        worst = max(self._known(), key=lambda one: one[1].failures, default=None)
        return worst is not None and worst[1].failures > 0 and self.is_confined(worst[0], since)
