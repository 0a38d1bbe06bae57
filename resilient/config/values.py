"""MeshConfig: everything that is configured about a Mesh, as one frozen value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import httpx

from resilient.core import check
from resilient.policy.policy import Policy
from resilient.service import Service


@check.setting
@dataclass(frozen=True)
class MeshConfig:
    """The services of a Mesh, the policy of all others, and whether there are others.

    `services`: by the host of the URLs that name them (`orders` for `http://orders/v1`), in
    lower case, as hosts are. `policy`: for services without one, and for every other host.
    `strict`: refuse hosts that are not services. Defaults: none, the default Policy, False.
    """

    services: Mapping[str, Service] = field(default_factory=dict)
    policy: Policy = Policy()
    strict: bool = False

    def __post_init__(self) -> None:
        check.instance("MeshConfig.services", self.services, Mapping, "a mapping of names to Services")
        object.__setattr__(self, "services", MappingProxyType(dict(self.services)))
        for name, service in self.services.items():
            check_name(name)
            check.instance(f"MeshConfig.services.{name}", service, Service, "a Service")
        check.instance("MeshConfig.policy", self.policy, Policy, "a Policy")
        check.flag("MeshConfig.strict", self.strict)

    def __hash__(self) -> int:
        return hash((frozenset(self.services.items()), self.policy, self.strict))


def as_config(value: object, current: MeshConfig) -> MeshConfig:
    """A MeshConfig from whatever stands for one.

    A MeshConfig is returned as it is; a mapping of names to Services replaces the services of
    `current`; any other mapping is read like a configuration file, and then nothing of `current`
    is kept. Raises ConfigError with one line for each fault.
    """
    if isinstance(value, MeshConfig):
        return value
    check.instance("config", value, Mapping, "a MeshConfig, a mapping of names to Services, or the data of a file")
    assert isinstance(value, Mapping)
    if all(isinstance(service, Service) for service in value.values()):
        return MeshConfig(value, current.policy, current.strict)
    # The schema imports every class that can be configured: a program without a file needs few of them.
    from resilient.config.schema import read

    return read(value)


def check_name(name: object) -> str:
    """The name; ConfigError if no request can have it as its host."""
    host = _host(name) if isinstance(name, str) else ""
    if host and name == host:
        return host
    if host.startswith("xn--") or ".xn--" in host:
        raise check.fault("name", name, f"{host!r}, as the host of a request has it")
    raise check.fault("name", name, "a name as it stands in URLs: the host alone, in lower case")


def _host(name: str) -> str:
    """The host of requests to this name; "" if there can be none."""
    try:
        return httpx.URL(scheme="http", host=name).raw_host.decode("ascii")
    except httpx.InvalidURL:
        return ""
