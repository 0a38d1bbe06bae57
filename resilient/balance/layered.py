"""A picker over layers: first whose turn it is, then the balancer's own choice among those."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from random import Random

from resilient.balance.endpoint import EndpointStats
from resilient.balance.hash_key import stable_hash
from resilient.balance.locality import Layer
from resilient.balance.picker import Balancer, Pick, Picker

_HASHES = 1 << 64


def layered(balancer: Balancer, layers: Sequence[Layer]) -> Picker:
    """A picker for `layers`: the balancer's own if there is but one."""
    if len(layers) == 1:
        return balancer.picker(layers[0].endpoints)
    return LayeredPicker(balancer, layers)


class LayeredPicker:
    """Draws a layer by its share, and leaves the rest to the picker of that layer.

    A key draws the same layer each time, so that consistent hashing stays consistent while
    shares are what they are. A retry that has tried all of a layer goes to the next one.
    """

    __slots__ = ("_bounds", "_layers", "_pickers")

    def __init__(self, balancer: Balancer, layers: Sequence[Layer]) -> None:
        self._layers = [layer.endpoints for layer in layers]
        self._pickers = [balancer.picker(layer.endpoints) for layer in layers]
        self._bounds = list(accumulate(layer.share for layer in layers if layer.share))[:-1]

    def pick(
        self, now: float, rng: Random, tried: Sequence[EndpointStats] = (), key: bytes | None = None
    ) -> Pick | None:
        """An endpoint of the layer that was drawn; not one of `tried` if there is another."""
        # A hash of its own: the part of all hashes that falls to a layer would fill but a part of its ring.
        point = rng.random() if key is None else stable_hash(b"layer:" + key) / _HASHES
        index = bisect_right(self._bounds, point)
        if tried and self._is_exhausted(index, tried):
            others = (other for other in range(len(self._layers)) if not self._is_exhausted(other, tried))
            index = next(others, index)
        return self._pickers[index].pick(now, rng, tried, key)

    def _is_exhausted(self, index: int, tried: Sequence[EndpointStats]) -> bool:
        layer = self._layers[index]
        return len(layer) <= len(tried) and all(stats in tried for stats in layer)
