"""Random: any endpoint, by weight. What other balancers are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random as Rng

from resilient.balance.candidates import Candidates
from resilient.balance.endpoint import EndpointStats
from resilient.balance.picker import Pick


@dataclass(frozen=True, slots=True)
class Random:
    """Any endpoint, by weight."""

    def picker(self, endpoints: Sequence[EndpointStats]) -> RandomPicker:
        """A picker for this set."""
        return RandomPicker(endpoints)


class RandomPicker:
    """Picks by chance."""

    __slots__ = ("_candidates",)

    def __init__(self, endpoints: Sequence[EndpointStats]) -> None:
        self._candidates = Candidates(endpoints)

    def pick(
        self,
        now: float,
        rng: Rng,
        tried: Sequence[EndpointStats] = (),
        key: bytes | None = None,  # noqa: ARG002
    ) -> Pick | None:
        """Any endpoint; not one of `tried` if there is another."""
        if not self._candidates.count:
            return None
        return Pick(self._candidates.choose(now, rng, tried), now)
