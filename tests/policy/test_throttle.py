"""Client-side throttling: by hand, and against its formula."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient import ConfigError, Policy, RateLimited, Retry, Throttle
from resilient.core.effects import Send
from resilient.core.outcome import Kind
from tests.core.steps import Answer, ConnectError, ReadTimeout, Steps, bound


def fed(throttle: Throttle, accepted: int, refused: int, now: float = 0.0) -> Any:
    state = throttle.bind()
    for number in range(accepted + refused):
        state.observe(number >= accepted, now)
    return state


@given(st.integers(0, 200), st.integers(0, 200), st.floats(1, 4))
def test_the_ratio_is_that_of_the_formula(accepted: int, refused: int, multiplier: float) -> None:
    state = fed(Throttle(multiplier=multiplier, minimum_per_second=0), accepted, refused)
    requests = accepted + refused
    expected = max(0.0, (requests - multiplier * accepted) / (requests + 1))
    assert state.refusal_ratio(0.0) == pytest.approx(min(expected, 0.9))


def test_half_refused_there_is_none_refused_here() -> None:
    state = fed(Throttle(), 50, 50)
    assert all(state.admit(0.0, Random(seed)) for seed in range(100))


def test_some_pass_however_bad_it_is() -> None:
    state = fed(Throttle(), 0, 1000)
    rng = Random(1)
    passed = sum(state.admit(0.0, rng) for _ in range(1000))
    assert 50 < passed < 150


def test_refusals_of_our_own_count_as_requests() -> None:
    state = fed(Throttle(max_refusal_ratio=0.99), 10, 30)
    rng, before = Random(1), state.refusal_ratio(0.0)
    for _ in range(100):
        state.admit(0.0, rng)
    assert state.refusal_ratio(0.0) > before


def test_what_has_left_the_window_is_forgotten() -> None:
    state = fed(Throttle(window=10.0), 0, 100)
    assert state.refusal_ratio(8.9) > 0.8
    assert state.refusal_ratio(10.1) == 0.0
    assert state.admit(10.1, Random(1))


def test_a_service_that_is_seldom_called_is_never_throttled() -> None:
    assert fed(Throttle(window=10.0, minimum_per_second=1.0), 0, 9).refusal_ratio(0.0) == 0.0
    assert fed(Throttle(window=10.0, minimum_per_second=1.0), 0, 10).refusal_ratio(0.0) > 0.0


def test_chance_is_not_asked_while_nothing_was_refused() -> None:
    class Never(Random):
        def random(self) -> float:
            raise AssertionError

    assert fed(Throttle(), 100, 0).admit(0.0, Never())


OVERLOADED = Policy(throttle=Throttle(minimum_per_second=0, max_refusal_ratio=0.99), retry=None, outlier=None)


def after(count: int, *, value: Any = None, error: Exception | None = None) -> float:
    """The refusal ratio after so many calls with this result."""
    service = bound(OVERLOADED)
    for _ in range(count):
        steps = Steps(service)
        if isinstance(steps.effect, Send):
            steps.reply(value, error, now=0.1)
    assert service.throttle is not None
    return service.throttle.refusal_ratio(0.1)


@pytest.mark.parametrize(
    ("result", "counts"),
    [
        ({"value": Answer(429)}, True),
        ({"value": Answer(503, {"retry-after": "1"})}, True),
        ({"error": ReadTimeout()}, True),
        ({"value": Answer(503)}, True),
        ({"value": Answer(500)}, False),
        ({"error": ConnectError()}, False),
        ({"value": Answer(200)}, False),
    ],
)
def test_only_overload_counts(result: dict[str, Any], counts: bool) -> None:
    assert (after(20, **result) > 0.5) is counts


def test_a_throttled_call_makes_no_attempt_and_says_so() -> None:
    service = bound(OVERLOADED)
    assert service.throttle is not None
    for _ in range(500):
        service.throttle.observe(True, 0.0)
    ended = [Steps(service) for _ in range(50)]
    refused = [steps for steps in ended if steps.outcome is not None]
    assert len(refused) > 40
    for steps in refused:
        assert steps.outcome is not None
        assert (steps.outcome.kind, steps.outcome.reason) == (Kind.REFUSED, "throttled")
        assert steps.call.report.flags == ["throttled"]
        assert steps.call.report.attempts == []


def test_a_decorated_function_raises_rate_limited() -> None:
    @Policy(throttle=Throttle(minimum_per_second=0, max_refusal_ratio=0.99), retry=Retry(attempts=1))
    def slow() -> None:
        raise TimeoutError

    def call() -> type[BaseException]:
        with pytest.raises((TimeoutError, RateLimited)) as caught:
            slow()
        return caught.type

    assert [call() for _ in range(200)].count(RateLimited) > 100


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("multiplier", 0.9),
        ("window", 0),
        ("max_refusal_ratio", 1),
        ("max_refusal_ratio", 1.5),
        ("minimum_per_second", -1),
    ],
)
def test_wrong_settings_are_named(field: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"Throttle.{field}: "):
        Throttle(**{field: value})
