"""What the lag of our own event loop does to what is learnt from results."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient import AdaptiveLimit, Hedge, OutlierDetection, PeakEwma, Policy, Throttle
from resilient.core.effects import Send, Start, Wait
from resilient.core.lag import TICK, Lag
from tests.core.steps import Answer, ReadTimeout, Steps, bound


def lag_of(late: float, at: float) -> Lag:
    """That of a loop whose latest tick, at `at`, came so late."""
    lag = Lag(0.05)
    lag.due = at - late
    lag.tick(at)
    return lag


def test_a_late_tick_tells_of_what_happens_at_that_moment() -> None:
    lag = lag_of(0.2, at=1.0)
    assert lag.seconds(1.001) == pytest.approx(0.2)
    assert lag.is_high(1.001)
    assert lag.seconds(1.0 + 2 * TICK) == 0.0
    assert lag.was_high(0.5, 9.0)
    assert not lag.was_high(1.5, 9.0)


def test_a_tick_that_is_overdue_tells_too() -> None:
    lag = Lag(0.05)
    lag.due = 1.0
    assert lag.seconds(0.9) == 0.0
    assert lag.seconds(1.3) == pytest.approx(0.3)
    assert lag.was_high(1.0, 1.3)


def test_timers_are_always_a_little_late() -> None:
    lag = lag_of(0.003, at=1.0)
    assert lag.late == 0.0
    assert lag.seconds(1.0) == 0.0


@given(st.floats(0, 10), st.floats(0, 10), st.floats(0, 10))
def test_it_is_never_negative(due: float, tick: float, now: float) -> None:
    lag = Lag(0.05)
    lag.due = due
    lag.tick(tick)
    assert lag.seconds(now) >= 0.0


def attempt(service: object, lag: Lag, end: float, *, timed_out: bool = False) -> Steps:
    """A call from 0 to `end`."""
    steps = Steps(service)  # type: ignore[arg-type]
    steps.call.lag = lag
    assert isinstance(steps.effect, Send)
    if timed_out:
        steps.reply(error=ReadTimeout(), now=end)
    else:
        steps.reply(Answer(200), now=end)
    return steps


def test_balancing_sees_the_latency_without_it_and_the_report_with_it() -> None:
    service = bound(Policy(balancer=PeakEwma()), "10.0.0.1:80")
    attempt(service, Lag(0.05), 0.01)
    steps = attempt(service, lag_of(0.28, at=0.3), 0.3)
    assert steps.call.report.attempts[0].seconds == 0.3
    assert service.members[0].cost == pytest.approx(0.02)


def test_nothing_is_taken_for_faster_than_usual() -> None:
    service = bound(Policy(balancer=PeakEwma()), "10.0.0.1:80")
    attempt(service, Lag(0.05), 0.01)
    attempt(service, lag_of(5.0, at=0.3), 0.3)
    assert service.members[0].cost == pytest.approx(0.01)
    assert service.typical == pytest.approx(0.01)


@pytest.mark.parametrize(("late", "ejected"), [(0.2, False), (0.0, True)])
def test_a_timeout_while_it_is_high_is_no_evidence(late: float, ejected: bool) -> None:
    limit = AdaptiveLimit(initial=8)
    service = bound(Policy(retry=None, outlier=OutlierDetection(consecutive_failures=1), limit=limit))
    attempt(service, Lag(0.05), 0.01)
    steps = attempt(service, lag_of(late, at=0.3), 0.3, timed_out=True)
    assert ("lag" in steps.call.report.flags) is not ejected
    assert any(stats.ejected_until is not None for stats in service.members) is ejected
    assert service.limit is not None
    assert (service.limit.max_in_flight < 8) is ejected
    assert steps.outcome is not None
    assert steps.outcome.reason == "timeout"  # for the caller it is one all the same


def test_a_timeout_while_it_is_high_is_retried_as_any() -> None:
    steps = Steps(bound())
    steps.call.lag = lag_of(0.2, at=0.3)
    steps.reply(error=ReadTimeout(), now=0.3)
    steps.reply(now=0.3)
    assert isinstance(steps.effect, Send)
    assert steps.effect.number == 2


def test_an_answer_is_evidence_however_late_we_are() -> None:
    service = bound(Policy(retry=None, outlier=OutlierDetection(consecutive_failures=1)))
    steps = Steps(service)
    steps.call.lag = lag_of(0.2, at=0.3)
    steps.reply(Answer(503), now=0.3)
    assert any(stats.ejected_until is not None for stats in service.members)


@pytest.mark.parametrize(("late", "hedged"), [(0.2, False), (0.0, True)])
def test_our_own_slowness_is_not_hedged(late: float, hedged: bool) -> None:
    service = bound(Policy(hedge=Hedge(delay=0.1, max_extra_ratio=1.0)))
    steps = Steps(service)
    assert isinstance(steps.effect, Start)
    steps.call.lag = lag_of(late, at=0.3)
    steps.reply(now=0.0)
    assert isinstance(steps.effect, Wait)
    steps.reply(None, now=0.3)
    assert ("hedged" in steps.call.report.flags) is hedged


def test_a_timeout_sooner_than_answers_usually_come_is_no_evidence() -> None:
    """Whoever set it: the caller's `timeout=0.002` says nothing about a service that takes 20 ms."""
    service = bound(Policy(retry=None, outlier=OutlierDetection(consecutive_failures=1), throttle=Throttle()))
    Steps(service).reply(Answer(200), now=0.02)
    for _ in range(50):
        steps = Steps(service, now=1.0)
        steps.reply(error=ReadTimeout(), now=1.002)
        assert steps.outcome is not None
        assert steps.outcome.reason == "timeout"
    assert all(stats.ejected_until is None and not stats.failures for stats in service.members)
    assert service.throttle is not None
    assert service.throttle.refusal_ratio(1.0) == 0.0
    Steps(service, now=1.0).reply(error=ReadTimeout(), now=1.02)
    assert sum(stats.ejected_until is not None for stats in service.members) == 1


class WireTimeout(ReadTimeout):
    """As our own wire raises them."""

    unsent = False


def test_a_thread_that_wakes_up_late_blames_nobody() -> None:
    policy = Policy(retry=None, attempt_timeout=0.1, outlier=OutlierDetection(consecutive_failures=1))
    for end, ejected in ((0.16, 0), (0.14, 1)):
        service = bound(policy)
        Steps(service).reply(Answer(200), now=0.01)
        steps = Steps(service)
        steps.reply(error=WireTimeout(), now=end)
        assert ("lag" in steps.call.report.flags) is (ejected == 0)
        assert sum(stats.ejected_until is not None for stats in service.members) == ejected


def test_what_nobody_can_cut_off_ends_when_it_likes() -> None:
    """A function, or a transport of the user's, is not late because of us."""
    service = bound(Policy(retry=None, attempt_timeout=0.1, outlier=OutlierDetection(consecutive_failures=1)))
    Steps(service).reply(Answer(200), now=0.01)
    steps = Steps(service)
    steps.reply(error=ReadTimeout(), now=0.3)
    assert steps.call.report.flags == []
    assert sum(stats.ejected_until is not None for stats in service.members) == 1


class ConnectTimeout(Exception):
    """Named as httpx's: the classifier goes by names."""


def test_not_to_be_reached_counts_however_short_the_time() -> None:
    service = bound(Policy(retry=None, outlier=OutlierDetection(consecutive_failures=1)))
    Steps(service).reply(Answer(200), now=0.06)
    Steps(service).reply(error=ConnectTimeout(), now=0.02)
    assert sum(stats.ejected_until is not None for stats in service.members) == 1


def test_a_reset_while_it_is_high_is_no_evidence_either() -> None:
    for late, failures in ((0.2, 0), (0.0, 1)):
        service = bound(Policy(retry=None), "10.0.0.1:80")
        steps = Steps(service)
        steps.call.lag = lag_of(late, at=0.3)
        steps.reply(error=ReadError(), now=0.3)
        assert service.members[0].failures == failures


def test_nor_is_a_body_that_breaks_then() -> None:
    for late, failures in ((0.2, 0), (0.0, 1)):
        service = bound(Policy(retry=None), "10.0.0.1:80")
        steps = Steps(service)
        steps.call.lag = lag_of(late, at=0.3)
        steps.reply(Answer(200, is_open=True), now=0.3)
        assert steps.call.held is not None
        steps.call.held.broke(ReadError(), 0.3)
        assert service.members[0].failures == failures


class TransportError(Exception):
    """Named as httpx's: the classifier goes by names."""


class ReadError(TransportError):
    """Named as httpx's."""
