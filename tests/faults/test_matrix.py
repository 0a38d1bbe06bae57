"""Every fault, met in threads, on asyncio and on trio, by what may be repeated and what may not.

A call ends within its deadline, with a response or a typed error and a report that says why;
no POST arrives twice; afterwards nothing is in flight, open or running.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

import resilient
from resilient.balance.round_robin import RoundRobin
from tests.faults.callers import FLAVOURS, Caller, Request, calling, report_of
from tests.faults.servers import FAULTS, Fault, good

URL = "http://orders/v1"
ATTEMPTS = 3
CALLS = 6
SHORT = resilient.Policy(
    timeout=0.3,
    attempt_timeout=0.08,
    retry=resilient.Retry(attempts=ATTEMPTS, wait=0.0, budget=None),
    balancer=RoundRobin(),
    outlier=None,
)
PATIENT = SHORT.replace(timeout=10.0, attempt_timeout=0.15)
"""Its last attempt waits as long as it takes, so that a busy machine fails no test."""
GENEROUS = 10.0
"""Times the timeout within which a call must have ended."""

pytestmark = pytest.mark.usefixtures("no_leaks")


@pytest.fixture(
    params=[*FLAVOURS, pytest.param("uvloop", marks=pytest.mark.skipif(os.name == "nt", reason="no uvloop"))]
)
def flavour(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture(params=FAULTS)
def fault(request: pytest.FixtureRequest) -> Fault:
    return FAULTS[request.param]


def requests(method: str, url: str) -> list[Request]:
    """Requests that can be told apart at the server."""
    return [
        {"method": method, "url": f"{url}/{number}", "content": f"<{number}>" if method == "POST" else None}
        for number in range(CALLS)
    ]


def mesh_of(servers: list[Any], policy: resilient.Policy) -> resilient.Mesh:
    return resilient.Mesh(
        {"orders": resilient.Service([server.endpoint.address for server in servers], policy)}, max_lag=60.0
    )


def tried(result: Any) -> dict[str, str]:
    """Each endpoint of a call, and how the attempt there ended."""
    return {attempt.endpoint: attempt.reason for attempt in report_of(result).attempts}


def timed(caller: Caller, asked: list[Request], policy: resilient.Policy) -> list[Any]:
    started = time.monotonic()
    results = caller.together(asked)
    assert policy.timeout is not None
    assert time.monotonic() - started < GENEROUS * policy.timeout
    return results


def deliveries(servers: list[Any]) -> Counter[bytes]:
    """How often each POST has reached a server."""
    bodies = [data.partition(b"\r\n\r\n")[2] for server in servers for data in server.requests]
    return Counter(body for body in bodies if body)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_one_bad_endpoint_of_three(flavour, fault, method, stack) -> None:
    servers = [stack.enter_context(place()) for place in (fault.place, good, good)]
    check_one_bad_of_three(flavour, fault, method, servers)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_bad_endpoints_only(flavour, fault, method, stack) -> None:
    servers = [stack.enter_context(fault.place()) for _ in range(2)]
    check_bad_only(flavour, fault, method, servers)


def check_one_bad_of_three(
    flavour: str, fault: Fault, method: str, servers: list[Any], url: str = URL, **options: Any
) -> None:
    """The first of the servers is bad: it costs nothing but what must not be repeated."""
    bad = servers[0]
    with calling(flavour, mesh_of(servers, PATIENT), **options) as caller:
        results = timed(caller, requests(method, url), PATIENT)
    met = [one for one in results if bad.endpoint.address in tried(one)]
    assert met
    for result in results:
        if is_final(result, method, fault):
            assert isinstance(result, fault.error), repr(result)
        else:
            assert isinstance(result, httpx.Response), repr(result)
            assert result.status_code == 200
    assert {tried(one)[bad.endpoint.address] for one in met} <= fault.reasons
    assert max(deliveries(servers).values(), default=1) == 1


def check_bad_only(flavour: str, fault: Fault, method: str, servers: list[Any], url: str = URL, **options: Any) -> None:
    """All are bad: a call ends with what the last one did, or with its deadline."""
    policy = SHORT if fault.is_slow else PATIENT
    with calling(flavour, mesh_of(servers, policy), **options) as caller:
        results = timed(caller, requests(method, url), policy)
    for result in results:
        report = report_of(result)
        assert set(tried(result).values()) <= fault.reasons
        if is_final(result, method, fault):
            assert isinstance(result, fault.error), repr(result)
            assert fault.unsent is None or len(report.attempts) == 1
        elif fault.is_slow:
            assert isinstance(result, resilient.DeadlineExceeded), repr(result)
            assert (len(report.attempts), report.flags) == (ATTEMPTS, ["deadline"])
        else:
            assert isinstance(result, fault.error), repr(result)
            assert (len(report.attempts), report.flags) == (ATTEMPTS, ["retry-limit"])
    assert max(deliveries(servers).values(), default=1) == 1


def is_final(result: Any, method: str, fault: Fault) -> bool:
    """True if the call ended because it might have been processed; it must have, if it might."""
    unsafe = report_of(result).flags == ["retry-unsafe"]
    assert not unsafe or (method == "POST" and not fault.unsent)
    return unsafe
