"""Peak EWMA, counted by hand and in small simulations."""

from __future__ import annotations

import heapq
from itertools import count
from math import exp
from random import Random

import pytest

from resilient.balance.peak_ewma import PeakEwma
from resilient.core.check import ConfigError
from resilient.core.outcome import Kind, Outcome, Safety
from tests.balance.fleets import answered, cancelled, fleet, overflowed, success, timed_out, unreachable

RULE = PeakEwma()


def measured(*costs, weights=None):
    endpoints = fleet(*(weights or [1] * len(costs)))
    for stats, cost in zip(endpoints, costs, strict=True):
        stats.cost = cost
    return endpoints


def test_the_first_result_is_the_cost():
    stats = fleet(1)[0]
    RULE.observe(stats, success(0.02), 5.0)
    assert (stats.cost, stats.stamp) == (0.02, 5.0)


def test_a_rise_is_followed_at_once_and_a_fall_with_the_time_constant():
    stats = measured(0.01)[0]
    RULE.observe(stats, success(0.2), 1.0)
    assert stats.cost == 0.2
    RULE.observe(stats, success(0.01), 11.0)
    assert stats.cost == pytest.approx(0.2 * exp(-1) + 0.01 * (1 - exp(-1)))


def test_reading_decays_and_changes_nothing():
    stats = measured(0.1)[0]
    picker = RULE.picker([stats])
    assert [picker.load_at(stats, 20.0) for _ in range(3)] == [pytest.approx(0.1 * exp(-2))] * 3
    assert (stats.cost, stats.stamp) == (0.1, 0.0)
    assert RULE.cost_at(stats, 10.0) == pytest.approx(0.1 * exp(-1))


def test_load_counts_what_is_in_flight_in_proportion_to_the_weight():
    light, heavy = measured(0.01, 0.01, weights=[1, 3])
    light.in_flight = heavy.in_flight = 3
    picker = RULE.picker([light, heavy])
    assert picker.load_at(light, 0.0) == pytest.approx(0.01 * (1 + 3 / 0.5))
    assert picker.load_at(heavy, 0.0) == pytest.approx(0.01 * (1 + 3 / 1.5))


def test_a_failure_counts_with_the_penalty_on_average():
    stats = measured(0.01)[0]
    RULE.observe(stats, answered(500), 0.1)
    kept = exp(-0.01)
    assert stats.cost == pytest.approx(0.01 * kept + 1.0 * (1 - kept))


@pytest.mark.parametrize("outcome", [answered(503), answered(429), unreachable()])
def test_a_first_result_that_fails_counts_with_the_whole_penalty(outcome):
    stats = fleet(1)[0]
    RULE.observe(stats, outcome, 0.0)
    assert stats.cost == 1.0


def test_a_refused_stream_is_a_sign_of_the_endpoint():
    stats = fleet(1)[0]
    RULE.observe(stats, Outcome(Kind.REFUSED, "refused-stream", safety=Safety.UNPROCESSED), 0.0)
    assert stats.cost == 1.0


def test_a_timeout_counts_with_its_time():
    stats = measured(0.01)[0]
    RULE.observe(stats, timed_out(4.0), 4.0)
    assert stats.cost == 4.0


@pytest.mark.parametrize(("asked", "cost"), [(2.0, 2.0), (1e6, 300.0)])
def test_the_pause_that_the_peer_asks_for_counts_at_once_and_within_bounds(asked, cost):
    stats = measured(0.01)[0]
    RULE.observe(stats, answered(503, retry_after=asked), 0.1)
    assert stats.cost == cost


def test_a_cancelled_attempt_counts_only_if_it_took_longer():
    stats = measured(0.5)[0]
    RULE.observe(stats, cancelled(0.1), 1.0)
    assert (stats.cost, stats.stamp) == (0.5, 0.0)
    RULE.observe(stats, cancelled(2.0), 1.0)
    assert (stats.cost, stats.stamp) == (2.0, 1.0)


@pytest.mark.parametrize("outcome", [overflowed(5.0), Outcome(Kind.IGNORED, "local")])
def test_what_never_came_near_the_endpoint_says_nothing(outcome):
    outcome.seconds = 5.0
    stats = fleet(1)[0]
    RULE.observe(stats, outcome, 5.0)
    assert (stats.cost, stats.stamp) == (0.0, 0.0)


@pytest.mark.parametrize(("reason", "cost"), [("superseded", 0.06), ("cancelled", 0.03), ("local", 0.01)])
def test_a_loser_of_a_race_would_have_taken_about_twice_as_long(reason, cost):
    stats = fleet(1)[0]
    RULE.observe(stats, success(0.01), 1.0)
    given_up = Outcome(Kind.IGNORED, reason)
    given_up.seconds = 0.03
    RULE.observe(stats, given_up, 1.0)
    assert stats.cost == cost


def test_an_answer_in_no_time_is_a_measurement():
    stats = fleet(1)[0]
    RULE.observe(stats, success(0.0), 1.0)
    assert stats.cost > 0


def test_the_second_is_taken_only_if_its_load_is_clearly_lower():
    rng = Random(5)
    for costs, expected in (((0.01, 0.0081), 0.5), ((0.01, 0.0079), 0.0)):
        endpoints = measured(*costs)
        picker = RULE.picker(endpoints)
        picks = [picker.pick(0.0, rng) for _ in range(1000) if not any(stats.in_flight for stats in endpoints)]
        for _ in range(1999):
            picks[-1].release()
            picks.append(picker.pick(0.0, rng))
        hits = sum(pick.stats is endpoints[0] for pick in picks) / len(picks)
        assert hits == pytest.approx(expected, abs=0.05)


def test_a_new_endpoint_is_probed_and_not_flooded():
    endpoints = measured(0.0, 0.01, 0.01)
    picker, rng = RULE.picker(endpoints), Random(1)
    picks = [picker.pick(0.0, rng) for _ in range(50)]
    assert [pick.stats is endpoints[0] for pick in picks].count(True) == 1
    assert endpoints[0].in_flight == 1
    next(pick for pick in picks if pick.stats is endpoints[0]).done(success(0.01), 0.1)
    assert any(picker.pick(0.1, rng).stats is endpoints[0] for _ in range(10))


def test_several_new_endpoints_are_compared_by_what_is_in_flight():
    endpoints = fleet(1, 1, 1, 1)
    picker, rng = RULE.picker(endpoints), Random(1)
    for _ in range(40):
        picker.pick(0.0, rng)
    assert max(stats.in_flight for stats in endpoints) <= 13


class World:
    """Requests at random times; each endpoint answers after its latency, or fails."""

    def __init__(self, endpoints, behaviour, rate, seed=1):
        self.rng, self.rate, self.behaviour = Random(seed), rate, behaviour
        self.picker, self.endpoints = RULE.picker(endpoints), endpoints
        self.now, self.order, self.under_way = 0.0, count(), []

    def run(self, until):
        hits = dict.fromkeys(self.endpoints, 0)
        while self.now < until:
            self.now += self.rng.expovariate(self.rate)
            while self.under_way and self.under_way[0][0] <= self.now:
                ended, _, pick, outcome = heapq.heappop(self.under_way)
                pick.done(outcome, ended)
            pick = self.picker.pick(self.now, self.rng)
            hits[pick.stats] += 1
            outcome = self.behaviour(self.endpoints.index(pick.stats), self.now, self.rng)
            heapq.heappush(self.under_way, (self.now + outcome.seconds, next(self.order), pick, outcome))
        return [hits[stats] / sum(hits.values()) for stats in self.endpoints]


def noisy(latency, rng):
    return latency * rng.lognormvariate(0, 0.3)


def test_a_slow_endpoint_loses_its_share_and_gets_it_back():
    def behaviour(index, now, rng):
        return success(noisy(0.2 if index == 0 and 10 <= now < 20 else 0.01, rng))

    world = World(fleet(1, 1, 1, 1), behaviour, rate=200)
    assert world.run(10.0)[0] == pytest.approx(0.25, abs=0.05)
    assert world.run(20.0)[0] < 0.01
    world.run(45.0)
    assert world.run(60.0)[0] == pytest.approx(0.25, abs=0.05)


@pytest.mark.parametrize("size", [2, 3, 10])
@pytest.mark.parametrize("fail", [lambda: answered(503, 0.0005), unreachable, lambda: answered(429, 0.0005)])
def test_an_endpoint_that_fails_fast_attracts_nothing(size, fail):
    def behaviour(index, now, rng):
        return fail() if index == 0 else success(noisy(0.01, rng))

    world = World(fleet(*[1] * size), behaviour, rate=40 * size)
    world.run(2.0)
    assert world.run(30.0)[0] < 0.02


def test_one_failure_in_a_hundred_everywhere_does_not_disturb_the_balance():
    def behaviour(index, now, rng):
        return answered(500, 0.01) if rng.random() < 0.01 else success(noisy(0.1 if index == 0 else 0.01, rng))

    world = World(fleet(*[1] * 10), behaviour, rate=300)
    world.run(10.0)
    found = world.run(60.0)
    assert found[0] < 0.01
    assert max(found) < 0.16
    assert min(found[1:]) > 0.06


@pytest.mark.parametrize("weights", [(3, 1), (5, 1, 1, 1)])
def test_noise_does_not_undo_the_weights(weights):
    world = World(fleet(*weights), lambda index, now, rng: success(noisy(0.01, rng)), rate=100)
    assert world.run(60.0)[0] == pytest.approx(weights[0] / sum(weights), rel=0.2)


@pytest.mark.parametrize(
    "fields", [{"decay": 0}, {"failure_penalty": -1}, {"tolerance": 1.5}, {"tolerance": "x"}, {"decay": float("nan")}]
)
def test_a_wrong_setting_is_refused(fields):
    with pytest.raises(ConfigError, match=f"PeakEwma.{next(iter(fields))}"):
        PeakEwma(**fields)
