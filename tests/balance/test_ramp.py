from __future__ import annotations

import pytest

from resilient.balance.picker import Pick
from resilient.balance.ramp import Ramp
from resilient.core.outcome import Kind
from tests.balance.fleets import answered, cancelled, fleet, success


def test_one_probe_then_a_tenth_then_the_whole():
    ramp = Ramp(30.0, patience=10.0)
    assert ramp.share_at(0.0) == 1.0
    ramp.picked(0.0)
    assert ramp.share_at(1.0) == 0.0
    ramp.observe(Kind.SUCCESS, 0.0, 2.0)
    assert [ramp.share_at(2.0 + passed) for passed in (0, 3, 15, 30, 99)] == [0.1, 0.1, 0.5, 1.0, 1.0]
    assert not ramp.is_complete(31.9)
    assert ramp.is_complete(32.0)


def test_only_the_result_of_the_probe_counts():
    ramp = Ramp(30.0, patience=10.0)
    ramp.picked(5.0)
    ramp.observe(Kind.FAILURE, 1.0, 6.0)
    ramp.observe(Kind.SUCCESS, 1.0, 6.0)
    assert not ramp.failed
    assert ramp.share_at(6.0) == 0.0
    ramp.observe(Kind.FAILURE, 5.0, 7.0)
    assert ramp.failed


@pytest.mark.parametrize("kind", [Kind.IGNORED, Kind.REFUSED])
def test_a_probe_that_tells_nothing_makes_room_for_another(kind):
    ramp = Ramp(30.0, patience=10.0)
    ramp.picked(0.0)
    ramp.observe(kind, 0.0, 1.0)
    assert ramp.share_at(1.0) == 1.0


def test_a_probe_that_hangs_gives_up_its_place():
    ramp = Ramp(30.0, patience=10.0)
    ramp.picked(0.0)
    ramp.picked(5.0)  # sent though it might not: where every endpoint is on its way back
    assert ramp.share_at(9.9) == 0.0
    assert ramp.share_at(10.0) == 1.0


def test_without_a_length_the_share_is_whole_after_the_probe():
    ramp = Ramp(0.0, patience=10.0)
    ramp.picked(0.0)
    ramp.observe(Kind.SUCCESS, 0.0, 1.0)
    assert ramp.share_at(1.0) == 1.0


@pytest.mark.parametrize(("outcome", "share"), [(success(), 0.1), (cancelled(1.0), 1.0), (answered(500), 0.0)])
def test_picks_tell_the_ramp(outcome, share):
    stats = fleet(1)[0]
    stats.ramp = Ramp(30.0, patience=10.0)
    pick = Pick(stats, 1.0)
    assert stats.share_at(1.5) == 0.0
    pick.done(outcome, 2.0)
    assert stats.share_at(2.0) == share


def test_the_time_of_slow_requests_does_not_count():
    ramp = Ramp(10.0, patience=10.0)
    ramp.picked(0.0)
    ramp.observe(Kind.SUCCESS, 0.0, 0.0)
    ramp.delay(2.0, 5.0)
    assert ramp.share_at(5.0) == 0.3
    assert not ramp.is_complete(11.9)
    assert ramp.is_complete(12.0)


def test_slow_requests_beside_each_other_count_once():
    ramp = Ramp(10.0, patience=10.0)
    ramp.picked(0.0)
    ramp.observe(Kind.SUCCESS, 0.0, 0.0)
    for _ in range(10):
        ramp.delay(2.0, 5.0)
    assert ramp.share_at(5.0) == 0.1
    assert ramp.share_at(10.0) == 0.5


def test_an_endpoint_that_is_slow_for_good_comes_to_its_share():
    ramp = Ramp(10.0, patience=10.0)
    ramp.picked(0.0)
    ramp.observe(Kind.SUCCESS, 0.0, 0.0)
    for now in range(1, 40):
        ramp.delay(1.0, float(now))
    assert ramp.is_complete(30.0)


def test_a_slow_request_before_the_probe_has_ended_delays_nothing():
    ramp = Ramp(10.0, patience=10.0)
    ramp.picked(0.0)
    ramp.delay(5.0, 1.0)
    ramp.observe(Kind.SUCCESS, 0.0, 2.0)
    assert ramp.is_complete(12.0)
