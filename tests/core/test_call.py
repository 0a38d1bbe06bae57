"""The journey, stepped by hand."""

from __future__ import annotations

import pytest

from resilient import Breaker, Limit, OutlierDetection, Policy, Retry, RetryBudget, RoundRobin
from resilient.core.effects import Admit, Discard, Resolve, Send, Sleep
from resilient.core.outcome import Kind
from tests.core.steps import Answer, ConnectError, ReadTimeout, Steps, bound


def policy(**fields: object) -> Policy:
    return Policy(**{"balancer": RoundRobin(), **fields})  # type: ignore[arg-type]


def test_a_success_is_one_send() -> None:
    service = bound()
    steps = Steps(service)
    assert isinstance(steps.effect, Send)
    assert service.in_flight == 1
    assert steps.reply(Answer(200), now=0.2) is None
    assert steps.outcome is not None
    assert steps.outcome.ok
    assert steps.outcome.seconds == 0.2
    assert service.in_flight == 0


def test_an_open_body_keeps_its_place_in_flight_until_it_is_released() -> None:
    service = bound(policy(limit=Limit(max_in_flight=1)))
    steps = Steps(service)
    steps.reply(Answer(200, is_open=True), now=0.1)
    held = steps.call.held
    assert held is not None
    assert service.in_flight == 1
    assert service.limit is not None
    assert service.limit.in_flight == 1
    held.release(0.2)
    held.release(0.2)
    assert service.in_flight == 0
    assert service.limit.in_flight == 0


def test_a_gateway_error_is_retried_elsewhere_after_its_response_was_discarded() -> None:
    steps = Steps(bound())
    assert isinstance(steps.effect, Send)
    first = steps.effect.pick.stats
    pause = steps.reply(Answer(503), now=0.1)
    assert isinstance(pause, Sleep)
    assert 0 < pause.seconds <= 0.025
    assert isinstance(steps.reply(now=0.2), Discard)
    again = steps.reply(now=0.2)
    assert isinstance(again, Send)
    assert again.number == 2
    assert again.pick.stats is not first
    steps.reply(Answer(200), now=0.3)
    assert [attempt.status for attempt in steps.call.report.attempts] == [503, 200]


def test_what_never_left_is_repeated_at_once_and_for_any_method() -> None:
    steps = Steps(bound(), idempotent=False)
    assert isinstance(steps.reply(error=ConnectError()), Send)
    steps.reply(Answer(201))
    assert steps.outcome is not None
    assert steps.outcome.ok


@pytest.mark.parametrize("failure", [{"error": ReadTimeout()}, {"value": Answer(503)}])
def test_what_may_have_been_processed_is_not_repeated_unless_idempotent(failure: dict[str, object]) -> None:
    steps = Steps(bound(), idempotent=False)
    assert steps.reply(**failure) is None  # type: ignore[arg-type]
    assert steps.call.report.flags == ["retry-unsafe"]


def test_a_body_that_is_gone_cannot_be_sent_again() -> None:
    steps = Steps(bound(), replayable=lambda: False)
    assert steps.reply(error=ConnectError()) is None
    assert steps.call.report.flags == ["retry-body"]


def test_the_last_result_is_the_result_when_attempts_run_out() -> None:
    steps = Steps(bound(policy(retry=Retry(attempts=2, wait=0))))
    steps.reply(Answer(503))
    steps.reply()
    last = Answer(502)
    assert steps.reply(last) is None
    assert steps.outcome is not None
    assert steps.outcome.response is last
    assert steps.call.report.flags == ["retry-limit"]
    assert steps.call.report.exhausted


def test_nobody_sleeps_past_the_deadline() -> None:
    steps = Steps(bound(), deadline=1.0)
    answer = Answer(503, {"retry-after": "5"})
    assert steps.reply(answer, now=0.2) is None
    assert steps.outcome is not None
    assert steps.outcome.response is answer
    assert steps.call.report.flags == ["retry-deadline"]


def test_a_body_that_is_given_back_for_want_of_another_attempt_still_holds_its_place() -> None:
    guarded = bound(policy(limit=Limit(max_in_flight=1), breaker=Breaker(consecutive_failures=1)))
    steps = Steps(guarded, deadline=9.0)
    answer = Answer(503, is_open=True)
    steps.reply(answer)  # which opens the breaker
    if isinstance(steps.effect, Sleep):
        steps.reply(now=0.1)
    assert steps.outcome is not None
    assert steps.outcome.response is answer
    assert steps.call.report.flags == ["circuit-open"]
    assert guarded.limit is not None
    assert guarded.limit.in_flight == 1
    assert steps.call.held is not None
    steps.call.held.release(0.2)
    assert guarded.limit.in_flight == guarded.in_flight == 0


class ReadError(Exception):
    """Named so that the classifier takes it for httpx's."""


ReadError.__name__ = "TransportError"


@pytest.mark.parametrize(("error", "failures"), [(ValueError("ours"), 0), (ReadTimeout(), 0), (ReadError(), 1)])
def test_a_body_that_breaks_is_a_failure_unless_it_was_our_side(error: Exception, failures: int) -> None:
    """How long a stream may be idle is known to its reader alone."""
    steps = Steps(bound(), idempotent=False)
    steps.reply(Answer(200, is_open=True))
    assert steps.call.held is not None
    for _ in range(2):
        steps.call.held.broke(error, 0.1)
    assert sum(stats.failures for stats in steps.call.bound.members) == failures


def test_retry_after_is_a_lower_bound() -> None:
    steps = Steps(bound())
    pause = steps.reply(Answer(429, {"retry-after": "2"}))
    assert isinstance(pause, Sleep)
    assert 2.0 <= pause.seconds <= 3.0


def test_a_retry_after_beyond_the_bound_ends_the_call() -> None:
    steps = Steps(bound(policy(retry=Retry(max_retry_after=10))))
    assert steps.reply(Answer(503, {"retry-after": "11"})) is None
    assert steps.call.report.flags == ["retry-after"]


def test_a_deadline_that_has_passed_sends_nothing() -> None:
    steps = Steps(bound(), now=2.0, deadline=1.0)
    assert steps.effect is None
    assert steps.outcome is not None
    assert steps.outcome.reason == "deadline"


def test_an_attempt_gets_the_smaller_of_its_timeout_and_what_is_left() -> None:
    service = bound(policy(timeout=1.0, attempt_timeout=0.4, retry=Retry(attempts=3, wait=0)))
    steps = Steps(service, deadline=1.0)
    assert isinstance(steps.effect, Send)
    assert steps.effect.timeout == 0.4
    second = steps.reply(error=ReadTimeout(), now=0.7)
    assert isinstance(second, Send)
    assert second.timeout == pytest.approx(0.3)


def test_the_last_attempt_may_use_all_the_time() -> None:
    service = bound(policy(timeout=2.0, attempt_timeout=0.4, retry=Retry(attempts=2, wait=0)))
    steps = Steps(service, deadline=2.0)
    last = steps.reply(error=ReadTimeout(), now=0.4)
    assert isinstance(last, Send)
    assert last.timeout == pytest.approx(1.6)


def test_without_a_deadline_the_last_attempt_keeps_its_timeout() -> None:
    steps = Steps(bound(policy(attempt_timeout=0.4, retry=Retry(attempts=2, wait=0))))
    last = steps.reply(error=ReadTimeout(), now=0.4)
    assert isinstance(last, Send)
    assert last.timeout == 0.4


def test_a_timeout_at_the_deadline_is_the_deadline() -> None:
    steps = Steps(bound(), deadline=1.0)
    error = ReadTimeout()
    assert steps.reply(error=error, now=1.0) is None
    assert steps.outcome is not None
    assert steps.outcome.reason == "deadline"
    assert steps.outcome.error is error


def test_what_little_time_the_caller_had_left_is_no_evidence() -> None:
    service = bound()
    service.typical = 0.1
    assert Steps(service, deadline=0.05).reply(error=ReadTimeout(), now=0.05) is None
    assert sum(stats.failures for stats in service.members) == 0
    assert Steps(service, now=1.0, deadline=2.0).reply(error=ReadTimeout(), now=2.0) is None
    assert sum(stats.failures for stats in service.members) == 1


def test_the_first_call_waits_for_endpoints() -> None:
    service = bound(resolved=False)
    steps = Steps(service, deadline=3.0)
    assert isinstance(steps.effect, Resolve)
    assert steps.effect.timeout == 3.0
    service.update(bound().endpoints, 0.0)
    assert isinstance(steps.reply(), Send)
    assert steps.call.report.flags == ["resolved"]


def test_a_failed_resolution_is_the_outcome() -> None:
    steps = Steps(bound(resolved=False))
    cause = RuntimeError("no such name")
    assert steps.reply(error=cause) is None
    assert steps.outcome is not None
    assert (steps.outcome.reason, steps.outcome.error) == ("resolve", cause)


def test_no_endpoint_is_an_outcome_of_its_own() -> None:
    service = bound()
    service.update((), 0.0)
    steps = Steps(service)
    assert steps.outcome is not None
    assert steps.outcome.reason == "no-endpoint"


def test_over_the_limit_a_call_queues_until_its_deadline() -> None:
    service = bound(policy(limit=Limit(max_in_flight=1, queue_timeout=5)))
    first = Steps(service)
    second = Steps(service, deadline=2.0)
    assert isinstance(second.effect, Admit)
    assert second.effect.timeout == 2.0
    assert second.reply(False, now=2.0) is None
    assert second.outcome is not None
    assert second.outcome.reason == "deadline"
    first.reply(Answer(200))
    assert service.limit is not None
    assert service.limit.in_flight == 0


def test_a_full_queue_is_an_overflow() -> None:
    service = bound(policy(limit=Limit(max_in_flight=1)))
    first = Steps(service)
    second = Steps(service)
    second.reply(False, now=1.0)
    first.cancel()
    assert second.outcome is not None
    assert (second.outcome.kind, second.outcome.reason) == (Kind.REFUSED, "overflow")


def test_an_open_breaker_refuses_and_is_not_retried() -> None:
    service = bound(policy(breaker=Breaker(consecutive_failures=2), retry=None))
    for _ in range(2):
        Steps(service).reply(Answer(500))
    steps = Steps(service)
    assert steps.outcome is not None
    assert steps.outcome.reason == "circuit-open"
    assert service.in_flight == 0


def test_a_breaker_that_opens_meanwhile_ends_the_retries_with_the_last_result() -> None:
    service = bound(policy(breaker=Breaker(consecutive_failures=2), retry=Retry(attempts=9, wait=0)))
    steps = Steps(service)
    steps.reply(Answer(503))
    steps.reply()
    last = Answer(503)
    assert steps.reply(last) is None
    assert steps.outcome is not None
    assert steps.outcome.response is last
    assert steps.call.report.flags == ["circuit-open"]


@pytest.mark.parametrize("steps_before", [0, 1])
def test_cancellation_gives_everything_back_and_is_no_evidence(steps_before: int) -> None:
    service = bound(policy(limit=Limit(max_in_flight=1), breaker=Breaker(consecutive_failures=1)))
    steps = Steps(service)
    for _ in range(steps_before):
        steps.reply(error=ConnectError())
    steps.call.stopped_at = 3.0
    steps.cancel()
    assert service.in_flight == 0
    assert service.limit is not None
    assert service.limit.in_flight == 0
    assert sum(stats.failures for stats in service.members) == steps_before


def test_attempts_of_an_outer_layer_are_not_made_again() -> None:
    steps = Steps(bound(policy(retry=Retry(attempts=3, wait=0))), outer_attempt=3)
    assert steps.reply(Answer(503)) is None
    assert steps.call.report.flags == ["retry-outer"]


def test_the_budget_bounds_retries_but_not_those_of_what_never_left() -> None:
    nothing = RetryBudget(ratio=0.0, min_per_second=0)
    service = bound(policy(retry=Retry(budget=nothing, wait=0), outlier=None))
    steps = Steps(service)
    assert steps.reply(Answer(503)) is None
    assert steps.call.report.flags == ["retry-budget"]
    assert isinstance(Steps(service).reply(error=ConnectError()), Send)


def test_a_predicate_of_the_user_sees_successes_too() -> None:
    service = bound(
        policy(retry=Retry(attempts=2, wait=0, retry=lambda state: state.outcome.result().status_code == 202))
    )
    steps = Steps(service)
    assert isinstance(steps.reply(Answer(202)), Discard)
    steps.reply()
    steps.reply(Answer(200))
    assert [attempt.status for attempt in steps.call.report.attempts] == [202, 200]


def test_an_ejected_endpoint_gets_no_attempt() -> None:
    detection = OutlierDetection(consecutive_failures=1, max_ejection_ratio=0.5)
    service = bound(policy(outlier=detection, retry=None))
    steps = Steps(service)
    assert isinstance(steps.effect, Send)
    bad = steps.effect.pick.stats
    steps.reply(error=ConnectError(), now=1.0)
    for _ in range(4):
        steps = Steps(service, now=1.0)
        assert isinstance(steps.effect, Send)
        assert steps.effect.pick.stats is not bad
        steps.reply(Answer(200), now=1.0)
