"""Fixtures for pytest. In a `conftest.py`: `pytest_plugins = ["resilient.testing.pytest_plugin"]`.

There is no entry point: installing the package changes no test run that does not ask for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest

from resilient.policy.policy import Policy
from resilient.testing.clock import VirtualClock
from resilient.testing.fakes import FakeEndpoint
from resilient.testing.simulation import Simulation

MakeSimulation = Callable[..., Simulation]


@pytest.fixture
def virtual_clock() -> VirtualClock:
    """A clock at 0, for `Mesh(clock=virtual_clock)`."""
    return VirtualClock()


@pytest.fixture
def simulation() -> Iterator[MakeSimulation]:
    """Makes Simulations, with the same arguments; after the test nothing may be in flight in them."""
    made: list[Simulation] = []

    def make(policy: Policy, endpoints: Sequence[FakeEndpoint], *, clients: int = 1, seed: int = 0) -> Simulation:
        made.append(Simulation(policy, endpoints, clients=clients, seed=seed))
        return made[-1]

    yield make
    left = [simulation.in_flight for simulation in made]
    assert not any(left), f"attempts still in flight at the end of the simulations: {left}; give calls a timeout"
