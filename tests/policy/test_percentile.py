"""The moving percentile: by hand, and against sorting."""

from __future__ import annotations

from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient.policy.percentile import MovingPercentile

WINDOW = 30.0


def of(seconds: list[float], ratio: float = 0.5, now: float = 0.0) -> MovingPercentile:
    percentile = MovingPercentile(ratio, WINDOW)
    for one in seconds:
        percentile.record(one, now)
    return percentile


def test_nothing_is_known_of_fewer_than_twenty() -> None:
    assert MovingPercentile(0.5).value() is None
    assert of([0.1] * 19).value() is None
    assert of([0.1] * 20).value() == pytest.approx(0.1, rel=0.1)


@pytest.mark.parametrize(("ratio", "value"), [(0.5, 0.05), (0.9, 0.09), (0.95, 0.095), (0.99, 0.099)])
def test_it_is_at_most_a_tenth_too_high(ratio: float, value: float) -> None:
    found = of([0.001 * number for number in range(100, 0, -1)] * 32, ratio).value()
    assert found is not None
    assert value * (1 - 1e-9) <= found <= value * 1.1 * (1 + 1e-9)


def test_it_is_looked_up_anew_after_every_thirty_two() -> None:
    percentile = of([0.1] * 32, 0.1)
    before = percentile.value()
    for _ in range(31):
        percentile.record(0.001, 1.0)
    assert percentile.value() == before
    percentile.record(0.001, 1.0)
    assert percentile.value() == pytest.approx(0.001, rel=0.11)


def test_what_is_older_than_two_windows_is_forgotten() -> None:
    percentile = of([1.0] * 40)
    for _ in range(32):
        percentile.record(0.01, WINDOW)  # the older half is kept beside
    assert percentile.value() == pytest.approx(1.0, rel=0.11)
    percentile.record(0.01, 2 * WINDOW)
    assert percentile.value() == pytest.approx(0.01, rel=0.11)


def test_after_a_long_silence_nothing_is_known() -> None:
    percentile = of([1.0] * 40)
    percentile.record(0.01, 2 * WINDOW)
    assert percentile.value() is None


def test_what_is_very_short_or_very_long_breaks_nothing() -> None:
    assert of([0.0] * 20).value() == pytest.approx(1e-5, rel=0.11)
    longest = of([1e9] * 20).value()
    assert longest is not None
    assert 250 < longest < 300


@given(
    st.lists(st.tuples(st.floats(1e-5, 200.0), st.floats(0.0, 8.0)), max_size=300),
    st.floats(0.01, 0.99),
)
def test_it_follows_the_naive_model(steps: list[tuple[float, float]], ratio: float) -> None:
    """Keep all samples of this window and the last, sort them when it is time to look, and count."""
    percentile, now = MovingPercentile(ratio, WINDOW), 0.0
    current: list[float] = []
    previous: list[float] = []
    ends, expected = 0.0, None

    def look() -> float | None:
        known = sorted(current + previous)
        return known[ceil(ratio * len(known)) - 1] if len(known) >= 20 else None

    for count, (seconds, pause) in enumerate(steps, start=1):
        now += pause
        if now >= ends:
            previous, current, ends = current if now < ends + WINDOW else [], [], now + WINDOW
            expected = look()
        current.append(seconds)
        if count % 32 == 0 or expected is None:
            expected = look()
        percentile.record(seconds, now)
        found = percentile.value()
        assert (found is None) is (expected is None)
        if found is not None and expected is not None:
            assert expected * (1 - 1e-9) <= found <= expected * 1.1 * (1 + 1e-9)
