"""What a simulation can be asked for; what it finds out about policies is in tests/simulation."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest

from resilient import ConfigError, HashOn, HealthCheck, Maglev, Pacing, Policy, RingHash
from resilient.testing import Behaviour, Result, Simulation, fleet


@pytest.mark.parametrize("balancer", [RingHash(hash_on=HashOn(header="user")), Maglev(hash_on=HashOn(header="user"))])
def test_calls_with_one_key_go_to_one_endpoint(balancer: Any) -> None:
    simulation = Simulation(Policy(balancer=balancer), fleet(5), clients=3, seed=1)
    result = simulation.run(rate=100, duration=5, keys=[f"user-{n}" for n in range(40)])
    went: dict[str, set[str]] = defaultdict(set)
    for call in result.calls:
        went[call.key].update(call.sent)
    assert len(went) == 40
    assert all(len(endpoints) == 1 for endpoints in went.values())
    assert len(set.union(*went.values())) == 5


def test_a_balancer_that_hashes_needs_keys() -> None:
    simulation = Simulation(Policy(balancer=RingHash(hash_on=HashOn(header="user"))), fleet(5))
    with pytest.raises(ConfigError, match=r"Simulation\.run\.keys.*expected keys to hash"):
        simulation.run(rate=10, duration=1)
    Simulation(Policy(balancer=RingHash()), fleet(5)).run(rate=10, duration=1)  # for those that hash nothing


def test_a_mix_is_drawn_by_its_weights() -> None:
    result = Simulation(Policy(), fleet(3), seed=1).run(rate=1000, duration=3, routes={"a": 9, "b": 1, "c": 0})
    counts = {route: len(result.where(lambda call, route=route: call.route == route).calls) for route in "abc"}
    assert counts["c"] == 0
    assert counts["a"] + counts["b"] == len(result.calls)
    assert counts["b"] / len(result.calls) == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize("mix", ["GET /", {"GET /": -1.0}])
def test_what_is_no_mix_is_refused(mix: Any) -> None:
    with pytest.raises(ConfigError, match=r"Simulation\.run\.routes"):
        Simulation(Policy(), fleet(1)).run(rate=10, duration=1, routes=mix)


def test_calls_without_a_mix_are_those_that_there_always_were() -> None:
    plain = Simulation(Policy(), fleet(3), seed=1).run(rate=50, duration=2)
    assert {(call.key, call.route) for call in plain.calls} == {("", "")}
    again = Simulation(Policy(), fleet(3), seed=1).run(rate=50, duration=2, keys=(), routes={})
    assert plain.trace() == again.trace()


def test_a_bad_route_ejects_no_endpoint_that_serves_the_others() -> None:
    def ejections(changes: dict[str, Any], routes: dict[str, float]) -> tuple[int, Result]:
        simulation = Simulation(Policy(retry=None), fleet(5), seed=1)
        for endpoint in simulation.endpoints:
            endpoint.at(0.0, failure_status=500, **changes)
        result = simulation.run(rate=200, duration=20, routes=routes)
        return sum(stats.ejections for stats in simulation.clients[0].members), result

    half = {"GET /good": 1.0, "GET /bad": 1.0}
    count, result = ejections({"route": "GET /bad", "failure_ratio": 1.0}, half)
    assert count == 0
    assert result.where(lambda call: call.route == "GET /bad").success_ratio == 0.0
    assert result.where(lambda call: call.route == "GET /good").success_ratio == 1.0
    assert ejections({"failure_ratio": 0.5}, {})[0] > 0  # where it is not the route


def checked(**changes: Any) -> Policy:
    return Policy(
        retry=None, outlier=None, health=HealthCheck(**{"interval": 1.0, "only": "all", **changes}), slow_start=0.0
    )


@pytest.mark.parametrize("fault", [{"hangs": True}, {"refuses": True}, {"failure_ratio": 1.0}])
def test_an_endpoint_that_fails_its_checks_gets_no_calls_until_it_passes_them(fault: dict[str, Any]) -> None:
    simulation = Simulation(checked(), fleet(4), clients=2, seed=1)
    ill = simulation.endpoints[0].at(5.0, **fault).at(20.0, **{name: type(value)(0) for name, value in fault.items()})
    result = simulation.run(rate=100, duration=40, timeout=0.3)
    assert result.between(0, 5).share(ill.address) > 0.1
    assert result.between(10, 20).share(ill.address) == 0.0
    assert result.between(10, 20).success_ratio == 1.0
    assert result.between(30, 40).share(ill.address) > 0.0
    assert ill.checks > 0


def test_checks_are_a_route_and_no_requests() -> None:
    simulation = Simulation(checked(path="/ready"), fleet(4), seed=1)
    draining = simulation.endpoints[0].at(5.0, route="GET /ready", status=503)
    result = simulation.run(rate=100, duration=10)
    assert result.success_ratio == 1.0
    assert result.between(7, 10).share(draining.address) == 0.0
    assert sum(endpoint.requests for endpoint in simulation.endpoints) == len(result.calls)
    assert simulation.now < 11  # checks would go on for ever


@pytest.mark.parametrize("fault", [{"hangs": True}, {"resets": True}, {"failure_ratio": 1.0}])
def test_a_check_of_tcp_is_content_with_a_connection(fault: dict[str, Any]) -> None:
    simulation = Simulation(checked(protocol="tcp"), fleet(4), seed=1)
    simulation.endpoints[0].at(0.0, **fault)
    simulation.endpoints[1].at(0.0, refuses=True)
    simulation.run(rate=10, duration=10, timeout=0.1)
    unhealthy = [stats.unhealthy_until is not None for stats in simulation.clients[0].members]
    assert unhealthy == [False, True, False, False]


def test_a_peer_that_drains_is_let_go_at_once_with_or_without_a_check() -> None:
    header = {"x-envoy-immediate-health-check-fail": "true"}
    simulation = Simulation(checked(interval=100.0), fleet(4), seed=1)
    draining = simulation.endpoints[0].at(1.0, headers=header)
    result = simulation.run(rate=100, duration=5)
    assert result.between(2, 5).share(draining.address) == 0.0
    simulation = Simulation(checked(), fleet(4), seed=1)
    simulation.endpoints[0].at(0.0, route="GET /healthz", headers=header)
    assert simulation.run(rate=100, duration=5).between(2, 5).share(draining.address) == 0.0


def test_a_new_endpoint_gets_calls_once_it_has_passed_a_check() -> None:
    old, new = fleet(4), fleet(5)[4].at(0.0, route="GET /healthz", refuses=True)
    new.at(10.0, route="GET /healthz", refuses=False)
    simulation = Simulation(checked(), old, seed=1)
    simulation.resolve(5.0, [*old, new])
    result = simulation.run(rate=100, duration=20)
    assert result.between(5, 10).share(new.address) == 0.0
    assert result.between(15, 20).share(new.address) > 0.0


def test_an_endpoint_that_is_gone_is_checked_no_more() -> None:
    endpoints = fleet(4)
    simulation = Simulation(checked(), endpoints, seed=1)
    simulation.resolve(5.0, endpoints[1:])
    simulation.run(rate=100, duration=6)
    checks = endpoints[0].checks
    simulation.run(rate=100, duration=10)
    assert endpoints[0].checks == checks
    assert endpoints[1].checks > checks


def test_a_simulation_with_checks_is_repeatable() -> None:
    def trace() -> list[str]:
        simulation = Simulation(checked(), fleet(4), clients=3, seed=5)
        simulation.endpoints[0].at(2.0, failure_ratio=0.5)
        return simulation.run(rate=50, duration=10).trace()

    assert trace() == trace()


def test_pacing_keeps_to_the_rate_limit_that_it_is_told() -> None:
    def refused(policy: Policy) -> float:
        simulation = Simulation(policy, fleet(1, Behaviour(rate_limit=(50, 1.0))), seed=1)
        calls = simulation.run(rate=45, duration=10).calls
        return sum(attempt.status == 429 for call in calls for attempt in call.report.attempts) / len(calls)

    assert refused(Policy(pacing=Pacing())) < refused(Policy()) / 2


def test_a_stalled_body_takes_the_time_of_the_attempt() -> None:
    simulation = Simulation(Policy(attempt_timeout=0.2), fleet(1, Behaviour(stalls=True)))
    result = simulation.run(rate=5, duration=2, timeout=0.5)
    assert {call.ok for call in result.calls} == {False}
    assert simulation.in_flight == 0
