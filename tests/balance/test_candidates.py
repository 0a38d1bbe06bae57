from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient.balance.candidates import Candidates, alias_table
from tests.balance.fleets import CountedRandom, fleet


@given(st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=50))
def test_the_alias_table_holds_the_weights_exactly(weights):
    odds, alias = alias_table(weights)
    held = [0.0] * len(weights)
    for column, share in enumerate(odds):
        assert -1e-9 <= share <= 1 + 1e-9
        held[column] += share
        held[alias[column]] += 1 - share
    scale = len(weights) / sum(weights)
    assert held == pytest.approx([weight * scale for weight in weights], rel=1e-6, abs=1e-6)


def test_a_draw_is_one_draw_whatever_the_weights():
    rng = CountedRandom(1)
    candidates = Candidates(fleet(1, 100, 3))
    for _ in range(100):
        candidates.draw(rng)
    assert rng.draws == 100


@pytest.mark.parametrize("weights", [(1, 1), (1, 1, 1), (5, 1), (1000, 1, 1)])
def test_a_pair_is_of_two_different_endpoints(weights):
    candidates, rng = Candidates(fleet(*weights)), Random(1)
    for _ in range(500):
        first, second = candidates.pair(0.0, rng)
        assert second is not None
        assert first is not second


def test_all_pairs_of_equal_endpoints_are_equally_likely():
    endpoints = fleet(1, 1, 1)
    candidates, rng = Candidates(endpoints), Random(1)
    pairs = Counter(candidates.pair(0.0, rng) for _ in range(6000))
    assert len(pairs) == 6
    assert all(hits == pytest.approx(1000, rel=0.15) for hits in pairs.values())


def test_there_is_no_pair_of_one():
    endpoints = fleet(1)
    assert Candidates(endpoints).pair(0.0, Random(1)) == (endpoints[0], None)


def test_among_many_a_dominant_one_that_is_avoided_is_avoided():
    endpoints = fleet(1e6, *[1] * 50)
    candidates, rng = Candidates(endpoints), Random(1)
    found = {candidates.choose(0.0, rng, (endpoints[0],)) for _ in range(300)}
    assert endpoints[0] not in found
    assert len(found) > 40


def test_when_all_are_avoided_any_will_do():
    endpoints = fleet(*[1] * 20)
    candidates = Candidates(endpoints)
    assert candidates.choose(0.0, Random(1), endpoints) in endpoints
    assert candidates.find(0.0, Random(1), endpoints) is None
