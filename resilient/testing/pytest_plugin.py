"""Fixtures for pytest. In a `conftest.py`: `pytest_plugins = ["resilient.testing.pytest_plugin"]`.

There is no entry point: installing the package changes no test run that does not ask for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from resilient.policy.policy import Policy
from resilient.testing.async_clock import AsyncVirtualClock
from resilient.testing.clock import VirtualClock
from resilient.testing.fakes import FakeEndpoint
from resilient.testing.simulation import Simulation

MakeSimulation = Callable[..., Simulation]


@pytest.fixture
def virtual_clock() -> VirtualClock:
    """A clock at 0, for `Mesh(clock=virtual_clock)`."""
    return VirtualClock()


@pytest.fixture
def async_virtual_clock() -> AsyncVirtualClock:
    """The same for asyncio and trio: `async_virtual_clock.run(main)`."""
    return AsyncVirtualClock()


@pytest.fixture
def simulation() -> Iterator[MakeSimulation]:
    """Makes Simulations, with the same arguments; after the test nothing may be in flight in them."""
    made: list[Simulation] = []

    def make(policy: Policy, endpoints: Sequence[FakeEndpoint], **options: Any) -> Simulation:
        made.append(Simulation(policy, endpoints, **options))
        return made[-1]

    yield make
    left = [simulation.in_flight for simulation in made]
    assert not any(left), f"attempts still in flight at the end of the simulations: {left}; give calls a timeout"
