"""Ring hash: consistent hashing on a ring of points (ketama)."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from math import ceil
from struct import Struct

from resilient.balance.consistent import ConsistentPicker, check_balance_factor
from resilient.balance.endpoint import EndpointStats
from resilient.balance.hash_key import HashOn
from resilient.core import check

_EIGHT = Struct(">8Q")


@check.setting
@dataclass(frozen=True, slots=True)
class RingHash:
    """The same key goes to the same endpoint; when one goes, only its keys move.

    Each endpoint has points on a ring, in proportion to its weight; a key belongs to the
    first point after its hash. `hash_on`: which part of a request is the key; None for no key,
    that is, any endpoint. `minimum_ring_size` and `maximum_ring_size`: points on the ring. With
    fewer than about 100 points for each endpoint the shares differ widely. Defaults: 1024
    (Envoy), and 65 536, which take 0.1 s to build (Envoy: 8 million; gRPC: 4096).
    `hash_balance_factor`: an endpoint takes at most this many times its share of the requests
    in flight, and the rest go on along the ring; None for no bound. Envoy's, where 150 is our
    1.5.
    """

    minimum_ring_size: int = 1024
    maximum_ring_size: int = 65_536
    hash_balance_factor: float | None = None
    hash_on: HashOn | None = None

    def __post_init__(self) -> None:
        check.count("RingHash.minimum_ring_size", self.minimum_ring_size)
        check.count("RingHash.maximum_ring_size", self.maximum_ring_size, minimum=self.minimum_ring_size)
        check_balance_factor("RingHash.hash_balance_factor", self.hash_balance_factor)
        check.instance("RingHash.hash_on", self.hash_on, (HashOn, type(None)), "a HashOn, or None")

    def picker(self, endpoints: Sequence[EndpointStats]) -> ConsistentPicker:
        """A picker for this set."""
        return self.picker_among(endpoints, endpoints)

    def picker_among(self, members: Sequence[EndpointStats], endpoints: Sequence[EndpointStats]) -> ConsistentPicker:
        """A picker for `endpoints`, on the ring of all `members`."""
        shares = tuple(zip([stats.address for stats in members], self._counts(members), strict=True))
        hashes, slots = build_ring(shares)
        return ConsistentPicker(
            tuple(members),
            tuple(endpoints),
            slots,
            lambda point: bisect_left(hashes, point),
            self.hash_balance_factor,
        )

    def _counts(self, endpoints: Sequence[EndpointStats]) -> list[int]:
        """Points for each endpoint: the lightest gets a whole number of them (Envoy).

        A power of two, so that it stays the same when the number of endpoints changes a
        little: otherwise each change would move a twelfth of the keys of all the others.
        """
        if not endpoints:
            return []
        weights = [stats.endpoint.weight for stats in endpoints]
        total = sum(weights)
        least = min(weights) / total
        points = 1 << (ceil(least * self.minimum_ring_size) - 1).bit_length()
        scale = min(points / least, self.maximum_ring_size)
        return [max(1, round(scale * weight / total)) for weight in weights]


@lru_cache(maxsize=8)  # an endpoint that is ejected and comes back needs no new ring
def build_ring(shares: tuple[tuple[str, int], ...]) -> tuple[Sequence[int], Sequence[int]]:
    """The points of all addresses in order, and for each the index of its address."""
    points: list[tuple[int, int]] = []
    for index, (address, count) in enumerate(shares):
        points += [(point, index) for point in _points(address, count)]
    points.sort()
    return array("Q", [point for point, _ in points]), array("L", [index for _, index in points])


def _points(address: str, count: int) -> list[int]:
    """The first `count` points of an address: eight for each hash."""
    points: list[int] = []
    for block in range((count + 7) // 8):
        points += _EIGHT.unpack(blake2b(f"{address}_{block}".encode()).digest())
    return points[:count]
