"""Consistent hashing: the same key goes to the same endpoint, as long as that can take it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil
from random import Random

from resilient.balance.candidates import Candidates
from resilient.balance.endpoint import EndpointStats
from resilient.balance.hash_key import stable_hash
from resilient.balance.picker import Pick
from resilient.balance.ramp import Ramp
from resilient.core import check

_STEPS = 128  # slots looked at in one pick; with equal weights the next endpoint is 1 or 2 away
_RECOUNTS = 32  # endpoints whose requests in flight are counted for each pick, on average


def check_balance_factor(field: str, value: float | None) -> None:
    """Refuse anything but a bounded-load factor."""
    if value is None:
        return
    check.number(field, value, minimum=1.0)
    if value > 10:
        raise check.fault(field, value, "a factor from 1 to 10, such as 1.5 (where Envoy has 150), or None")


class ConsistentPicker:
    """Walks the slots of a table from where the hash of the key points.

    An endpoint is passed over if it was tried, if it is full, or if it is ramping up and this
    key has not come back to it yet. The next slot belongs to an endpoint that depends on the key,
    so what one endpoint cannot take is spread over all.

    Full means: more than `factor` times its share, by weight, of all requests in flight
    ("Consistent Hashing with Bounded Loads", 2017; Envoy's `hash_balance_factor`). Their sum
    is recounted so rarely that a pick costs the same for any number of endpoints, and each pick
    in between adds one.

    The table is made of `owners`; `endpoints` are those of them that may be used, and slots of
    the others are passed over. So the table, which takes tens of milliseconds to build, outlives
    the ejection of an endpoint, and only the keys of that endpoint move.
    """

    __slots__ = (
        "_absent",
        "_candidates",
        "_endpoints",
        "_factor",
        "_in_flight",
        "_owners",
        "_position",
        "_recount_in",
        "_slots",
    )

    def __init__(
        self,
        owners: Sequence[EndpointStats],
        endpoints: Sequence[EndpointStats],
        slots: Sequence[int],
        position: Callable[[int], int],
        factor: float | None,
    ) -> None:
        self._owners = owners
        self._endpoints = endpoints
        self._absent = frozenset(owners).difference(endpoints)
        self._slots = slots
        self._position = position
        self._factor = factor
        self._candidates = Candidates(endpoints)
        self._in_flight = 0
        self._recount_in = 0

    def pick(
        self, now: float, rng: Random, tried: Sequence[EndpointStats] = (), key: bytes | None = None
    ) -> Pick | None:
        """The endpoint of the key, or the next one that can take it; any endpoint without a key."""
        if not self._endpoints:
            return None
        if self._factor is not None:
            self._count()
        stats = self._candidates.choose(now, rng, tried) if key is None else self._walk(stable_hash(key), now, tried)
        return Pick(stats, now)

    def _count(self) -> None:
        if self._recount_in <= 0:
            self._in_flight = sum(stats.in_flight for stats in self._endpoints)
            self._recount_in = len(self._endpoints) // _RECOUNTS
        else:
            self._recount_in -= 1
        self._in_flight += 1

    def _walk(self, point: int, now: float, tried: Sequence[EndpointStats]) -> EndpointStats:
        start = self._position(point)
        full: EndpointStats | None = None
        ramping: EndpointStats | None = None
        previous: EndpointStats | None = None
        for step in range(min(_STEPS, len(self._slots))):
            stats = self._owners[self._slots[(start + step) % len(self._slots)]]
            if stats is previous or stats in tried or stats in self._absent:
                continue
            previous = stats
            if stats.ramp is not None and not _has_returned(stats.ramp, point, now):
                ramping = ramping or stats
            elif self._factor is not None and self._is_full(stats, self._factor):
                full = full or stats
            else:
                return stats
        return full or ramping or self._untried(point, tried)

    def _is_full(self, stats: EndpointStats, factor: float) -> bool:
        share = stats.endpoint.weight / (self._candidates.mean_weight * self._candidates.count)
        return stats.in_flight >= ceil(self._in_flight * factor * share)

    def _untried(self, point: int, tried: Sequence[EndpointStats]) -> EndpointStats:
        """For when those tried fill too many slots: among one more endpoint than those there is another."""
        count = len(self._endpoints)
        stretch = [self._endpoints[(point + step) % count] for step in range(min(len(tried) + 1, count))]
        return next((stats for stats in stretch if stats not in tried), stretch[0])


def _has_returned(ramp: Ramp, point: int, now: float) -> bool:
    """True for the part of the keys that the ramp has reached: each comes back once."""
    return point & 0xFFFF < ramp.share_at(now) * 0x10000
