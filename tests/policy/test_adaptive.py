"""Limits that adapt: by hand, and against a naive model."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from resilient import AdaptiveLimit, ConfigError, GradientLimit
from resilient.core.outcome import Kind, Outcome, Safety
from tests.policy.waiters import Waiter


def outcome(kind: Kind, reason: str = "", *, seconds: float = 0.1, **fields: Any) -> Outcome:
    made = Outcome(kind, reason, **fields)
    made.seconds = seconds
    return made


def success(seconds: float = 0.1) -> Outcome:
    return outcome(Kind.SUCCESS, seconds=seconds)


def timeout(seconds: float = 1.0, kind: Kind = Kind.FAILURE) -> Outcome:
    return outcome(kind, "timeout", seconds=seconds, safety=Safety.UNKNOWN)


OVERLOADS = {
    "429": outcome(Kind.REFUSED, "rate-limited", status=429),
    "503 with a pause": outcome(Kind.FAILURE, "gateway-error", status=503, retry_after=1.0),
    "refused stream": outcome(Kind.REFUSED, "refused-stream", safety=Safety.UNPROCESSED),
    "timeout": timeout(),
    "deadline": timeout(kind=Kind.IGNORED),
}
OTHERS = {
    "500": outcome(Kind.FAILURE, "5xx", status=500),
    "503": outcome(Kind.FAILURE, "gateway-error", status=503),
    "reset": outcome(Kind.FAILURE, "reset", safety=Safety.UNKNOWN),
    "connection refused": outcome(Kind.FAILURE, "connect-failure", safety=Safety.UNSENT),
    "our own pool": outcome(Kind.REFUSED, "overflow", safety=Safety.UNSENT),
    "cancelled": outcome(Kind.IGNORED, "cancelled"),
    "cut off sooner than usual": timeout(0.01),
}


def busy(limit: AdaptiveLimit | GradientLimit, in_flight: int) -> Any:
    state = limit.bind()
    state.observe(success(), 0.0)
    for _ in range(in_flight):
        assert state.acquire()
    return state


@pytest.mark.parametrize("sign", OVERLOADS)
def test_each_sign_of_overload_takes_half_a_place(sign: str) -> None:
    state = busy(AdaptiveLimit(), 20)
    for number in range(1, 5):
        state.observe(OVERLOADS[sign], 1.0)
        assert state.limit == 20 - 0.5 * number
    assert state.max_in_flight == 18


@pytest.mark.parametrize("other", OTHERS)
def test_other_failures_do_not(other: str) -> None:
    state = busy(AdaptiveLimit(), 20)
    state.observe(OTHERS[other], 1.0)
    assert state.limit == 20


def test_it_grows_by_a_place_for_a_success_until_the_first_overload() -> None:
    state = busy(AdaptiveLimit(), 20)
    for _ in range(10):
        state.observe(success(), 0.2)
    assert state.limit == pytest.approx(25)  # latency is at its average: half a place each, by tolerance 1.5
    state.observe(timeout(), 1.0)
    before = state.limit
    state.observe(success(), 1.1)
    assert state.limit - before == pytest.approx(0.5 * 0.2 / before)


def test_an_overload_is_over_two_seconds_after_its_last_sign() -> None:
    state = busy(AdaptiveLimit(), 20)
    state.observe(timeout(), 1.0)
    state.observe(success(), 3.1)
    assert state.limit == pytest.approx(20.0)


def test_it_does_not_grow_while_less_than_half_of_it_is_in_use() -> None:
    state = busy(AdaptiveLimit(), 9)
    state.observe(success(), 0.1)
    assert state.limit == 20


def test_it_does_not_grow_into_a_queue() -> None:
    state = busy(AdaptiveLimit(), 20)
    for number in range(50):
        state.observe(success(0.1), number / 100)
    grown = state.limit
    for number in range(20):
        state.observe(success(0.2), 0.5 + number / 100)
    assert state.limit < grown + 5
    stopped = state.limit
    for number in range(50):
        state.observe(success(0.2), 0.7 + number / 100)
    assert state.limit == stopped


def test_a_service_that_has_become_slower_for_good_is_believed_in_time() -> None:
    state = busy(AdaptiveLimit(), 20)
    for number in range(600):
        state.observe(success(0.2), number / 5)
    assert state.limit > 20


def test_a_limit_that_was_not_in_use_comes_down_to_what_is() -> None:
    state = busy(AdaptiveLimit(), 3)
    state.observe(timeout(), 1.0)
    assert state.limit == 5.5


def test_who_came_last_is_served_first() -> None:
    state = busy(AdaptiveLimit(initial=1), 1)
    early, late = Waiter(), Waiter()
    assert state.enqueue(early) is None
    assert state.enqueue(late) is None
    state.release()
    assert (early.woken, late.woken) == (0, 1)


def test_new_places_are_given_to_those_that_wait() -> None:
    state = busy(AdaptiveLimit(initial=2), 2)
    gone, there = Waiter(gone=True), Waiter()
    state.enqueue(there)
    state.enqueue(gone)
    for _ in range(2):
        state.observe(success(), 0.1)
    assert (state.max_in_flight, gone.woken, there.woken) == (3, 1, 1)
    assert state.in_flight == 3


def test_waiting_leaves_time_for_an_answer() -> None:
    state = AdaptiveLimit(queue_timeout=2.0).bind()
    assert state.patience(0.25) == 0.25  # nothing is known yet
    state.observe(success(0.1), 0.0)
    for number in range(100):
        state.observe(success(0.1), number / 100)
    assert state.patience(None) == 2.0
    assert state.patience(9.0) == 2.0
    assert state.patience(0.25) == pytest.approx(0.15, abs=0.01)
    assert state.patience(0.05) < 0


def test_the_gradient_falls_with_rising_latency_and_rises_again() -> None:
    state = busy(GradientLimit(minimum=4), 20)
    for number in range(100):
        state.observe(success(0.1), number / 100)
    assert state.limit > 40
    while state.in_flight < state.max_in_flight:
        state.acquire()
    high = state.limit
    for number in range(30):
        state.observe(success(1.0), 1 + number / 100)
    low = state.limit
    assert low < high / 2
    for number in range(300):
        state.observe(success(0.1), 2 + number / 100)
    assert state.limit > low


def test_the_gradient_moves_as_its_formula_says() -> None:
    state = busy(GradientLimit(minimum=4), 20)
    state.observe(success(0.3), 0.1)
    long = 0.1 + (0.3 - 0.1) / 2
    target = 1.5 * long / 0.3 * 20 + 4
    assert state.limit == pytest.approx(20 + 0.2 * (target - 20))


def test_the_gradient_forgets_an_overload_sooner_than_the_average_would() -> None:
    state = busy(GradientLimit(minimum=4), 20)
    state.observe(success(1.9), 0.1)
    state.observe(success(0.1), 0.2)
    state.limit = 20.0
    state.observe(success(1.5), 0.3)
    long = 0.95 * (0.1 + 1.9 + 0.1) / 3  # it was more than twice as long as the latest
    long += (1.5 - long) / 4
    target = 1.5 * long / 1.5 * 20 + 4
    assert state.limit == pytest.approx(20 + 0.2 * (target - 20))


@given(st.lists(st.floats(0.01, 10), max_size=200), st.integers(0, 40))
def test_the_gradient_follows_netflixs_formula(latencies: list[float], in_flight: int) -> None:
    state = busy(GradientLimit(minimum=4, maximum=50, initial=40), in_flight)
    limit, long = 40.0, 0.0
    for count, seconds in enumerate([0.1, *latencies], start=1):  # `busy` has shown it the first
        long += (seconds - long) / min(count, 600)
        long *= 0.95 if long > 2 * seconds else 1.0
        gradient = max(0.5, min(1.0, 1.5 * long / seconds))
        if count == 1:
            continue  # nothing was in flight then
        if 2 * in_flight >= limit:
            limit = min(50.0, max(4.0, 0.8 * limit + 0.2 * (gradient * limit + 4)))
        state.observe(success(seconds), 1.0)
        assert state.limit == pytest.approx(limit)


@pytest.mark.parametrize("cls", [AdaptiveLimit, GradientLimit])
@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("minimum", {"minimum": 0}),
        ("maximum", {"minimum": 30, "initial": 30, "maximum": 29}),
        ("initial", {"minimum": 30, "initial": 29}),
        ("initial", {"initial": 5000}),
        ("tolerance", {"tolerance": 1.0}),
        ("max_queue", {"max_queue": -1}),
        ("queue_timeout", {"queue_timeout": 0}),
    ],
)
def test_wrong_settings_are_named(cls: Any, field: str, fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"{cls.__name__}.{field}: "):
        cls(**fields)


results = st.one_of(
    st.floats(0, 10).map(success),
    st.floats(0, 10).map(timeout),
    st.sampled_from([*OVERLOADS.values(), *OTHERS.values()]),
)


@settings(max_examples=50)
@given(
    st.lists(st.tuples(results, st.floats(0, 5)), max_size=80),
    st.integers(0, 30),
    st.sampled_from([AdaptiveLimit, GradientLimit]),
)
def test_it_stays_within_its_bounds(steps: list[tuple[Outcome, float]], in_flight: int, cls: Any) -> None:
    state = cls(initial=10, minimum=3, maximum=30).bind()
    now = 0.0
    for number, (result, pause) in enumerate(steps):
        now += pause
        if number < in_flight:
            state.acquire()
        state.observe(result, now)
        assert 3 <= state.limit <= 30
        assert state.max_in_flight == int(state.limit)


class AdaptiveModel(RuleBasedStateMachine):
    """Against counting: no place is lost, none is given twice, and none waits while one is free."""

    @initialize(cls=st.sampled_from([AdaptiveLimit, GradientLimit]))
    def begin(self, cls: Any) -> None:
        self.state = cls(initial=3, minimum=1, maximum=6, max_queue=4).bind()
        self.holding = 0
        self.queue: list[Waiter] = []
        self.now = 0.0

    def settle(self) -> None:
        """Those that were woken have a place, unless they are not there any more."""
        woken = [waiter for waiter in self.queue if waiter.woken]
        assert all(waiter.woken == 1 for waiter in woken)
        self.holding += sum(not waiter.gone for waiter in woken)
        self.queue = [waiter for waiter in self.queue if not waiter.woken]

    @rule(gone=st.booleans())
    def ask(self, gone: bool) -> None:
        waiter = Waiter(gone=gone)
        place = self.state.enqueue(waiter)
        if place is None:
            self.queue.append(waiter)
        else:
            self.holding += place

    @precondition(lambda self: self.holding)
    @rule()
    def release(self) -> None:
        self.holding -= 1
        self.state.release()
        self.settle()

    @rule(result=results, pause=st.floats(0, 3))
    def observe(self, result: Outcome, pause: float) -> None:
        self.now += pause
        self.state.observe(result, self.now)
        self.settle()

    @precondition(lambda self: self.queue)
    @rule()
    def give_up(self) -> None:
        assert self.state.abandon(self.queue.pop(0))

    @invariant()
    def counts_agree(self) -> None:
        assert self.state.in_flight == self.holding
        assert self.state.waiting == len(self.queue) <= 4
        assert not self.queue or self.holding >= self.state.max_in_flight


AdaptiveModel.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestAdaptiveModel = AdaptiveModel.TestCase
