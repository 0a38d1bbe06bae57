"""The format of configuration files: the Python values, field by field.

    policies:                      # to be referred to by name
      patient: {timeout: 30}
    policy:                        # for services without one, and for every other host
      timeout: 2.0                 # seconds; "2s", "250ms" and "1m30s" are understood too
      retry: {attempts: 3, budget: {ratio: 0.2}, wait: {exponential_jitter: {max: 0.25}}}
      balancer: peak_ewma          # or {least_request: {choice_count: 3}}
    services:
      orders:
        resolver: dns:///orders.prod.svc:8080
        policy: {timeout: 500ms}   # or patient
      stock:
        resolver: [10.0.0.1:80, 10.0.0.2:80]
    strict: false

A mapping changes the fields that it names and leaves the others as they are: the top-level
`policy` starts from the defaults of Policy, every other one from the top-level `policy`, and
so do the mappings in it. `null` switches a part off.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from resilient.balance.outlier import OutlierDetection
from resilient.config import registry
from resilient.config.reader import Part, Reader, choice, did_you_mean, is_plain, join, nested
from resilient.config.values import MeshConfig, check_name
from resilient.config.waits import read_wait
from resilient.core import check
from resilient.policy.breaker import Breaker
from resilient.policy.budget import RetryBudget
from resilient.policy.limit import Limit
from resilient.policy.policy import Policy
from resilient.policy.retry import Retry
from resilient.service import Service

_FIELDS = ("services", "policy", "policies", "strict")


def as_config(value: object, current: MeshConfig) -> MeshConfig:
    """A MeshConfig from whatever stands for one.

    A MeshConfig is returned as it is; a mapping of names to Services takes the place of the
    services of `current`; other mappings are read as a configuration file is, and then
    nothing of `current` is left. Raises ConfigError with one line for each fault.
    """
    if isinstance(value, MeshConfig):
        return value
    check.instance("config", value, Mapping, "a MeshConfig, a mapping of names to Services, or the data of a file")
    assert isinstance(value, Mapping)
    if all(isinstance(service, Service) for service in value.values()):
        return MeshConfig(value, current.policy, current.strict)
    return read(value)



def read(data: object) -> MeshConfig:
    """A MeshConfig from plain data; raises ConfigError with one line for each fault."""
    reader = Reader(_PARTS)
    sections = reader.known("", data, ("services", "policy", "policies", "strict"))
    policies = _Policies(reader, sections)
    services = {name: _service(reader, name, entry, policies) for name, entry in _entries(reader, sections, "services")}
    strict = sections.get("strict", False)
    if not isinstance(strict, bool):
        reader.refuse("strict", strict, "true or false")
    reader.finish()
    return MeshConfig(services, policies.default, strict)


_PARTS: dict[tuple[type, str], Part] = {
    (Policy, "retry"): nested(Retry),
    (Policy, "breaker"): nested(Breaker),
    (Policy, "balancer"): choice(registry.balancers),
    (Policy, "outlier"): nested(OutlierDetection),
    (Policy, "limit"): nested(Limit),
    (Retry, "budget"): nested(RetryBudget),
    (Retry, "wait"): read_wait,
}


def _entries(reader: Reader, sections: dict[str, Any], section: str) -> list[tuple[str, Any]]:
    """What a section holds by name; None stands for an empty section."""
    entries = sections.get(section) or {}
    if not isinstance(entries, Mapping):
        reader.refuse(section, entries, "a mapping of names")
        return []
    return [(name, entry) for name, entry in entries.items() if _is_text(reader, section, name)]


def _is_text(reader: Reader, section: str, name: object) -> bool:
    if not isinstance(name, str):
        reader.refuse(section, name, "names that are strings (in quotes, if they look like numbers)")
    return isinstance(name, str)


class _Policies:
    """The policies of a configuration: the top-level one, and those that have a name."""

    def __init__(self, reader: Reader, sections: dict[str, Any]) -> None:
        self._reader = reader
        self._named: dict[str, Policy] = {}
        entries = dict(_entries(reader, sections, "policies"))
        top = sections.get("policy")
        if isinstance(top, str) and top in entries:
            # The one that all others start from has nothing to start from but the defaults.
            self.default = self._named[top] = self._build(f"policies.{top}", entries.pop(top), Policy())
        else:
            self._known = entries
            self.default = Policy() if top is None else self._build("policy", top, Policy())
        for name, entry in entries.items():
            self._named[name] = self._build(f"policies.{name}", entry, self.default)

    def get(self, path: str, data: Any) -> Policy | None:
        """A policy by its name or its fields; None for the top-level one."""
        if data is None or isinstance(data, Policy):
            return data
        if isinstance(data, str):
            return self._look_up(path, data)
        return self._build(path, data, self.default)

    def _look_up(self, path: str, name: str) -> Policy | None:
        if name not in self._named:
            self._reader.faults.append(f"{path}: unknown policy {name!r}{did_you_mean(name, self._named)}")
        return self._named.get(name)

    def _build(self, path: str, data: Any, base: Policy) -> Policy:
        built = data if isinstance(data, Policy) else self._reader.build(Policy, path, data, base)
        assert built is None or isinstance(built, Policy)
        return built or base
