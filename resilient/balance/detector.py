"""The detector of one service: counts results, ejects endpoints, and restores them."""

from __future__ import annotations

from _thread import allocate_lock  # the cap holds for all threads; nothing waits inside it
from collections.abc import Hashable, Iterable, Mapping, Sequence
from itertools import islice
from random import Random
from typing import TYPE_CHECKING

from resilient.balance.deviation import latency_outliers, success_rate_outliers
from resilient.balance.endpoint import EndpointStats
from resilient.balance.evidence import Evidence
from resilient.balance.ramp import Ramp
from resilient.core.outcome import Kind, Origin, Outcome, Safety

if TYPE_CHECKING:
    from resilient.balance.outlier import OutlierDetection

NEVER = float("inf")
CAUSES = {
    "consecutive-failures": "failures in a row, of any cause",
    "consecutive-gateway-failures": "502, 503 or 504 in a row",
    "consecutive-local-failures": "connections refused, resets or timeouts in a row",
    "failure-ratio": "too large a share of failures in the window",
    "success-rate": "a success rate far below that of its peers",
    "latency": "a median latency far above that of its peers",
    "probe": "the first request after an ejection failed",
}
_GATEWAY = frozenset({502, 503, 504})
_PEERS_ASKED = 256  # at most, to see how a route fares with them
_FAILING = 2  # failures in a row: a single one is within the noise of any service


class OutlierDetector:
    """Finds endpoints that fail where their peers do not.

    What it knows about an endpoint is kept in its EndpointStats; a detector that takes over from
    another one continues with what that one had found.

    The owner calls `observe` with each result, `sweep` when `next_change` has come, and uses
    what `available` returns whenever either says that it has changed.
    """

    __slots__ = ("_ejected", "_lock", "_members", "_next_interval", "_setting", "next_change", "overflows")

    def __init__(self, setting: OutlierDetection) -> None:
        self._setting = setting
        self._lock = allocate_lock()
        self._members: Sequence[EndpointStats] = ()
        self._ejected: set[EndpointStats] = set()
        self._next_interval = NEVER
        self.next_change = NEVER
        """When `sweep` is due: the next return of an endpoint, or the end of the interval."""
        self.overflows = 0
        """Ejections that did not take place because the cap had been reached."""

    def after_fork(self) -> None:
        """In a forked child: a lock that a thread of the parent held is never released."""
        self._lock = allocate_lock()

    def observe(
        self,
        stats: EndpointStats,
        outcome: Outcome,
        now: float,
        rng: Random | None = None,
        *,
        route: Hashable | None = None,
    ) -> bool:
        """Count one result; True if the endpoint was ejected for it.

        Refused and ignored attempts are no evidence. `route`: what the request was about, if that
        is known. `rng`: for jitter; none without it.
        """
        evidence = stats.evidence
        if evidence is None:
            evidence = stats.evidence = Evidence(self._setting.window)
        if outcome.kind is Kind.SUCCESS:
            self._count_success(stats, evidence, outcome, now)
            if route is not None:
                evidence.heard(route, now, failed=False)
            return False
        if outcome.kind is not Kind.FAILURE or stats.ejected_until is not None:
            return False
        cause = self._count_failure(stats, evidence, outcome, now, route)
        if cause is None:
            return False
        with self._lock:
            return self._eject(stats, cause, now, rng)

    def _count_success(self, stats: EndpointStats, evidence: Evidence, outcome: Outcome, now: float) -> None:
        window = evidence.window
        if now >= window.end:
            window.turn(now)
        window.results += 1
        if stats.consecutive_failures:
            stats.consecutive_failures = evidence.gateway_failures = evidence.local_failures = 0
        if self._setting.latency_factor is not None:
            evidence.measure(outcome.seconds)
        if stats.ramp is not None and stats.ramp.is_complete(now):
            stats.ramp = None

    def _count_failure(
        self, stats: EndpointStats, evidence: Evidence, outcome: Outcome, now: float, route: Hashable | None
    ) -> str | None:
        """Count a failure; the cause for which the endpoint should be ejected, if there is one."""
        local = outcome.origin is Origin.LOCAL
        stats.consecutive_failures += 1
        evidence.window.record(True, now)
        evidence.local_failures = evidence.local_failures + 1 if local else 0
        evidence.gateway_failures = evidence.gateway_failures + 1 if outcome.status in _GATEWAY else 0
        # An endpoint that cannot be reached cannot be reached for any route.
        known = route if outcome.safety is not Safety.UNSENT else None
        if known is not None:
            evidence.heard(known, now, failed=True)
        is_probe = stats.ramp is not None and stats.ramp.failed
        cause = "probe" if is_probe else self._cause(stats, evidence, known)
        if cause is None or known is None or not self._is_the_routes(stats, evidence, known, now):
            return cause
        if stats.ramp is not None and is_probe:
            stats.ramp.probe_again()
        return None

    def _is_the_routes(self, stats: EndpointStats, evidence: Evidence, route: Hashable, now: float) -> bool:
        """True if it is the route that fails, and not the endpoint.

        Either the endpoint's other routes are fine, or the route fails with three of four peers.
        """
        since = now - self._setting.window
        if evidence.is_confined(route, since):
            return True
        peers = (peer.evidence for peer in islice(self._members, _PEERS_ASKED) if peer is not stats)
        rows = [row for peer in peers if peer is not None and (row := peer.failures_of(route, since)) is not None]
        return bool(rows) and 4 * sum(row >= _FAILING for row in rows) >= 3 * len(rows)

    def _cause(self, stats: EndpointStats, evidence: Evidence, route: Hashable | None) -> str | None:
        setting = self._setting
        run = evidence.routes.get(route) if route is not None else None
        # A success on another route ends the endpoint's run of failures, but not the route's.
        in_a_row = stats.consecutive_failures if run is None else max(stats.consecutive_failures, run.failures)
        if _reaches(evidence.local_failures, setting.consecutive_local_failures):
            return "consecutive-local-failures"
        if _reaches(evidence.gateway_failures, setting.consecutive_gateway_failures):
            return "consecutive-gateway-failures"
        if _reaches(in_a_row, setting.consecutive_failures):
            return "consecutive-failures"
        window = evidence.window
        if (
            setting.failure_ratio is not None
            and window.results >= setting.minimum_volume
            and window.failures >= setting.failure_ratio * window.results
        ):
            return "failure-ratio"
        return None

    def _eject(self, stats: EndpointStats, cause: str, now: float, rng: Random | None) -> bool:
        """Eject an endpoint, if one more may be. The caller holds the lock."""
        if stats.ejected_until is not None:
            return False
        if len(self._ejected) >= self._setting.ejectable(len(self._members)):
            self.overflows += 1
            if stats.ramp is not None and stats.ramp.failed:
                stats.ramp.probe_again()
            return False
        if self._setting.ejection_time(stats.ejections) < self._setting.max_ejection_time:
            stats.ejections += 1
        jitter = self._setting.ejection_jitter_ratio * rng.random() if rng is not None else 0.0
        stats.cause = cause
        stats.ejected_until = now + self._setting.ejection_time(stats.ejections) * (1.0 + jitter)
        self._ejected.add(stats)
        return True

    def _restore(self, stats: EndpointStats) -> None:
        self._ejected.discard(stats)
        stats.restore()
        stats.ramp = Ramp(self._setting.ramp, patience=self._setting.base_ejection_time)

    def restore(self, stats: EndpointStats) -> bool:
        """End an ejection before its time; False if there is none."""
        with self._lock:
            if stats.ejected_until is None:
                return False
            self._restore(stats)
            self._schedule()
            return True

    def sweep(self, all_stats: Sequence[EndpointStats], now: float, rng: Random | None = None) -> bool:
        """Restore those whose time is over; at the end of an interval compare all with each other.

        True if the endpoints in use have changed.
        """
        with self._lock:
            returning = [stats for stats in self._ejected if _is_over(stats, now)]
            for stats in returning:
                self._restore(stats)
            changed = bool(returning)
            if now >= self._next_interval:
                self._next_interval = now + self._setting.window
                _forgive(all_stats, now)
                changed = self._compare(all_stats, now, rng) or changed
            self._schedule()
            return changed

    def _schedule(self) -> None:
        returns = [stats.ejected_until for stats in self._ejected if stats.ejected_until is not None]
        self.next_change = min([self._next_interval, *returns])

    def _compare(self, all_stats: Iterable[EndpointStats], now: float, rng: Random | None) -> bool:
        """Eject those that differ too far from their peers."""
        peers = {stats: results for stats in all_stats if (results := self._results(stats, now)) is not None}
        suspects = [(stats, "success-rate") for stats in self._unreliable(peers, now)]
        suspects += [(stats, "latency") for stats in self._slow(peers)]
        return bool([stats for stats, cause in suspects if self._eject(stats, cause, now, rng)])

    def _results(self, stats: EndpointStats, now: float) -> Evidence | None:
        """The evidence of an endpoint in use with enough results in the window."""
        evidence, least = stats.evidence, self._setting.minimum_volume
        if evidence is None or stats.ejected_until is not None or evidence.window.results < least:
            return None
        if now >= evidence.window.end:
            evidence.window.turn(now)
        return evidence if evidence.window.results >= least else None

    def _unreliable(self, peers: Mapping[EndpointStats, Evidence], now: float) -> list[EndpointStats]:
        setting = self._setting
        rates = {
            stats: 1.0 - evidence.window.failures / evidence.window.results
            for stats, evidence in peers.items()
            if evidence.window.results >= setting.success_rate_minimum_volume
        }
        if setting.success_rate_stdev_factor is None or len(rates) < setting.success_rate_minimum_endpoints:
            return []
        since = now - setting.window
        outliers = success_rate_outliers(rates, setting.success_rate_stdev_factor)
        return [stats for stats in outliers if not peers[stats].is_confined_to_a_route(since)]

    def _slow(self, peers: Mapping[EndpointStats, Evidence]) -> list[EndpointStats]:
        if self._setting.latency_factor is None:
            return []
        medians = {stats: evidence.median for stats, evidence in peers.items() if evidence.median}
        return latency_outliers(medians, self._setting.latency_factor)

    def available(self, all_stats: Sequence[EndpointStats], now: float) -> list[EndpointStats]:
        """The endpoints that may be used; empty only if there are none at all.

        If the set has shrunk, more endpoints may be ejected than the cap allows; those due back
        first are restored. Call it at the start, and whenever the set or ejections change.
        """
        setting = self._setting
        with self._lock:
            self._members = all_stats
            self._ejected = {stats for stats in all_stats if stats.ejected_until is not None}
            excess = len(self._ejected) - setting.ejectable(len(all_stats))
            for stats in sorted(self._ejected, key=_return_time)[: max(0, excess)]:
                self._restore(stats)
            if self._next_interval == NEVER:
                self._next_interval = now + setting.window
            self._schedule()
            for stats in all_stats:
                if stats.evidence is not None and stats.evidence.length != setting.window:
                    stats.evidence = None
        return [stats for stats in all_stats if stats.ejected_until is None]


def _reaches(failures: int, limit: int | None) -> bool:
    return limit is not None and failures >= limit


def _return_time(stats: EndpointStats) -> float:
    return NEVER if stats.ejected_until is None else stats.ejected_until


def _is_over(stats: EndpointStats, now: float) -> bool:
    return stats.ejected_until is not None and stats.ejected_until <= now


def _forgive(all_stats: Iterable[EndpointStats], now: float) -> None:
    """Take one off the multiplier of each endpoint that has had its full share."""
    for stats in all_stats:
        is_back = stats.ejected_until is None and (stats.ramp is None or stats.ramp.is_complete(now))
        if stats.ejections and is_back:
            stats.ejections -= 1
