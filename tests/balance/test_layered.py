"""A picker over layers."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from resilient.balance.layered import LayeredPicker, layered
from resilient.balance.locality import Layer
from resilient.balance.peak_ewma import PeakEwma, PeakEwmaPicker
from resilient.balance.random_choice import Random as RandomChoice
from resilient.balance.ring_hash import RingHash
from tests.balance.fleets import BALANCERS, fleet


def two_layers(balancer, share=0.7):
    endpoints = fleet(1, 1, 1, 1)
    return endpoints, layered(balancer, [Layer(share, tuple(endpoints[:2])), Layer(1 - share, tuple(endpoints[2:]))])


def test_one_layer_costs_nothing() -> None:
    assert type(layered(PeakEwma(), [Layer(1.0, tuple(fleet(1, 1)))])) is PeakEwmaPicker


@pytest.mark.parametrize("balancer", BALANCERS.values(), ids=BALANCERS.keys())
def test_layers_are_drawn_by_their_shares(balancer) -> None:
    endpoints, picker = two_layers(balancer)
    rng, hits = Random(1), Counter()
    for number in range(10_000):
        pick = picker.pick(0.0, rng, (), str(number).encode())
        hits[pick.stats] += 1
        pick.release()
    assert (hits[endpoints[0]] + hits[endpoints[1]]) / 10_000 == pytest.approx(0.7, abs=0.02)
    assert all(hits[stats] > 1000 for stats in endpoints)


def test_of_few_among_many_a_table_is_made_of_those_few() -> None:
    endpoints = fleet(*[1] * 50)
    few, most = (layered(RingHash(), [Layer(1.0, tuple(endpoints[:count]))], endpoints) for count in (10, 40))
    assert len(few._owners) == 10
    assert len(most._owners) == 50


def test_a_key_draws_the_same_endpoint_each_time() -> None:
    _, picker = two_layers(RingHash(minimum_ring_size=64))
    rng = Random(1)
    for number in range(100):
        key = str(number).encode()
        assert len({picker.pick(0.0, rng, (), key).stats for _ in range(5)}) == 1


def test_few_keys_move_when_a_share_changes() -> None:
    """5 % of them, and not all."""
    endpoints = fleet(1, 1, 1, 1)
    balancer, moved = RingHash(minimum_ring_size=64), 0
    before, after = (
        LayeredPicker(balancer, [Layer(share, tuple(endpoints[:2])), Layer(1 - share, tuple(endpoints[2:]))])
        for share in (0.70, 0.65)
    )
    for number in range(2000):
        key = str(number).encode()
        moved += before.pick(0.0, Random(), (), key).stats is not after.pick(0.0, Random(), (), key).stats
    assert moved / 2000 == pytest.approx(0.05, abs=0.02)


def test_a_layer_that_stands_by_gets_no_first_attempts() -> None:
    endpoints = fleet(1, 1)
    picker = layered(RandomChoice(), [Layer(1.0, (endpoints[0],)), Layer(0.0, (endpoints[1],))])
    assert {picker.pick(0.0, Random(number)).stats for number in range(200)} == {endpoints[0]}


@pytest.mark.parametrize("balancer", BALANCERS.values(), ids=BALANCERS.keys())
def test_a_retry_that_has_tried_all_of_a_layer_goes_to_the_next(balancer) -> None:
    endpoints = fleet(1, 1, 1)
    picker = layered(balancer, [Layer(1.0, tuple(endpoints[:2])), Layer(0.0, (endpoints[2],))])
    rng, tried = Random(1), []
    for _ in endpoints:
        tried.append(picker.pick(0.0, rng, tried, b"key").stats)
    assert tried[2] is endpoints[2]
    assert set(tried) == set(endpoints)
    assert picker.pick(0.0, rng, tried, b"key").stats in endpoints


def test_a_third_try_goes_to_another_layer() -> None:
    endpoints = fleet(*[1] * 10)
    picker = layered(RandomChoice(), [Layer(1.0, tuple(endpoints[:8])), Layer(0.0, tuple(endpoints[8:]))])
    tried = []
    for _ in range(10):
        tried.append(picker.pick(0.0, Random(len(tried)), tried).stats)
    assert [stats in endpoints[8:] for stats in tried] == [False, False, True, True, *[False] * 6]
    assert len(set(tried)) == 10


class AlmostOne(Random):
    def random(self):
        return 1.0 - 2**-53


def test_shares_that_do_not_quite_add_up_leave_nobody_without() -> None:
    endpoints = fleet(1, 1, 1)
    third = 1 / 3 - 1e-12
    picker = layered(RandomChoice(), [Layer(third, (stats,)) for stats in endpoints])
    assert picker.pick(0.0, AlmostOne()).stats is endpoints[2]
