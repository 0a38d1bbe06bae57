"""Which endpoints a service uses: newcomers, health, draining, subsets, levels."""

from __future__ import annotations

from random import Random

import pytest

from resilient.balance.endpoint import Endpoint, Locality
from resilient.balance.outlier import OutlierDetection
from resilient.balance.round_robin import RoundRobin
from resilient.balance.subset import Subset
from resilient.core.bound import Bound
from resilient.core.classify import HttpClassifier
from resilient.core.outcome import Kind
from resilient.policy.health import HealthCheck
from resilient.policy.policy import Policy
from tests.core.steps import Answer, Steps

HEALTH = HealthCheck()
PLAIN = Policy(balancer=RoundRobin(), retry=None)


class Checker:
    """Stands for the control thread's."""

    calls = 0

    def changed(self) -> None:
        self.calls += 1


def endpoints(count, **fields):
    return [Endpoint("10.0.0.1", port, **fields) for port in range(1, count + 1)]


def service(count=4, policy=PLAIN, *, checker=None, **options):
    bound = Bound("orders", policy, Random(7), HttpClassifier(), **options)
    bound.checker = checker
    bound.update(endpoints(count), 0.0)
    return bound


def used(bound, now=0.0, picks=400):
    """The ports of the endpoints that get calls, and how many of `picks`."""
    hits: dict[int, int] = {}
    for _ in range(picks):
        pick = bound.pick(now, (), None)
        hits[pick.stats.endpoint.port] = hits.get(pick.stats.endpoint.port, 0) + 1
        pick.release()
    return hits


def call(bound, answer, now=0.0):
    steps = Steps(bound, now)
    address = steps.effect.pick.stats.address
    steps.reply(answer, now=now)
    return address


def test_an_unhealthy_endpoint_gets_no_calls_until_it_is_healthy() -> None:
    bound = service()
    bound.mark_unhealthy(bound.members[0], 100.0, 1.0)
    assert set(used(bound, 1.0)) == {2, 3, 4}
    bound.mark_healthy(bound.members[0], 2.0)
    assert set(used(bound, 2.0)) == {1, 2, 3, 4}


def test_a_verdict_lapses_if_no_check_renews_it() -> None:
    bound = service()
    bound.mark_unhealthy(bound.members[0], 100.0, 1.0)
    bound.mark_unhealthy(bound.members[0], 150.0, 50.0)
    assert set(used(bound, 149.9)) == {2, 3, 4}
    assert set(used(bound, 150.0)) == {1, 2, 3, 4}


def test_a_verdict_lapses_without_outlier_detection_too() -> None:
    bound = service(policy=PLAIN.replace(outlier=None))
    bound.mark_unhealthy(bound.members[0], 100.0, 1.0)
    assert set(used(bound, 99.0)) == {2, 3, 4}
    assert set(used(bound, 100.0)) == {1, 2, 3, 4}


def test_one_that_is_healthy_again_comes_back_slowly_and_is_measured_anew() -> None:
    bound = service(3, Policy(health=HEALTH, slow_start=30.0))
    ill = bound.members[0]
    ill.cost = 10.0  # what it took to answer when it was ill
    bound.mark_unhealthy(ill, 100.0, 1.0)
    bound.mark_healthy(ill, 2.0)
    assert ill.cost == 0.0
    assert ill.ramp is not None
    shares = [stats.share_at(2.0) for stats in bound.members]
    assert shares == [1.0, 1.0, 1.0]  # the probe may go
    ill.ramp.picked(2.0)
    assert ill.share_at(2.0) == 0.0


@pytest.mark.parametrize("lapses", [False, True], ids=["checked", "a verdict that lapses"])
def test_each_return_is_slow(lapses: bool) -> None:
    bound = service(3, Policy(health=HEALTH, slow_start=30.0, outlier=None))
    ill, now = bound.members[0], 0.0
    for _ in range(3):
        now += 100.0
        bound.mark_unhealthy(ill, now + 5.0, now)
        now += 5.0
        if lapses:
            bound.pick(now, (), None).release()
        else:
            bound.mark_healthy(ill, now)
        assert ill.unhealthy_until is None
        assert ill.ramp is not None
        assert not ill.ramp.is_complete(now)
        ill.ramp.picked(now)
        ill.ramp.observe(Kind.SUCCESS, now, now)


def test_where_most_were_ill_they_come_back_at_once() -> None:
    bound = service(3, Policy(health=HEALTH, slow_start=30.0))
    for stats in bound.members[:2]:
        bound.mark_unhealthy(stats, 100.0, 1.0)
    bound.mark_healthy(bound.members[0], 2.0)
    assert bound.members[0].ramp is None


def test_ejections_are_still_looked_at_while_somebody_is_unhealthy() -> None:
    bound = service(policy=PLAIN.replace(outlier=OutlierDetection(consecutive_failures=1, ejection_jitter_ratio=0)))
    bound.mark_unhealthy(bound.members[0], 500.0, 0.0)
    address = call(bound, Answer(500), 1.0)
    assert address != bound.members[0].address
    assert len(used(bound, 30.0)) == 2
    assert len(used(bound, 31.5)) == 3


def test_if_all_are_unhealthy_all_are_used() -> None:
    bound = service()
    for stats in bound.members:
        bound.mark_unhealthy(stats, 100.0, 1.0)
    assert set(used(bound, 1.0)) == {1, 2, 3, 4}


def test_a_hedge_needs_another_endpoint_that_is_usable() -> None:
    bound = service(2)
    assert bound.has_other(bound.members[0])
    bound.mark_unhealthy(bound.members[1], 100.0, 1.0)
    assert not bound.has_other(bound.members[0])


def test_a_check_ends_an_ejection_before_its_time() -> None:
    bound = service(policy=PLAIN.replace(outlier=OutlierDetection(consecutive_failures=1)))
    call(bound, Answer(500), 1.0)
    (ejected,) = [stats for stats in bound.members if stats.ejected_until is not None]
    bound.restore(ejected, 2.0)
    assert ejected.ejected_until is None
    assert ejected.ramp is not None
    assert len(used(bound, 2.0)) == 4


DRAINING = {"x-envoy-immediate-health-check-fail": "true"}


def test_an_endpoint_that_is_draining_gets_no_further_calls() -> None:
    bound = service(policy=PLAIN.replace(health=HEALTH))
    port = int(call(bound, Answer(200, DRAINING), 1.0).rpartition(":")[2])
    assert set(used(bound, 1.0)) == {1, 2, 3, 4} - {port}
    assert set(used(bound, 1.0 + HEALTH.lease)) == {1, 2, 3, 4}


def test_the_header_means_nothing_without_health_checks() -> None:
    bound = service()
    call(bound, Answer(200, DRAINING), 1.0)
    assert set(used(bound, 1.0)) == {1, 2, 3, 4}


def test_endpoints_of_the_first_resolution_begin_at_once() -> None:
    bound = service(policy=PLAIN.replace(health=HEALTH), checker=Checker())
    assert bound.checker.calls == 1
    assert all(stats.is_usable and stats.ramp is None for stats in bound.members)


def test_a_newcomer_comes_slowly() -> None:
    bound = service()
    bound.update(endpoints(5), 10.0)
    newcomer = bound.members[4]
    assert [stats for stats in bound.members if stats.ramp is not None] == [newcomer]
    pick = next(pick for pick in (bound.pick(10.0, (), None) for _ in range(20)) if pick.stats is newcomer)
    newcomer.ramp.observe(_success(), 10.0, 10.0)
    assert used(bound, 10.0, 1000)[5] < 60
    assert used(bound, 40.0, 1000)[5] == pytest.approx(200, abs=10)
    pick.release()


def _success():
    from resilient.core.outcome import Kind

    return Kind.SUCCESS


def test_unless_it_is_to_begin_at_once() -> None:
    bound = service(policy=PLAIN.replace(slow_start=0.0))
    bound.update(endpoints(5), 10.0)
    assert bound.members[4].ramp is None


def test_newcomers_are_not_held_back_where_they_are_most() -> None:
    bound = service(2, PLAIN.replace(health=HEALTH), checker=Checker())
    bound.update(endpoints(5), 10.0)
    assert all(stats.is_usable and stats.ramp is None for stats in bound.members)


def test_an_endpoint_that_comes_back_is_no_newcomer() -> None:
    bound = service(4)
    bound.update(endpoints(3), 10.0)
    bound.update(endpoints(4), 20.0)
    assert bound.members[3].ramp is None


def test_a_newcomer_waits_for_its_first_check() -> None:
    bound = service(policy=PLAIN.replace(health=HEALTH), checker=Checker())
    bound.update(endpoints(5), 10.0)
    assert set(used(bound, 10.0)) == {1, 2, 3, 4}
    assert bound.checker.calls == 2
    bound.mark_healthy(bound.members[4], 11.0)
    assert 5 in used(bound, 11.0)


def test_but_not_where_nobody_checks() -> None:
    bound = service(policy=PLAIN.replace(health=HEALTH))
    bound.update(endpoints(5), 10.0)
    assert 5 in used(bound, 10.0)


def test_requests_that_take_unusually_long_do_not_warm_a_newcomer() -> None:
    bound = service(policy=PLAIN.replace(slow_start=10.0))
    for now in range(10):
        steps = Steps(bound, float(now))
        steps.reply(Answer(200), now=now + 0.1)
    bound.update(endpoints(5), 20.0)
    newcomer = bound.members[4]
    newcomer.ramp.picked(20.0)
    newcomer.ramp.observe(_success(), 20.0, 20.0)
    steps = next(steps for steps in (Steps(bound, 25.0) for _ in range(200)) if steps.effect.pick.stats is newcomer)
    assert newcomer.ramp.share_at(28.0) == 0.8
    steps.reply(Answer(200), now=28.0)
    assert newcomer.ramp.share_at(28.0) == 0.5


def test_only_the_subset_is_used() -> None:
    bound = Bound("orders", PLAIN, Random(7), HttpClassifier(), subset=Subset((("version", "v2"),)))
    old, new = Endpoint("10.0.0.1", 1), Endpoint("10.0.0.1", 2, labels={"version": "v2"})
    bound.update([old, new], 0.0)
    assert set(used(bound)) == {2}
    assert bound.endpoints == (old, new)
    bound.update([old], 1.0)
    assert bound.pick(1.0, (), None) is None
    assert Steps(bound, 1.0).outcome.reason == "no-endpoint"


def test_the_next_priority_serves_retries_when_the_first_has_been_tried() -> None:
    bound = Bound("orders", Policy(balancer=RoundRobin()), Random(7), HttpClassifier())
    bound.update([Endpoint("10.0.0.1", 1), Endpoint("10.0.0.1", 2, priority=1)], 0.0)
    assert set(used(bound)) == {1}
    first = bound.members[0]
    assert bound.pick(0.0, (first,), None).stats.endpoint.port == 2


def test_a_zone_of_ones_own_is_preferred() -> None:
    here, there = Locality("eu", "a"), Locality("eu", "b")
    bound = Bound("orders", PLAIN, Random(7), HttpClassifier(), locality=here)
    bound.update([Endpoint("10.0.0.1", 1, locality=there), Endpoint("10.0.0.1", 2, locality=here)], 0.0)
    assert set(used(bound)) == {2}
    bound.mark_unhealthy(bound.members[1], 100.0, 0.0)
    assert set(used(bound)) == {1}


class Meddling:
    """A balancer during whose work another thread changes something."""

    def __init__(self) -> None:
        self.then = None

    def picker(self, usable):
        then, self.then = self.then, None
        if then is not None:
            then()
        return RoundRobin().picker(usable)


def test_no_change_is_lost_when_two_threads_make_pickers() -> None:
    """The picker that is made last is made of what is true last."""
    balancer = Meddling()
    bound = service(policy=PLAIN.replace(balancer=balancer))
    first, second = bound.members[:2]
    balancer.then = lambda: bound.mark_unhealthy(second, 100.0, 1.0)
    bound.mark_unhealthy(first, 100.0, 1.0)
    assert set(used(bound, 1.0)) == {3, 4}
