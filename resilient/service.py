"""Service: a name of yours, where its endpoints come from, and its policy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from resilient.core import check
from resilient.discovery.resolver import Resolver
from resilient.discovery.static import static
from resilient.discovery.targets import parse_target
from resilient.policy.policy import Policy


@dataclass(frozen=True)
class Service:
    """One service of a Mesh.

    `resolver`: a resolver (`resilient.dns("orders.prod.svc", 8080)`), a target string
    (`"dns:///orders.prod.svc:8080"`), or a list of addresses. `policy`: None for the policy
    of the Mesh.
    """

    resolver: Resolver | str | Iterable[str]
    policy: Policy | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "resolver", _as_resolver(self.resolver))
        check.instance("Service.policy", self.policy, (Policy, type(None)), "a Policy, or None for the mesh's")

    @property
    def source(self) -> Resolver:
        """The resolver, whatever it was given as."""
        assert isinstance(self.resolver, Resolver)
        return self.resolver


def _as_resolver(value: object) -> Resolver:
    if isinstance(value, str):
        return parse_target(value)
    if isinstance(value, Resolver) and not isinstance(value, type):
        return value
    if isinstance(value, Iterable) and not isinstance(value, Mapping):
        return static(list(value))
    raise check.fault("Service.resolver", value, "a resolver, a target such as 'dns:///orders:8080', or addresses")
