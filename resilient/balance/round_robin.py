"""Round robin: each endpoint in its turn, heavier ones more often."""

from __future__ import annotations

from _thread import allocate_lock  # a pop and a push belong together; nothing waits inside it
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush, heapreplace
from random import Random

from resilient.balance.endpoint import EndpointStats
from resilient.balance.picker import Pick

_PASSES = 8  # turns that endpoints which ramp up may let pass in one pick


@dataclass(frozen=True, slots=True)
class RoundRobin:
    """Each endpoint in its turn, by weight, spread evenly: `aab` and not `aaabbb`.

    The order starts at random, or all clients that learned of a change together would walk
    from endpoint to endpoint together.
    """

    def picker(self, endpoints: Sequence[EndpointStats]) -> RoundRobinPicker:
        """A picker for this set."""
        return RoundRobinPicker(endpoints)


class RoundRobinPicker:
    """Earliest deadline first: whoever is picked is due again after 1 / weight (Envoy, gRPC).

    A first deadline is random within the first period. Deadlines in a heap cost O(log n) for
    any weights; the schedules that cost O(1) do so only while weights are alike.
    """

    __slots__ = ("_endpoints", "_lock", "_periods", "_queue")

    def __init__(self, endpoints: Sequence[EndpointStats]) -> None:
        self._endpoints = tuple(endpoints)
        self._periods = [1.0 / stats.endpoint.weight for stats in self._endpoints]
        self._queue: list[tuple[float, int]] = []
        self._lock = allocate_lock()

    def pick(
        self, now: float, rng: Random, tried: Sequence[EndpointStats] = (), key: bytes | None = None  # noqa: ARG002
    ) -> Pick | None:
        """The endpoint whose turn it is; not one of `tried` if there is another."""
        if not self._endpoints:
            return None
        with self._lock:
            if not self._queue:
                self._start(rng)
            due, index = self._queue[0]
            stats = self._endpoints[index]
            if stats.ramp is None and stats not in tried:
                heapreplace(self._queue, (due + self._periods[index], index))
            else:
                stats = self._pass_over(now, rng, tried)
        return Pick(stats, now)

    def _start(self, rng: Random) -> None:
        self._queue = [(period * rng.random(), index) for index, period in enumerate(self._periods)]
        heapify(self._queue)

    def _pass_over(self, now: float, rng: Random, tried: Sequence[EndpointStats]) -> EndpointStats:
        """The first in the queue that may be taken.

        One that was tried keeps its turn for the next call; one that ramps up loses it.
        """
        kept: list[tuple[float, int]] = []
        chosen: EndpointStats | None = None
        for _ in range(len(tried) + _PASSES):
            if not self._queue:
                break
            due, index = heappop(self._queue)
            stats = self._endpoints[index]
            if stats in tried:
                kept.append((due, index))
                continue
            heappush(self._queue, (due + self._periods[index], index))
            chosen = stats
            if stats.accepts(now, rng):
                break
        if chosen is None:
            due, index = kept.pop(0)
            kept.append((due + self._periods[index], index))
            chosen = self._endpoints[index]
        for entry in kept:
            heappush(self._queue, entry)
        return chosen
