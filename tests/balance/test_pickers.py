"""What holds for every balancer."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient.balance.endpoint import EndpointStats
from resilient.balance.picker import Balancer, Picker
from resilient.balance.ramp import Ramp
from tests.balance.fleets import BALANCERS, CountedRandom, answered, cancelled, fleet, overflowed, shares, success

every_balancer = pytest.mark.parametrize("balancer", BALANCERS.values(), ids=BALANCERS.keys())
BY_WEIGHT = ["peak_ewma", "least_request", "least_request_of_3", "round_robin", "random"]
by_weight = pytest.mark.parametrize("balancer", [BALANCERS[name] for name in BY_WEIGHT], ids=BY_WEIGHT)


@every_balancer
def test_is_a_balancer_by_the_protocol(balancer):
    assert isinstance(balancer, Balancer)
    assert isinstance(balancer.picker([]), Picker)
    assert hash(balancer) == hash(type(balancer)(**{f: getattr(balancer, f) for f in balancer.__slots__}))


@every_balancer
def test_an_empty_set_gives_no_pick(balancer):
    assert balancer.picker([]).pick(0.0, Random(1), (), b"key") is None
    assert balancer.picker([]).pick(0.0, Random(1)) is None


@by_weight
@pytest.mark.parametrize("weights", [(1, 1, 1, 1), (3, 1), (5, 3, 1, 1), (0.2, 0.1, 0.1)])
def test_idle_endpoints_share_by_weight(balancer, weights):
    endpoints = fleet(*weights)
    for stats in endpoints:
        stats.cost = 0.01
    found = shares(balancer.picker(endpoints), endpoints)
    assert found == pytest.approx([weight / sum(weights) for weight in weights], abs=0.02)


@by_weight
def test_many_endpoints_share_by_weight(balancer):
    endpoints = fleet(*[1, 2, 3, 4] * 10)
    for stats in endpoints:
        stats.cost = 0.01
    found = shares(balancer.picker(endpoints), endpoints, picks=20_000)
    for weight in range(4):
        assert sum(found[weight::4]) == pytest.approx((weight + 1) / 10, abs=0.02)


@by_weight
def test_a_retry_keeps_the_weights_of_the_others(balancer):
    endpoints = fleet(90, 9, 1)
    for stats in endpoints:
        stats.cost = 0.01
    found = shares(balancer.picker(endpoints), endpoints, tried=(endpoints[0],))
    assert found == pytest.approx([0, 0.9, 0.1], abs=0.02)


@every_balancer
@pytest.mark.parametrize("share", [0.1, 0.5])
def test_a_ramp_scales_the_weight(balancer, share):
    endpoints = fleet(1, 1, 1)
    for stats in endpoints:
        stats.cost = 0.01
    ramp = endpoints[0].ramp = Ramp(100.0, patience=1.0)
    ramp.picked(0.0)
    ramp.observe(success().kind, 0.0, 0.0)
    picker = balancer.picker(endpoints)
    found = shares(picker, endpoints, now=100.0 * share, keys=lambda number: b"%d" % number)
    whole = shares(picker, endpoints, now=100.0, keys=lambda number: b"%d" % number)
    assert found[0] == pytest.approx(share * whole[0] / (1 - (1 - share) * whole[0]), abs=0.05)


@every_balancer
def test_a_returned_endpoint_gets_one_probe(balancer):
    endpoints = fleet(1, 1)
    endpoints[0].ramp = Ramp(30.0, patience=30.0)
    picker, rng = balancer.picker(endpoints), Random(2)
    picks = [picker.pick(1.0, rng, (), b"%d" % number) for number in range(40)]
    assert sum(pick.stats is endpoints[0] for pick in picks) == 1


@every_balancer
@pytest.mark.parametrize("weighted", [False, True])
def test_a_pick_costs_the_same_for_any_number(balancer, weighted):
    costs = []
    for count in (10, 10_000):
        picker = balancer.picker(fleet(*[1 + n % 3 * weighted for n in range(count)]))
        picker.pick(0.0, Random(1), (), b"first")  # round robin shuffles once
        rng = CountedRandom(1)
        for number in range(100):
            picker.pick(0.0, rng, (), b"%d" % number)
        costs.append(rng.draws)
    few, many = costs
    assert many <= few * 1.5


class Touched:
    """A sequence that counts how many of its items are read."""

    def __init__(self, items):
        self.items, self.reads = items, 0

    def __getitem__(self, index):
        self.reads += 1
        return self.items[index]

    def __len__(self):
        return len(self.items)

    def __iter__(self):
        raise AssertionError("a pick went through all endpoints")


@every_balancer
def test_a_pick_touches_a_few_endpoints(balancer):
    endpoints = fleet(*[1] * 1000)
    picker, rng = balancer.picker(endpoints), Random(1)
    picker.pick(0.0, rng, (), b"first")
    owner = picker if hasattr(picker, "_endpoints") else picker._candidates
    name = "_endpoints" if hasattr(picker, "_endpoints") else "endpoints"
    touched = Touched(getattr(owner, name))
    setattr(owner, name, touched)
    if hasattr(picker, "_recount_in"):
        picker._recount_in = 1000  # the count in between is amortised: see test_consistent
    for number in range(100):
        picker.pick(0.0, rng, tuple(endpoints[:2]), b"%d" % number)
    assert touched.reads <= 100 * 8


weights = st.lists(st.sampled_from([0.01, 1.0, 1.0, 2.0, 1000.0]), min_size=1, max_size=40)


@st.composite
def scenes(draw):
    endpoints = fleet(*draw(weights))
    for stats in endpoints:
        stats.in_flight = draw(st.integers(0, 3))
        stats.cost = draw(st.sampled_from([0.0, 0.001, 1.0]))
        if draw(st.integers(0, 3)) == 0:
            stats.ramp = Ramp(30.0, patience=30.0)
            if draw(st.booleans()):
                stats.ramp.picked(0.0)
    tried = draw(st.lists(st.sampled_from(endpoints), max_size=len(endpoints) + 1))
    return endpoints, tuple(tried)


@every_balancer
@settings(deadline=None, max_examples=50)
@given(scene=scenes(), seed=st.integers(0, 1000), key=st.none() | st.binary(max_size=3))
def test_there_is_always_a_pick_and_not_of_what_was_tried(balancer, scene, seed, key):
    endpoints, tried = scene
    before = [stats.in_flight for stats in endpoints]
    picker, rng = balancer.picker(endpoints), Random(seed)
    picks = [picker.pick(1.0, rng, tried, key) for _ in range(3)]
    for pick in picks:
        assert pick is not None
        assert pick.stats in endpoints
        assert pick.stats not in tried or set(tried) == set(endpoints)
    assert sum(stats.in_flight for stats in endpoints) == sum(before) + 3
    for pick in picks:
        pick.done(success(), 2.0)
        pick.done(success(), 2.0)
    assert [stats.in_flight for stats in endpoints] == before


@every_balancer
@settings(deadline=None, max_examples=25)
@given(results=st.lists(st.sampled_from(["success", "failure", "cancelled", "overflow"]), max_size=30))
def test_in_flight_returns_to_nothing_whatever_the_results(balancer, results):
    makers = {"success": success(), "failure": answered(503), "cancelled": cancelled(1.0), "overflow": overflowed()}
    endpoints = fleet(1, 2, 1)
    picker, rng, now = balancer.picker(endpoints), Random(3), 0.0
    for result in results:
        now += 0.5
        picker.pick(now, rng, (), b"k").done(makers[result], now)
    assert [stats.in_flight for stats in endpoints] == [0, 0, 0]
    assert sum(stats.requests for stats in endpoints) == len(results)
    assert sum(stats.failures for stats in endpoints) == results.count("failure")


def test_observing_twice_counts_once():
    stats = fleet(1)[0]
    pick = BALANCERS["random"].picker([stats]).pick(0.0, Random(1))
    assert pick.observe(answered(500), 1.0)
    assert not pick.observe(answered(500), 1.0)
    assert stats.failures == 1
    assert isinstance(pick.stats, EndpointStats)
