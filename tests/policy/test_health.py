"""Health checks: what their results make of an endpoint, and when the next one is due."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient.core.check import ConfigError
from resilient.policy.health import HealthCheck, HealthState


def state_after(results, setting=HealthCheck(), *, new=False):
    state = HealthState(setting, new=new)
    for ok in results:
        state.observe(ok=ok)
    return state


def test_three_failures_in_a_row_make_it_unhealthy() -> None:
    assert state_after([False, False]).healthy
    assert state_after([False, False, True, False, False]).healthy
    assert not state_after([False, False, False]).healthy


def test_two_successes_in_a_row_make_it_healthy_again() -> None:
    assert not state_after([False] * 3 + [True]).healthy
    assert not state_after([False] * 3 + [True, False, True]).healthy
    assert state_after([False] * 3 + [True, True]).healthy


def test_a_change_is_told_once() -> None:
    state = HealthState(HealthCheck(unhealthy_threshold=2, healthy_threshold=1))
    told = [state.observe(ok=ok) for ok in (True, False, False, False, True, True)]
    assert told == [False, False, True, False, True, False]


def test_some_failures_need_no_confirmation() -> None:
    state = HealthState(HealthCheck())
    assert state.observe(ok=False, at_once=True)
    assert not state.healthy


def test_a_new_endpoint_is_out_until_its_first_success() -> None:
    state = state_after([False, False], new=True)
    assert not state.healthy
    assert state.observe(ok=True)
    assert state.healthy


def test_after_that_it_is_like_the_others() -> None:
    assert not state_after([True, False, False, False, True], new=True).healthy


def test_what_was_heard_elsewhere_counts_as_a_failure() -> None:
    state = HealthState(HealthCheck())
    state.fail()
    assert not state.healthy
    assert [state.observe(ok=True), state.observe(ok=True)] == [False, True]


def test_an_ejected_endpoint_may_come_back_after_as_many_good_checks() -> None:
    state = HealthState(HealthCheck())
    assert [state.recovers(ok=ok) for ok in (True, False, True, True, True)] == [False, False, False, True, False]


def test_unless_it_is_to_serve_its_time() -> None:
    state = HealthState(HealthCheck(restores_ejected=False))
    assert not any(state.recovers(ok=True) for _ in range(5))


SETTING = HealthCheck(
    interval=10.0,
    unhealthy_interval=20.0,
    unhealthy_edge_interval=1.0,
    healthy_edge_interval=2.0,
    jitter_ratio=0.0,
    unhealthy_threshold=1,
    healthy_threshold=1,
)


def test_each_state_has_its_interval_and_each_change_its_own() -> None:
    state, rng = HealthState(SETTING), Random(1)
    due = []
    for ok in (True, False, False, False, True, True):
        state.observe(ok=ok)
        due.append(state.next_at(100.0, rng))
    assert due == [110.0, 101.0, 120.0, 120.0, 102.0, 110.0]


def test_intervals_that_are_not_given_follow_the_others() -> None:
    state, rng = HealthState(HealthCheck(interval=7.0, jitter_ratio=0.0)), Random(1)
    for ok in (False, False, False, False, True, True, True):
        state.observe(ok=ok)
        assert state.next_at(0.0, rng) == 7.0


def test_an_unhealthy_interval_covers_its_edge() -> None:
    state = state_after([False] * 3, HealthCheck(unhealthy_interval=3.0, jitter_ratio=0.0))
    assert state.next_at(0.0, Random(1)) == 3.0


def test_a_service_that_nobody_calls_is_asked_less_often() -> None:
    state = HealthState(HealthCheck(jitter_ratio=0.0))
    assert state.next_at(0.0, Random(1), traffic=False) == 60.0
    state.fail()
    assert state.next_at(0.0, Random(1), traffic=False) == 10.0


@given(st.integers(), st.floats(0.0, 1.0))
def test_jitter_only_adds(seed, ratio) -> None:
    due = HealthState(HealthCheck(jitter_ratio=ratio)).next_at(100.0, Random(seed))
    assert 110.0 <= due <= 110.0 + 10.0 * ratio


@given(st.sampled_from([0.0, 0.1, 0.5, 1.0]), st.booleans())
def test_jitter_spreads_the_checks_over_all_of_its_share(ratio, healthy) -> None:
    """Checkers that began together do not stay together: of a thousand, the tenths get alike many."""
    state, rng = HealthState(HealthCheck(jitter_ratio=ratio), new=not healthy), Random(1)
    late = [state.next_at(100.0, rng) - 110.0 for _ in range(1000)]
    if ratio == 0:
        assert set(late) == {0.0}
        return
    tenths = [int(seconds / ratio) for seconds in late]
    assert sorted(set(tenths)) == list(range(10))
    assert all(70 < tenths.count(tenth) < 130 for tenth in range(10))


@given(st.integers())
def test_first_checks_are_spread_over_an_interval_but_for_new_endpoints(seed) -> None:
    assert 5.0 <= HealthState(HealthCheck()).first_at(5.0, Random(seed)) < 15.0
    assert HealthState(HealthCheck(), new=True).first_at(5.0, Random(seed)) == 5.0


@given(
    st.lists(st.booleans(), max_size=40),
    st.integers(1, 4),
    st.integers(1, 4),
)
def test_it_follows_the_naive_model(results, unhealthy, healthy) -> None:
    """The latest run that was long enough decides."""
    state = state_after(results, HealthCheck(unhealthy_threshold=unhealthy, healthy_threshold=healthy))
    expected, run, latest = True, 0, None
    for ok in results:
        run = run + 1 if ok == latest else 1
        latest = ok
        if run >= (healthy if ok else unhealthy):
            expected = ok
    assert state.healthy == expected


@given(st.floats(0.1, 100.0), st.floats(0.1, 10.0), st.floats(0.0, 1.0))
def test_a_verdict_outlasts_two_checks_that_do_not_come(interval, timeout, jitter) -> None:
    setting = HealthCheck(interval=interval, timeout=timeout, jitter_ratio=jitter)
    assert setting.lease > 2 * (interval * (1 + jitter) + timeout)


def test_statuses_are_a_set() -> None:
    assert HealthCheck(expected_statuses=range(200, 203)).expected_statuses == (200, 201, 202)
    assert HealthCheck(expected_statuses=[204, 200, 200]) == HealthCheck(expected_statuses=(200, 204))


@pytest.mark.parametrize("host", ["orders", "orders.prod.svc:8080", "[::1]:80", "::1", "b\u00fccher.example", "a_b"])
def test_a_host_is_taken_as_it_stands_in_urls(host) -> None:
    assert HealthCheck(host=host, method="PROPFIND").host == host


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"path": "healthz"}, "HealthCheck.path: 'healthz'"),
        ({"path": None}, "HealthCheck.path: None"),
        ({"protocol": "udp"}, "HealthCheck.protocol: 'udp'"),
        ({"only": "some"}, "HealthCheck.only: 'some'"),
        ({"scheme": "ftp"}, "HealthCheck.scheme: 'ftp'"),
        ({"interval": 0}, "HealthCheck.interval: 0"),
        ({"unhealthy_edge_interval": -1}, "HealthCheck.unhealthy_edge_interval: -1"),
        ({"no_traffic_interval": "1m"}, "HealthCheck.no_traffic_interval: '1m'"),
        ({"timeout": None}, "HealthCheck.timeout: None"),
        ({"healthy_threshold": 0}, "HealthCheck.healthy_threshold: 0"),
        ({"jitter_ratio": 10}, "HealthCheck.jitter_ratio: 10"),
        ({"expected_statuses": ()}, "HealthCheck.expected_statuses: ()"),
        ({"expected_statuses": 200}, "HealthCheck.expected_statuses: 200"),
        ({"retriable_statuses": (99,)}, "HealthCheck.retriable_statuses: 99"),
        ({"verify": None}, "HealthCheck.verify: None"),
        ({"host": 1}, "HealthCheck.host: 1"),
        ({"host": ""}, "HealthCheck.host: ''"),
        ({"host": "a b"}, "HealthCheck.host: 'a b'"),
        ({"host": "a\r\nb"}, r"HealthCheck.host: 'a\r\nb'"),
        ({"host": "http://a"}, "HealthCheck.host: 'http://a'"),
        ({"host": "a\0"}, r"HealthCheck.host: 'a\x00'"),
        ({"method": None}, "HealthCheck.method: None"),
        ({"method": ""}, "HealthCheck.method: ''"),
        ({"method": "G T"}, "HealthCheck.method: 'G T'"),
        ({"method": "GET\n"}, r"HealthCheck.method: 'GET\n'"),
        ({"path": "/a\r\nb"}, r"HealthCheck.path: '/a\r\nb'"),
        ({"expected_statuses": []}, "HealthCheck.expected_statuses: []"),
    ],
)
def test_wrong_settings_are_refused(settings, message) -> None:
    with pytest.raises(ConfigError) as caught:
        HealthCheck(**settings)
    assert str(caught.value).startswith(message)
