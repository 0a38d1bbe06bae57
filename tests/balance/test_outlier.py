"""Ejection and return, with time counted by hand."""

from __future__ import annotations

from random import Random

import pytest

from resilient.balance.endpoint import Endpoint
from resilient.balance.outlier import CAUSES, OutlierDetection
from resilient.balance.peak_ewma import PeakEwma
from resilient.balance.picker import Pick
from resilient.balance.random_choice import Random as RandomChoice
from resilient.balance.round_robin import RoundRobin
from resilient.core.bound import Bound
from resilient.core.check import ConfigError
from resilient.core.classify import HttpClassifier
from resilient.policy.policy import Policy
from tests.balance.fleets import answered, cancelled, fleet, overflowed, success, timed_out, unreachable


class Service:
    """A detector and its owner: what `core/bound.py` does with it."""

    def __init__(self, *weights, **settings):
        self.members = fleet(*weights)
        self.detector = OutlierDetection(**{"ejection_jitter_ratio": 0.0, **settings}).bind()
        self.usable = self.detector.available(self.members, 0.0)

    def feed(self, stats, outcome, now, times=1, **options):
        changed = [self._feed(stats, outcome, now, options) for _ in range(times)]
        return any(changed)

    def _feed(self, stats, outcome, now, options):
        pick = Pick(stats, now)
        pick.done(outcome, now)
        changed = self.detector.observe(stats, outcome, now, **options)
        if changed:
            self.usable = self.detector.available(self.members, now)
        return changed

    def sweep(self, now, **options):
        changed = self.detector.sweep(self.members, now, **options)
        if changed:
            self.usable = self.detector.available(self.members, now)
        return changed


@pytest.mark.parametrize("outcome", [unreachable(), timed_out(1.0), answered(503), answered(500)])
def test_failures_in_a_row_eject(outcome):
    service = Service(1, 1, 1)
    bad = service.members[0]
    assert not service.feed(bad, outcome, 1.0, times=4)
    assert service.feed(bad, outcome, 1.0)
    assert service.usable == service.members[1:]
    assert bad.ejected_until == 31.0
    assert bad.cause == "consecutive-failures"
    assert service.detector.next_change == 10.0


def test_a_success_ends_the_row():
    service = Service(1, 1, 1)
    for _ in range(4):  # under the volume at which the ratio counts
        service.feed(service.members[0], answered(500), 1.0, times=4)
        service.feed(service.members[0], success(), 1.0)
    assert service.usable == service.members


@pytest.mark.parametrize("outcome", [cancelled(9.0), overflowed(), answered(429), answered(404)])
def test_what_is_no_evidence_never_ejects(outcome):
    if outcome.status == 404:
        outcome = success()
    service = Service(1, 1, 1)
    service.feed(service.members[0], outcome, 1.0, times=100)
    assert service.usable == service.members
    assert service.members[0].consecutive_failures == 0


def test_gateway_failures_are_counted_apart():
    service = Service(1, 1, 1, consecutive_failures=None, consecutive_gateway_failures=3, failure_ratio=None)
    bad = service.members[0]
    for status in (503, 502, 500, 504, 503):  # a plain 500 ends the row (Envoy)
        service.feed(bad, answered(status), 1.0)
    assert bad.ejected_until is None
    service.feed(bad, answered(502), 1.0)
    assert bad.cause == "consecutive-gateway-failures"


def test_local_failures_are_counted_apart():
    service = Service(1, 1, 1, consecutive_failures=10, consecutive_local_failures=3)
    bad = service.members[0]
    for outcome in (unreachable(), unreachable(), answered(500), unreachable(), timed_out(1.0)):
        service.feed(bad, outcome, 1.0)
    assert bad.ejected_until is None
    service.feed(bad, unreachable(), 1.0)
    assert bad.cause == "consecutive-local-failures"


def test_a_ratio_of_failures_ejects_from_the_minimum_volume_on():
    service = Service(1, 1, 1)
    bad = service.members[0]
    for _ in range(9):
        service.feed(bad, success(), 1.0)
        service.feed(bad, answered(500), 1.0)
    service.feed(bad, success(), 1.0)
    assert bad.ejected_until is None
    assert service.feed(bad, answered(500), 1.0)
    assert bad.cause == "failure-ratio"


def test_old_results_do_not_count_for_the_ratio():
    service = Service(1, 1, 1, consecutive_failures=None)
    service.feed(service.members[0], answered(500), 0.0, times=19)
    assert not service.feed(service.members[0], answered(500), 20.0)


@pytest.mark.parametrize(
    ("ratio", "allowed"),
    [
        (0.34, {1: 0, 2: 1, 3: 1, 5: 1, 6: 2, 9: 3, 100: 34}),
        (1 / 3, {3: 1, 9: 3}),
        (1.0, {1: 0, 2: 1, 5: 4}),
        (0, {9: 0}),
    ],
)
def test_how_many_may_be_ejected(ratio, allowed):
    detection = OutlierDetection(max_ejection_ratio=ratio)
    assert {count: detection.ejectable(count) for count in allowed} == allowed


@pytest.mark.parametrize("size", [1, 2, 3, 10])
def test_when_all_fail_the_cap_holds(size):
    service = Service(*[1] * size)
    for stats in service.members:
        service.feed(stats, unreachable(), 1.0, times=50)
    out = sum(stats.ejected_until is not None for stats in service.members)
    assert out == {1: 0, 2: 1, 3: 1, 10: 3}[size]
    assert len(service.usable) == size - out
    assert service.detector.overflows > 0


def test_one_that_was_spared_goes_when_there_is_room():
    service = Service(1, 1)
    first, second = service.members
    service.feed(first, unreachable(), 0.0, times=5)
    service.feed(second, unreachable(), 0.0, times=5)
    assert service.usable == [second]
    service.sweep(30.0)
    assert service.feed(second, unreachable(), 30.0)
    assert service.usable == [first]


def test_when_the_set_shrinks_those_that_would_return_first_do():
    service = Service(*[1] * 9)
    for number in range(3):
        service.feed(service.members[number], unreachable(), float(number), times=5)
    service.members = service.members[:4]
    first, second, third, fourth = service.members
    assert service.detector.available(service.members, 3.0) == [first, second, fourth]
    assert third.ejected_until == 32.0


def test_a_bad_route_ejects_no_good_endpoint():
    service = Service(1, 1, 1)
    good = service.members[0]
    for moment in range(200):
        service.feed(good, answered(500), moment / 10, times=4, route="/bad")
        service.feed(good, success(), moment / 10, route="/good")
    assert service.usable == service.members


def test_a_bad_endpoint_is_ejected_whatever_the_route():
    service = Service(1, 1, 1)
    bad = service.members[0]
    service.feed(bad, success(), 0.0, route="/a")
    service.feed(bad, success(), 0.0, route="/b")
    for number in range(6):
        service.feed(bad, answered(500), 1.0, route="/ab"[:1] + "ab"[number % 2])
    assert bad.ejected_until is not None


def test_a_service_of_one_route_is_judged_by_it():
    service = Service(1, 1, 1)
    assert service.feed(service.members[0], answered(500), 1.0, times=5, route="/only")


def test_two_bad_routes_are_not_one_even_beside_a_good_one():
    service = Service(1, 1, 1, failure_ratio=None)
    bad = service.members[0]
    for _ in range(5):
        for route in ("/a", "/b"):
            service.feed(bad, answered(500), 1.0, route=route)
        service.feed(bad, success(), 1.0, route="/good")
    assert bad.ejected_until is not None


@pytest.mark.parametrize("outcome", [answered(500), answered(503), timed_out(1.0)])
@pytest.mark.parametrize("row", [{}, {"consecutive_local_failures": 3}, {"consecutive_gateway_failures": 3}])
def test_nor_does_one_that_times_out(outcome, row):
    service = Service(1, 1, 1, **row)
    good = service.members[0]
    service.feed(good, success(), 1.0, route="/good")
    service.feed(good, outcome, 1.0, times=50, route="/bad")
    assert service.usable == service.members


def test_a_route_that_fails_everywhere_is_no_endpoints_fault():
    service = Service(1, 1, 1, 1, 1)
    *others, first = service.members
    for stats in others:
        service.feed(stats, answered(500), 1.0, times=2, route="/bad")
    service.feed(first, answered(500), 1.0, times=50, route="/bad")
    assert service.usable == service.members
    service.feed(others[0], success(), 2.0, route="/bad")
    assert not service.feed(first, answered(500), 2.0, route="/bad")  # one of four may be fine
    service.feed(others[1], success(), 2.0, route="/bad")
    assert service.feed(first, answered(500), 2.0, route="/bad")


def test_what_peers_did_long_ago_does_not_count():
    service = Service(1, 1)
    first, other = service.members
    service.feed(other, answered(500), 1.0, times=2, route="/bad")
    assert service.feed(first, answered(500), 12.0, times=5, route="/bad")


def test_a_probe_on_a_route_that_fails_everywhere_is_followed_by_another():
    service = Service(1, 1, ramp=5.0)
    back, other = service.members
    service.feed(back, unreachable(), 0.0, times=5)
    assert service.sweep(30.0)
    service.feed(other, answered(500), 30.0, times=2, route="/bad")
    assert not service.feed(back, answered(500), 31.0, route="/bad")
    assert back.share_at(31.0) == 1.0  # the next one that draws it is the probe
    assert not service.feed(back, success(), 32.0, route="/good")
    assert back.share_at(32.0) == 0.1
    assert service.usable == service.members


def test_to_be_out_of_reach_is_no_matter_of_routes():
    service = Service(1, 1, 1)
    bad = service.members[0]
    service.feed(bad, success(), 1.0, route="/good")
    assert service.feed(bad, unreachable(), 1.0, times=5, route="/bad")


def test_ejections_grow_longer_up_to_the_maximum_and_are_forgotten_one_by_one():
    service = Service(1, 1, 1, max_ejection_time=80.0, ramp=0.0)
    bad, now, lengths = service.members[0], 0.0, []
    for _ in range(4):
        service.feed(bad, unreachable(), now, times=5)
        lengths.append(bad.ejected_until - now)
        now = bad.ejected_until
        assert service.sweep(now)
    assert lengths == [30.0, 60.0, 80.0, 80.0]
    assert bad.ejections == 3
    service.feed(bad, success(), now)
    for left in (2, 1, 0, 0):
        now += 10.0
        assert not service.sweep(now)
        assert bad.ejections == left


def test_jitter_spreads_the_returns():
    until = set()
    for seed in range(20):
        service = Service(1, 1, 1, ejection_jitter_ratio=0.1)
        service.feed(service.members[0], unreachable(), 0.0, times=5, rng=Random(seed))
        until.add(service.members[0].ejected_until)
    assert len(until) == 20
    assert min(until) >= 30.0
    assert max(until) <= 33.0


def test_it_returns_in_time_and_not_at_the_end_of_an_interval():
    service = Service(1, 1, 1)
    service.feed(service.members[0], unreachable(), 3.0, times=5)
    for now in (10.0, 20.0, 30.0):
        assert service.detector.next_change == now
        assert not service.sweep(now)
    assert service.detector.next_change == 33.0
    assert service.sweep(33.0)
    assert service.usable == service.members


def test_a_probe_that_fails_ejects_at_once_and_for_longer():
    service = Service(1, 1, 1)
    bad = service.members[0]
    service.feed(bad, unreachable(), 0.0, times=5)
    service.sweep(30.0)
    assert service.feed(bad, answered(503), 31.0)
    assert (bad.cause, bad.ejected_until) == ("probe", 91.0)


def test_a_probe_that_succeeds_starts_the_ramp():
    service = Service(1, 1, 1)
    bad = service.members[0]
    service.feed(bad, unreachable(), 0.0, times=5)
    service.sweep(30.0)
    service.feed(bad, success(), 30.0)
    assert [bad.share_at(now) for now in (30.0, 45.0, 60.0)] == [0.1, 0.5, 1.0]
    assert not service.feed(bad, answered(503), 46.0)
    service.feed(bad, success(), 60.0)
    assert bad.ramp is None


def test_a_failed_probe_at_the_cap_makes_room_for_another():
    service = Service(1, 1)
    first, second = service.members
    service.feed(first, unreachable(), 0.0, times=5)
    service.sweep(30.0)
    service.feed(second, unreachable(), 32.0, times=5)
    assert not service.feed(first, unreachable(), 33.0)
    assert first.share_at(33.0) == 1.0
    assert service.usable == [first]


def test_a_late_failure_of_an_ejected_endpoint_changes_nothing():
    service = Service(1, 1, 1)
    bad = service.members[0]
    service.feed(bad, unreachable(), 0.0, times=5)
    assert not service.feed(bad, unreachable(), 5.0, times=20)
    assert (bad.ejected_until, bad.ejections) == (30.0, 1)


def feed_all(service, per_endpoint, failures, now=9.0, seconds=0.01):
    for stats, failed in zip(service.members, failures, strict=True):
        service.feed(stats, success(seconds), now, times=per_endpoint - failed)
        stats.evidence.window.results += failed
        stats.evidence.window.failures += failed


def test_a_success_rate_far_from_the_others_ejects_at_the_end_of_the_interval():
    service = Service(*[1] * 5)
    feed_all(service, 100, [40, 0, 0, 0, 0])
    assert not service.sweep(9.9)
    assert service.sweep(10.0)
    assert service.usable == service.members[1:]
    assert service.members[0].cause == "success-rate"


@pytest.mark.parametrize(("size", "volume"), [(4, 100), (5, 99)])
def test_success_rates_need_peers_and_volume(size, volume):
    service = Service(*[1] * size)
    feed_all(service, volume, [40] + [0] * (size - 1))
    assert not service.sweep(10.0)


def test_results_that_left_the_window_are_not_compared():
    service = Service(*[1] * 5)
    feed_all(service, 100, [40, 0, 0, 0, 0], now=1.0)
    service.feed(service.members[1], success(), 1.0)
    service.detector.sweep(service.members, 10.0)  # in the window still: compared, and ejected
    other = Service(*[1] * 5)
    feed_all(other, 100, [40, 0, 0, 0, 0], now=1.0)
    assert not other.sweep(25.0)
    assert service.members[0].ejected_until is not None


def test_a_latency_far_from_the_others_ejects_if_asked_to():
    for factor, expected in ((None, False), (3.0, True)):
        service = Service(1, 1, 1, latency_factor=factor)
        for stats, seconds in zip(service.members, (0.1, 0.01, 0.012), strict=True):
            service.feed(stats, success(seconds), 9.0, times=20)
        assert service.sweep(10.0) is expected
        assert (service.members[0].cause == "latency") is expected


def test_latency_needs_volume():
    service = Service(1, 1, 1, latency_factor=3.0)
    for stats, seconds in zip(service.members, (0.1, 0.01, 0.012), strict=True):
        service.feed(stats, success(seconds), 9.0, times=19)
    assert not service.sweep(10.0)


def test_a_second_detector_goes_on_with_what_the_first_had_found():
    service = Service(1, 1, 1)
    service.feed(service.members[0], unreachable(), 0.0, times=5)
    later = OutlierDetection(window=5.0).bind()
    assert later.available(service.members, 1.0) == service.members[1:]
    assert later.next_change == 6.0
    assert all(stats.evidence is None or stats.evidence.length == 5.0 for stats in service.members)


@pytest.mark.parametrize("now", [1.0, 31.0])
def test_without_a_detector_nothing_stays_ejected_or_on_its_way_back(now):
    watched = Bound("orders", Policy(), Random(1), HttpClassifier())
    watched.update([Endpoint("10.0.0.1", 80), Endpoint("10.0.0.2", 80)], 0.0)
    bad, good = watched.members
    bad.cost = good.cost = 0.01
    for _ in range(5):
        watched.outlier.observe(bad, unreachable(), 0.0)
    watched.outlier.sweep(watched.members, now)
    free = Bound("orders", Policy(outlier=None), Random(1), HttpClassifier())
    free.adopt(watched)
    assert bad.share_at(now) == 1.0
    assert bad.ramp is None
    assert good.cost == 0.01


def share_in_time(balancer):
    """The share of an endpoint that is out of reach until 45 s, in each stretch of 10 s."""
    service, rng, now = Service(1, 1, 1), Random(4), 0.0
    bad, hits, total = service.members[0], [0] * 15, [0] * 15
    picker = balancer.picker(service.usable)
    while now < 149.9:
        now += 0.02
        if now >= service.detector.next_change and service.sweep(now):
            picker = balancer.picker(service.usable)
        pick = picker.pick(now, rng)
        total[int(now / 10)] += 1
        hits[int(now / 10)] += pick.stats is bad
        outcome = unreachable() if pick.stats is bad and now < 45 else success(0.01 * rng.lognormvariate(0, 0.1))
        pick.done(outcome, now)
        if service.detector.observe(pick.stats, outcome, now, rng):
            service.usable = service.detector.available(service.members, now)
            picker = balancer.picker(service.usable)
    return hits, [hit / picks for hit, picks in zip(hits, total, strict=True)]


@pytest.mark.parametrize("balancer", [RandomChoice(), RoundRobin()])
def test_from_failure_to_full_share(balancer):
    # Ejected at once for 30 s, probed at 30, ejected for 60 s, probed at 90, and from then on its way back.
    hits, shares = share_in_time(balancer)
    assert hits[:9] == [5, 0, 0, 1, 0, 0, 0, 0, 0]
    assert 0.01 < shares[9] < shares[10] < shares[11]
    assert shares[12:] == pytest.approx([1 / 3] * 3, abs=0.05)


def test_from_failure_to_full_share_by_peak_ewma():
    # Its penalty keeps requests away before five in a row have failed, so it is hardly ever ejected.
    hits, shares = share_in_time(PeakEwma())
    assert sum(hits[:4]) <= 5
    assert shares[-2:] == pytest.approx([1 / 3] * 2, abs=0.08)


def test_the_causes_are_told():
    assert set(CAUSES) >= {"consecutive-failures", "failure-ratio", "success-rate", "latency", "probe"}


@pytest.mark.parametrize(
    "fields",
    [
        {"consecutive_failures": 0},
        {"consecutive_gateway_failures": 1.5},
        {"consecutive_local_failures": True},
        {"failure_ratio": 0},
        {"failure_ratio": 1.1},
        {"minimum_volume": 0},
        {"window": 0},
        {"success_rate_stdev_factor": -1},
        {"success_rate_minimum_endpoints": 1},
        {"latency_factor": 1.0},
        {"base_ejection_time": 0},
        {"max_ejection_time": 10},
        {"max_ejection_ratio": 34},
        {"ejection_jitter_ratio": -0.1},
        {"ramp": -1},
    ],
)
def test_a_wrong_setting_is_refused(fields):
    with pytest.raises(ConfigError, match=f"OutlierDetection.{next(iter(fields))}: "):
        OutlierDetection(**fields)
