"""The breaker, state by state, at times counted by hand."""

from __future__ import annotations

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from resilient.core.check import ConfigError
from resilient.core.outcome import Kind, Outcome
from resilient.policy.breaker import Breaker, BreakerState

SUCCESS = Outcome(Kind.SUCCESS)
FAILURE = Outcome(Kind.FAILURE, "5xx")
REFUSED = Outcome(Kind.REFUSED, "overloaded")
IGNORED = Outcome(Kind.IGNORED, "cancelled")
NEUTRAL = pytest.mark.parametrize("neutral", [REFUSED, IGNORED], ids=["refused", "ignored"])


def bound(**settings) -> BreakerState:
    """Opens at the first failure unless `settings` say otherwise; breaks last 5 s."""
    return Breaker(**{"failure_ratio": None, "consecutive_failures": 1, **settings}).bind("orders")


def call(state: BreakerState, outcome: Outcome, now: float) -> bool:
    """One call that ends at once; False if it was refused."""
    permit = state.admit(now)
    if permit is not None:
        permit.observe(outcome, now)
    return permit is not None


def opened(**settings) -> BreakerState:
    """A breaker that opened at 100.0."""
    state = bound(**settings)
    call(state, FAILURE, 100.0)
    assert state.state == "open"
    return state


class TestClosed:
    def test_opens_when_the_share_of_failures_is_reached(self):
        state = bound(failure_ratio=0.5, minimum_throughput=4, consecutive_failures=None)
        for outcome in (SUCCESS, SUCCESS, FAILURE):
            call(state, outcome, 0.0)
        assert state.state == "closed"
        call(state, FAILURE, 0.0)
        assert state.state == "open"

    def test_does_not_open_below_the_share(self):
        state = bound(failure_ratio=0.5, minimum_throughput=1, consecutive_failures=None)
        for outcome in [SUCCESS, SUCCESS, FAILURE] * 100:
            assert call(state, outcome, 0.0)
        assert state.state == "closed"

    def test_a_share_is_reached_exactly(self):
        state = bound(failure_ratio=0.07, minimum_throughput=100, consecutive_failures=None)
        for outcome in [SUCCESS] * 93 + [FAILURE] * 7:
            call(state, outcome, 0.0)
        assert state.state == "open"

    def test_does_not_open_below_the_minimum_throughput(self):
        state = Breaker().bind("orders")
        for _ in range(19):
            call(state, FAILURE, 0.0)
        assert state.state == "closed"
        call(state, FAILURE, 0.0)
        assert state.state == "open"

    def test_a_success_is_no_occasion_to_open(self):
        state = bound(failure_ratio=0.5, minimum_throughput=2, consecutive_failures=None)
        call(state, FAILURE, 0.0)
        call(state, SUCCESS, 0.0)
        assert state.state == "closed"

    def test_failures_leave_the_window(self):
        state = bound(failure_ratio=1.0, minimum_throughput=2, consecutive_failures=None, window=10.0)
        call(state, FAILURE, 0.0)
        call(state, FAILURE, 10.0)
        assert state.state == "closed"
        call(state, FAILURE, 19.9)
        assert state.state == "open"

    def test_opens_on_consecutive_failures_whatever_the_throughput(self):
        state = bound(failure_ratio=0.5, minimum_throughput=1000, consecutive_failures=3)
        for outcome in (FAILURE, FAILURE, SUCCESS, FAILURE, FAILURE):
            call(state, outcome, 0.0)
        assert state.state == "closed"
        call(state, FAILURE, 0.0)
        assert state.state == "open"

    def test_consecutive_failures_do_not_age(self):
        state = bound(consecutive_failures=2)
        call(state, FAILURE, 0.0)
        call(state, FAILURE, 1e6)
        assert state.state == "open"

    @NEUTRAL
    def test_what_is_no_evidence_counts_nowhere(self, neutral):
        state = bound(failure_ratio=0.5, minimum_throughput=4, consecutive_failures=3)
        for outcome in (FAILURE, neutral, neutral, FAILURE, neutral):
            call(state, outcome, 0.0)
        assert state.state == "closed"
        call(state, FAILURE, 0.0)
        assert state.state == "open"

    def test_a_result_counts_once(self):
        state = bound(consecutive_failures=2)
        permit = state.admit(0.0)
        permit.observe(FAILURE, 0.0)
        permit.observe(FAILURE, 0.0)
        assert state.state == "closed"

    def test_knows_of_no_wait(self):
        state = bound()
        assert state.retry_at is None
        assert state.remaining(7.0) == 0.0


class TestOpen:
    def test_refuses_until_the_break_is_over(self):
        state = opened()
        assert state.retry_at == 105.0
        assert state.admit(100.0) is None
        assert state.admit(104.99) is None
        assert state.admit(105.0) is not None

    def test_tells_the_seconds_that_remain(self):
        state = opened()
        assert state.remaining(101.0) == 4.0
        assert state.remaining(106.0) == 0.0

    def test_late_results_change_nothing(self):
        state = bound(consecutive_failures=1)
        late = [state.admit(0.0) for _ in range(3)]
        late.pop().observe(FAILURE, 1.0)
        late.pop().observe(FAILURE, 4.0)
        late.pop().observe(SUCCESS, 4.5)
        assert state.state == "open"
        assert state.retry_at == 6.0


class TestHalfOpen:
    def test_one_probe_at_a_time(self):
        state = opened()
        assert state.admit(105.0) is not None
        assert state.state == "half-open"
        assert state.admit(105.0) is None

    def test_a_success_closes(self):
        state = opened()
        call(state, SUCCESS, 105.0)
        assert state.state == "closed"
        assert all(state.admit(105.0) for _ in range(10))

    def test_a_failure_opens_for_another_break(self):
        state = opened()
        call(state, FAILURE, 106.0)
        assert state.state == "open"
        assert state.retry_at == 111.0

    @NEUTRAL
    def test_a_probe_without_evidence_makes_room_for_another(self, neutral):
        state = opened()
        assert call(state, neutral, 105.0)
        assert state.state == "half-open"
        assert call(state, SUCCESS, 105.0)
        assert state.state == "closed"

    def test_several_probes_need_as_many_successes(self):
        state = opened(probes=3)
        first, second, third = (state.admit(105.0) for _ in range(3))
        assert state.admit(105.0) is None
        first.observe(SUCCESS, 105.1)
        assert state.admit(105.1) is None, "two successes are missing, and two probes are out"
        second.observe(IGNORED, 105.2)
        fourth = state.admit(105.2)
        third.observe(SUCCESS, 105.3)
        assert state.state == "half-open"
        fourth.observe(SUCCESS, 105.4)
        assert state.state == "closed"

    def test_one_failure_among_several_probes_opens(self):
        state = opened(probes=3)
        first, second, third = (state.admit(105.0) for _ in range(3))
        first.observe(SUCCESS, 105.1)
        second.observe(FAILURE, 105.2)
        third.observe(SUCCESS, 105.3)
        assert state.state == "open"
        assert state.retry_at == 110.2

    def test_a_lost_probe_does_not_block_for_ever(self):
        state = opened()
        lost = state.admit(105.0)
        assert state.remaining(106.0) == 4.0
        assert state.admit(109.99) is None
        assert call(state, SUCCESS, 110.0)
        assert state.state == "closed"
        lost.observe(FAILURE, 111.0)
        assert state.state == "closed"

    def test_a_probe_that_was_given_up_still_counts_when_it_ends(self):
        state = opened()
        slow = state.admit(105.0)
        state.admit(110.0)
        slow.observe(SUCCESS, 112.0)
        assert state.state == "closed", "or calls slower than the break could never close it"

    def test_results_from_before_the_break_are_no_probes(self):
        state = bound()
        old_success, old_failure = state.admit(99.0), state.admit(99.0)
        call(state, FAILURE, 100.0)
        probe = state.admit(105.0)
        old_success.observe(SUCCESS, 105.1)
        assert state.state == "half-open"
        old_failure.observe(FAILURE, 105.2)
        assert state.state == "half-open"
        probe.observe(SUCCESS, 105.3)
        assert state.state == "closed"

    def test_the_window_is_empty_after_recovery(self):
        state = bound(failure_ratio=0.5, minimum_throughput=2, consecutive_failures=None, break_duration=1.0)
        call(state, FAILURE, 100.0)
        call(state, FAILURE, 100.0)
        call(state, SUCCESS, 101.0)
        call(state, FAILURE, 101.0)
        assert state.state == "closed", "three failures in the last second, but one since the recovery"

    def test_consecutive_failures_start_anew_after_recovery(self):
        state = bound(consecutive_failures=2)
        for now in (100.0, 100.0):
            call(state, FAILURE, now)
        call(state, SUCCESS, 105.0)
        call(state, FAILURE, 105.0)
        assert state.state == "closed"

    def test_a_failed_probe_doubles_the_break_up_to_the_maximum(self):
        state = opened(break_duration=5.0, max_break_duration=15.0)
        breaks = []
        for _ in range(3):
            now = state.retry_at
            call(state, FAILURE, now)
            breaks.append(state.retry_at - now)
        assert breaks == [10.0, 15.0, 15.0]

    def test_a_recovery_resets_the_break(self):
        state = opened(break_duration=5.0, max_break_duration=15.0)
        call(state, FAILURE, 105.0)
        call(state, SUCCESS, 115.0)
        call(state, FAILURE, 200.0)
        assert state.retry_at == 205.0

    def test_a_late_success_does_not_interrupt_consecutive_failures(self):
        state = bound(consecutive_failures=2)
        late = state.admit(99.0)
        for outcome, now in [(FAILURE, 100.0), (FAILURE, 100.0), (SUCCESS, 105.0), (FAILURE, 106.0)]:
            call(state, outcome, now)
        late.observe(SUCCESS, 106.0)
        call(state, FAILURE, 106.0)
        assert state.state == "open"


class TestThreads:
    def test_who_saw_the_end_of_the_break_too_late_gets_no_second_probe(self):
        state = opened()
        seen = state._phase
        assert state.admit(105.0) is not None
        assert state._admit_probe(seen, 105.0) is None

    def test_who_saw_the_end_of_an_earlier_break_gets_no_probe_in_the_next(self):
        state = opened()
        seen = state._phase
        call(state, FAILURE, 105.0)
        assert state._admit_probe(seen, 106.0) is None
        assert state.state == "open"

    def test_who_saw_the_break_before_the_recovery_passes(self):
        state = opened()
        seen = state._phase
        call(state, SUCCESS, 105.0)
        state._admit_probe(seen, 105.0).observe(FAILURE, 105.0)
        assert state.state == "open", "an ordinary call, whose failure counts"

    def test_who_saw_the_last_probe_too_late_passes(self):
        state = opened()
        probe = state.admit(105.0)
        seen = state._phase
        probe.observe(SUCCESS, 105.0)
        assert state._admit_probe(seen, 105.0) is not None

    def test_one_of_many_gets_the_probe(self):
        for _ in range(20):
            state, start = opened(), threading.Barrier(8)

            def ask(state=state, start=start):
                start.wait(10.0)
                return state.admit(105.0)

            with ThreadPoolExecutor(8) as pool:
                permits = [pool.submit(ask) for _ in range(8)]
            assert sum(permit.result() is not None for permit in permits) == 1


class TestSettings:
    @pytest.mark.parametrize(
        "settings",
        [
            {"failure_ratio": 0},
            {"failure_ratio": 1.1},
            {"failure_ratio": "half"},
            {"failure_ratio": None},
            {"minimum_throughput": 0},
            {"minimum_throughput": 2.5},
            {"window": 0},
            {"window": 0.05},
            {"window": float("inf")},
            {"break_duration": 0},
            {"consecutive_failures": 0},
            {"probes": 0},
            {"max_break_duration": 4.9},
            {"storage": "redis://localhost"},
            {"listeners": [print]},
            {"listeners": 5},
            {"sync_interval": 0},
        ],
        ids=str,
    )
    def test_a_wrong_one_is_refused_by_name(self, settings):
        with pytest.raises(ConfigError, match=f"Breaker.{next(iter(settings))}"):
            Breaker(**settings)

    def test_it_is_a_value(self):
        assert Breaker(window=5.0) == Breaker(window=5.0)
        assert len({Breaker(), Breaker(), Breaker(probes=2)}) == 2
        assert dataclasses.replace(Breaker(window=5.0), probes=2) == Breaker(window=5.0, probes=2)

    def test_each_binding_has_a_state_of_its_own(self):
        breaker = Breaker(consecutive_failures=1)
        orders, payments = breaker.bind("orders"), breaker.bind("payments")
        call(orders, FAILURE, 0.0)
        assert (orders.state, payments.state) == ("open", "closed")

    def test_a_breaker_is_one_already(self):
        breaker = Breaker()
        assert Breaker.coerce(breaker) is breaker

    @pytest.mark.parametrize("value", [0.5, True, "on", Breaker])
    def test_nothing_else_is_taken_for_a_breaker(self, value):
        with pytest.raises(ConfigError, match="breaker"):
            Breaker.coerce(value)
