"""Which requests are about the same."""

from __future__ import annotations

from random import Random

import pytest

from resilient import Hedge, OutlierDetection, Policy, RoundRobin
from resilient.core.bound import Bound
from resilient.core.effects import Send, Start
from resilient.core.route import route_group
from tests.core.steps import Answer, ReadTimeout, Steps, bound


@pytest.mark.parametrize(
    ("path", "group"),
    [
        ("/", "GET /"),
        ("/v1/orders/4711", "GET /v1/orders/*"),
        ("/v1/orders/4711?full=1", "GET /v1/orders/*"),
        ("/users/9f0c2a7e-90aa-4f2e-8f0f-2f3b1c1d5e6f/cart", "GET /users/*/cart"),
        ("/files/a-name-that-is-far-too-long-to-be-one", "GET /files/*"),
        ("/a/b/c/d/e/f", "GET /a/b/c/d"),
    ],
)
def test_identifiers_are_left_out(path: str, group: str) -> None:
    assert route_group("GET", path) == group


def fail_and_succeed(routes: tuple[str, str]) -> int:
    """How many are ejected if the first route always fails and the second never does."""
    detection = OutlierDetection(consecutive_failures=None, failure_ratio=0.5, minimum_volume=10)
    service = bound(Policy(balancer=RoundRobin(), outlier=detection, retry=None))
    service.update(service.endpoints[:2], 0.0)
    for round_number in range(8):
        now = round_number * 0.1
        for answer, route in [(Answer(500), routes[0])] * 6 + [(Answer(200), routes[1])] * 2:
            Steps(service, now=now, route=lambda route=route: route).reply(answer, now=now)
    return sum(stats.ejected_until is not None for stats in service.members)


def test_one_bad_route_does_not_eject_a_good_endpoint() -> None:
    assert fail_and_succeed(("GET /broken", "GET /fine")) == 0
    assert fail_and_succeed(("GET /same", "GET /same")) == 1


def service_of_three() -> Bound:
    return bound(Policy(balancer=RoundRobin(), retry=None), "10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80")


def ejected(service: Bound) -> int:
    return sum(stats.ejected_until is not None for stats in service.members)


@pytest.mark.parametrize("failure", [{"value": Answer(500)}, {"value": Answer(503)}, {"error": ReadTimeout()}])
def test_nor_do_the_defaults_when_it_begins_to_fail(failure: dict[str, object]) -> None:
    """What was fine a moment ago is known, although nothing had failed then."""
    service = service_of_three()
    for number in range(30):
        now = number * 0.01
        Steps(service, now=now, route=lambda: "GET /ping").reply(Answer(200), now=now + 0.001)
    for number in range(60):
        now = 1.0 + number * 0.01
        Steps(service, now=now, route=lambda: "GET /report").reply(**failure, now=now + 0.2)
    assert ejected(service) == 0


def test_a_body_that_breaks_is_its_routes_too() -> None:
    service = service_of_three()
    for number in range(90):
        now = number * 0.01
        Steps(service, now=now, route=lambda: "GET /ping").reply(Answer(200), now=now)
        steps = Steps(service, now=now, route=lambda: "GET /report")
        steps.reply(Answer(200, is_open=True), now=now)
        assert steps.call.held is not None
        steps.call.held.broke(TransportError(), now)
        steps.call.held.release(now)
    assert all(stats.failures for stats in service.members)
    assert ejected(service) == 0


def test_noise_on_many_routes_ejects_nobody() -> None:
    """Failures that are not in a row must not seem to be: their route's successes are heard between them."""
    rng = Random(1)
    service = service_of_three()
    for number in range(30_000):
        now = number / 900
        name = f"GET /{rng.randrange(10)}"
        steps = Steps(service, now=now, route=lambda name=name: name)
        steps.reply(Answer(500 if rng.random() < 0.03 else 200), now=now)
    assert not any(stats.ejections for stats in service.members)


def test_while_all_is_well_few_routes_are_asked_for() -> None:
    asked = []
    service = bound(Policy(balancer=RoundRobin(), retry=None), "10.0.0.1:80")
    for number in range(1000):
        now = number / 1000
        Steps(service, now=now, route=lambda: asked.append(1) or "GET /").reply(Answer(200), now=now)  # type: ignore[func-returns-value]
    assert 2 <= len(asked) <= 11


def test_each_route_is_hedged_after_what_is_slow_for_it() -> None:
    service = bound(Policy(balancer=RoundRobin(), hedge=Hedge(max_extra_ratio=1.0, minimum_delay=0.0)))

    def patience(route: str) -> float | None:
        steps = Steps(service, route=lambda: route)
        if isinstance(steps.effect, Send):
            steps.cancel()
            return None
        assert isinstance(steps.effect, Start)
        wait = steps.reply()
        steps.cancel()
        return wait.timeout  # type: ignore[union-attr]

    assert patience("GET /fast") is None
    for number in range(40):
        now = number * 1.0
        for route, seconds in (("GET /fast", 0.01), ("GET /slow", 1.0)):
            steps = Steps(service, now=now, route=lambda route=route: route)
            if isinstance(steps.effect, Start):
                send = steps.effect.send
                steps.reply(now=now)
                steps.reply((send, Answer(200)), now=now + seconds)
            else:
                steps.reply(Answer(200), now=now + seconds)
    assert patience("GET /fast") == pytest.approx(0.01, rel=0.11)
    assert patience("GET /slow") == pytest.approx(1.0, rel=0.11)
    assert patience("GET /unknown") == pytest.approx(1.0, rel=0.11)


@pytest.mark.parametrize(
    "fine", [0, 20, 5, 2], ids=lambda every: f"one of {every} is fine" if every else "none is fine"
)
def test_bodies_that_break_count_once_for_each_attempt(fine: int) -> None:
    """Every so-many-th body is read to its end."""
    service = bound(Policy(balancer=RoundRobin(), retry=None), "10.0.0.1:80", "10.0.0.2:80")
    bad = service.members[0]
    for number in range(100):
        now = number / 100
        steps = Steps(service, now=now)
        assert isinstance(steps.effect, Send)
        stats = steps.effect.pick.stats
        steps.reply(Answer(200, is_open=True), now=now)
        assert steps.call.held is not None
        if stats is bad and (not fine or number // 2 % fine):
            steps.call.held.broke(TransportError(), now)
        steps.call.held.release(now)
    assert bad.ejected_until is not None


def test_a_third_of_bodies_that_break_ejects_nobody() -> None:
    service = bound(Policy(balancer=RoundRobin(), retry=None), "10.0.0.1:80", "10.0.0.2:80")
    for number in range(300):
        now = number / 100
        steps = Steps(service, now=now)
        steps.reply(Answer(200, is_open=True), now=now)
        assert steps.call.held is not None
        if number % 6 == 0:
            steps.call.held.broke(TransportError(), now)
        steps.call.held.release(now)
    assert ejected(service) == 0


class TransportError(Exception):
    """Named as httpx's: the classifier goes by names."""
