"""A service mesh inside the process: a drop-in httpx client.

It resolves, balances, retries, breaks and traces.

The public names are all here, and each is imported from its module when it is first used: a
program pays for what it uses, and `import resilient` costs next to nothing.
"""

import logging
from importlib import import_module
from typing import TYPE_CHECKING

from resilient._version import __version__

if TYPE_CHECKING:
    from resilient.balance.endpoint import Endpoint, Locality
    from resilient.balance.hash_key import HashOn
    from resilient.balance.least_request import LeastRequest
    from resilient.balance.locality import Failover
    from resilient.balance.maglev import Maglev
    from resilient.balance.outlier import OutlierDetection
    from resilient.balance.peak_ewma import PeakEwma
    from resilient.balance.random_choice import Random
    from resilient.balance.ring_hash import RingHash
    from resilient.balance.round_robin import RoundRobin
    from resilient.callsite import bound_of
    from resilient.client import AsyncClient, Client
    from resilient.config import MeshConfig
    from resilient.context import deadline, inbound_attempt, remaining
    from resilient.core.report import AttemptReport, CallReport
    from resilient.discovery.dns import dns
    from resilient.discovery.file import file
    from resilient.discovery.srv import srv
    from resilient.discovery.static import static
    from resilient.errors import (
        CircuitOpen,
        ConfigError,
        DeadlineExceeded,
        LimitExceeded,
        MeshError,
        NoEndpoint,
        RateLimited,
        ResolveError,
        UnknownService,
    )
    from resilient.mesh import Mesh
    from resilient.policy.adaptive import AdaptiveLimit, GradientLimit
    from resilient.policy.breaker import Breaker
    from resilient.policy.budget import RetryBudget
    from resilient.policy.health import HealthCheck
    from resilient.policy.hedge import Hedge
    from resilient.policy.limit import Limit
    from resilient.policy.pacing import Pacing
    from resilient.policy.policy import Policy
    from resilient.policy.retry import Retry
    from resilient.policy.throttle import Throttle
    from resilient.runtime.body import AsyncReplayableBody, ReplayableBody
    from resilient.service import Service
    from resilient.transport import AsyncMeshTransport, MeshTransport

_HOMES = {
    "AdaptiveLimit": "policy.adaptive",
    "AsyncClient": "client",
    "AsyncMeshTransport": "transport",
    "AsyncReplayableBody": "runtime.body",
    "AttemptReport": "core.report",
    "Breaker": "policy.breaker",
    "CallReport": "core.report",
    "CircuitOpen": "errors",
    "Client": "client",
    "ConfigError": "errors",
    "DeadlineExceeded": "errors",
    "Endpoint": "balance.endpoint",
    "Failover": "balance.locality",
    "GradientLimit": "policy.adaptive",
    "HashOn": "balance.hash_key",
    "HealthCheck": "policy.health",
    "Hedge": "policy.hedge",
    "LeastRequest": "balance.least_request",
    "Limit": "policy.limit",
    "LimitExceeded": "errors",
    "Locality": "balance.endpoint",
    "Maglev": "balance.maglev",
    "Mesh": "mesh",
    "MeshConfig": "config",
    "MeshError": "errors",
    "MeshTransport": "transport",
    "NoEndpoint": "errors",
    "OutlierDetection": "balance.outlier",
    "Pacing": "policy.pacing",
    "PeakEwma": "balance.peak_ewma",
    "Policy": "policy.policy",
    "Random": "balance.random_choice",
    "RateLimited": "errors",
    "ReplayableBody": "runtime.body",
    "ResolveError": "errors",
    "Retry": "policy.retry",
    "RetryBudget": "policy.budget",
    "RingHash": "balance.ring_hash",
    "RoundRobin": "balance.round_robin",
    "Service": "service",
    "Throttle": "policy.throttle",
    "UnknownService": "errors",
    "bound_of": "callsite",
    "deadline": "context",
    "dns": "discovery.dns",
    "file": "discovery.file",
    "inbound_attempt": "context",
    "remaining": "context",
    "srv": "discovery.srv",
    "static": "discovery.static",
}

__all__ = [
    "AdaptiveLimit",
    "AsyncClient",
    "AsyncMeshTransport",
    "AsyncReplayableBody",
    "AttemptReport",
    "Breaker",
    "CallReport",
    "CircuitOpen",
    "Client",
    "ConfigError",
    "DeadlineExceeded",
    "Endpoint",
    "Failover",
    "GradientLimit",
    "HashOn",
    "HealthCheck",
    "Hedge",
    "LeastRequest",
    "Limit",
    "LimitExceeded",
    "Locality",
    "Maglev",
    "Mesh",
    "MeshConfig",
    "MeshError",
    "MeshTransport",
    "NoEndpoint",
    "OutlierDetection",
    "Pacing",
    "PeakEwma",
    "Policy",
    "Random",
    "RateLimited",
    "ReplayableBody",
    "ResolveError",
    "Retry",
    "RetryBudget",
    "RingHash",
    "RoundRobin",
    "Service",
    "Throttle",
    "UnknownService",
    "__version__",
    "bound_of",
    "deadline",
    "dns",
    "file",
    "inbound_attempt",
    "remaining",
    "srv",
    "static",
]

if not TYPE_CHECKING:  # a type checker that saw it would take every misspelt name for Any

    def __getattr__(name: str) -> object:
        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module 'resilient' has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f"resilient.{home}"), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


logging.getLogger("resilient").addHandler(logging.NullHandler())
