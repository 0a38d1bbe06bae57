"""Peak EWMA: of two endpoints drawn at random, the one that will probably answer sooner.

The load of an endpoint is its cost times one more than what is in flight on it, in
proportion to its weight:

    load = cost(now) * (1 + in_flight / (weight / mean weight))

The cost is a moving average of seconds that follows a rise at once and forgets it with the
time constant `decay`; between results it falls towards 0, so that an endpoint which was slow
is tried again eventually (Finagle's P2CPeakEwma, Linkerd). Two draws and not a search for the
best: clients that all know the best endpoint all send to it.

It differs from Finagle and Linkerd in these points:

- The first draw, which is by weight, is kept unless the second has clearly less load
  (`tolerance`). Between equal endpoints the smaller cost is noise, and following it would
  undo the weights: the busier an endpoint, the more peaks it shows. Simulated with weights
  3:1 and latencies that vary by 30 %, the heavier one gets 50 % of the requests at tolerance
  1, 62 % at 0.8 and 72 % at 0.5. Between equal weights 0.8 is better: queues are shorter.
- Failures do not count with the time they took, or the endpoint that fails fastest would get
  the most requests. They count with `failure_penalty`, averaged and not as a peak: the cost
  becomes what a request costs on average, failures included. As a peak, one failure would
  take a good endpoint out for half a minute, and balancing would follow the latest failure.
  Simulated with 1 % of failures everywhere and one of ten endpoints ten times slower, the
  99th percentile is 19 ms on average and 121 ms as peaks; an endpoint that always fails
  loses its requests either way. A pause that the peer asks for is a peak: it is not noise.
- Endpoints that were never measured have no load while nothing is in flight on them, and more
  than any measured one while something is: each is probed once, and none is flooded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp
from random import Random

from resilient.balance.candidates import Candidates
from resilient.balance.endpoint import EndpointStats
from resilient.balance.picker import Pick
from resilient.core import check
from resilient.core.outcome import Kind, Outcome, Safety

_UNMEASURED = 1e6  # seconds of load for each request on an endpoint of unknown latency (Finagle's penalty)
_SHORTEST = 1e-6  # seconds; 0 would mean "never measured"
_SUPERSEDED = 2.0
"""The seconds that a hedge's loser was given, times this: what it would have taken in all. Where times
have a heavy tail, what has taken t takes another t or more on average (the mean residual life of a
Pareto tail with exponent 2). Taken once, a slow endpoint whose answers are never awaited passes for
one that is about as fast as its rivals: simulated with one of ten 20 times slower, 80 calls a second
and hedges at p95, it keeps 1.0 % of the attempts, and 0.4 % if they are taken twice."""
_LONGEST_PAUSE = 300.0  # seconds; a longer Retry-After is not believed (Linkerd)


@check.setting
@dataclass(frozen=True, slots=True)
class PeakEwma:
    """Of two endpoints, drawn by weight, the one with the smaller product of latency and load.

    `decay`: seconds in which a cost falls to 37 % (Finagle's, Linkerd's and Envoy's 10 s).
    `failure_penalty`: the least seconds that a failure counts for in the average. A Retry-After
    counts at once, up to 300 s. Default 1 s: much more than a request usually takes, and
    little enough to be made good by successes (Linkerd has 5 s).
    `tolerance`: the second endpoint is taken only if its load is below this fraction of the
    first one's; 1 is Finagle's and Linkerd's rule. Default None: 0.8 if all weights are equal,
    else 0.5.
    """

    decay: check.Seconds = 10.0
    failure_penalty: check.Seconds = 1.0
    tolerance: float | None = None

    def __post_init__(self) -> None:
        check.seconds("PeakEwma.decay", self.decay)
        check.seconds("PeakEwma.failure_penalty", self.failure_penalty, zero=True)
        if self.tolerance is not None:
            check.ratio("PeakEwma.tolerance", self.tolerance)

    def picker(self, endpoints: Sequence[EndpointStats]) -> PeakEwmaPicker:
        """A picker for this set."""
        return PeakEwmaPicker(self, endpoints)

    def cost_at(self, stats: EndpointStats, now: float) -> float:
        """The cost in seconds as of `now`. Changes nothing."""
        return stats.cost * exp((stats.stamp - now) / self.decay)

    def observe(self, stats: EndpointStats, outcome: Outcome, now: float) -> None:
        """Feed a result into the cost of an endpoint."""
        seconds = outcome.seconds
        if outcome.kind is Kind.SUCCESS:
            self._record(stats, seconds, now)
        elif outcome.kind is Kind.IGNORED:
            # It would have taken at least this long; what went wrong on our side says nothing.
            if outcome.reason == "superseded":
                seconds *= _SUPERSEDED
            if outcome.reason != "local" and seconds > self.cost_at(stats, now):
                self._record(stats, seconds, now)
        elif outcome.kind is Kind.FAILURE or outcome.safety is not Safety.UNSENT:
            pause = min(outcome.retry_after or 0.0, _LONGEST_PAUSE)
            self._record(stats, max(seconds, pause), now, self.failure_penalty)
        # What is left was refused on our side: it never came near the endpoint.

    def _record(self, stats: EndpointStats, seconds: float, now: float, penalty: float = 0.0) -> None:
        """Take `seconds` into the average, at once if they are above it; `penalty` only on average."""
        kept = exp((stats.stamp - now) / self.decay) if stats.cost else 0.0
        average = stats.cost * kept + max(seconds, penalty) * (1.0 - kept)
        stats.cost = max(seconds, average, _SHORTEST)
        stats.stamp = now


class PeakEwmaPicker:
    """Picks by load; knows nothing but the endpoints and the setting."""

    __slots__ = ("_candidates", "_setting", "_tolerance")

    def __init__(self, setting: PeakEwma, endpoints: Sequence[EndpointStats]) -> None:
        self._setting = setting
        self._candidates = Candidates(endpoints)
        usual = 0.8 if self._candidates.is_equal else 0.5
        self._tolerance = usual if setting.tolerance is None else setting.tolerance

    def load_at(self, stats: EndpointStats, now: float) -> float:
        """What a request would find at `now`, in seconds. Changes nothing."""
        queue: float = stats.in_flight
        if stats.cost == 0.0:
            return queue * _UNMEASURED
        if queue:
            queue *= self._candidates.mean_weight / stats.endpoint.weight
        return stats.cost * exp((stats.stamp - now) / self._setting.decay) * (1.0 + queue)

    def pick(
        self,
        now: float,
        rng: Random,
        tried: Sequence[EndpointStats] = (),
        key: bytes | None = None,  # noqa: ARG002
    ) -> Pick | None:
        """One of two endpoints; not one of `tried` if there is another."""
        if not self._candidates.count:
            return None
        first, second = self._candidates.pair(now, rng, tried)
        if second is not None and self.load_at(second, now) < self._tolerance * self.load_at(first, now):
            first = second
        return PeakEwmaPick(first, now, self._setting)


class PeakEwmaPick(Pick):
    """A pick whose result changes the cost of its endpoint."""

    __slots__ = ("_setting",)

    def __init__(self, stats: EndpointStats, now: float, setting: PeakEwma) -> None:
        super().__init__(stats, now)
        self._setting = setting

    def _learn(self, outcome: Outcome, now: float) -> None:
        self._setting.observe(self.stats, outcome, now)
