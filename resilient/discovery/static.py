"""Endpoints that are written down and never change."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

from resilient.balance.endpoint import Endpoint, unique
from resilient.core import check
from resilient.discovery.entries import Entry, endpoint_of
from resilient.discovery.resolver import Endpoints


@dataclass(frozen=True, slots=True)
class StaticResolver:
    """A fixed set of endpoints, each address once."""

    addresses: tuple[Endpoint, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "addresses", unique(self.addresses))
        if not self.addresses:
            raise check.fault("static", [], "at least one endpoint")

    def endpoints(self) -> Endpoints:
        """The endpoints, in the order given."""
        return self.addresses

    async def watch(self) -> AsyncIterator[Endpoints]:
        """The endpoints, once."""
        yield self.addresses


def static(entries: Iterable[Entry]) -> StaticResolver:
    """A resolver for endpoints that are known beforehand.

    An entry is "10.0.0.1:80", "[::1]:80", "orders-1:8080" or "/run/orders.sock", an
    Endpoint, a pair of one of these and a weight, or a mapping with the fields of Endpoint.
    A name stays one endpoint: the operating system looks it up for each connection, and in
    threads no deadline bounds that lookup. `dns` makes each address an endpoint, ahead of calls.
    Raises ConfigError for an entry that is none of these, and if there are no entries.
    """
    if isinstance(entries, str):
        entries = (entries,)
    endpoints = (endpoint_of(entry, f"static[{index}]") for index, entry in enumerate(entries))
    return StaticResolver(tuple(endpoints))
