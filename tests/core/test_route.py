"""Which requests are about the same."""

from __future__ import annotations

import pytest

from resilient import OutlierDetection, Policy, RoundRobin
from resilient.core.route import route_group
from tests.core.steps import Answer, Steps, bound


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
