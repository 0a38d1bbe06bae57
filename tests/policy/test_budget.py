"""The retry budget: by hand, and against its law."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient import ConfigError, RetryBudget


def spend(budget: object, now: float) -> int:
    count = 0
    while budget.withdraw(now):  # type: ignore[attr-defined]
        count += 1
    return count


def test_the_larger_one_counts_of_a_fifth_of_the_calls_and_a_second_of_the_floor() -> None:
    state = RetryBudget(ratio=0.2, min_per_second=10).bind()
    assert state.available(0.0) == pytest.approx(10)
    for _ in range(100):
        state.deposit(0.0)
    assert state.available(0.0) == pytest.approx(20)
    assert spend(state, 0.0) == 20


@pytest.mark.parametrize(("rate", "retries"), [(10, 10), (50, 10), (80, 16), (200, 40)])
def test_the_floor_does_not_come_on_top_of_the_share(rate: int, retries: int) -> None:
    """Retries a second, once what had been saved is spent."""
    state = RetryBudget(ratio=0.2, min_per_second=10).bind()
    spent = [0] * 20
    for call in range(20 * rate):
        state.deposit(call / rate)
        spent[call // rate] += spend(state, call / rate)
    assert sum(spent[10:]) / 10 == pytest.approx(retries, rel=0.1)


def test_what_is_given_back_can_be_spent_again() -> None:
    state = RetryBudget(ratio=0.5, min_per_second=1).bind()
    for _ in range(20):
        state.deposit(0.0)
    assert state.withdraw(0.0)
    state.give_back(0.0)
    assert spend(state, 0.0) == 10


def test_what_is_given_back_is_what_was_taken() -> None:
    state = RetryBudget(ratio=0.2, min_per_second=10).bind()
    for _ in range(100):  # refused hedges of a service without calls: there is nothing to save up
        assert state.withdraw(0.0)
        state.give_back(0.0)
    assert spend(state, 0.0) == 10


def test_the_reserve_refills_at_its_rate_and_holds_one_second() -> None:
    state = RetryBudget(ratio=0.0, min_per_second=10).bind()
    assert spend(state, 0.0) == 10
    assert spend(state, 0.5) == 5
    assert spend(state, 60.0) == 10


def test_a_slow_reserve_still_holds_five() -> None:
    state = RetryBudget(ratio=0.0, min_per_second=1).bind()
    assert spend(state, 0.0) == 5
    assert spend(state, 2.0) == 2
    assert spend(state, 60.0) == 5


def test_what_was_deposited_leaves_with_the_window() -> None:
    state = RetryBudget(ratio=0.5, min_per_second=0, window=10).bind()
    for _ in range(10):
        state.deposit(0.0)
    assert state.available(9.0) == pytest.approx(5)
    assert state.available(11.1) == 0


def test_nothing_is_taken_where_nothing_is() -> None:
    state = RetryBudget(ratio=0.0, min_per_second=0).bind()
    assert not state.withdraw(0.0)
    assert state.available(100.0) == 0


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"ratio": 1.5}, "ratio"),
        ({"ratio": -0.1}, "ratio"),
        ({"min_per_second": -1}, "min_per_second"),
        ({"window": 0}, "window"),
    ],
)
def test_wrong_settings_are_named(fields: dict[str, float], name: str) -> None:
    with pytest.raises(ConfigError, match=rf"RetryBudget\.{name}: "):
        RetryBudget(**fields)


@given(
    gaps=st.lists(st.floats(0, 3), min_size=1, max_size=200),
    tries=st.lists(st.integers(0, 4), min_size=1, max_size=200),
    ratio=st.floats(0, 1),
    floor=st.floats(0, 20),
)
def test_law_retries_never_exceed_the_share_and_the_floor(
    gaps: list[float], tries: list[int], ratio: float, floor: float
) -> None:
    """Over any history: withdrawn <= ratio * calls + floor * seconds + the reserve of the start."""
    state = RetryBudget(ratio=ratio, min_per_second=floor).bind()
    now, spent = 0.0, 0
    for calls, (gap, count) in enumerate(zip(gaps, tries, strict=False), start=1):
        now += gap
        state.deposit(now)
        spent += sum(state.withdraw(now) for _ in range(count))
        assert spent <= ratio * calls + floor * now + (max(floor, 5.0) if floor else 0.0) + 1e-6


@given(
    steps=st.lists(st.tuples(st.sampled_from(["call", "retry", "back"]), st.floats(0, 1)), max_size=200),
    ratio=st.floats(0, 1),
    floor=st.floats(0, 20),
)
def test_law_each_retry_takes_one_whole_from_what_is_available(
    steps: list[tuple[str, float]], ratio: float, floor: float
) -> None:
    """So the larger of share and floor is what can be spent, however the two are drawn from."""
    state, now = RetryBudget(ratio=ratio, min_per_second=floor).bind(), 0.0
    for step, gap in steps:
        now += gap
        before = state.available(now)
        if step == "call":
            state.deposit(now)
            assert before <= state.available(now) <= before + ratio + 1e-6
        elif state.withdraw(now):
            assert before >= 1 - 1e-6
            assert state.available(now) == pytest.approx(max(0.0, before - 1), abs=1e-6)
            if step == "back":
                state.give_back(now)
                assert state.available(now) == pytest.approx(before, abs=1e-6)
        else:
            assert before < 1
