"""A seeded simulator: the journey of real calls, with virtual time and fake endpoints.

It is the third driver beside threads and tasks, and interprets the same effects. Nothing in
it waits: a minute of traffic takes as long as its decisions do.
"""

from __future__ import annotations

import gc
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from heapq import heappop, heappush
from random import Random

from resilient.balance.endpoint import NOWHERE, Endpoint, EndpointStats, Locality
from resilient.core import check
from resilient.core.bound import Bound
from resilient.core.classify import HttpClassifier
from resilient.core.effects import Send
from resilient.policy.policy import Policy
from resilient.testing.behaviour import FakeResponse
from resilient.testing.fakes import FakeEndpoint
from resilient.testing.result import Result
from resilient.testing.running import NEVER, RunningCall
from resilient.testing.traffic import Mix, Traffic


class Simulation:
    """Clients with one policy against fake endpoints, in virtual time.

        sim = Simulation(resilient.Policy(), fleet(10), seed=1)
        sim.endpoints[0].at(5.0, latency=0.2)
        result = sim.run(rate=200, duration=20)

    `clients`: how many clients, each with a state of its own (balancing, breaker, budget), as
    processes have; they run in `localities`, in turn. `seed`: the same seed gives the same trace.
    Checks of health are simulated too: a check is a request of the route `GET /healthz`, or as
    its method and path are.
    """

    def __init__(
        self,
        policy: Policy,
        endpoints: Sequence[FakeEndpoint],
        *,
        clients: int = 1,
        localities: Sequence[Locality] = (NOWHERE,),
        seed: int = 0,
    ) -> None:
        check.count("Simulation.clients", clients)
        for endpoint in endpoints:
            check.instance("Simulation.endpoints", endpoint, FakeEndpoint, "FakeEndpoints")
        self.now = 0.0
        self.policy = policy
        self.endpoints = list(endpoints)
        self.result = Result()
        self._rng = Random(seed)
        # Of their own, so that the same calls arrive whatever is done with them.
        self.arrivals = Random(seed)
        self.running: dict[RunningCall, None] = {}
        self._stuck: list[RunningCall] = []
        self._by_address = {endpoint.address: endpoint for endpoint in self.endpoints}
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        known = self._values()
        self.clients = [
            Bound(
                "simulated",
                policy,
                Random(self._rng.random()),
                HttpClassifier(),
                locality=localities[number % len(localities)],
            )
            for number in range(clients)
        ]
        self._checks: list[tuple[float, int, Callable[[], None]]] = []
        for client in self.clients:
            client.update(known, 0.0)
            self._check_health(client)

    def _check_health(self, client: Bound) -> None:
        health = client.policy.health
        if health is not None:
            from resilient.testing.checks import SimulatedChecker  # which brings httpx along

            client.checker = checker = SimulatedChecker(self, client, health, Random(self._rng.random()))
            checker.start()

    def _values(self) -> tuple[Endpoint, ...]:
        return tuple(fake.endpoint for fake in self.endpoints)

    def schedule(self, time: float, action: Callable[[], None]) -> None:
        """Do something at a time of the simulation; at infinity it never happens."""
        if time < NEVER:
            heappush(self._events, (time, next(self._order), action))

    def schedule_check(self, time: float, action: Callable[[], None]) -> None:
        """As `schedule`, for what goes on for ever, and does not keep a run from its end."""
        heappush(self._checks, (time, next(self._order), action))

    def resolve(self, time: float, endpoints: Sequence[FakeEndpoint]) -> None:
        """Discovery reports another set of endpoints at `time`, to all clients."""

        def change() -> None:
            self.endpoints = list(endpoints)
            self._by_address.update({endpoint.address: endpoint for endpoint in endpoints})
            for client in self.clients:
                client.update(self._values(), self.now)

        self.schedule(time, change)

    def run(
        self,
        *,
        rate: float,
        duration: float,
        timeout: float | None = None,
        idempotent: bool = True,
        cancel_ratio: float = 0.0,
        keys: Mix = (),
        routes: Mix = (),
    ) -> Result:
        """Calls arrive at `rate` a second (Poisson) for `duration` seconds; run until all ended.

        `timeout`: of each call, besides the policy's. `cancel_ratio`: the share of calls that
        their caller gives up at some moment of the first 50 ms. `keys`: what balancers that hash
        go by, `routes`: what calls are about; each call has one, drawn at random: all alike, or
        by their weights in a mapping. A second run goes on where the first has ended, and its result
        holds the calls of both.
        """
        check.number("Simulation.run.rate", rate, above=True)
        check.seconds("Simulation.run.duration", duration)
        traffic = Traffic(self, rate, self.now + duration, timeout, idempotent, cancel_ratio, keys, routes)
        traffic.expect(self.now)
        with _without_cycle_detection():
            events, checks = self._events, self._checks
            while events:
                self.now, _, action = heappop(checks if checks and checks[0] < events[0] else events)
                action()
        for call in self.running:
            call.record_unfinished()
        self._stuck += self.running
        self.running.clear()
        return self.result

    def serve(self, send: Send, route: str | None = None) -> tuple[float, FakeResponse | Exception]:
        """The result of an attempt that begins now, and its time."""
        return self._by_address[send.pick.stats.address].serve(self.now, self._rng, route)

    def serve_check(self, stats: EndpointStats, route: str) -> tuple[float, FakeResponse | Exception]:
        """The result of a check of health that begins now, and its time."""
        return self._by_address[stats.address].serve_check(self.now, self._rng, route)

    @property
    def in_flight(self) -> int:
        """Attempts in flight, over all clients."""
        return sum(client.in_flight for client in self.clients)


@contextmanager
def _without_cycle_detection() -> Iterator[None]:
    """Calls leave no cycles behind, and looking for some takes half of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
