"""What a request brings with it and what a service refuses or delays, through clients in all flavours."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

import resilient
from resilient.balance.hash_key import HashOn
from tests.faults.callers import FLAVOURS, Caller, calling, report_of
from tests.faults.servers import says
from tests.runtime.servers import Script, Server, serve, serving

URL = "http://orders/v1"
KEYS = [f"customer-{number}" for number in range(12)]

pytestmark = [pytest.mark.usefixtures("no_leaks"), pytest.mark.parametrize("flavour", FLAVOURS)]


def answers(head: bytes) -> Script:
    """Answers every request with this status and these headers."""
    return says(b"HTTP/1.1 " + head + b"\r\nContent-Length: 2\r\n\r\nok")


@contextmanager
def client(flavour: str, servers: list[Server], policy: resilient.Policy) -> Iterator[Caller]:
    service = resilient.Service([server.endpoint.address for server in servers], policy)
    with calling(flavour, resilient.Mesh({"orders": service}, max_lag=60.0)) as caller:
        yield caller


@contextmanager
def fleet(count: int) -> Iterator[list[Server]]:
    with ExitStack() as stack:
        yield [stack.enter_context(serving(serve)) for _ in range(count)]


WAYS: dict[str, tuple[HashOn, Any]] = {
    "header": (HashOn(header="x-customer"), lambda key: {"headers": {"x-customer": key}}),
    "cookie": (HashOn(cookie="customer"), lambda key: {"headers": {"cookie": f"a=b; customer={key}"}}),
    "query": (HashOn(query="customer"), lambda key: {"params": {"customer": key}}),
    "function": (HashOn(function=lambda request: request.read()), lambda key: {"content": key}),
}


def places(caller: Caller, requests: dict[str, dict[str, Any]], calls: int = 3) -> dict[str, set[str]]:
    """The endpoints that the calls with each key have met."""
    found = defaultdict(set)
    for key, options in requests.items():
        for _ in range(calls):
            response = caller.call("PUT", URL, **options)
            assert response.status_code == 200
            found[key] |= {attempt.endpoint for attempt in report_of(response).attempts}
    return dict(found)


@pytest.mark.parametrize("balancer", [resilient.RingHash, resilient.Maglev])
@pytest.mark.parametrize("way", WAYS)
def test_calls_of_one_key_meet_at_one_endpoint_whichever_client_makes_them(flavour, balancer, way) -> None:
    hash_on, bring = WAYS[way]
    policy = resilient.Policy(balancer=balancer(hash_on=hash_on), outlier=None)
    requests = {key: bring(key) for key in KEYS}
    with fleet(3) as servers:
        with client(flavour, servers, policy) as caller:
            found = places(caller, requests)
        with client(flavour, list(reversed(servers)), policy) as another:
            assert places(another, requests, calls=1) == found
    assert all(len(met) == 1 for met in found.values())
    assert len(set.union(*found.values())) > 1


def test_calls_without_a_key_go_anywhere(flavour) -> None:
    policy = resilient.Policy(balancer=resilient.RingHash(hash_on=HashOn(header="x-customer")), outlier=None)
    with fleet(3) as servers, client(flavour, servers, policy) as caller:
        [met] = places(caller, {"": {}}, calls=30).values()
    assert len(met) == 3


def test_a_retry_of_a_hashed_call_goes_to_another_endpoint_and_always_to_the_same(flavour) -> None:
    retry = resilient.Retry(wait=0.0, budget=None)
    policy = resilient.Policy(balancer=resilient.Maglev(hash_on=HashOn(query="c")), retry=retry, outlier=None)
    with ExitStack() as stack:
        servers = [stack.enter_context(serving(answers(b"503 No"))) for _ in range(3)]
        with client(flavour, servers, policy) as caller:
            results = [caller.call("GET", URL, params={"c": "7"}) for _ in range(4)]
    orders = [[attempt.endpoint for attempt in report_of(result).attempts] for result in results]
    assert len(set(orders[0])) == 3
    assert orders == [orders[0]] * 4


def test_a_throttled_call_is_not_sent_and_says_so(flavour) -> None:
    throttle = resilient.Throttle(minimum_per_second=0, max_refusal_ratio=0.99)
    policy = resilient.Policy(throttle=throttle, retry=None, outlier=None)
    with serving(answers(b"429 Enough")) as server, client(flavour, [server], policy) as caller:
        results = [caller.call("GET", URL) for _ in range(60)]
        refused = [result for result in results if isinstance(result, Exception)]
        assert len(refused) > 30
        assert len(server.requests) == 60 - len(refused)
    for error in refused:
        assert isinstance(error, resilient.RateLimited)
        assert (report_of(error).flags, report_of(error).attempts) == (["throttled"], [])


def test_what_the_service_answers_is_not_throttled(flavour) -> None:
    policy = resilient.Policy(throttle=resilient.Throttle(minimum_per_second=0), retry=None, outlier=None)
    with serving(answers(b"500 Broken")) as server, client(flavour, [server], policy) as caller:
        assert [caller.call("GET", URL).status_code for _ in range(30)] == [500] * 30


def test_calls_are_paced_by_what_the_service_says_is_left(flavour) -> None:
    policy = resilient.Policy(pacing=resilient.Pacing(max_delay=0.01))
    told = b'200 OK\r\nRateLimit: "default";r=0;t=60'
    with serving(answers(told)) as server, client(flavour, [server], policy) as caller:
        flags = [report_of(caller.call("GET", URL)).flags for _ in range(3)]
        hasty = caller.call("GET", URL, extensions={"resilient": {"timeout": 0.005}})
    assert flags == [[], ["paced"], ["paced"]]
    assert "paced" not in report_of(hasty).flags  # its turn would come after its deadline


def test_a_retry_after_paces_what_comes_next(flavour) -> None:
    policy = resilient.Policy(pacing=resilient.Pacing(max_delay=0.01), retry=None, outlier=None)
    with serving(answers(b"503 Later\r\nRetry-After: 60")) as server, client(flavour, [server], policy) as caller:
        flags = [report_of(caller.call("POST", URL)).flags for _ in range(2)]
    assert flags == [[], ["paced"]]
