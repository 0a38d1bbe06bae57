"""A service with its policy bound: the state that all calls of the service share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import copy
from random import Random
from typing import TYPE_CHECKING, Any, Protocol

from resilient.balance.endpoint import Endpoint, EndpointStats, Locality
from resilient.balance.hash_key import HashOn
from resilient.balance.layered import layered
from resilient.balance.locality import NOWHERE
from resilient.balance.picker import Pick, Picker
from resilient.balance.ramp import Ramp
from resilient.balance.subset import Subset
from resilient.core.classify import is_draining
from resilient.core.outcome import Classifier, Kind, Outcome
from resilient.policy.breaker import Breaker

if TYPE_CHECKING:
    from resilient.core.effects import Send
    from resilient.policy.policy import Policy

NEVER = float("inf")
_MEMORY = 600.0  # seconds for which an address that has gone is remembered
_SMOOTHING = 0.05  # of `typical`: about the last twenty calls
_SLOW = 2.0  # times `typical`: what a cold endpoint takes at least


def _ignore(error: Exception) -> None:
    """Nobody asked for what a listener raised."""


class Watched(Protocol):
    """Where one waits for the first resolution. The control thread's Watch is one."""

    def subscribe(self, waiter: Any) -> None:
        """Wake `waiter` once there are endpoints, or a reason why not."""

    def unsubscribe(self, waiter: Any) -> None:
        """Forget a waiter."""


class Checked(Protocol):
    """Who checks the health of a service's endpoints. The control thread's HealthChecker is one."""

    def changed(self) -> None:
        """The members are others now."""


class Bound:
    """Endpoints, picker, breaker, budget and limit of one service.

    `picker` is replaced, never changed: a call loads it once per attempt. Statistics outlive
    every change of the endpoint set and are dropped only when an address has been gone and
    idle, so that an address that comes back soon is not a stranger.
    """

    __slots__ = (
        "_left",
        "_stats",
        "_version",
        "breaker",
        "checker",
        "classifier",
        "endpoints",
        "failure",
        "hash_on",
        "hedge",
        "limit",
        "locality",
        "members",
        "mirror",
        "name",
        "next_change",
        "outlier",
        "pacing",
        "picker",
        "policy",
        "retry",
        "rng",
        "subset",
        "throttle",
        "typical",
        "watch",
    )

    def __init__(
        self,
        name: str,
        policy: Policy,
        rng: Random,
        classifier: Classifier,
        report: Callable[[Exception], None] = _ignore,
        *,
        locality: Locality = NOWHERE,
        subset: Subset | None = None,
    ) -> None:
        self.name = name
        self.policy = policy
        self.rng = rng
        self.classifier = policy.classifier or classifier
        self.locality = locality
        """Where this process runs."""
        self.subset = subset
        """Which of the endpoints are used; None for all."""
        self.retry = policy.retry.bind() if policy.retry is not None else None
        breaker = Breaker.coerce(policy.breaker) if policy.breaker is not None else None
        self.breaker = breaker.bind(name, report) if breaker is not None else None
        self.hedge = policy.hedge.bind() if policy.hedge is not None else None
        self.limit = policy.limit.bind() if policy.limit is not None else None
        self.throttle = policy.throttle.bind() if policy.throttle is not None else None
        self.pacing = policy.pacing.bind() if policy.pacing is not None else None
        self.outlier = policy.outlier.bind() if policy.outlier is not None else None
        self.hash_on: HashOn | None = getattr(policy.balancer, "hash_on", None)
        """What of a request decides its endpoint, for balancers that hash."""
        self.endpoints: tuple[Endpoint, ...] = ()
        """What discovery has found."""
        self.members: tuple[EndpointStats, ...] = ()
        """The statistics of those that belong to the subset, in their order, usable or not."""
        self.picker: Picker | None = None
        """None until the service was resolved for the first time."""
        self.failure: Exception | None = None
        """Why the latest resolution failed; None once one succeeded."""
        self.next_change = NEVER
        """When ejections and verdicts on health must be looked at again."""
        self.typical: float | None = None
        """Moving average of the seconds of successes: what an attempt usually takes."""
        self.watch: Watched | None = None
        """Who keeps the endpoints up to date; None if they are fixed."""
        self.mirror: object = None
        """What keeps a breaker in step with the storage that it shares with other processes."""
        self.checker: Checked | None = None
        """Who checks health; None if nobody does."""
        self._stats: dict[str, EndpointStats] = {}
        self._left: dict[str, float] = {}
        """When the addresses went that are in `_stats` but not among the members."""
        self._version = 0

    def adopt(self, previous: Bound) -> None:
        """Take over from the same service under its previous policy what is still valid."""
        self._stats = previous._stats
        self._left = previous._left
        self.typical = previous.typical
        self.failure = previous.failure
        for name in ("breaker", "hedge", "limit", "pacing", "retry", "throttle"):
            if getattr(self.policy, name) == getattr(previous.policy, name):
                setattr(self, name, getattr(previous, name))
        if self.outlier is None:
            for stats in list(self._stats.values()):
                if stats.ejected_until is not None or stats.ramp is not None:
                    stats.restore()

    def update(self, endpoints: Iterable[Endpoint], now: float) -> None:
        """Take over a new set of endpoints; statistics of known addresses are kept."""
        fresh = tuple(endpoints)
        self.failure = None
        if fresh == self.endpoints and self.picker is not None:
            return
        chosen = fresh if self.subset is None else self.subset.select(fresh)
        new = [endpoint for endpoint in chosen if endpoint.address not in self._stats]
        members = tuple(self._known(endpoint, now) for endpoint in chosen)
        if self.members and 2 * len(new) <= len(members):
            for endpoint in new:
                self._introduce(self._stats[endpoint.address], now)
        self.endpoints = fresh
        self.members = members
        self._forget(now)
        self.rebuild(now)
        if self.checker is not None:
            self.checker.changed()

    def _known(self, endpoint: Endpoint, now: float) -> EndpointStats:
        stats = self._stats.get(endpoint.address)
        if stats is None:
            stats = self._stats[endpoint.address] = EndpointStats(endpoint, now)
        stats.endpoint = endpoint
        return stats

    def _introduce(self, stats: EndpointStats, now: float) -> None:
        """Let an endpoint come slowly into a set that does without it: most of it is known.

        Where the newcomers are the majority, holding them back would overload the others.
        """
        if self.policy.slow_start:
            stats.ramp = Ramp(self.policy.slow_start, patience=self.policy.slow_start)
        if self.policy.health is not None and self.checker is not None:
            stats.unhealthy_until = now + self.policy.health.lease

    def _forget(self, now: float) -> None:
        present = {stats.address for stats in self.members}
        for address, stats in list(self._stats.items()):
            if address in present:
                self._left.pop(address, None)
            elif now - self._left.setdefault(address, now) > _MEMORY and stats.in_flight == 0:
                del self._stats[address], self._left[address]

    def rebuild(self, now: float) -> None:
        """Make a picker of the endpoints that may be used at `now`."""
        self._version += 1
        version = 0
        while version != self._version:  # another thread has changed something meanwhile
            version = self._version
            members = self.members
            fit = members if self.outlier is None else self.outlier.available(members, now)
            layers = self.policy.failover.layers(members, fit, self.locality)
            self.picker = layered(self.policy.balancer, layers)
        self._schedule()

    def _schedule(self) -> None:
        ends = [stats.unhealthy_until for stats in self.members if stats.unhealthy_until is not None]
        self.next_change = min(ends, default=NEVER)
        if self.outlier is not None:
            self.next_change = min(self.next_change, self.outlier.next_change)

    def pick(self, now: float, tried: tuple[EndpointStats, ...], key: bytes | None) -> Pick | None:
        """An endpoint for the next attempt; None if there is none."""
        if now >= self.next_change:
            self._look_again(now)
        assert self.picker is not None
        return self.picker.pick(now, self.rng, tried, key)

    def _look_again(self, now: float) -> None:
        """End what is over: ejections, and verdicts on health that nobody has renewed."""
        changed = self.outlier is not None and self.outlier.sweep(self.members, now, self.rng)
        for stats in self.members:
            if stats.unhealthy_until is not None and stats.unhealthy_until <= now:
                stats.unhealthy_until = None
                changed = True
        if changed:
            self.rebuild(now)
        else:
            self._schedule()

    def mark_unhealthy(self, stats: EndpointStats, until: float, now: float) -> None:
        """Keep an endpoint out for its health, until then or for longer if this is said again."""
        known, stats.unhealthy_until = stats.unhealthy_until, until
        if known is None:
            self.rebuild(now)
        else:
            self._schedule()

    def mark_healthy(self, stats: EndpointStats, now: float) -> None:
        """Let an endpoint in that was kept out for its health."""
        if stats.unhealthy_until is not None:
            stats.unhealthy_until = None
            self.rebuild(now)

    def restore(self, stats: EndpointStats, now: float) -> None:
        """End an ejection before its time: a check has found the endpoint well."""
        if self.outlier is not None and self.outlier.restore(stats):
            self.rebuild(now)

    def has_other(self, stats: EndpointStats) -> bool:
        """True if an endpoint other than this one is in use."""
        return any(other is not stats and other.is_usable for other in self.members)

    def feedback(self, send: Send, outcome: Outcome, now: float, route: Callable[[], str] | None = None) -> None:
        """Hand the result of an attempt to everything that learns from results; once for each.

        Called again for an attempt that has been observed, it changes nothing.
        """
        if not send.pick.observe(outcome, now):
            return
        if outcome.kind is Kind.SUCCESS:
            typical = self.typical
            self.typical = outcome.seconds if typical is None else typical + _SMOOTHING * (outcome.seconds - typical)
            ramp = send.pick.stats.ramp
            if ramp is not None and typical is not None and outcome.seconds > _SLOW * typical:
                ramp.delay(outcome.seconds, now)
        if send.permit is not None:
            send.permit.observe(outcome, now)
        if self.limit is not None:
            self.limit.observe(outcome, now)
        if self.throttle is not None and (outcome.kind is not Kind.IGNORED or outcome.is_overload):
            self.throttle.observe(outcome.is_overload, now)
        if self.pacing is not None:
            self.pacing.observe(outcome, now)
        if self.hedge is not None:
            self.hedge.observe(outcome, now)
        health = self.policy.health
        if health is not None and is_draining(outcome.response):
            self.mark_unhealthy(send.pick.stats, now + health.lease, now)
        if self.outlier is not None:
            stats = send.pick.stats
            # Told apart only where something fails: naming the route costs as much as the rest.
            is_telling = outcome.kind is Kind.FAILURE or stats.consecutive_failures
            about = route() if route is not None and is_telling else None
            if self.outlier.observe(stats, outcome, now, self.rng, route=about):
                self.rebuild(now)

    def late_failure(self, stats: EndpointStats, outcome: Outcome, now: float) -> None:
        """Count a body that broke after its headers had counted as a success."""
        if outcome.kind is not Kind.FAILURE:
            return
        stats.failures += 1
        if self.outlier is not None and self.outlier.observe(stats, outcome, now, self.rng):
            self.rebuild(now)

    def had_its_time(self, seconds: float) -> bool:
        """True if an attempt that lasted so long had time enough to tell about its endpoint.

        Four times the usual: a fixed number would be tiny for one service and endless for
        another. Unknown counts as enough, or a service that only ever hangs has no evidence.
        """
        return self.typical is None or seconds >= 4 * self.typical

    def after_fork(self, now: float) -> None:
        """In a forked child: what was in flight is the parent's, and so are held locks.

        Statistics become copies: a pick of the parent's that ends here too counts on the old.
        """
        self._stats = {address: copy(stats) for address, stats in self._stats.items()}
        for stats in self._stats.values():
            stats.in_flight = 0
        self.members = tuple(self._stats[stats.address] for stats in self.members)
        self.watch = self.mirror = self.checker = None
        if self.policy.limit is not None:
            self.limit = self.policy.limit.bind()
        if self.breaker is not None:
            self.breaker.after_fork()
        if self.outlier is not None:
            self.outlier.after_fork()
        if self.picker is not None:
            self.rebuild(now)

    @property
    def in_flight(self) -> int:
        """Attempts in flight, over all endpoints ever known."""
        # A copy in one step: the control thread may add to it meanwhile.
        return sum(stats.in_flight for stats in list(self._stats.values()))
