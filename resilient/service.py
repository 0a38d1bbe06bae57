"""Service: where the endpoints behind a name come from, and the policy for calling them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from resilient.balance.subset import Subset
from resilient.core import check
from resilient.discovery.resolver import Resolver
from resilient.discovery.static import static
from resilient.discovery.targets import parse_target
from resilient.policy.policy import Policy


@check.setting
@dataclass(frozen=True)
class Service:
    """One service of a Mesh.

    `resolver`: a resolver (`resilient.dns("orders.prod.svc", 8080)`), a target string
    (`"dns:///orders.prod.svc:8080"`), or a list of addresses. `policy`: None for the policy
    of the Mesh. `subset`: the labels of the endpoints to use, such as {"version": "v2"}; default: all
    endpoints. `subset_fallback`: what is used if no endpoint has these labels: "none", so calls
    raise NoEndpoint (Envoy's default), or "any" endpoint.
    """

    resolver: Resolver | str | Iterable[str]
    policy: Policy | None = None
    subset: Mapping[str, str] | tuple[tuple[str, str], ...] = ()
    subset_fallback: Literal["none", "any"] = "none"

    def __post_init__(self) -> None:
        object.__setattr__(self, "resolver", _as_resolver(self.resolver))
        check.instance("Service.policy", self.policy, (Policy, type(None)), "a Policy, or None for the mesh's")
        object.__setattr__(self, "subset", check.labels("Service.subset", self.subset))
        check.one_of("Service.subset_fallback", self.subset_fallback, ("none", "any"))

    @property
    def source(self) -> Resolver:
        """The resolver, whatever it was given as."""
        assert isinstance(self.resolver, Resolver)
        return self.resolver

    @property
    def chosen(self) -> Subset | None:
        """Which endpoints of the resolver are used; None for all."""
        labels = check.labels("Service.subset", self.subset)
        return Subset(labels, self.subset_fallback == "any") if labels else None

    def same_endpoints(self, other: Service) -> bool:
        """True if the two have the same endpoints, now and later."""
        return self.source == other.source and self.chosen == other.chosen


def _as_resolver(value: object) -> Resolver:
    if isinstance(value, str):
        return parse_target(value)
    if isinstance(value, Resolver) and not isinstance(value, type):
        return value
    if isinstance(value, Iterable) and not isinstance(value, Mapping):
        return static(list(value))
    raise check.fault("Service.resolver", value, "a resolver, a target such as 'dns:///orders:8080', or addresses")
