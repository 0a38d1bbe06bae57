"""A service mesh inside the process: a drop-in httpx client.

It resolves, balances, retries, breaks and traces.
"""

import logging

from resilient._version import __version__
from resilient.balance.endpoint import Endpoint, Locality
from resilient.balance.least_request import LeastRequest
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
from resilient.policy.breaker import Breaker
from resilient.policy.budget import RetryBudget
from resilient.policy.hedge import Hedge
from resilient.policy.limit import Limit
from resilient.policy.policy import Policy
from resilient.policy.retry import Retry
from resilient.runtime.body import ReplayableBody
from resilient.service import Service
from resilient.transport import AsyncMeshTransport, MeshTransport

__all__ = [
    "AsyncClient",
    "AsyncMeshTransport",
    "AttemptReport",
    "Breaker",
    "CallReport",
    "CircuitOpen",
    "Client",
    "ConfigError",
    "DeadlineExceeded",
    "Endpoint",
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

logging.getLogger("resilient").addHandler(logging.NullHandler())
