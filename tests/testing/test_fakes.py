"""Fake endpoints: what they do by their scripts."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from resilient import ConfigError
from resilient.core.classify import HttpClassifier
from resilient.policy.quota import quota
from resilient.testing import Behaviour, FakeEndpoint, FakeResponse


def served(endpoint: FakeEndpoint, now: float = 0.0, route: str | None = None) -> tuple[float, Any]:
    return endpoint.serve(now, Random(1), route)


def made(**behaviour: Any) -> FakeEndpoint:
    return FakeEndpoint("10.0.0.1:80", Behaviour(spread=0, **behaviour))


def test_a_script_is_followed_and_changes_are_relative() -> None:
    endpoint = made(latency=0.1).at(5.0, status=404).at(10.0, latency=0.2)
    assert [(t, r.status_code) for t, r in (served(endpoint, now) for now in (0.0, 5.0, 12.0))] == [
        (0.1, 200),
        (5.1, 404),
        (12.2, 404),
    ]
    with pytest.raises(ConfigError, match=r"a time from 10\.0 on"):
        endpoint.at(9.0, status=200)


def test_a_route_has_a_script_of_its_own_upon_that_of_all() -> None:
    endpoint = made(latency=0.1).at(1.0, route="GET /bad", failure_ratio=1.0).at(2.0, latency=0.5)
    endpoint.at(3.0, route="GET /bad", failure_status=500).at(4.0, route="GET /bad", failure_ratio=0.0)
    seen = {now: [served(endpoint, now, route) for route in ("GET /bad", "GET /good", None)] for now in range(5)}
    assert {now: [r.status_code for _, r in results] for now, results in seen.items()} == {
        0: [200, 200, 200],
        1: [503, 200, 200],
        2: [503, 200, 200],
        3: [500, 200, 200],
        4: [200, 200, 200],
    }
    assert {now: [t - now for t, _ in results] for now, results in seen.items()} == {
        now: [pytest.approx(0.1 if now < 2 else 0.5)] * 3 for now in range(5)
    }
    with pytest.raises(ConfigError, match=r"a time from 4\.0 on"):
        endpoint.at(3.0, route="GET /bad", status=200)


def test_a_body_that_breaks_or_stalls_fails_where_it_is_read_at_once() -> None:
    breaks, stalls = made(breaks=True), made(stalls=True)
    time, error = served(breaks)
    assert (time, HttpClassifier().classify(None, error).reason) == (0.01, "reset")
    time, error = served(stalls)
    assert (time, isinstance(error, Exception)) == (float("inf"), True)
    assert [(each.requests, each.answered) for each in (breaks, stalls)] == [(1, 0), (1, 0)]
    when, answer = stalls.answer(0.0, Random(1))
    assert isinstance(answer, FakeResponse)
    assert (when, answer.status_code, answer.fault) == (0.01, 200, "stalls")


def test_a_pause_is_asked_for_in_whole_seconds_whatever_the_status() -> None:
    assert served(made(failure_ratio=1.0, retry_after=1.5))[1].headers == {"retry-after": "2"}
    assert served(made(status=429, retry_after=2))[1].headers == {"retry-after": "2"}
    assert served(made(retry_after=2.0))[1].headers == {}
    _, answer = served(made(headers={"Retry-After": "7", "X-Version": "2"}))
    assert answer.headers == {"retry-after": "7", "x-version": "2"}
    assert HttpClassifier().classify(served(made(status=503, retry_after=2.0))[1], None).retry_after == 2.0


def test_a_rate_limit_is_told_and_kept() -> None:
    endpoint = made(rate_limit=(2, 10.0), headers={"x-version": "2"})
    answers = [served(endpoint, now)[1] for now in (1.0, 2.0, 3.5, 11.0)]
    assert [answer.status_code for answer in answers] == [200, 200, 429, 200]
    told = [quota(answer.headers) for answer in answers]
    assert [(each.remaining, each.seconds) for each in told if each is not None] == [(1, 10), (0, 9), (0, 8), (1, 10)]
    assert [answer.headers.get("retry-after") for answer in answers] == [None, None, "8", None]
    assert {answer.headers["x-version"] for answer in answers} == {"2"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("latency", -1),
        ("workers", 0),
        ("retry_after", -1),
        ("rate_limit", 5),
        ("rate_limit", (0, 1.0)),
        ("rate_limit", (1, 0.0)),
        ("headers", [("a", "b")]),
    ],
)
def test_what_cannot_be_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"Behaviour.{field}"):
        Behaviour(**{field: value})
    with pytest.raises(ConfigError, match=f"Behaviour.{field}"):
        FakeEndpoint("10.0.0.1:80").at(0.0, route="GET /", **{field: value})


def test_behaviours_are_values() -> None:
    assert Behaviour(headers={"A": "b"}) == Behaviour(headers={"a": "b"})
    assert len({Behaviour(), Behaviour(), Behaviour(latency=1.0)}) == 2
