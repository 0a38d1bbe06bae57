"""What holds whatever happens: laws of the whole client, found out by simulation."""

from __future__ import annotations

from math import log
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resilient import Client, Hedge, Limit, Mesh, OutlierDetection, PeakEwma, Policy, Retry, RetryBudget
from resilient.callsite.functions import decorate
from resilient.core.effects import Send
from resilient.runtime.threads import ThreadDriver
from resilient.testing import Behaviour, CallRecord, FakeEndpoint, Result, Simulation, VirtualClock, fleet
from tests.runtime.worlds import nothing_is_held

FAST = Behaviour(latency=0.01)
BAD = [{"failure_ratio": 1.0}, {"refuses": True}, {"resets": True}, {"hangs": True}]
faults = st.sampled_from([*BAD, {"failure_ratio": 0.5}, {"latency": 0.3}])
some_examples = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def share(result: Result, address: str, endpoints: int) -> float:
    """The share of an endpoint, in proportion to a fair one."""
    return result.share(address) * endpoints


@st.composite
def disturbed_fleets(draw: st.DrawFn) -> list[FakeEndpoint]:
    """Up to eight endpoints, each with up to two changes of mind."""
    endpoints = list(fleet(draw(st.integers(1, 8)), FAST))
    for endpoint in endpoints:
        for time in sorted(draw(st.lists(st.floats(0, 8), max_size=2))):
            normal = {"failure_ratio": 0.0, "refuses": False, "resets": False, "hangs": False, "latency": 0.01}
            endpoint.at(time, **{**normal, **draw(st.one_of(st.just({}), faults))})
    return endpoints


class Watched(Simulation):
    """Looks at every client before each attempt."""

    def serve(self, send: Send) -> Any:
        for client in self.clients:
            ejected = [stats for stats in client.members if stats.ejected_until is not None]
            detection = client.policy.outlier
            assert detection is not None
            assert len(ejected) <= detection.ejectable(len(client.members))
            assert len(ejected) < len(client.members)
        return super().serve(send)


@some_examples
@given(disturbed_fleets(), st.integers(0, 9), st.sampled_from([0.1, 0.34, 1.0]))
def test_ejections_stay_below_their_cap_and_never_take_the_last_endpoint(
    endpoints: list[FakeEndpoint], seed: int, cap: float
) -> None:
    policy = Policy(attempt_timeout=0.2, outlier=OutlierDetection(max_ejection_ratio=cap, consecutive_failures=2))
    simulation = Watched(policy, endpoints, clients=2, seed=seed)
    result = simulation.run(rate=60, duration=10, timeout=1.0)
    assert not any("no-endpoint" in call.report.flags for call in result.calls)
    assert all(call.report.attempts for call in result.calls)


@some_examples
@given(
    disturbed_fleets(),
    st.integers(0, 9),
    st.floats(0, 0.5),
    st.floats(0, 5),
    st.sampled_from([None, Hedge(delay=0.02, max_extra_ratio=1.0)]),
)
def test_retries_and_hedges_together_keep_to_the_budget(
    endpoints: list[FakeEndpoint], seed: int, ratio: float, floor: float, hedge: Hedge | None
) -> None:
    budget = RetryBudget(ratio=ratio, min_per_second=floor)
    policy = Policy(attempt_timeout=0.2, retry=Retry(attempts=50, budget=budget), hedge=hedge)
    result = Simulation(policy, endpoints, seed=seed).run(rate=60, duration=10, timeout=3.0)
    started = sorted(call.start for call in result.calls)
    for end in range(1, 14):
        begun = sum(start < end for start in started)
        paid = sum(_paid(call, end) for call in result.calls)
        assert paid <= ratio * begun + (floor * end + max(floor, 5.0) if floor else 0.0) + 1e-6


def _paid(call: CallRecord, end: float) -> int:
    """Attempts beyond the first, without those that follow a refused connection and are free.

    Of calls that had ended by then: all of them are counted, hedges that lost among them.
    """
    if call.start + call.seconds >= end:
        return 0
    free = sum(attempt.reason == "connect-failure" for attempt in call.report.attempts)
    return max(0, len(call.sent) - 1 - free)


@some_examples
@given(disturbed_fleets(), st.integers(0, 9), st.floats(0, 0.5))
def test_nothing_stays_in_flight_also_when_callers_give_up(
    endpoints: list[FakeEndpoint], seed: int, cancel_ratio: float
) -> None:
    policy = Policy(attempt_timeout=0.2, hedge=Hedge(delay=0.02), limit=Limit(max_in_flight=5, max_queue=5))
    simulation = Simulation(policy, endpoints, clients=2, seed=seed)
    result = simulation.run(rate=100, duration=5, timeout=1.0, cancel_ratio=cancel_ratio)
    assert all(nothing_is_held(client, simulation.now) for client in simulation.clients)
    assert len(result.calls) == len({id(call.report) for call in result.calls})
    assert any(call.cancelled for call in result.calls) or cancel_ratio < 0.05


@some_examples
@given(disturbed_fleets(), st.integers(0, 9))
def test_the_same_seed_gives_the_same_trace(endpoints: list[FakeEndpoint], seed: int) -> None:
    policy = Policy(attempt_timeout=0.2, hedge=Hedge(delay=0.02))
    runs = [
        Simulation(policy, endpoints, clients=2, seed=number).run(rate=50, duration=5, timeout=1.0, cancel_ratio=0.1)
        for number in (seed, seed, seed + 1)
    ]
    assert runs[0].trace() == runs[1].trace()
    assert runs[0].trace() != runs[2].trace()


@some_examples
@given(disturbed_fleets(), st.integers(0, 9), st.floats(0, 0.3))
def test_what_is_not_idempotent_is_never_delivered_twice(
    endpoints: list[FakeEndpoint], seed: int, cancel_ratio: float
) -> None:
    policy = Policy(attempt_timeout=0.2, retry=Retry(attempts=9, budget=None), hedge=Hedge(delay=0.02))
    simulation = Simulation(policy, endpoints, seed=seed)
    result = simulation.run(rate=60, duration=10, timeout=1.0, idempotent=False, cancel_ratio=cancel_ratio)
    assert sum(endpoint.requests for endpoint in endpoints) <= len(result.calls)
    for call in result.calls:
        *earlier, last = call.report.attempts or [None]
        assert all(attempt.reason == "connect-failure" for attempt in earlier)
        assert last is None or last.number == len(call.report.attempts)


@some_examples
@given(
    st.integers(2, 10),
    st.sampled_from([1, 2, 4]),
    st.sampled_from([Behaviour(latency=latency, spread=spread) for latency in (0.005, 0.05) for spread in (0.0, 0.4)]),
    st.floats(5, 30),
    st.integers(0, 999),
)
def test_a_slow_endpoint_loses_its_share_within_two_seconds_and_regains_it(
    count: int, clients: int, normal: Behaviour, times: float, seed: int
) -> None:
    """It is back once what was seen of it has decayed to what is usual: the slower it was, the later."""
    simulation = Simulation(Policy(), fleet(count, normal), clients=clients, seed=seed)
    slow = simulation.endpoints[seed % count].at(5, latency=times * normal.latency).at(10, latency=normal.latency)
    back = 10 + PeakEwma().decay * (log(times) + 1)
    result = simulation.run(rate=15 * count, duration=back + 5)
    assert share(result.between(0, 5), slow.address, count) > 0.4
    assert share(result.between(7, 10), slow.address, count) < 0.25
    assert share(result.between(back, back + 5), slow.address, count) > 0.3
    assert simulation.in_flight == 0


@pytest.mark.parametrize("clients", [1, 10])
@pytest.mark.parametrize("fault", BAD, ids=lambda fault: next(iter(fault)))
def test_a_bad_endpoint_of_ten_costs_next_to_nothing(fault: dict[str, Any], clients: int) -> None:
    simulation = Simulation(Policy(attempt_timeout=0.5), fleet(10), seed=clients, clients=clients)
    bad = simulation.endpoints[0].at(5, **fault)
    result = simulation.run(rate=200, duration=15, timeout=5.0)
    assert result.between(7, 15).share(bad.address) < 0.01
    assert result.between(5, 15).amplification <= 1.1
    assert result.between(5, 15).success_ratio == 1.0
    assert simulation.in_flight == 0


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("clients", [1, 10])
@pytest.mark.parametrize("onset", [0, 5])
@pytest.mark.parametrize("attempts", [3, 100])
def test_a_total_fault_is_not_amplified(attempts: int, onset: int, clients: int, seed: int) -> None:
    # A budget belongs to a process, so a fleet of them divides the floor.
    retry = Retry(attempts=attempts, budget=RetryBudget(min_per_second=10 / clients))
    simulation = Simulation(Policy(retry=retry), fleet(10), clients=clients, seed=seed)
    for endpoint in simulation.endpoints:
        endpoint.at(onset, failure_ratio=0.9)
    result = simulation.run(rate=200, duration=onset + 15)
    assert 1.1 < result.between(onset, onset + 15).amplification <= 1.3


@pytest.mark.parametrize("seed", range(2))
def test_a_retry_storm_ends_with_the_fault_that_began_it(seed: int) -> None:
    """400 requests a second can be served and 300 come; for three seconds nobody answers."""

    def run(budget: RetryBudget | None) -> Result:
        policy = Policy(attempt_timeout=0.5, outlier=None, retry=Retry(attempts=4, budget=budget))
        endpoints = fleet(10, Behaviour(latency=0.1, workers=4))
        for endpoint in endpoints:
            endpoint.at(2, hangs=True).at(5, hangs=False)
        return Simulation(policy, endpoints, clients=10, seed=seed).run(rate=300, duration=11, timeout=4.0)

    assert run(RetryBudget()).between(7, 11).success_ratio > 0.999
    # Without a budget the retries keep up the overload that they were made for.
    assert run(None).between(7, 11).success_ratio < 0.5


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_retries_of_layers_do_not_multiply(layers: int) -> None:
    clock = VirtualClock()
    seen: list[httpx.Request] = []

    def fails(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        raise httpx.ReadError("reset", request=request)

    with Client(mesh=Mesh(clock=clock), transport=httpx.MockTransport(fails)) as client:
        work = lambda: client.get("http://orders/")
        for _ in range(layers - 1):
            work = decorate(Policy(retry=Retry(attempts=3, budget=None)), work, threads=ThreadDriver(clock))
        with pytest.raises(httpx.ReadError):
            work()
    assert len(seen) == 3
