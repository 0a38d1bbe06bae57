"""A picker over layers: first a layer is drawn, then the balancer chooses within it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from random import Random
from typing import Protocol, runtime_checkable

from resilient.balance.endpoint import EndpointStats
from resilient.balance.hash_key import stable_hash
from resilient.balance.locality import Layer
from resilient.balance.picker import Balancer, Pick, Picker

_HASHES = 1 << 64
_TRIES = 2  # of one call in a layer, before another one is tried
_PASSED_OVER = 4  # endpoints of a table for each one that may be used, at most


@runtime_checkable
class TableBalancer(Protocol):
    """A balancer whose pickers share a table, which is slow to build."""

    def picker_among(self, members: Sequence[EndpointStats], endpoints: Sequence[EndpointStats]) -> Picker:
        """A picker for `endpoints`, from the table of all `members`."""
        ...


def layered(balancer: Balancer, layers: Sequence[Layer], members: Sequence[EndpointStats] = ()) -> Picker:
    """A picker for `layers`: the balancer's own if there is only one.

    `members`: all endpoints of the service, usable or not. A table is made of them all, so it
    stays the same when one of them is ejected and when it returns.
    """
    if len(layers) == 1:
        return _picker(balancer, layers[0].endpoints, members)
    return LayeredPicker(balancer, layers, members)


def _picker(balancer: Balancer, endpoints: Sequence[EndpointStats], members: Sequence[EndpointStats]) -> Picker:
    # With few usable among many, each pick would pass over most of the table.
    if len(endpoints) * _PASSED_OVER < len(members) or not isinstance(balancer, TableBalancer):
        return balancer.picker(endpoints)
    return balancer.picker_among(members or endpoints, endpoints)


class LayeredPicker:
    """Draws a layer by its share, and leaves the rest to the picker of that layer.

    A key draws the same layer each time, so consistent hashing stays consistent as long as the
    shares do not change. A retry that has tried two of a layer, or all of it, goes to the next
    one: it may be the layer that fails (Envoy's `previous_priorities` with its frequency of 2).
    """

    __slots__ = ("_bounds", "_layers", "_pickers")

    def __init__(self, balancer: Balancer, layers: Sequence[Layer], members: Sequence[EndpointStats] = ()) -> None:
        self._layers = [frozenset(layer.endpoints) for layer in layers]
        self._pickers = [_picker(balancer, layer.endpoints, members) for layer in layers]
        self._bounds = list(accumulate(layer.share for layer in layers if layer.share))[:-1]

    def pick(
        self, now: float, rng: Random, tried: Sequence[EndpointStats] = (), key: bytes | None = None
    ) -> Pick | None:
        """An endpoint of the layer that was drawn; not one of `tried` if there is another."""
        # A hash of its own: keys whose hashes are all below a bound would fill only part of a ring.
        point = rng.random() if key is None else stable_hash(b"layer:" + key) / _HASHES
        index = bisect_right(self._bounds, point)
        if tried:
            index = self._untried(index, tried)
        return self._pickers[index].pick(now, rng, tried, key)

    def _untried(self, drawn: int, tried: Sequence[EndpointStats]) -> int:
        """The layer that was drawn, or the first with a better chance."""
        tries = [sum(stats in layer for stats in tried) for layer in self._layers]
        order = sorted(range(len(tries)), key=lambda index: index != drawn)
        for most in (_TRIES, len(tried) + 1):
            for index in order:
                if tries[index] < min(most, len(self._layers[index])):
                    return index
        return drawn
