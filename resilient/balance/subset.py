"""Subsets: the endpoints of a service that carry certain labels, such as one version."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from resilient.balance.endpoint import Endpoint


@dataclass(frozen=True, slots=True)
class Subset:
    """The endpoints with all of `labels`; `or_any`: all endpoints, if none has them."""

    labels: tuple[tuple[str, str], ...]
    or_any: bool = False

    def select(self, endpoints: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
        """Those of `endpoints` that belong to the subset, in their order."""
        everything = tuple(endpoints)
        wanted = set(self.labels)
        chosen = tuple(endpoint for endpoint in everything if wanted.issubset(endpoint.labels))
        return everything if self.or_any and not chosen else chosen

    def __str__(self) -> str:
        return ",".join(f"{name}={value}" for name, value in self.labels)
