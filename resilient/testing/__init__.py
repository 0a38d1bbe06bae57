"""For tests of your own: virtual clocks, fake endpoints, and a seeded simulator.

Policies are tested here as they run: the simulator drives the same journey as the clients.
"""

from typing import TYPE_CHECKING

from resilient.testing.async_clock import AsyncVirtualClock, VirtualLoop
from resilient.testing.behaviour import Behaviour, FakeResponse
from resilient.testing.clock import VirtualClock
from resilient.testing.fakes import FakeEndpoint, fleet
from resilient.testing.result import CallRecord, Result
from resilient.testing.simulation import Simulation

if TYPE_CHECKING:
    from resilient.testing.transport import FakeTransport

__all__ = [
    "AsyncVirtualClock",
    "Behaviour",
    "CallRecord",
    "FakeEndpoint",
    "FakeResponse",
    "FakeTransport",
    "Result",
    "Simulation",
    "VirtualClock",
    "VirtualLoop",
    "fleet",
]

if not TYPE_CHECKING:  # a type checker that saw it would take every misspelt name for Any

    def __getattr__(name: str) -> object:
        """Import what needs httpx when it is first used: simulations do without."""
        if name != "FakeTransport":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from resilient.testing.transport import FakeTransport

        return FakeTransport
