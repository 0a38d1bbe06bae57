"""The format of configuration files: the Python values, field by field.

    policies:                      # to be referred to by name
      patient: {timeout: 30}
    policy:                        # for services without one, and for every other host
      timeout: 2.0                 # seconds; "2s", "250ms" and "1m30s" are understood too
      retry: {attempts: 3, budget: {ratio: 0.2}, wait: {exponential_jitter: {max: 0.25}}}
      limit: {max_in_flight: 100}  # or adaptive, or {adaptive: {maximum: 200}}
      balancer: peak_ewma          # or {least_request: {choice_count: 3}}
    services:
      orders:
        resolver: dns:///orders.prod.svc:8080
        policy: {timeout: 500ms}   # or patient
      stock:
        resolver: [10.0.0.1:80, 10.0.0.2:80]
        policy: {health: {path: /ready}}
      canary:
        resolver: file:///etc/orders.json
        subset: {version: v2}        # the endpoints with this label
    strict: false

A mapping changes the fields that it names and leaves the others as they are: the top-level
`policy` starts from the defaults of Policy, every other one from the top-level `policy`, and
so do the mappings in it. `null` switches a part off.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from resilient.balance.hash_key import HashOn
from resilient.balance.locality import Failover
from resilient.balance.maglev import Maglev
from resilient.balance.outlier import OutlierDetection
from resilient.balance.ring_hash import RingHash
from resilient.config import registry
from resilient.config.reader import FAULTY, Part, Reader, choice, from_python, join, nested
from resilient.config.values import MeshConfig, check_name
from resilient.config.waits import read_wait
from resilient.core.check import did_you_mean
from resilient.discovery.resolver import Resolver
from resilient.discovery.static import static
from resilient.discovery.targets import parse_target
from resilient.policy.breaker import Breaker
from resilient.policy.budget import RetryBudget
from resilient.policy.health import HealthCheck
from resilient.policy.hedge import Hedge
from resilient.policy.limit import Limit
from resilient.policy.pacing import Pacing
from resilient.policy.policy import Policy
from resilient.policy.retry import Retry
from resilient.policy.throttle import Throttle
from resilient.service import Service


def read(data: object) -> MeshConfig:
    """A MeshConfig from plain data; raises ConfigError with one line for each fault."""
    reader = Reader(_PARTS)
    sections = reader.known("", data, ("services", "policy", "policies", "strict")) or {}
    policies = _Policies(reader, sections)
    reader.parts[Service, "policy"] = policies.read
    entries = _entries(reader, sections, "services")
    services = {name: _service(reader, name, entry) for name, entry in entries.items()}
    strict = sections.get("strict", False)
    if not isinstance(strict, bool):
        reader.refuse("strict", strict, "true or false")
    reader.finish()
    return MeshConfig(services, policies.default, strict)


def _service(reader: Reader, name: str, entry: Any) -> Any:
    path = join("services", name)
    reader.attempt(path, partial(check_name, name))
    return entry if isinstance(entry, Service) else reader.build(Service, path, entry)


def _entries(reader: Reader, sections: dict[str, Any], section: str) -> dict[str, Any]:
    """What a section holds, by name."""
    entries = sections.get(section)
    if entries is None:
        return {}
    if not isinstance(entries, Mapping):
        reader.refuse(section, entries, "a mapping of names")
        return {}
    for name in entries:
        if not isinstance(name, str):
            reader.refuse(section, name, "names that are strings (in quotes, if they look like numbers)")
    return {name: entry for name, entry in entries.items() if isinstance(name, str)}


def _read_resolver(reader: Reader, path: str, data: Any, base: Any) -> Any:
    """A target, a list of addresses, or `{name of a resolver: {its settings}}`."""
    if isinstance(data, str):
        return reader.attempt(path, lambda: parse_target(data))
    if isinstance(data, (list, tuple)):
        return reader.attempt(path, lambda: static(data))
    if isinstance(data, Mapping):
        return _read_named_resolver(reader, path, data, base)
    if not isinstance(data, Resolver):
        reader.refuse(path, data, "a target such as dns:///orders:8080, or a list of addresses")
        return FAULTY
    return data


class _Policies:
    """The policies of a configuration: the top-level one, and those that have a name."""

    def __init__(self, reader: Reader, sections: dict[str, Any]) -> None:
        self.default = Policy()
        self._named: dict[str, Any] = {}
        entries = _entries(reader, sections, "policies")
        top = sections.get("policy")
        if isinstance(top, str) and top in entries:
            # All others start from this one; it has nothing to start from but the defaults.
            self._named[top] = self._build(reader, join("policies", top), entries.pop(top))
        given = self.read(reader, "policy", top, None)
        if isinstance(given, Policy):
            self.default = given
        for name, entry in entries.items():
            self._named[name] = self._build(reader, join("policies", name), entry)

    def read(self, reader: Reader, path: str, data: Any, _base: Any) -> Any:
        """The part that reads a policy: its name, or its fields; None for None."""
        if data is None:
            return None
        if not isinstance(data, str):
            return self._build(reader, path, data)
        if data not in self._named:
            reader.faults.append(f"{path}: unknown policy {data!r}{did_you_mean(data, self._named)}")
            return FAULTY
        return self._named[data]

    def _build(self, reader: Reader, path: str, data: Any) -> Any:
        return data if isinstance(data, Policy) else reader.build(Policy, path, data, self.default)


_read_named_resolver = choice(registry.resolvers)
_read_named_limit = choice(registry.limits)


def _read_limit(reader: Reader, path: str, data: Any, base: Any) -> Any:
    """The fields of a Limit, or `adaptive`, or `{adaptive: {its settings}}`."""
    is_named = isinstance(data, str) or (isinstance(data, Mapping) and not registry.limits().keys().isdisjoint(data))
    read = _read_named_limit if is_named else nested(Limit)
    return read(reader, path, data, base)


_PARTS: Mapping[tuple[type, str], Part] = {
    (Service, "resolver"): _read_resolver,
    (Policy, "retry"): nested(Retry),
    (Policy, "breaker"): nested(Breaker),
    (Policy, "balancer"): choice(registry.balancers),
    (Policy, "outlier"): nested(OutlierDetection),
    (Policy, "health"): nested(HealthCheck),
    (Policy, "failover"): nested(Failover),
    (Policy, "hedge"): nested(Hedge),
    (Policy, "limit"): _read_limit,
    (Policy, "throttle"): nested(Throttle),
    (Policy, "pacing"): nested(Pacing),
    (Policy, "fallback"): from_python,
    (Policy, "classifier"): from_python,
    (RingHash, "hash_on"): nested(HashOn),
    (Maglev, "hash_on"): nested(HashOn),
    (HashOn, "function"): from_python,
    (Retry, "budget"): nested(RetryBudget),
    (Retry, "wait"): read_wait,
    (Retry, "stop"): from_python,
    (Retry, "retry"): from_python,
    (Breaker, "circuit_breaker"): from_python,
    (Breaker, "storage"): from_python,
    (Breaker, "listeners"): from_python,
}
