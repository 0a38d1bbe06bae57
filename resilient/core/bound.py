"""A service with its policy bound: the state that all calls of the service share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from typing import TYPE_CHECKING, Any, Protocol

from resilient.balance.endpoint import Endpoint, EndpointStats
from resilient.balance.hash_key import HashOn
from resilient.balance.picker import Pick, Picker
from resilient.core.outcome import Classifier, Kind, Outcome
from resilient.policy.breaker import Breaker

if TYPE_CHECKING:
    from resilient.core.effects import Send
    from resilient.policy.policy import Policy

NEVER = float("inf")
_MEMORY = 600.0  # seconds for which an address that has gone is remembered
_SMOOTHING = 0.05  # of `typical`: about the last twenty calls


def _ignore(error: Exception) -> None:
    """Nobody asked for what a listener raised."""


class Watched(Protocol):
    """Where one waits for the first resolution. The control thread's Watch is one."""

    def subscribe(self, waiter: Any) -> None:
        """Wake `waiter` once there are endpoints, or a reason why not."""

    def unsubscribe(self, waiter: Any) -> None:
        """Forget a waiter."""


class Bound:
    """Endpoints, picker, breaker, budget and limit of one service.

    `picker` is replaced, never changed: a call loads it once per attempt. Statistics outlive
    every change of the endpoint set and are dropped only when an address has been gone and
    idle, so that an address that comes back soon is not a stranger.
    """

    __slots__ = (
        "_stats",
        "breaker",
        "classifier",
        "endpoints",
        "failure",
        "hash_on",
        "hedge",
        "limit",
        "members",
        "mirror",
        "name",
        "next_change",
        "outlier",
        "picker",
        "policy",
        "retry",
        "rng",
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
    ) -> None:
        self.name = name
        self.policy = policy
        self.rng = rng
        self.classifier = policy.classifier or classifier
        self.retry = policy.retry.bind() if policy.retry is not None else None
        breaker = Breaker.coerce(policy.breaker) if policy.breaker is not None else None
        self.breaker = breaker.bind(name, report) if breaker is not None else None
        self.hedge = policy.hedge.bind() if policy.hedge is not None else None
        self.limit = policy.limit.bind() if policy.limit is not None else None
        self.outlier = policy.outlier.bind() if policy.outlier is not None else None
        self.hash_on: HashOn | None = getattr(policy.balancer, "hash_on", None)
        """What of a request decides its endpoint, for balancers that hash."""
        self.endpoints: tuple[Endpoint, ...] = ()
        self.members: tuple[EndpointStats, ...] = ()
        """The statistics of `endpoints`, in their order, ejected ones included."""
        self.picker: Picker | None = None
        """None until the service was resolved for the first time."""
        self.failure: Exception | None = None
        """Why the latest resolution failed; None once one succeeded."""
        self.next_change = NEVER
        """When ejections must be looked at again."""
        self.typical: float | None = None
        """Moving average of the seconds of successes: what an attempt usually takes."""
        self.watch: Watched | None = None
        """Who keeps the endpoints up to date; None if they are fixed."""
        self.mirror: object = None
        """What keeps a breaker in step with the storage that it shares with other processes."""
        self._stats: dict[str, EndpointStats] = {}

    def adopt(self, previous: Bound) -> None:
        """Take over from the same service under its previous policy what is still valid."""
        self._stats = previous._stats
        self.typical = previous.typical
        self.failure = previous.failure
        for name in ("breaker", "hedge", "limit", "retry"):
            if getattr(self.policy, name) == getattr(previous.policy, name):
                setattr(self, name, getattr(previous, name))

    def update(self, endpoints: Iterable[Endpoint], now: float) -> None:
        """Take over a new set of endpoints; statistics of known addresses are kept."""
        fresh = tuple(endpoints)
        self.failure = None
        if fresh == self.endpoints and self.picker is not None:
            return
        members = []
        for endpoint in fresh:
            stats = self._stats.get(endpoint.address)
            if stats is None:
                stats = self._stats[endpoint.address] = EndpointStats(endpoint, now)
            stats.endpoint = endpoint
            members.append(stats)
        self.endpoints = fresh
        self.members = tuple(members)
        self._forget(now)
        self.rebuild(now)

    def _forget(self, now: float) -> None:
        present = {stats.address for stats in self.members}
        for address, stats in list(self._stats.items()):
            if address not in present and stats.in_flight == 0 and now - stats.stamp > _MEMORY:
                del self._stats[address]

    def rebuild(self, now: float) -> None:
        """Make a picker of the endpoints that may be used at `now`."""
        usable = self.members
        if self.outlier is not None:
            usable = tuple(self.outlier.available(self.members, now))
            self.next_change = self.outlier.next_change
        self.picker = self.policy.balancer.picker(usable)

    def pick(self, now: float, tried: tuple[EndpointStats, ...], key: bytes | None) -> Pick | None:
        """An endpoint for the next attempt; None if there is none."""
        if now >= self.next_change:
            assert self.outlier is not None
            if self.outlier.sweep(self.members, now, self.rng):
                self.rebuild(now)
            self.next_change = self.outlier.next_change
        assert self.picker is not None
        return self.picker.pick(now, self.rng, tried, key)

    def has_other(self, stats: EndpointStats) -> bool:
        """True if an endpoint other than this one is in use."""
        return any(other is not stats and other.ejected_until is None for other in self.members)

    def feedback(self, send: Send, outcome: Outcome, now: float) -> None:
        """Hand the result of an attempt to everything that learns from results; once for each.

        Called again for an attempt that has been observed, it changes nothing.
        """
        if not send.pick.observe(outcome, now):
            return
        if outcome.kind is Kind.SUCCESS:
            typical = self.typical
            self.typical = outcome.seconds if typical is None else typical + _SMOOTHING * (outcome.seconds - typical)
        if send.permit is not None:
            send.permit.observe(outcome, now)
        if self.limit is not None:
            self.limit.observe(outcome, now)
        if self.hedge is not None:
            self.hedge.observe(outcome, now)
        if self.outlier is not None and self.outlier.observe(send.pick.stats, outcome, now, self.rng):
            self.rebuild(now)

    def late_failure(self, stats: EndpointStats, outcome: Outcome, now: float) -> None:
        """Count a body that broke after its headers had counted as a success."""
        stats.failures += 1
        if self.outlier is not None and self.outlier.observe(stats, outcome, now, self.rng):
            self.rebuild(now)

    def had_its_time(self, seconds: float) -> bool:
        """True if an attempt that lasted so long had time enough to tell about its endpoint.

        Four times the usual: a fixed number would be tiny for one service and endless for
        another. Unknown counts as enough, or a service that only ever hangs has no evidence.
        """
        return self.typical is None or seconds >= 4 * self.typical

    def reset_in_flight(self) -> None:
        """In a forked child: what was in flight is the parent's."""
        for stats in self._stats.values():
            stats.in_flight = 0
        if self.policy.limit is not None:
            self.limit = self.policy.limit.bind()

    @property
    def in_flight(self) -> int:
        """Attempts in flight, over all endpoints ever known."""
        return sum(stats.in_flight for stats in self._stats.values())
