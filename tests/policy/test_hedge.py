"""When a hedge may be made: what is learnt of latencies, and how many there may be."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient import ConfigError, Hedge
from resilient.core.outcome import Kind, Outcome
from resilient.policy.hedge import MAX_ROUTES, HedgeState


def outcome(kind: Kind, reason: str = "", seconds: float = 0.1) -> Outcome:
    made = Outcome(kind, reason)
    made.seconds = seconds
    return made


def success(seconds: float = 0.1) -> Outcome:
    return outcome(Kind.SUCCESS, seconds=seconds)


def taught(hedge: Hedge, outcomes: list[Outcome]) -> HedgeState:
    state = hedge.bind()
    for one in outcomes:
        state.observe(one, 0.0)
    return state


def test_nothing_is_hedged_until_enough_was_measured() -> None:
    state = taught(Hedge(delay="p95"), [success()] * 19)
    assert state.begin(0.0) is None
    state.observe(success(), 0.0)
    assert state.begin(0.0) == pytest.approx(0.1, rel=0.1)


@pytest.mark.parametrize(("delay", "seconds"), [("p50", 0.01), ("p89", 0.01), ("p90.5", 1.0), ("p95", 1.0)])
def test_the_delay_is_the_percentile_of_what_was_measured(delay: str, seconds: float) -> None:
    # Nine short ones in a row, then a long one: 320 in all, so that the last counts too.
    state = taught(Hedge(delay=delay), ([success(0.01)] * 9 + [success(1.0)]) * 32)
    assert state.begin(0.0) == pytest.approx(seconds, rel=0.11)


def test_it_follows_a_service_that_becomes_slower_and_faster() -> None:
    state, now = Hedge(delay="p90").bind(), 0.0
    for seconds in (0.01, 0.5, 0.02):
        for _ in range(1000):
            now += 0.1
            state.observe(success(seconds), now)
        assert state.begin(now) == pytest.approx(seconds, rel=0.11)


@pytest.mark.parametrize(
    ("kind", "reason", "is_measured"),
    [
        (Kind.SUCCESS, "", True),
        (Kind.FAILURE, "timeout", True),
        (Kind.IGNORED, "timeout", True),
        (Kind.IGNORED, "superseded", True),
        (Kind.FAILURE, "5xx", False),
        (Kind.FAILURE, "connect-failure", False),
        (Kind.REFUSED, "rate-limited", False),
        (Kind.IGNORED, "cancelled", False),
    ],
)
def test_what_is_measured_is_how_long_one_may_have_to_wait(kind: Kind, reason: str, is_measured: bool) -> None:
    state = taught(Hedge(delay="p50"), [outcome(kind, reason, 0.3)] * 32)
    assert state.begin(0.0) == (pytest.approx(0.3, rel=0.11) if is_measured else None)


def test_a_percentile_below_the_minimum_counts_as_it() -> None:
    fast = [success(0.0001)] * 20
    assert taught(Hedge(delay="p95"), fast).begin(0.0) == 0.001
    assert taught(Hedge(delay="p95", minimum_delay=0.02), fast).begin(0.0) == 0.02


def test_a_fixed_delay_needs_no_measuring_and_heeds_none() -> None:
    assert Hedge(delay=0.3).bind().begin(0.0) == 0.3
    assert taught(Hedge(delay=0.0), [success(5.0)] * 40).begin(0.0) == 0.0


@given(st.lists(st.sampled_from(["call", "hedge", "back"]), max_size=200), st.sampled_from([0.0, 0.125, 0.5, 1.0]))
def test_law_hedges_are_a_share_of_the_calls(steps: list[str], ratio: float) -> None:
    """Without a floor: the first hedge comes once enough calls have paid for it."""
    state = Hedge(delay=0.1, max_extra_ratio=ratio).bind()
    calls = hedges = 0
    for step in steps:
        if step == "call":
            state.begin(0.0)
            calls += 1
        elif state.withdraw(0.0):
            hedges += 1
            if step == "back":
                state.give_back(0.0)
                hedges -= 1
        else:
            assert hedges + 1 > ratio * calls
        assert hedges <= ratio * calls


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("delay", {"delay": -1}),
        ("delay", {"delay": "95"}),
        ("delay", {"delay": "p"}),
        ("delay", {"delay": "p0"}),
        ("delay", {"delay": "p100"}),
        ("delay", {"delay": "pnan"}),
        ("max_extra_ratio", {"max_extra_ratio": 1.1}),
        ("minimum_delay", {"minimum_delay": -0.1}),
    ],
)
def test_wrong_settings_are_named(field: str, fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=rf"Hedge\.{field}: "):
        Hedge(**fields)


def test_routes_that_are_not_used_any_more_make_room() -> None:
    state = Hedge(minimum_delay=0.0).bind()
    for number in range(MAX_ROUTES):
        for _ in range(100):
            state.observe(success(1.0), 0.0, lambda name=number: f"old {name}")
    for _ in range(10):
        for name, seconds in (("a", 0.001), ("b", 0.1)):
            state.observe(success(seconds), 3600.0, lambda name=name: name)
    assert state.begin(3600.0, lambda: "a") == pytest.approx(0.001, rel=0.11)
    assert state.begin(3600.0, lambda: "b") == pytest.approx(0.1, rel=0.11)
    assert len(state._routes) == MAX_ROUTES
    for number in range(1000):  # paths with names in them: what is used often stays
        state.observe(success(5.0), 3600.0, lambda name=number: f"once {name}")
    assert state.begin(3600.0, lambda: "a") == pytest.approx(0.001, rel=0.11)


def test_routes_are_named_only_where_it_matters() -> None:
    def name() -> str:
        raise AssertionError("nobody needs it")

    state = Hedge(delay=0.1).bind()
    assert state.begin(0.0, name) == 0.1
    state.observe(success(), 0.0, name)
    state = Hedge().bind()
    state.observe(Outcome(Kind.FAILURE, "5xx"), 0.0, name)
