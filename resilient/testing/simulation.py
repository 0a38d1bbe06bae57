"""A seeded simulator: the journey of real calls, with virtual time and fake endpoints.

It is the third driver beside threads and tasks, and interprets the same effects. Nothing in
it waits: a minute of traffic takes as long as its decisions do.
"""

from __future__ import annotations

import gc
import heapq
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from random import Random

from resilient.balance.endpoint import NOWHERE, Endpoint, Locality
from resilient.core.bound import Bound
from resilient.core.call import Call
from resilient.core.classify import HttpClassifier
from resilient.core.effects import Send
from resilient.policy.policy import Policy
from resilient.testing.fakes import FakeEndpoint, FakeResponse
from resilient.testing.result import Result
from resilient.testing.running import NEVER, RunningCall


class Simulation:
    """Clients with one policy against fake endpoints, in virtual time.

        sim = Simulation(resilient.Policy(), fleet(10), seed=1)
        sim.endpoints[0].at(5.0, latency=0.2)
        result = sim.run(rate=200, duration=20)

    `clients`: how many clients, each with a state of its own (balancing, breaker, budget), as
    processes have; they run in `localities`, in turn. `seed`: the same seed gives the same trace.
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
        self.now = 0.0
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
        for client in self.clients:
            client.update(known, 0.0)

    def _values(self) -> tuple[Endpoint, ...]:
        return tuple(fake.endpoint for fake in self.endpoints)

    def schedule(self, time: float, action: Callable[[], None]) -> None:
        """Do something at a time of the simulation; at infinity it never happens."""
        if time < NEVER:
            heapq.heappush(self._events, (time, next(self._order), action))

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
    ) -> Result:
        """Calls arrive at `rate` a second (Poisson) for `duration` seconds; run until all ended.

        `timeout`: of each call, besides the policy's. `cancel_ratio`: the share of calls that
        their caller gives up at some moment of the first 50 ms.
        """
        calls = _Arrivals(self, rate, self.now + duration, timeout, idempotent, cancel_ratio)
        calls.expect(self.now)
        with _without_cycle_detection():
            while self._events:
                self.now, _, action = heapq.heappop(self._events)
                action()
        for call in self.running:
            call.record_unfinished()
        self._stuck += self.running
        self.running.clear()
        return self.result

    def serve(self, send: Send) -> tuple[float, FakeResponse | Exception]:
        """The result of an attempt that begins now, and its time."""
        return self._by_address[send.pick.stats.address].serve(self.now, self._rng)

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


class _Arrivals:
    """The calls of one run, each scheduled when the one before it begins."""

    def __init__(
        self,
        simulation: Simulation,
        rate: float,
        end: float,
        timeout: float | None,
        idempotent: bool,
        cancel_ratio: float,
    ) -> None:
        self._sim = simulation
        self._rate = rate
        self._end = end
        self._timeout = timeout
        self._idempotent = idempotent
        self._cancel_ratio = cancel_ratio

    def expect(self, now: float) -> None:
        """Schedule the next call, if it comes before the end."""
        time = now + self._sim.arrivals.expovariate(self._rate)
        if time < self._end:
            self._sim.schedule(time, self._begin)

    def _begin(self) -> None:
        sim = self._sim
        number = int(sim.arrivals.random() * len(sim.clients))
        client = sim.clients[number]
        limits = [limit for limit in (self._timeout, client.policy.timeout) if limit is not None]
        call = Call(client, deadline=sim.now + min(limits) if limits else None, idempotent=self._idempotent)
        running = RunningCall(sim, call, number)
        if sim.arrivals.random() < self._cancel_ratio:
            sim.schedule(sim.now + sim.arrivals.random() * 0.05, running.cancel)
        self.expect(sim.now)
        running.begin()
