from __future__ import annotations

from random import Random
from statistics import median

import pytest

from resilient.balance.evidence import MAX_ROUTES, Evidence


@pytest.mark.parametrize("seed", range(5))
def test_the_median_is_near_the_true_one_and_follows_it(seed):
    rng, evidence = Random(seed), Evidence(10.0)
    for true in (0.01, 0.1, 0.02):
        samples = [rng.lognormvariate(0, 0.5) * true for _ in range(100)]
        for sample in samples:
            evidence.measure(sample)
        assert evidence.median == pytest.approx(median(samples), rel=0.5)


def test_one_sample_moves_the_median_by_a_step_at_most():
    evidence = Evidence(10.0)
    evidence.measure(0.01)
    evidence.measure(100.0)
    assert evidence.median == pytest.approx(0.0105)


def test_failures_on_one_route_beside_a_fine_one_are_confined():
    evidence = Evidence(10.0)
    evidence.heard("/bad", 0.0, failed=True)
    assert not evidence.is_confined("/bad", since=0.0)
    evidence.heard("/good", 1.0, failed=False)
    assert evidence.is_confined("/bad", since=0.0)
    assert evidence.is_confined_to_a_route(since=0.0)
    assert not evidence.is_confined("/bad", since=1.5)


def test_a_single_failure_elsewhere_does_not_spread_them_but_two_do():
    evidence = Evidence(10.0)
    for route in ("/good", "/fair"):
        evidence.heard(route, 0.0, failed=False)
    evidence.heard("/bad", 0.0, failed=True)
    evidence.heard("/fair", 1.0, failed=True)
    assert evidence.is_confined("/bad", since=0.0)
    evidence.heard("/fair", 2.0, failed=True)
    assert not evidence.is_confined("/bad", since=0.0)


def test_nothing_is_confined_where_no_route_fails_in_a_row():
    evidence = Evidence(10.0)
    assert not evidence.is_confined_to_a_route(since=0.0)
    for route in ("/good", "/fair"):
        evidence.heard(route, 0.0, failed=False)
    assert not evidence.is_confined_to_a_route(since=0.0)


def test_the_route_unheard_of_for_longest_makes_room():
    evidence = Evidence(10.0)
    for number in range(MAX_ROUTES + 5):
        evidence.heard(number, float(number), failed=False)
    assert set(evidence.routes) == set(range(5, MAX_ROUTES + 5))


class Meddling(str):
    """A route at whose comparison "another thread" hears of a new one."""

    __slots__ = ("evidence",)
    __hash__ = str.__hash__

    def __ne__(self, other):
        self.evidence.heard(f"/new/{len(self.evidence.routes)}", 2.0, failed=False)
        return str.__ne__(self, other)


def test_routes_may_be_heard_of_while_they_are_compared():
    evidence = Evidence(10.0)
    for number in range(3):
        route = Meddling(f"/{number}")
        route.evidence = evidence
        evidence.heard(route, 1.0, failed=number == 0)
    assert evidence.is_confined(Meddling("/0"), since=0.0)
    assert evidence.is_confined_to_a_route(since=0.0)
