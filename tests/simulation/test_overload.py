"""Overload at 150 % of what the servers can do, and its end, with nothing but the client to prevent harm.

The servers queue without a bound and answer in the order of arrival, also those that have given
up. Ideal is that they answer all the time, and each answer is in time: 67 % of the calls.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from resilient import AdaptiveLimit, Hedge, Policy, Throttle
from resilient.testing import Behaviour, Result, Simulation, fleet
from resilient.testing.traffic import Traffic
from tests.runtime.worlds import nothing_is_held

BEGIN, END, LAST = 5.0, 15.0, 25.0
DEADLINE = 0.25


@dataclass(frozen=True)
class Servers:
    count: int
    workers: int
    latency: float

    @property
    def capacity(self) -> float:
        """Answers a second."""
        return self.count * self.workers / self.latency


FAST = Servers(4, 2, 0.02)
WIDE = Servers(3, 10, 0.05)
NARROW = Servers(10, 1, 0.05)


def overload(policy: Policy, servers: Servers, *, clients: int = 1, seed: int = 0) -> tuple[Result, float]:
    """Half of the capacity is asked for, then 150 %, then half; and the goodput relative to the capacity."""
    behaviour = Behaviour(latency=servers.latency, workers=servers.workers)
    simulation = Simulation(policy, fleet(servers.count, behaviour), clients=clients, seed=seed)
    surge = Traffic(simulation, servers.capacity, END, DEADLINE, True, 0.0)
    simulation.schedule(BEGIN, lambda: surge.expect(BEGIN))
    result = simulation.run(rate=servers.capacity / 2, duration=LAST, timeout=DEADLINE)
    assert all(nothing_is_held(client, simulation.now) for client in simulation.clients)
    answered = sum(call.ok for call in result.between(BEGIN, END).calls)
    return result, answered / (servers.capacity * (END - BEGIN))


ADAPTIVE = Policy(limit=AdaptiveLimit())


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    ("servers", "clients"),
    [(FAST, 1), (WIDE, 1), (NARROW, 1), (FAST, 10), (WIDE, 10)],
    ids=["fast", "wide", "narrow", "fast-10", "wide-10"],
)
def test_an_adaptive_limit_keeps_the_goodput_and_recovers_at_once(servers: Servers, clients: int, seed: int) -> None:
    result, goodput = overload(ADAPTIVE, servers, clients=clients, seed=seed)
    assert result.between(0, BEGIN).success_ratio == 1.0
    assert goodput >= 0.85
    assert result.between(END + 2, LAST).success_ratio == 1.0


@pytest.mark.parametrize("policy", [Policy(), Policy(throttle=Throttle())], ids=["nothing", "throttle"])
def test_without_one_next_to_nothing_is_answered_in_time(policy: Policy) -> None:
    result, goodput = overload(policy, NARROW)
    assert goodput < 0.2
    assert result.between(END + 2, LAST).success_ratio < 0.5


def test_it_bears_company() -> None:
    policy = Policy(limit=AdaptiveLimit(), throttle=Throttle(), attempt_timeout=0.25, hedge=Hedge(delay="p95"))
    result, goodput = overload(policy, NARROW)
    assert goodput >= 0.8
    assert result.between(END + 2, LAST).success_ratio == 1.0


@pytest.mark.parametrize("clients", [1, 10])
@pytest.mark.parametrize(
    "fault",
    [{"hangs": True}, {"latency": 0.2}, {"failure_ratio": 1.0}, {"failure_ratio": 1.0, "failure_status": 429}],
    ids=["hangs", "slow", "503", "429"],
)
def test_one_bad_endpoint_of_ten_brings_no_limit_down_so_far_that_calls_are_refused(
    fault: dict[str, Any], clients: int
) -> None:
    policy = Policy(limit=AdaptiveLimit(), attempt_timeout=0.25)
    simulation = Simulation(policy, fleet(10, Behaviour(workers=8)), clients=clients, seed=1)
    simulation.endpoints[0].at(5, **fault)
    result = simulation.run(rate=200, duration=15, timeout=1.0)
    assert not any("overflow" in call.report.flags for call in result.calls)
    assert result.success_ratio > 0.999


def test_all_hang_and_the_limit_has_recovered_two_seconds_later() -> None:
    simulation = Simulation(Policy(limit=AdaptiveLimit(), attempt_timeout=0.25), fleet(10), seed=1)
    for endpoint in simulation.endpoints:
        endpoint.at(5, hangs=True).at(8, hangs=False)
    result = simulation.run(rate=200, duration=14, timeout=1.0)
    assert result.between(10, 14).success_ratio == 1.0
