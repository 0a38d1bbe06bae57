from __future__ import annotations

import threading
from collections import Counter
from random import Random

import pytest

from resilient.balance.ramp import Ramp
from resilient.balance.round_robin import RoundRobin
from resilient.core.outcome import Kind
from tests.balance.fleets import fleet


def sequence(picker, picks, rng=None, tried=(), now=0.0):
    rng = rng or Random(1)
    return [picker.pick(now, rng, tried).stats for _ in range(picks)]


def test_equal_endpoints_take_turns():
    endpoints = fleet(1, 1, 1)
    order = sequence(RoundRobin().picker(endpoints), 12)
    assert set(order[:3]) == set(endpoints)
    assert order == order[:3] * 4


@pytest.mark.parametrize("weights", [(5, 1, 1), (3, 2), (0.5, 0.25, 0.25)])
def test_every_stretch_holds_the_weights(weights):
    endpoints = fleet(*weights)
    picker, rng = RoundRobin().picker(endpoints), Random(3)
    whole = int(sum(weights) / min(weights))
    for _ in range(50):
        hits = Counter(sequence(picker, whole, rng))
        for stats, weight in zip(endpoints, weights, strict=True):
            assert abs(hits[stats] - whole * weight / sum(weights)) <= 1


def test_clients_do_not_start_in_step():
    endpoints = fleet(*[1] * 10)
    first = [sequence(RoundRobin().picker(endpoints), 1, Random(seed))[0] for seed in range(200)]
    assert len(set(first)) == 10
    assert max(Counter(first).values()) < 45


def test_one_that_was_tried_keeps_its_turn():
    endpoints = fleet(1, 1, 1)
    picker, rng = RoundRobin().picker(endpoints), Random(1)
    order = sequence(picker, 3, rng)
    assert sequence(picker, 1, rng, tried=(order[0],)) == [order[1]]
    assert sequence(picker, 2, rng) == [order[0], order[2]]


def test_where_all_were_tried_they_still_take_turns():
    endpoints = fleet(1, 1)
    found = sequence(RoundRobin().picker(endpoints), 10, tried=tuple(endpoints))
    assert Counter(found) == {endpoints[0]: 5, endpoints[1]: 5}


def test_one_that_ramps_up_loses_turns_and_not_its_place():
    endpoints = fleet(1, 1, 1, 1)
    ramp = endpoints[0].ramp = Ramp(10.0, patience=1.0)
    ramp.picked(0.0)
    ramp.observe(Kind.SUCCESS, 0.0, 0.0)
    picker, rng = RoundRobin().picker(endpoints), Random(1)
    hits = Counter(sequence(picker, 4000, rng, now=5.0))
    assert hits[endpoints[0]] / 4000 == pytest.approx(0.5 / 3.5, abs=0.02)
    assert Counter(sequence(picker, 400, rng, now=10.0))[endpoints[0]] == pytest.approx(100, abs=2)


def test_threads_lose_no_endpoint():
    endpoints = fleet(*[1] * 7)
    picker = RoundRobin().picker(endpoints)
    threads = [threading.Thread(target=sequence, args=(picker, 2000, Random(seed))) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(index for _, index in picker._turns) == list(range(7))
    assert max(stats.requests for stats in endpoints) - min(stats.requests for stats in endpoints) <= 2
