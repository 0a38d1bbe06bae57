"""Candidates: endpoints drawn at random by weight, in constant time."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from resilient.balance.endpoint import EndpointStats

_DRAWS = 8  # before searching instead: each fails with the weight of what is passed over
_FEW = 16  # endpoints that may be weighed one by one in a pick


class Candidates:
    """One fixed set of endpoints, to draw from.

    Drawing again until an endpoint fits leaves the proportions of the others as they are. If
    that takes too long, few endpoints are weighed exactly; of many, a stretch is searched
    that is just long enough to hold one that fits.
    """

    __slots__ = ("_alias", "_odds", "count", "endpoints", "is_equal", "mean_weight")

    def __init__(self, endpoints: Sequence[EndpointStats]) -> None:
        self.endpoints = tuple(endpoints)
        self.count = len(self.endpoints)
        weights = [stats.endpoint.weight for stats in self.endpoints]
        self.mean_weight = sum(weights) / self.count if weights else 1.0
        self._odds: list[float] = []
        self._alias: list[int] = []
        self.is_equal = len(set(weights)) <= 1
        if not self.is_equal:
            self._odds, self._alias = alias_table(weights)

    def draw(self, rng: Random) -> EndpointStats:
        """Any endpoint, by weight."""
        position = rng.random() * self.count
        index = int(position)
        if self._odds and position - index >= self._odds[index]:
            index = self._alias[index]
        return self.endpoints[index]

    def choose(self, now: float, rng: Random, avoid: Sequence[EndpointStats] = ()) -> EndpointStats:
        """An endpoint by weight and ramp; one that does not fit only if none does."""
        return self.find(now, rng, avoid) or self._search(rng, avoid)

    def find(self, now: float, rng: Random, avoid: Sequence[EndpointStats] = ()) -> EndpointStats | None:
        """An endpoint by weight and ramp that is not in `avoid`; None if there is none."""
        for _ in range(_DRAWS):
            stats = self.draw(rng)
            if stats not in avoid and stats.accepts(now, rng):
                return stats
        if self.count <= _FEW:
            return self._weigh(now, rng, avoid)
        stats = self._search(rng, avoid)
        return stats if stats not in avoid and stats.accepts(now, rng) else None

    def pair(
        self, now: float, rng: Random, avoid: Sequence[EndpointStats] = ()
    ) -> tuple[EndpointStats, EndpointStats | None]:
        """Two different endpoints by weight and ramp; the second is None if only one fits."""
        if self.is_equal and not avoid and self.count > 1:
            i = int(rng.random() * self.count)
            j = int(rng.random() * (self.count - 1))
            first, second = self.endpoints[i], self.endpoints[j if j < i else j + 1]
            if first.ramp is None and second.ramp is None:
                return first, second
        first = self.choose(now, rng, avoid)
        return first, self.find(now, rng, (*avoid, first)) if self.count > 1 else None

    def _weigh(self, now: float, rng: Random, avoid: Sequence[EndpointStats]) -> EndpointStats | None:
        rest = [stats for stats in self.endpoints if stats not in avoid]
        weights = [stats.endpoint.weight * stats.share_at(now) for stats in rest]
        return rng.choices(rest, weights)[0] if any(weights) else None

    def _search(self, rng: Random, avoid: Sequence[EndpointStats]) -> EndpointStats:
        """The first that is not in `avoid`, if any: among one more endpoint than those there must be one."""
        start = int(rng.random() * self.count)
        for step in range(min(len(avoid) + 1, self.count)):
            stats = self.endpoints[(start + step) % self.count]
            if stats not in avoid:
                return stats
        return self.endpoints[start]


def alias_table(weights: Sequence[float]) -> tuple[list[float], list[int]]:
    """Vose's alias method: one draw and one comparison for each sample, whatever the weights.

    Draw a column; with its odds the answer is the column, else its alias.
    """
    scale = len(weights) / sum(weights)
    odds = [weight * scale for weight in weights]
    alias = list(range(len(odds)))
    small = [column for column, share in enumerate(odds) if share < 1.0]
    large = [column for column, share in enumerate(odds) if share >= 1.0]
    while small and large:
        poor, rich = small.pop(), large[-1]
        alias[poor] = rich
        odds[rich] -= 1.0 - odds[poor]
        if odds[rich] < 1.0:
            small.append(large.pop())
    for column in small + large:  # what is left differs from 1 by rounding alone
        odds[column] = 1.0
    return odds, alias
