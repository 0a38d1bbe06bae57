"""What configuration can name: our balancers, resolvers and limits, and the balancers of entry points.

An entry point of the group `resilient.balancers` is a frozen dataclass with the method
`picker`; its name is the name of the balancer, and the fields are its settings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from functools import partial
from importlib.metadata import EntryPoint, entry_points

from resilient.balance.least_request import LeastRequest
from resilient.balance.maglev import Maglev
from resilient.balance.peak_ewma import PeakEwma
from resilient.balance.random_choice import Random
from resilient.balance.ring_hash import RingHash
from resilient.balance.round_robin import RoundRobin
from resilient.core import check
from resilient.discovery.dns import DnsResolver
from resilient.discovery.file import FileResolver
from resilient.discovery.srv import SrvResolver
from resilient.policy.adaptive import AdaptiveLimit, GradientLimit

ENTRY_POINTS = "resilient.balancers"

_BALANCERS = {
    "peak_ewma": PeakEwma,
    "least_request": LeastRequest,
    "round_robin": RoundRobin,
    "random": Random,
    "ring_hash": RingHash,
    "maglev": Maglev,
}
_LIMITS = {"adaptive": AdaptiveLimit, "gradient": GradientLimit}
_RESOLVERS = {"dns": DnsResolver, "srv": SrvResolver, "file": FileResolver}


def balancers() -> Mapping[str, Callable[[], type]]:
    """What returns the class of each balancer, by name; it raises ConfigError if that fails."""
    theirs = {point.name: partial(_load, point) for point in entry_points(group=ENTRY_POINTS)}
    return {**theirs, **_given(_BALANCERS)}


def resolvers() -> Mapping[str, Callable[[], type]]:
    """The same for the resolvers that have more settings than a target can hold."""
    return _given(_RESOLVERS)


def limits() -> Mapping[str, Callable[[], type]]:
    """The same for the limits that adapt."""
    return _given(_LIMITS)


def _given(classes: Mapping[str, type]) -> dict[str, Callable[[], type]]:
    return {name: partial(_same, cls) for name, cls in classes.items()}


def _same(cls: type) -> type:
    return cls


def _load(point: EntryPoint) -> type:
    try:
        loaded = point.load()
    except Exception as error:
        raise check.ConfigError(f"the entry point {point.value!r} cannot be loaded: {error!r}") from error
    if not isinstance(loaded, type) or not is_dataclass(loaded):
        raise check.fault("entry point", point.value, "a dataclass")
    return loaded
