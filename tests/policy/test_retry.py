"""Retry: settings, tenacity's vocabulary, and the price of a decision."""

from __future__ import annotations

from random import Random
from typing import Any

import httpx
import pytest
import tenacity

from resilient import ConfigError, Retry
from resilient.core.call import Call
from resilient.core.classify import HttpClassifier
from resilient.core.outcome import Outcome
from resilient.policy.retry import full_jitter
from tests.core.steps import bound

HTTP = HttpClassifier()
BUSY = HTTP.classify(httpx.Response(503), None)


def decide(retry: Retry, outcome: Outcome = BUSY, *, number: int = 1, now: float = 0.0, **call: Any) -> float | str:
    asking = Call(bound(), **call)
    asking.number = number
    state = retry.bind()
    return state.next_delay(asking, outcome, max(1, state.attempts), now, Random(3))


def test_full_jitter_is_envoys() -> None:
    rng = Random(1)
    draws = {n: [full_jitter(n, rng) for _ in range(2000)] for n in (1, 2, 3, 9)}
    assert max(draws[1]) <= 0.025
    assert 0.070 < max(draws[2]) <= 0.075
    assert 0.170 < max(draws[3]) <= 0.175
    assert max(draws[9]) == 0.25
    assert min(draws[3]) < 0.01


def test_plain_seconds() -> None:
    assert decide(Retry(wait=0.5)) == 0.5


@pytest.mark.parametrize(
    "wait",
    [
        tenacity.wait_fixed(0.5),
        tenacity.wait_fixed(0.25) + tenacity.wait_fixed(0.25),
        tenacity.wait_chain(tenacity.wait_fixed(0.5)),
    ],
)
def test_any_tenacity_wait(wait: Any) -> None:
    assert decide(Retry(wait=wait)) == 0.5


def test_a_tenacity_wait_sees_the_number_of_the_attempt() -> None:
    retry = Retry(attempts=9, wait=tenacity.wait_exponential(multiplier=1, exp_base=2))
    assert [decide(retry, number=n) for n in (1, 2, 3)] == [1, 2, 4]


@pytest.mark.parametrize(
    "stop",
    [
        tenacity.stop_after_attempt(2),
        tenacity.stop_after_delay(5),
        tenacity.stop_before_delay(5.4),
        tenacity.stop_after_attempt(99) | tenacity.stop_after_delay(5),
    ],
)
def test_any_tenacity_stop(stop: Any) -> None:
    retry = Retry(attempts=None, stop=stop, wait=0.5)
    assert decide(retry, number=1, now=1.0) == 0.5
    assert decide(retry, number=2, now=5.0) == "retry-limit"


def test_any_tenacity_predicate() -> None:
    error = HTTP.classify(None, httpx.ReadTimeout("slow"))
    reset = HTTP.classify(None, httpx.ReadError("reset"))
    retry = Retry(retry=tenacity.retry_if_exception_type(httpx.ReadTimeout), wait=0)
    assert decide(retry, error) == 0
    assert decide(retry, reset) == ""
    assert decide(retry, BUSY) == ""
    teapot = HTTP.classify(httpx.Response(418), None)
    assert decide(Retry(retry=tenacity.retry_if_result(lambda r: r.status_code == 418), wait=0), teapot) == 0


def test_a_predicate_does_not_override_safety() -> None:
    retry = Retry(retry=tenacity.retry_always, wait=0)
    assert decide(retry, BUSY, idempotent=False) == "retry-unsafe"
    assert decide(Retry(retry=tenacity.retry_always, wait=0, idempotent=True), BUSY, idempotent=False) == 0


def test_statuses_worth_a_retry() -> None:
    server_error = HTTP.classify(httpx.Response(500), None)
    assert decide(Retry(), server_error) == ""
    assert isinstance(decide(Retry(statuses=frozenset({500})), server_error), float)
    assert decide(Retry(statuses=frozenset({500})), BUSY) == ""


def test_what_an_inner_layer_gave_up_is_not_begun_anew() -> None:
    error = httpx.ReadTimeout("slow")
    outcome = HTTP.classify(None, error)
    assert isinstance(decide(Retry(), outcome), float)
    error.report = bound_report(exhausted=True)  # type: ignore[attr-defined]
    assert decide(Retry(), outcome) == ""


def bound_report(*, exhausted: bool) -> Any:
    report = Call(bound()).report
    if exhausted:
        report.flags.append("retry-limit")
    return report


def test_no_sleep_past_the_deadline() -> None:
    assert decide(Retry(wait=1.0), deadline=1.0) == "retry-deadline"
    assert decide(Retry(wait=1.0), deadline=1.1) == 1.0


async def _predicate(state: object) -> bool:
    return True


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"attempts": 0}, "Retry.attempts: 0"),
        ({"attempts": 2.0}, "Retry.attempts: 2.0"),
        ({"attempts": None}, "Retry.attempts: None"),
        ({"wait": -1}, "Retry.wait: -1"),
        ({"wait": tenacity.wait_fixed}, "Retry.wait: "),
        ({"stop": 3}, "Retry.stop: 3"),
        ({"retry": _predicate}, "Retry.retry: "),
        ({"budget": 0.2}, "Retry.budget: 0.2"),
        ({"statuses": {99}}, "Retry.statuses: 99"),
        ({"max_retry_after": -1}, "Retry.max_retry_after: -1"),
        ({"buffer_limit": -1}, "Retry.buffer_limit: -1"),
    ],
)
def test_wrong_settings_are_named(fields: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Retry(**fields)
    assert str(caught.value).startswith(line)
    assert "expected" in str(caught.value)
