"""Subsets: the endpoints of a service that carry certain labels, such as one version."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from resilient.balance.endpoint import Endpoint
from resilient.core import check


@dataclass(frozen=True, slots=True)
class Subset:
    """The endpoints with all of `labels`; a mapping is accepted.

    `fallback`: what is used where no endpoint has them: "none", so that calls fail with
    NoEndpoint (Envoy's NO_FALLBACK, its default), or "any" endpoint (ANY_ENDPOINT).
    """

    labels: tuple[tuple[str, str], ...]
    fallback: Literal["none", "any"] = "none"

    def __post_init__(self) -> None:
        labels: object = self.labels
        if isinstance(labels, Mapping):
            object.__setattr__(self, "labels", tuple(sorted(labels.items(), key=str)))
        pairs = self.labels if isinstance(self.labels, tuple) else ()
        if not pairs or not all(isinstance(word, str) for pair in pairs for word in pair):
            raise check.fault("Subset.labels", labels, 'a mapping of strings to strings, such as {"version": "v2"}')
        check.one_of("Subset.fallback", self.fallback, ("none", "any"))

    def select(self, endpoints: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
        """Those of `endpoints` that belong to the subset, in their order."""
        everything = tuple(endpoints)
        wanted = set(self.labels)
        chosen = tuple(endpoint for endpoint in everything if wanted.issubset(endpoint.labels))
        return everything if not chosen and self.fallback == "any" else chosen

    def __str__(self) -> str:
        return ",".join(f"{name}={value}" for name, value in self.labels)
