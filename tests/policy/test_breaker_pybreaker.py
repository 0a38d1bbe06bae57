"""pybreaker's storages, listeners and ready breakers under our breaker."""

from __future__ import annotations

import dataclasses
from abc import ABCMeta
from datetime import UTC, datetime, timedelta

import pybreaker
import pytest
from pybreaker import CircuitBreaker, CircuitBreakerListener, CircuitMemoryStorage

from resilient.core.check import ConfigError
from resilient.core.outcome import Kind, Outcome
from resilient.policy.breaker import Breaker
from resilient.policy.circuit import UnsuccessfulResponse

SUCCESS = Outcome(Kind.SUCCESS)
FAILURE = Outcome(Kind.FAILURE, "5xx")
IGNORED = Outcome(Kind.IGNORED, "cancelled")


def failed(error: BaseException) -> Outcome:
    return Outcome(Kind.FAILURE, "reset", error=error)


def call(state, outcome, now):
    permit = state.admit(now)
    if permit is not None:
        permit.observe(outcome, now)
    return permit is not None


class Recorder(CircuitBreakerListener):
    def __init__(self):
        self.events = []

    def before_call(self, cb, func, *args, **kwargs):
        self.events.append(("before_call", func.__name__))

    def success(self, cb):
        self.events.append("success")

    def failure(self, cb, exc):
        self.events.append(("failure", exc))

    def state_change(self, cb, old_state, new_state):
        self.events.append((old_state.name, new_state.name))


class Prober(CircuitBreakerListener):
    """Makes the probe itself as soon as it hears of HALF-OPEN, as another thread might."""

    def __init__(self):
        self.state = None

    def state_change(self, cb, old_state, new_state):
        if new_state.name == "half-open":
            call(self.state, SUCCESS, 100.0)


class Faulty(CircuitBreakerListener):
    def before_call(self, cb, func, *args, **kwargs):
        raise RuntimeError("before_call")

    def success(self, cb):
        raise RuntimeError("success")

    def failure(self, cb, exc):
        raise RuntimeError("failure")

    def state_change(self, cb, old_state, new_state):
        raise RuntimeError(f"{old_state.name} to {new_state.name}")


class TestListeners:
    def test_hear_what_pybreaker_would_tell_them_in_its_order(self):
        ours, theirs = Recorder(), Recorder()
        error = ValueError("no")
        state = Breaker(failure_ratio=None, consecutive_failures=2, listeners=[ours]).bind("orders")
        for outcome, now in [(SUCCESS, 0), (failed(error), 0), (failed(error), 0), (SUCCESS, 1), (SUCCESS, 5)]:
            call(state, outcome, float(now))

        reference = CircuitBreaker(fail_max=2, reset_timeout=60, listeners=[theirs], throw_new_error_on_trip=False)

        def orders(error=None):
            if error is not None:
                raise error

        reference.call(orders)
        for _ in range(2):
            with pytest.raises(ValueError, match="no"):
                reference.call(orders, error)
        with pytest.raises(pybreaker.CircuitBreakerError):
            reference.call(orders)
        reference.half_open()
        reference.call(orders)

        assert ours.events == theirs.events

    def test_a_failure_without_an_exception_brings_its_outcome(self):
        listener = Recorder()
        call(Breaker(listeners=[listener]).bind("orders"), FAILURE, 0.0)
        ((_, exception),) = [event for event in listener.events if event[0] == "failure"]
        assert isinstance(exception, UnsuccessfulResponse)
        assert exception.outcome is FAILURE

    def test_a_call_without_evidence_has_no_end_for_them(self):
        listener = Recorder()
        call(Breaker(listeners=[listener]).bind("orders"), IGNORED, 0.0)
        assert listener.events == [("before_call", "orders")]

    def test_what_one_raises_is_reported_and_the_others_are_told(self):
        listener, reports = Recorder(), []
        breaker = Breaker(failure_ratio=None, consecutive_failures=1, listeners=[Faulty(), listener])
        state = breaker.bind("orders", reports.append)
        call(state, FAILURE, 0.0)
        assert state.state == "open"
        call(state, SUCCESS, 5.0)
        assert state.state == "closed"
        assert [str(report) for report in reports] == [
            "before_call",
            "failure",
            "closed to open",
            "open to half-open",
            "before_call",
            "half-open to closed",
            "success",
        ]
        assert [event for event in listener.events if event[0] in ("closed", "open", "half-open")] == [
            ("closed", "open"),
            ("open", "half-open"),
            ("half-open", "closed"),
        ]

    def test_may_ask_the_breaker_itself(self):
        class Curious(CircuitBreakerListener):
            seen = ()

            def state_change(self, cb, old_state, new_state):
                self.seen += ((cb.name, cb.current_state, cb.state is new_state, state.admit(0.0)),)

        listener = Curious()
        state = Breaker(failure_ratio=None, consecutive_failures=1, listeners=[listener]).bind("orders")
        call(state, FAILURE, 0.0)
        assert listener.seen == (("orders", "open", True, None),), "no lock of ours is held here"

    def test_a_phase_may_end_while_they_are_told_of_it(self):
        prober, storage = Prober(), CircuitMemoryStorage(pybreaker.STATE_CLOSED)
        prober.state = Breaker(storage=storage, listeners=[prober]).bind("orders")
        storage.state = pybreaker.STATE_HALF_OPEN
        assert prober.state.remaining(100.0) == 0.0
        assert prober.state.state == "closed"


class TestMemoryStorage:
    def test_is_written_in_place(self):
        storage = CircuitMemoryStorage(pybreaker.STATE_CLOSED)
        state = Breaker(failure_ratio=None, consecutive_failures=2, probes=2, storage=storage).bind("orders")
        call(state, FAILURE, 0.0)
        assert (storage.state, storage.counter, storage.opened_at) == ("closed", 1, None)
        call(state, FAILURE, 0.0)
        assert (storage.state, storage.counter) == ("open", 2)
        assert datetime.now(UTC) - storage.opened_at < timedelta(minutes=1)
        call(state, SUCCESS, 5.0)
        assert (storage.state, storage.success_counter, storage.counter) == ("half-open", 1, 0)
        call(state, SUCCESS, 5.0)
        assert (storage.state, storage.success_counter) == ("closed", 0)

    def test_says_the_first_state(self):
        state = Breaker(storage=CircuitMemoryStorage(pybreaker.STATE_OPEN)).bind("orders")
        assert state.state == "open"
        assert state.admit(100.0) is None
        assert state.admit(105.0) is not None

    def test_is_one_circuit_for_all_that_share_it(self):
        breaker = Breaker(
            failure_ratio=None, consecutive_failures=1, storage=CircuitMemoryStorage(pybreaker.STATE_CLOSED)
        )
        one, other = breaker.bind("orders"), breaker.bind("orders")
        call(one, FAILURE, 0.0)
        assert other.admit(0.0) is None
        call(one, SUCCESS, 5.0)
        assert other.admit(5.0) is not None


class Abstract(Exception, metaclass=ABCMeta):
    pass


class TestReadyBreaker:
    def test_brings_its_settings(self):
        breaker = Breaker(CircuitBreaker(fail_max=3, reset_timeout=7, success_threshold=2))
        assert (breaker.consecutive_failures, breaker.break_duration, breaker.probes) == (3, 7, 2)
        assert breaker.failure_ratio is None
        assert dataclasses.replace(breaker, max_break_duration=60.0).break_duration == 7

    def test_takes_no_other_settings_beside_it(self):
        with pytest.raises(ConfigError, match=r"Breaker\.break_duration"):
            Breaker(CircuitBreaker(), break_duration=1.0)
        with pytest.raises(ConfigError, match=r"Breaker\.circuit_breaker"):
            Breaker(0.5)

    def test_is_coerced(self):
        ready = CircuitBreaker()
        assert Breaker.coerce(ready) == Breaker(ready)

    def test_goes_through_its_life_with_its_own_storage_and_listeners(self):
        listener = Recorder()
        ready = CircuitBreaker(fail_max=2, reset_timeout=7, listeners=[listener], name="theirs")
        state = Breaker(ready).bind("orders")
        for _ in range(2):
            call(state, FAILURE, 0.0)
        assert (ready.current_state, ready.state.name, ready.fail_counter) == ("open", "open", 2)
        with pytest.raises(pybreaker.CircuitBreakerError):
            ready.call(lambda: None)
        assert state.admit(6.9) is None
        call(state, SUCCESS, 7.0)
        assert (ready.current_state, ready.state.name, ready.fail_counter) == ("closed", "closed", 0)
        changes = [event for event in listener.events if event[0] in ("closed", "open", "half-open")]
        assert changes == [("closed", "open"), ("open", "half-open"), ("half-open", "closed")]

    def test_opened_by_hand_refuses_and_closed_by_hand_passes(self):
        listener = Recorder()
        ready = CircuitBreaker(reset_timeout=7, listeners=[listener])
        state = Breaker(ready).bind("orders")
        assert state.admit(0.0) is not None
        listener.events.clear()
        ready.open()
        assert state.state == "open"
        assert state.admit(1.0) is None
        assert state.remaining(2.0) == 6.0
        ready.close()
        assert state.admit(2.0) is not None
        assert listener.events == [("closed", "open"), ("open", "closed"), ("before_call", "orders")]

    def test_a_result_is_late_once_it_was_opened_or_closed_by_hand(self):
        ready = CircuitBreaker(fail_max=1, reset_timeout=7)
        state = Breaker(ready).bind("orders")
        call(state, FAILURE, 0.0)
        probe = state.admit(7.0)
        ready.open()
        probe.observe(SUCCESS, 8.0)
        assert state.state == "open"

    def test_opened_by_failures_elsewhere_refuses(self):
        ready = CircuitBreaker(fail_max=2, throw_new_error_on_trip=False)
        state = Breaker(ready).bind("orders")
        call(state, FAILURE, 0.0)
        with pytest.raises(ZeroDivisionError):
            ready.call(lambda: 1 / 0)
        assert state.admit(0.0) is None, "one failure here and one there make two"

    def test_listeners_may_come_later(self):
        ready, listener = CircuitBreaker(), Recorder()
        state = Breaker(ready).bind("orders")
        ready.add_listener(listener)
        call(state, SUCCESS, 0.0)
        assert listener.events == [("before_call", "orders"), "success"]

    def test_excluded_exceptions_are_no_evidence(self):
        ready = CircuitBreaker(fail_max=2, exclude=[KeyError, lambda error: "fine" in str(error)])
        state = Breaker(ready).bind("orders")
        for error in (KeyError("k"), ValueError("fine"), KeyError("k")):
            call(state, failed(error), 0.0)
        assert ready.fail_counter == 0
        call(state, failed(ValueError("bad")), 0.0)
        call(state, failed(KeyError("k")), 0.0)
        call(state, failed(ValueError("bad")), 0.0)
        assert state.state == "open", "an excluded one in between is no success"

    def test_an_excluded_class_with_a_metaclass_excludes_no_others(self):
        ready = CircuitBreaker(fail_max=1, exclude=[Abstract])
        state = Breaker(ready).bind("orders")
        call(state, failed(Abstract()), 0.0)
        assert state.state == "closed"
        call(state, failed(ZeroDivisionError()), 0.0)
        assert state.state == "open"

    def test_an_exclusion_that_raises_is_reported_and_excludes_nothing(self):
        reports = []
        ready = CircuitBreaker(fail_max=1, exclude=[lambda error: error.missing])
        state = Breaker(ready).bind("orders", reports.append)
        call(state, failed(ValueError("bad")), 0.0)
        assert state.state == "open"
        assert isinstance(reports[0], AttributeError)
