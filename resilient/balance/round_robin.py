"""Round robin: each endpoint in turn, heavier ones more often."""

from __future__ import annotations

from _thread import allocate_lock  # a pop and a push belong together; nothing waits inside it
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from random import Random

from resilient.balance.endpoint import EndpointStats
from resilient.balance.picker import Pick

_PASSES = 8  # turns that endpoints which are ramping up may miss in one pick


@dataclass(frozen=True, slots=True)
class RoundRobin:
    """Each endpoint in turn, by weight, spread evenly: `aabaab` and not `aaaabb`.

    The order starts at random, or all clients that learned of a change together would walk
    from endpoint to endpoint together.
    """

    def picker(self, endpoints: Sequence[EndpointStats]) -> RoundRobinPicker:
        """A picker for this set."""
        return RoundRobinPicker(endpoints)


class RoundRobinPicker:
    """Takes the endpoint whose turn it is, and puts it back for its next turn."""

    __slots__ = ("_endpoints", "_lock", "_turns")

    def __init__(self, endpoints: Sequence[EndpointStats]) -> None:
        self._endpoints = tuple(endpoints)
        self._turns: _EqualTurns | _WeightedTurns | None = None
        self._lock = allocate_lock()

    def pick(
        self,
        now: float,
        rng: Random,
        tried: Sequence[EndpointStats] = (),
        key: bytes | None = None,  # noqa: ARG002
    ) -> Pick | None:
        """The endpoint whose turn it is; not one of `tried` if there is another."""
        if not self._endpoints:
            return None
        with self._lock:
            turns = self._turns
            if turns is None:
                turns = self._turns = _turns([stats.endpoint.weight for stats in self._endpoints], rng)
            turn = turns.take()
            stats = self._endpoints[turn[1]]
            if stats.ramp is None and stats not in tried:
                turns.put_again(turn)
            else:
                stats = self._pass_over(turns, turn, now, rng, tried)
        return Pick(stats, now)

    def _pass_over(
        self, turns: _EqualTurns | _WeightedTurns, turn: Turn, now: float, rng: Random, tried: Sequence[EndpointStats]
    ) -> EndpointStats:
        """The first that may be taken, from `turn` on.

        One that was tried keeps its turn for the next call; one that is ramping up loses it.
        """
        kept: list[Turn] = []
        chosen: EndpointStats | None = None
        for _ in range(len(tried) + _PASSES):
            stats = self._endpoints[turn[1]]
            if stats in tried:
                kept.append(turn)
            else:
                turns.put_again(turn)
                chosen = stats
                if stats.accepts(now, rng):
                    break
            if not turns:
                break
            turn = turns.take()
        else:
            turns.put_back([turn])
        if chosen is None:
            turn = kept.pop(0)
            turns.put_again(turn)
            chosen = self._endpoints[turn[1]]
        turns.put_back(kept)
        return chosen


Turn = tuple[float, int]
"""When an endpoint is due, and which one it is."""


def _turns(weights: Sequence[float], rng: Random) -> _EqualTurns | _WeightedTurns:
    return _EqualTurns(len(weights), rng) if len(set(weights)) == 1 else _WeightedTurns(weights, rng)


class _EqualTurns(deque[Turn]):
    """Endpoints of equal weight: a queue, so a pick costs the same among two or 10 000."""

    def __init__(self, count: int, rng: Random) -> None:
        super().__init__((0.0, index) for index in range(count))
        self.rotate(int(rng.random() * count))

    take = deque.popleft
    put_again = deque.append

    def put_back(self, turns: Sequence[Turn]) -> None:
        """Undo `take`."""
        self.extendleft(reversed(turns))


class _WeightedTurns:
    """Earliest deadline first: an endpoint that is picked is due again after 1 / weight (Envoy, gRPC).

    A first deadline is random within the first period. Deadlines in a heap cost O(log n) for
    any weights; the schedules that cost O(1) do so only while weights are alike.
    """

    def __init__(self, weights: Sequence[float], rng: Random) -> None:
        self._periods = [1.0 / weight for weight in weights]
        self._heap = [(period * rng.random(), index) for index, period in enumerate(self._periods)]
        heapify(self._heap)

    def __len__(self) -> int:
        return len(self._heap)

    def take(self) -> Turn:
        """The turn that is due first."""
        return heappop(self._heap)

    def put_again(self, turn: Turn) -> None:
        """The endpoint had its turn; the next follows after its period."""
        due, index = turn
        heappush(self._heap, (due + self._periods[index], index))

    def put_back(self, turns: Sequence[Turn]) -> None:
        """Undo `take`."""
        for turn in turns:
            heappush(self._heap, turn)
