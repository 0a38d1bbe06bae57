"""Rate limits that the peer tells of: what is read, and how calls are spread."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient import ConfigError, Pacing, Policy
from resilient.core.effects import Send, Sleep
from resilient.core.outcome import Kind, Outcome
from resilient.policy.quota import Quota, quota
from tests.core.steps import Answer, Steps, bound

DATE = "Tue, 14 Nov 2023 22:13:20 GMT"  # 1700000000


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ({"ratelimit": '"default";r=50;t=30'}, Quota(50, 30)),
        ({"ratelimit": ' "a b;c" ; r=5 ;t=1;pk=:c2Rm: '}, Quota(5, 1)),
        ({"ratelimit": '"hour";r=1000;t=3600, "burst";r=1;t=10'}, Quota(1, 10)),
        ({"ratelimit": '"unlimited";r=5'}, None),
        ({"ratelimit": '"default";r=50;t=-3'}, None),
        ({"ratelimit": '"default";r=50;t=1.5'}, None),
        ({"ratelimit": '"one";r=1;t=9, two;r=5;t=4'}, None),
        ({"ratelimit": "garbage"}, None),
        ({"ratelimit": ""}, None),
        ({"ratelimit": "limit=100, remaining=50, reset=5"}, Quota(50, 5)),
        ({"ratelimit-remaining": "7", "ratelimit-reset": "20"}, Quota(7, 20)),
        ({"x-ratelimit-remaining": "7", "x-ratelimit-reset": "1.5"}, Quota(7, 1.5)),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1700000009", "date": DATE}, Quota(0, 9)),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1690000000", "date": DATE}, Quota(0, 0)),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1700000009"}, None),
        ({"x-rate-limit-remaining": "7", "x-rate-limit-reset": "20"}, Quota(7, 20)),
        ({"x-ratelimit-remaining": "seven", "x-ratelimit-reset": "20"}, None),
        ({"x-ratelimit-remaining": "7"}, None),
        ({"ratelimit": '"default";r=50;t=30', "age": "5"}, None),
        ({}, None),
    ],
)
def test_what_headers_tell(headers: dict[str, str], found: Quota | None) -> None:
    assert quota(headers) == found


names = ["ratelimit", "ratelimit-remaining", "ratelimit-reset", "x-ratelimit-remaining", "x-ratelimit-reset", "date"]
texts = st.text(st.sampled_from('"\\;=,:rt0159 .-abé'), max_size=40)


@given(st.dictionaries(st.sampled_from(names), texts))
def test_nothing_that_a_peer_sends_breaks_us(headers: dict[str, str]) -> None:
    found = quota(headers)
    assert found is None or (found.remaining >= 0 and found.seconds >= 0)


def heard(headers: dict[str, str], now: float = 0.0, **fields: Any) -> Any:
    state = Pacing(max_delay=fields.pop("max_delay", 60.0)).bind()
    state.observe(Outcome(Kind.SUCCESS, response=Answer(200, headers), **fields), now)
    return state


class Middle(Random):
    def random(self) -> float:
        return 0.5


def test_enough_is_left() -> None:
    state = heard({"ratelimit": '"default";r=50;t=30'})
    assert state.delay(49, None, 0.0, Middle()) == 0.0


def test_too_little_is_spread_over_the_time_until_there_is_more() -> None:
    state = heard({"ratelimit": '"default";r=10;t=30'})
    delays = [state.delay(20, None, 0.0, Middle()) for _ in range(5)]
    assert delays == pytest.approx([3, 6, 9, 12, 15])


def test_those_that_wait_count_as_well() -> None:
    state = heard({"ratelimit": '"default";r=10;t=30'})
    for _ in range(5):
        state.delay(10, None, 0.0, Middle())
    assert state.delay(4, None, 0.0, Middle()) == 0.0
    assert state.delay(5, None, 0.0, Middle()) > 0.0


def test_nobody_waits_longer_than_until_there_is_more_nor_than_is_allowed() -> None:
    state = heard({"ratelimit": '"default";r=1;t=10'})
    delays = [state.delay(5, None, 0.0, Random(seed)) for seed in range(20)]
    assert max(delays) <= 11.0
    assert len(set(delays[2:])) > 10  # and not all end at once
    assert heard({"ratelimit": '"default";r=1;t=10'}, max_delay=1.0).delay(5, None, 0.0, Middle()) == 1.0


def test_nobody_sleeps_past_the_deadline() -> None:
    state = heard({"ratelimit": '"default";r=1;t=10'})
    assert state.delay(5, 2.0, 0.0, Middle()) == 0.0
    assert state.delay(5, 20.0, 0.0, Middle()) == 10.0  # nor has the other one taken a turn


def test_a_quota_ends_at_its_reset() -> None:
    state = heard({"ratelimit": '"default";r=0;t=10'})
    assert state.is_limited(9.9)
    assert not state.is_limited(10.0)
    assert state.delay(5, None, 10.0, Middle()) == 0.0


def test_a_retry_after_wins() -> None:
    state = heard({"ratelimit": '"default";r=50;t=30'}, retry_after=2.0)
    assert state.remaining == 0
    assert not state.is_limited(2.0)


def test_no_header_is_believed_for_ever() -> None:
    assert not heard({"ratelimit": '"default";r=0;t=86400'}).is_limited(300.0)


@given(
    st.integers(0, 100),
    st.integers(0, 100),
    st.lists(st.tuples(st.integers(0, 50), st.floats(0, 5), st.one_of(st.none(), st.floats(0, 9))), max_size=30),
    st.integers(0, 9),
)
def test_delays_are_bounded(
    remaining: int, seconds: int, calls: list[tuple[int, float, float | None]], seed: int
) -> None:
    state = heard({"ratelimit": f'"default";r={remaining};t={seconds}'}, max_delay=2.0)
    now, rng = 0.0, Random(seed)
    for in_flight, pause, left in calls:
        now += pause
        delay = state.delay(in_flight, left, now, rng)
        assert 0.0 <= delay <= 2.0
        assert delay == 0.0 or left is None or delay < left


def test_a_call_waits_for_its_turn() -> None:
    service = bound(Policy(pacing=Pacing(max_delay=5.0)))
    first = Steps(service)
    assert isinstance(first.effect, Send)
    first.reply(Answer(200, {"ratelimit": '"default";r=0;t=2'}), now=0.1)
    second = Steps(service, now=0.1)
    assert isinstance(second.effect, Sleep)
    assert 1.0 < second.effect.seconds <= 2.3
    second.reply(now=2.4)
    assert isinstance(second.effect, Send)
    assert second.call.report.flags == ["paced"]
    assert isinstance(Steps(service, now=0.1, deadline=0.5).effect, Send)


def test_without_it_headers_are_not_read() -> None:
    service = bound(Policy())
    Steps(service).reply(Answer(200, {"ratelimit": '"default";r=0;t=2'}), now=0.1)
    assert isinstance(Steps(service, now=0.1).effect, Send)


def test_wrong_settings_are_named() -> None:
    with pytest.raises(ConfigError, match=r"^Pacing\.max_delay: "):
        Pacing(max_delay=0)
