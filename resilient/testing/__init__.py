"""For tests of your own: virtual clocks, fake endpoints, and a seeded simulator.

Policies are tested here as they run: the simulator drives the same journey as the clients.
"""

from resilient.testing.clock import VirtualClock, VirtualLoop
from resilient.testing.fakes import Behaviour, FakeEndpoint, FakeResponse, fleet
from resilient.testing.result import CallRecord, Result
from resilient.testing.simulation import Simulation

__all__ = [
    "Behaviour",
    "CallRecord",
    "FakeEndpoint",
    "FakeResponse",
    "Result",
    "Simulation",
    "VirtualClock",
    "VirtualLoop",
    "fleet",
]
