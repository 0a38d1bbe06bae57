"""Priorities, zones and newcomers under load, in virtual time."""

from __future__ import annotations

import pytest

from resilient.balance.endpoint import Locality
from resilient.balance.locality import Failover
from resilient.balance.round_robin import RoundRobin
from resilient.policy.policy import Policy
from resilient.testing import Behaviour, FakeEndpoint, Simulation

QUICK = Behaviour()
HERE, THERE = Locality("eu", "a"), Locality("eu", "b")


def group(block, count, behaviour=QUICK, **fields):
    return [FakeEndpoint(f"10.0.{block}.{n}:80", behaviour, **fields) for n in range(1, count + 1)]


def share(result, fakes):
    return sum(result.share(fake.address) for fake in fakes)


def test_the_second_priority_takes_over_as_the_first_dies_and_gives_back() -> None:
    """Only a third of all may be ejected; third attempts go to the second priority all the same."""
    primary, backup = group(0, 10), group(1, 10, priority=1)
    for fake in primary:
        fake.at(20.0, refuses=True).at(60.0, refuses=False)
    sim = Simulation(Policy(), [*primary, *backup], seed=1)
    result = sim.run(rate=100, duration=180)
    assert share(result.between(0, 20), backup) == 0.0
    dead = result.between(30, 60)
    assert dead.success_ratio > 0.99
    assert share(dead, backup) > 0.3
    assert share(result.between(150, 180), backup) == 0.0
    assert sim.in_flight == 0


def test_half_a_priority_keeps_seventy_percent() -> None:
    primary, backup = group(0, 4), group(1, 4, priority=1)
    sim = Simulation(Policy(outlier=None), [*primary, *backup], seed=1)
    for client in sim.clients:
        for stats in client.members[:2]:
            client.mark_unhealthy(stats, 1e9, 0.0)
    result = sim.run(rate=200, duration=30)
    assert share(result, backup) == pytest.approx(0.3, abs=0.02)
    assert share(result, primary[:2]) == 0.0


def test_calls_stay_in_their_zone_and_spill_over_evenly() -> None:
    """Six clients in each zone; zone `a` has lost one of its three endpoints."""
    fakes = [*group(0, 2, locality=HERE), *group(1, 3, locality=THERE)]
    sim = Simulation(Policy(balancer=RoundRobin()), fakes, clients=12, localities=(HERE, THERE), seed=1)
    result = sim.run(rate=500, duration=20)
    local = [call for call in result.calls if call.client % 2 == 0]
    at_home = sum("10.0.0." in call.report.attempts[0].endpoint for call in local)
    assert at_home / len(local) == pytest.approx(0.8, abs=0.02)
    assert {fake.address: result.share(fake.address) for fake in fakes} == pytest.approx(
        {fake.address: 0.2 for fake in fakes}, abs=0.02
    )


def test_zones_can_be_left_out_of_account() -> None:
    fakes = [*group(0, 3, locality=HERE), *group(1, 3, locality=THERE)]
    policy = Policy(balancer=RoundRobin(), failover=Failover(prefer_zone=False))
    result = Simulation(policy, fakes, localities=(HERE,), seed=1).run(rate=200, duration=10)
    assert share(result, fakes[3:]) == pytest.approx(0.5, abs=0.02)


def test_a_newcomer_is_not_flooded() -> None:
    """Four old endpoints, then a fifth one that comes to its share within half a minute."""
    old, new = group(0, 4), group(1, 1)
    sim = Simulation(Policy(balancer=RoundRobin()), old, seed=1)
    sim.resolve(10.0, [*old, *new])
    result = sim.run(rate=200, duration=60)
    assert share(result.between(10, 13), new) < 0.04
    assert share(result.between(24, 26), new) == pytest.approx(0.11, abs=0.03)
    assert share(result.between(45, 60), new) == pytest.approx(0.2, abs=0.01)
