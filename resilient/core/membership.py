"""The members of a service: its endpoints, what is known about them, and which are in use."""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from random import Random
from typing import TYPE_CHECKING, Protocol

from resilient.balance.endpoint import Endpoint, EndpointStats, Locality
from resilient.balance.layered import layered
from resilient.balance.picker import Pick, Picker
from resilient.balance.ramp import Ramp
from resilient.balance.subset import Subset

if TYPE_CHECKING:
    from resilient.policy.policy import Policy

NEVER = float("inf")
_MEMORY = 600.0  # seconds for which an address that is gone is remembered


class Checked(Protocol):
    """What checks the health of a service's endpoints, such as the control thread's HealthChecker."""

    def changed(self) -> None:
        """The members have changed."""


class Membership:
    """The endpoints of one service, and the picker of those that may be used.

    `picker` is replaced, never changed: a call loads it once per attempt. Statistics outlive
    every change of the endpoint set and are dropped only when an address has been gone for a
    while and is idle, so an address that comes back soon is not a stranger.
    """

    __slots__ = (
        "_left",
        "_stats",
        "_version",
        "checker",
        "endpoints",
        "locality",
        "members",
        "next_change",
        "outlier",
        "picker",
        "policy",
        "rng",
        "subset",
    )

    def __init__(self, policy: Policy, rng: Random, locality: Locality, subset: Subset | None) -> None:
        self.policy = policy
        self.rng = rng
        self.locality = locality
        """Where this process runs."""
        self.subset = subset
        """Which of the endpoints are used; None for all."""
        self.outlier = policy.outlier.bind() if policy.outlier is not None else None
        self.endpoints: tuple[Endpoint, ...] = ()
        """What discovery has found."""
        self.members: tuple[EndpointStats, ...] = ()
        """The statistics of those that belong to the subset, in their order, usable or not."""
        self.picker: Picker | None = None
        """None until the service has been resolved for the first time."""
        self.next_change = NEVER
        """When ejections and health verdicts must be looked at again."""
        self.checker: Checked | None = None
        """What checks health; None if nothing does."""
        self._stats: dict[str, EndpointStats] = {}
        self._left: dict[str, float] = {}
        """When each address that is in `_stats` but not among the members went away."""
        self._version = object()

    def update(self, endpoints: Iterable[Endpoint], now: float) -> None:
        """Take over a new set of endpoints; statistics of known addresses are kept."""
        fresh = tuple(endpoints)
        if fresh == self.endpoints and self.picker is not None:
            return
        chosen = fresh if self.subset is None else self.subset.select(fresh)
        new = [endpoint for endpoint in chosen if endpoint.address not in self._stats]
        members = tuple(self._known(endpoint, now) for endpoint in chosen)
        if self.members and 2 * len(new) <= len(members):
            for endpoint in new:
                self._introduce(self._stats[endpoint.address], now)
        self.members = members
        self._forget(now)
        self.rebuild(now)
        self.endpoints = fresh  # last: a set that a balancer has refused is offered again
        if self.checker is not None:
            self.checker.changed()

    def _known(self, endpoint: Endpoint, now: float) -> EndpointStats:
        stats = self._stats.get(endpoint.address)
        if stats is None:
            stats = self._stats[endpoint.address] = EndpointStats(endpoint, now)
        stats.endpoint = endpoint
        return stats

    def _introduce(self, stats: EndpointStats, now: float) -> None:
        """Bring a new endpoint slowly into a set that can do without it, since most of the set is known.

        Where newcomers are the majority, holding them back would overload the others.
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
                self._stats.pop(address, None)
                self._left.pop(address, None)

    def rebuild(self, now: float) -> None:
        """Make a picker of the endpoints that may be used at `now`."""
        self._version = object()  # not a counter: without the GIL, two additions at once may count as one
        version: object = None
        while version is not self._version:  # another thread has changed something meanwhile
            version = self._version
            members = self.members
            fit = members if self.outlier is None else self.outlier.available(members, now)
            layers = self.policy.failover.layers(members, fit, self.locality)
            self.picker = layered(self.policy.balancer, layers, members)
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
        """End what is over: ejections, and health verdicts that were not renewed."""
        changed = self.outlier is not None and self.outlier.sweep(self.members, now, self.rng)
        for stats in self.members:
            if stats.unhealthy_until is not None and stats.unhealthy_until <= now:
                stats.unhealthy_until = None
                self._welcome_back(stats, now)
                changed = True
        if changed:
            self.rebuild(now)
        else:
            self._schedule()

    def mark_unhealthy(self, stats: EndpointStats, until: float, now: float) -> None:
        """Keep an endpoint out for its health until `until`, or longer if it is marked again."""
        known, stats.unhealthy_until = stats.unhealthy_until, until
        if known is None:
            self.rebuild(now)
        else:
            self._schedule()

    def mark_healthy(self, stats: EndpointStats, now: float) -> None:
        """Let back in an endpoint that was kept out for its health."""
        if stats.unhealthy_until is not None:
            stats.unhealthy_until = None
            self._welcome_back(stats, now)
            self.rebuild(now)

    def _welcome_back(self, stats: EndpointStats, now: float) -> None:
        """Let an endpoint come back slowly, as Envoy does, into a set that has done without it.

        Its latency is measured anew: the last one may be that of its fault.
        """
        stats.cost = 0.0
        others = sum(other.is_usable for other in self.members if other is not stats)
        is_on_its_way = stats.ramp is not None and not stats.ramp.is_complete(now)
        if self.policy.slow_start and not is_on_its_way and 2 * others >= len(self.members):
            stats.ramp = Ramp(self.policy.slow_start, patience=self.policy.slow_start)

    def restore(self, stats: EndpointStats, now: float) -> None:
        """End an ejection before its time: a check has found the endpoint healthy."""
        if self.outlier is not None and self.outlier.restore(stats):
            self.rebuild(now)

    def has_other(self, stats: EndpointStats) -> bool:
        """True if an endpoint other than this one is in use."""
        return any(other is not stats and other.is_usable for other in self.members)

    def _take_over(self, previous: Membership) -> None:
        """Go on with what the same service knew of its endpoints under its previous policy."""
        self._stats = previous._stats
        self._left = previous._left
        if self.outlier is None:
            for stats in list(self._stats.values()):
                if stats.ejected_until is not None or stats.ramp is not None:
                    stats.restore()

    def _begin_anew(self) -> None:
        """In a forked child: statistics become copies, with nothing in flight.

        A pick of the parent's that ends here as well counts on the old ones.
        """
        self._stats = {address: copy(stats) for address, stats in self._stats.items()}
        for stats in self._stats.values():
            stats.in_flight = 0
        self.members = tuple(self._stats[stats.address] for stats in self.members)

    @property
    def in_flight(self) -> int:
        """Attempts in flight, over all endpoints ever known."""
        # A copy in one step: the control thread may add to it meanwhile.
        return sum(stats.in_flight for stats in list(self._stats.values()))
