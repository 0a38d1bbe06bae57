from __future__ import annotations

from random import Random

import pytest

from resilient.balance.least_request import LeastRequest
from resilient.core.check import ConfigError
from tests.balance.fleets import fleet, shares


def test_of_two_endpoints_the_idler_one_is_always_taken():
    busy, idle = fleet(1, 1)
    busy.in_flight = 1
    assert shares(LeastRequest().picker([busy, idle]), [busy, idle], picks=1000) == [0.0, 1.0]


def test_requests_in_flight_count_in_proportion_to_the_weight():
    heavy, light = fleet(3, 1)
    heavy.in_flight, light.in_flight = 2, 1
    assert shares(LeastRequest().picker([heavy, light]), [heavy, light], picks=1000) == [1.0, 0.0]


def test_what_is_in_flight_spreads_by_weight():
    endpoints = fleet(4, 2, 1, 1)
    picker, rng = LeastRequest().picker(endpoints), Random(1)
    for _ in range(400):
        picker.pick(0.0, rng)
    assert [stats.in_flight for stats in endpoints] == pytest.approx([200, 100, 50, 50], rel=0.15)


def test_a_full_choice_finds_the_idlest():
    endpoints = fleet(1, 1, 1, 1)
    for number, stats in enumerate(endpoints):
        stats.in_flight = 4 - number
    found = shares(LeastRequest(choice_count=4).picker(endpoints), endpoints, picks=500)
    assert found == [0, 0, 0, 1]


def test_bias_0_looks_at_weights_alone():
    endpoints = fleet(3, 1)
    endpoints[0].in_flight = 100
    found = shares(LeastRequest(active_request_bias=0).picker(endpoints), endpoints)
    assert found == pytest.approx([0.75, 0.25], abs=0.02)


def test_a_bias_above_1_shuns_the_busy_more():
    endpoints = fleet(5, 1)
    endpoints[0].in_flight, endpoints[1].in_flight = 4, 1
    assert shares(LeastRequest().picker(endpoints), endpoints, picks=200)[0] == 1.0
    assert shares(LeastRequest(active_request_bias=2).picker(endpoints), endpoints, picks=200)[0] == 0.0


@pytest.mark.parametrize("fields", [{"choice_count": 1}, {"choice_count": 11}, {"active_request_bias": -1}])
def test_a_wrong_setting_is_refused(fields):
    with pytest.raises(ConfigError, match=f"LeastRequest.{next(iter(fields))}"):
        LeastRequest(**fields)
