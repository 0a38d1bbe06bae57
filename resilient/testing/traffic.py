"""The calls of one run of a simulation: when they arrive, at whom, and what they ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import accumulate
from random import Random
from typing import TYPE_CHECKING

from resilient.core import check
from resilient.core.call import Call
from resilient.testing.running import RunningCall

if TYPE_CHECKING:
    from resilient.testing.simulation import Simulation

Mix = Sequence[str] | Mapping[str, float]
"""Words of which each call has one: all alike, or by weight."""


class Traffic:
    """Calls at `rate` a second until `end`, each scheduled when the one before it begins."""

    def __init__(
        self,
        simulation: Simulation,
        rate: float,
        end: float,
        timeout: float | None,
        idempotent: bool,
        cancel_ratio: float,
        keys: Mix = (),
        routes: Mix = (),
    ) -> None:
        self._sim = simulation
        self._rate = rate
        self._end = end
        limits = [limit for limit in (timeout, simulation.policy.timeout) if limit is not None]
        self._limit = min(limits, default=None)
        self._idempotent = idempotent
        self._cancel_ratio = cancel_ratio
        self._keys = _Draw("keys", keys) if keys else None
        self._routes = _Draw("routes", routes) if routes else None
        if not keys and any(client.hash_on is not None for client in simulation.clients):
            raise check.fault("Simulation.run.keys", keys, "keys to hash, as the policy's balancer does")

    def expect(self, now: float) -> None:
        """Schedule the next call, if it comes before the end."""
        time = now + self._sim.arrivals.expovariate(self._rate)
        if time < self._end:
            self._sim.schedule(time, self._begin)

    def _begin(self) -> None:
        sim = self._sim
        arrivals = sim.arrivals
        number = int(arrivals.random() * len(sim.clients))
        client = sim.clients[number]
        deadline = None if self._limit is None else sim.now + self._limit
        call = Call(client, deadline=deadline, idempotent=self._idempotent)
        key = route = ""
        if self._keys is not None:
            key = self._keys.one(arrivals)
            call.key = key.encode()
        if self._routes is not None:
            route = self._routes.one(arrivals)
            call.route = partial(str, route)
        running = RunningCall(sim, call, number, key, route)
        if arrivals.random() < self._cancel_ratio:
            sim.schedule(sim.now + arrivals.random() * 0.05, running.cancel)
        self.expect(sim.now)
        running.begin()


class _Draw:
    """One of several words at random."""

    def __init__(self, name: str, mix: Mix) -> None:
        if isinstance(mix, str):
            raise check.fault(f"Simulation.run.{name}", mix, "several words, or a mapping of words to weights")
        self._words = list(mix)
        weights = [mix[word] for word in self._words] if isinstance(mix, Mapping) else [1.0] * len(self._words)
        for weight in weights:
            check.number(f"Simulation.run.{name}", weight)
        self._weights = list(accumulate(weights))

    def one(self, rng: Random) -> str:
        """A word."""
        return rng.choices(self._words, cum_weights=self._weights)[0]
