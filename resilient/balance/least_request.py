"""Least request: of a few endpoints drawn at random, the one with the fewest in flight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from resilient.balance.candidates import Candidates
from resilient.balance.endpoint import EndpointStats
from resilient.balance.picker import Pick
from resilient.core import check

_MAX_CHOICES = 10  # gRPC's; beyond it, clients herd to the idlest endpoint


@check.setting
@dataclass(frozen=True, slots=True)
class LeastRequest:
    """Of `choice_count` endpoints, drawn by weight, the one with the fewest requests in flight.

    The endpoints are distinct; Envoy draws with replacement, and so takes the busier of two in
    a quarter of the picks. It compares `in_flight ** active_request_bias / weight`; on a tie the
    first drawn stays, so idle endpoints share by weight. Bias 0 leaves only the weights.
    Defaults: Envoy's, 2 and 1.0.
    """

    choice_count: int = 2
    active_request_bias: float = 1.0

    def __post_init__(self) -> None:
        check.count("LeastRequest.choice_count", self.choice_count, minimum=2)
        if self.choice_count > _MAX_CHOICES:
            raise check.fault("LeastRequest.choice_count", self.choice_count, f"at most {_MAX_CHOICES}")
        check.number("LeastRequest.active_request_bias", self.active_request_bias)

    def picker(self, endpoints: Sequence[EndpointStats]) -> LeastRequestPicker:
        """A picker for this set."""
        return LeastRequestPicker(self, endpoints)


class LeastRequestPicker:
    """Picks by requests in flight."""

    __slots__ = ("_bias", "_candidates", "_choices")

    def __init__(self, setting: LeastRequest, endpoints: Sequence[EndpointStats]) -> None:
        self._candidates = Candidates(endpoints)
        self._choices = setting.choice_count
        self._bias = setting.active_request_bias

    def pick(
        self,
        now: float,
        rng: Random,
        tried: Sequence[EndpointStats] = (),
        key: bytes | None = None,  # noqa: ARG002
    ) -> Pick | None:
        """The least loaded of a few endpoints; not one of `tried` if there is another."""
        if not self._candidates.count:
            return None
        best, other = self._candidates.pair(now, rng, tried)
        seen = (*tried, best)
        while other is not None:
            if self._load(other) < self._load(best):
                best = other
            seen = (*seen, other)
            done = len(seen) - len(tried) >= self._choices
            other = None if done else self._candidates.find(now, rng, seen)
        return Pick(best, now)

    def _load(self, stats: EndpointStats) -> float:
        if self._bias == 0.0:
            return 0.0
        active: float = stats.in_flight**self._bias
        return active / stats.endpoint.weight
