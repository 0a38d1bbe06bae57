"""Outlier detection: an endpoint that fails where its peers do not is ejected for a while.

Envoy's, with these differences, each of which answers a complaint about it:

- The share that may be ejected is rounded up to one endpoint, and is never all of them, so it
  works for two endpoints as for two hundred. It also serves as the panic threshold: if more
  would have to go, the fault is not theirs.
- Failures of requests that were sent (5xx, resets, timeouts) eject it only if they are not
  confined to one route: they are if its other routes are fine, or if its peers fail with this
  one too. Failures to reach it always count.
- A ratio of failures ejects at once, not at the end of an interval.
- It comes back with one request and a ramp (`balance/ramp.py`), not with its full share.
"""

from __future__ import annotations

from dataclasses import dataclass

from resilient.balance.detector import CAUSES, OutlierDetector
from resilient.core import check

__all__ = ["CAUSES", "OutlierDetection", "OutlierDetector"]


@check.setting
@dataclass(frozen=True, slots=True)
class OutlierDetection:
    """When an endpoint is ejected, for how long, and how it returns. None switches a kind off.

    `consecutive_failures`: failures of any cause in a row (Envoy's consecutive_5xx: 5).
    `consecutive_gateway_failures`: 502, 503 and 504 alone; `consecutive_local_failures`: failures
    to connect, resets and timeouts alone. Both only make sense below `consecutive_failures`, and
    are off by default.
    `failure_ratio`, `minimum_volume`, `window`: the share of failures among the results of the
    last `window` seconds, once there are `minimum_volume`: 0.5 of 20 in 10 s (Envoy's failure
    percentage is 85 of 50, not enforced). `window` is also the interval of what follows.
    `success_rate_stdev_factor`, `success_rate_minimum_endpoints`, `success_rate_minimum_volume`:
    a success rate this many standard deviations below the mean, and at least 5 points below it,
    among at least this many endpoints with this many results each: 1.9, 5, 100 (Envoy, gRFC A50).
    `latency_factor`: a median latency more than this many times that of the median endpoint, of
    at least three with `minimum_volume` results; 3 is a good value. Off by default: PeakEwma
    sends less to a slow endpoint, and need not lose it for that.

    `base_ejection_time`, `max_ejection_time`: 30 s times the ejections so far, up to 300 s; one
    is forgotten in each `window` without one (Envoy). `ejection_jitter_ratio`: up to this share
    of it is added at random, or all clients would return at once: 0.1.
    `max_ejection_ratio`: of all endpoints, rounded down, but at least one; never all of them; 0
    ejects none. Default 0.34: one of three (Envoy: 0.1, which is none of nine).
    `ramp`: seconds until a returned endpoint has its full share again; 0 for at once.
    """

    consecutive_failures: int | None = 5
    consecutive_gateway_failures: int | None = None
    consecutive_local_failures: int | None = None
    failure_ratio: float | None = 0.5
    minimum_volume: int = 20
    window: check.Seconds = 10.0
    success_rate_stdev_factor: float | None = 1.9
    success_rate_minimum_endpoints: int = 5
    success_rate_minimum_volume: int = 100
    latency_factor: float | None = None
    base_ejection_time: check.Seconds = 30.0
    max_ejection_time: check.Seconds = 300.0
    ejection_jitter_ratio: float = 0.1
    max_ejection_ratio: float = 0.34
    ramp: check.Seconds = 30.0

    def __post_init__(self) -> None:
        for name in ("consecutive_failures", "consecutive_gateway_failures", "consecutive_local_failures"):
            if getattr(self, name) is not None:
                check.count(f"OutlierDetection.{name}", getattr(self, name))
        self._check_statistics()
        check.seconds("OutlierDetection.base_ejection_time", self.base_ejection_time)
        check.seconds("OutlierDetection.max_ejection_time", self.max_ejection_time)
        if self.max_ejection_time < self.base_ejection_time:
            raise check.fault(
                "OutlierDetection.max_ejection_time",
                self.max_ejection_time,
                f"at least base_ejection_time, {self.base_ejection_time:g}",
            )
        check.ratio("OutlierDetection.ejection_jitter_ratio", self.ejection_jitter_ratio)
        check.ratio("OutlierDetection.max_ejection_ratio", self.max_ejection_ratio)
        check.seconds("OutlierDetection.ramp", self.ramp, zero=True)

    def _check_statistics(self) -> None:
        if self.failure_ratio is not None:
            check.ratio("OutlierDetection.failure_ratio", self.failure_ratio)
            check.number("OutlierDetection.failure_ratio", self.failure_ratio, above=True)
        check.count("OutlierDetection.minimum_volume", self.minimum_volume)
        check.seconds("OutlierDetection.window", self.window)
        if self.success_rate_stdev_factor is not None:
            check.number("OutlierDetection.success_rate_stdev_factor", self.success_rate_stdev_factor)
        check.count("OutlierDetection.success_rate_minimum_endpoints", self.success_rate_minimum_endpoints, minimum=2)
        check.count("OutlierDetection.success_rate_minimum_volume", self.success_rate_minimum_volume)
        if self.latency_factor is not None:
            check.number("OutlierDetection.latency_factor", self.latency_factor, minimum=1.0, above=True)

    def bind(self) -> OutlierDetector:
        """A detector with nothing ejected."""
        return OutlierDetector(self)

    def ejectable(self, count: int) -> int:
        """How many of `count` endpoints may be ejected at one time."""
        if self.max_ejection_ratio == 0 or count < 2:
            return 0
        # 1e-9: a third of three is one, whatever floats make of 0.333... * 3.
        return min(count - 1, max(1, int(count * self.max_ejection_ratio + 1e-9)))

    def ejection_time(self, ejections: int) -> float:
        """Seconds of the ejection that brings the multiplier to `ejections`, without jitter."""
        return min(self.base_ejection_time * ejections, self.max_ejection_time)
