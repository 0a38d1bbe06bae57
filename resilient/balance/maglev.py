"""Maglev: consistent hashing with a table that endpoints fill in equal parts."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from math import isqrt

from resilient.balance.consistent import ConsistentPicker, check_balance_factor
from resilient.balance.endpoint import EndpointStats
from resilient.balance.hash_key import HashOn
from resilient.core import check

_LARGEST = 5_000_011  # Envoy's


@check.setting
@dataclass(frozen=True, slots=True)
class Maglev:
    """The same key goes to the same endpoint; the shares are nearly exact.

    Compared with RingHash: shares differ by about 1 %, not by tens, a lookup is one index, and
    when an endpoint goes, a few keys of others move as well (not when it is ejected). The table
    is slow to build, tens of milliseconds; it is built when discovery finds a different set.
    `table_size`: a prime, about 100 times the number of endpoints or more (Envoy's and the
    paper's 65 537). `hash_balance_factor` and `hash_on`: as in RingHash.
    """

    table_size: int = 65_537
    hash_balance_factor: float | None = None
    hash_on: HashOn | None = None

    def __post_init__(self) -> None:
        check.count("Maglev.table_size", self.table_size, minimum=3)
        if self.table_size > _LARGEST or not _is_prime(self.table_size):
            raise check.fault("Maglev.table_size", self.table_size, f"a prime up to {_LARGEST}")
        check_balance_factor("Maglev.hash_balance_factor", self.hash_balance_factor)
        check.instance("Maglev.hash_on", self.hash_on, (HashOn, type(None)), "a HashOn, or None")

    def picker(self, endpoints: Sequence[EndpointStats]) -> ConsistentPicker:
        """A picker for this set."""
        return self.picker_among(endpoints, endpoints)

    def picker_among(self, members: Sequence[EndpointStats], endpoints: Sequence[EndpointStats]) -> ConsistentPicker:
        """A picker for `endpoints`, in the table of all `members`."""
        # Sorted by address: the table depends on the order, and all clients need the same one.
        ordered = tuple(sorted(members, key=lambda stats: stats.address))
        shares = tuple((stats.address, stats.endpoint.weight) for stats in ordered)
        size = self.table_size
        slots = build_table(shares, size)
        return ConsistentPicker(ordered, tuple(endpoints), slots, lambda point: point % size, self.hash_balance_factor)


def _is_prime(number: int) -> bool:
    return number > 1 and all(number % divisor for divisor in range(2, isqrt(number) + 1))


@lru_cache(maxsize=8)  # an endpoint that is ejected and comes back needs no new table
def build_table(shares: tuple[tuple[str, float], ...], size: int) -> Sequence[int]:
    """For each slot, the index of an address ("Maglev", NSDI 2016, section 3.4).

    In each round every address takes the next free slot of its own permutation; lighter ones
    sit out rounds, in proportion (Envoy).
    """
    table = array("l", [-1]) * size
    places, skips = zip(*(_permutation(address, size) for address, _ in shares), strict=True) if shares else ((), ())
    next_places = list(places)
    heaviest = max((weight for _, weight in shares), default=1.0)
    credit = [0.0] * len(shares)
    free = size if shares else 0
    while free:
        for index, (_, weight) in enumerate(shares):
            credit[index] += weight / heaviest
            if credit[index] < 1.0 or not free:
                continue
            credit[index] -= 1.0
            place, skip = next_places[index], skips[index]
            while table[place] >= 0:
                place = (place + skip) % size
            table[place] = index
            next_places[index] = place
            free -= 1
    return table


def _permutation(address: str, size: int) -> tuple[int, int]:
    digest = blake2b(address.encode(), digest_size=16).digest()
    return int.from_bytes(digest[:8], "big") % size, int.from_bytes(digest[8:], "big") % (size - 1) + 1
