"""A service with its policy bound: the state that all calls of the service share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from typing import TYPE_CHECKING, Any, Protocol

from resilient.balance.endpoint import NOWHERE, Endpoint, EndpointStats, Locality
from resilient.balance.hash_key import HashOn
from resilient.balance.subset import Subset
from resilient.core.classify import is_draining
from resilient.core.membership import Membership
from resilient.core.outcome import Classifier, Kind, Outcome
from resilient.policy.breaker import Breaker, ignore

if TYPE_CHECKING:
    from resilient.core.effects import Send
    from resilient.policy.policy import Policy

_SMOOTHING = 0.05  # of `typical`: about the last twenty calls
_SLOW = 2.0  # times `typical`: what a cold endpoint takes at least


class Watched(Protocol):
    """Where calls wait for the first resolution, such as the control thread's Watch."""

    def subscribe(self, waiter: Any) -> None:
        """Wake `waiter` once there are endpoints, or a reason why not."""

    def unsubscribe(self, waiter: Any) -> None:
        """Forget a waiter."""


class Bound(Membership):
    """Members, breaker, budget and limit of one service."""

    __slots__ = (
        "breaker",
        "classifier",
        "failure",
        "hash_on",
        "hedge",
        "limit",
        "mirror",
        "name",
        "pacing",
        "retry",
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
        on_listener_error: Callable[[Exception], None] = ignore,
        *,
        locality: Locality = NOWHERE,
        subset: Subset | None = None,
    ) -> None:
        super().__init__(policy, rng, locality, subset)
        self.name = name
        self.classifier = policy.classifier or classifier
        self.retry = policy.retry.bind() if policy.retry is not None else None
        breaker = Breaker.coerce(policy.breaker) if policy.breaker is not None else None
        self.breaker = breaker.bind(name, on_listener_error) if breaker is not None else None
        self.hedge = policy.hedge.bind() if policy.hedge is not None else None
        self.limit = policy.limit.bind() if policy.limit is not None else None
        self.throttle = policy.throttle.bind() if policy.throttle is not None else None
        self.pacing = policy.pacing.bind() if policy.pacing is not None else None
        self.hash_on: HashOn | None = getattr(policy.balancer, "hash_on", None)
        """Which part of a request decides its endpoint, for balancers that hash."""
        self.failure: Exception | None = None
        """Why the latest resolution failed; None once one succeeded."""
        self.typical: float | None = None
        """Moving average of the seconds of successes: what an attempt usually takes."""
        self.watch: Watched | None = None
        """What keeps the endpoints up to date; None if they are fixed."""
        self.mirror: object = None
        """What keeps a breaker in step with the storage that it shares with other processes."""

    def adopt(self, previous: Bound) -> None:
        """Take over what is still valid from the same service under its previous policy."""
        self._take_over(previous)
        self.typical = previous.typical
        self.failure = previous.failure
        for name in ("breaker", "hedge", "limit", "pacing", "retry", "throttle"):
            if getattr(self.policy, name) == getattr(previous.policy, name):
                setattr(self, name, getattr(previous, name))

    def update(self, endpoints: Iterable[Endpoint], now: float) -> None:
        """Take over a new set of endpoints; statistics of known addresses are kept."""
        self.failure = None
        super().update(endpoints, now)

    def feedback(
        self,
        send: Send,
        outcome: Outcome,
        now: float,
        route: Callable[[], str | None] | None = None,
        *,
        judges: bool = True,
    ) -> None:
        """Hand the result of an attempt to everything that learns from results.

        Once per attempt: called again for the same one, it changes nothing. `judges`: whether it
        decides about the endpoint too.
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
            self.throttle.observe(outcome.is_overload or outcome.status == 503, now)
        if self.pacing is not None:
            self.pacing.observe(outcome, now)
        if self.hedge is not None:
            self.hedge.observe(outcome, now, route)
        health = self.policy.health
        if health is not None and is_draining(outcome.response):
            self.mark_unhealthy(send.pick.stats, now + health.lease, now)
        if judges:
            self.judge(send.pick.stats, outcome, now, route)

    def judge(self, stats: EndpointStats, outcome: Outcome, now: float, route: Callable[[], str | None] | None) -> None:
        """Show a result to the outlier detector."""
        if self.outlier is None or (self.typical is None and outcome.reason == "timeout"):
            return  # until something has succeeded, nobody can say how long is too long for an endpoint
        about = route() if route is not None and _is_telling(stats, outcome, now) else None
        if self.outlier.observe(stats, outcome, now, self.rng, route=about):
            self.rebuild(now)

    def had_its_time(self, seconds: float) -> bool:
        """True if an attempt that lasted this long says something about its endpoint.

        Four times the usual: a fixed number would be tiny for one service and endless for another.
        While that is unknown, any time will do, or a service that only ever hangs gives no evidence.
        """
        return self.typical is None or seconds >= 4 * self.typical

    def after_fork(self, now: float) -> None:
        """In a forked child: what was in flight is the parent's, and so are held locks."""
        self._begin_anew()
        self.watch = self.mirror = self.checker = None
        if self.policy.limit is not None:
            self.limit = self.policy.limit.bind()
        if self.breaker is not None:
            self.breaker.after_fork()
        if self.outlier is not None:
            self.outlier.after_fork()
        if self.picker is not None:
            self.rebuild(now)


def _is_telling(stats: EndpointStats, outcome: Outcome, now: float) -> bool:
    """True if it matters which route a result belongs to.

    It does where something fails, and for a sample of successes: naming the route of each would
    cost as much as the rest.
    """
    evidence = stats.evidence
    return (
        outcome.kind is Kind.FAILURE
        or stats.consecutive_failures > 0
        or evidence is None
        or now >= evidence.sampled_until
    )
