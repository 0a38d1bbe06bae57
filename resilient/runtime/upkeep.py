"""Upkeep: what keeps a service up to date while it is in use."""

from __future__ import annotations

from resilient.balance.endpoint import EndpointStats
from resilient.core.bound import Bound
from resilient.discovery.resolver import Endpoints, FixedResolver, Resolver
from resilient.runtime.breaker_mirror import BreakerMirror
from resilient.runtime.control import Control, Repeated, Watch
from resilient.runtime.health import HealthChecker


class Upkeep:
    """The watch, the health checks and the breaker's mirror of one service.

    Made first and started later: making it finds what is wrong and changes nothing, so that a
    configuration is known to be good before any of it is used. `previous`: the same service
    under its previous configuration, whose statistics it takes over.
    """

    def __init__(
        self,
        control: Control,
        bound: Bound,
        resolver: Resolver | None,
        now: float,
        *,
        previous: Bound | None = None,
        checks: bool = True,
    ) -> None:
        self.bound = bound
        self._control = control
        self._now = now
        self._resolver = resolver
        self._previous = previous
        self._fixed = resolver.endpoints() if isinstance(resolver, FixedResolver) else None
        if previous is not None:
            _try_balancer(bound, self._fixed or previous.endpoints)
        elif self._fixed is not None:
            bound.update(self._fixed, now)
        self._checker = control.checker(bound) if checks and bound.policy.health is not None else None

    def begin(self) -> None:
        """Take over from the previous service, and keep this one up to date."""
        bound, previous, now = self.bound, self._previous, self._now
        if previous is not None:
            bound.adopt(previous)
            if previous.endpoints:
                bound.update(previous.endpoints, now)
        if self._fixed is not None:
            bound.update(self._fixed, now)
        elif self._resolver is not None:
            bound.watch = self._control.watch(bound, self._resolver)
        if self._checker is not None:
            bound.checker = self._checker
            self._control.check(self._checker)
        if bound.breaker is not None and bound.breaker.remote is not None:
            mirror = BreakerMirror(bound.breaker)  # not before: it may be the breaker of `previous`
            bound.mirror = self._control.repeat(mirror.sync_once, mirror.interval)


def _try_balancer(bound: Bound, endpoints: Endpoints) -> None:
    """A user's balancer may reject these endpoints: find out before statistics are shared."""
    chosen = endpoints if bound.subset is None else bound.subset.select(endpoints)
    if chosen:
        bound.policy.balancer.picker([EndpointStats(endpoint) for endpoint in chosen])


def end_upkeep(control: Control, bound: Bound) -> None:
    """Stop keeping a service up to date that is no longer in use."""
    for job in (bound.watch, bound.checker, bound.mirror):
        if isinstance(job, (Watch, HealthChecker, Repeated)):
            control.stop(job)


def renew_upkeep(control: Control, bound: Bound, now: float) -> None:
    """In a forked child: the parent's jobs do not run here; start the same ones anew."""
    watch, checker = bound.watch, bound.checker
    bound.after_fork(now)
    resolver = watch.resolver if isinstance(watch, Watch) else None
    Upkeep(control, bound, resolver, now, checks=checker is not None).begin()
