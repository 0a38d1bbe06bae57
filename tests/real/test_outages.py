"""Real servers that freeze and die, and a nameserver that does, under the clients."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

import resilient
from resilient.balance.round_robin import RoundRobin
from tests.faults.callers import FLAVOURS, Caller, calling, report_of
from tests.real.knot import NEGATIVE_TTL, Knot
from tests.real.nginx import Nginx, start_nginx
from tests.real.procs import HOST
from tests.runtime.servers import serving
from tests.runtime.wires import until

URL = "http://orders/v1"
POLICY = resilient.Policy(
    timeout=10.0,
    attempt_timeout=0.2,
    retry=resilient.Retry(attempts=3, wait=0.0, budget=None),
    balancer=RoundRobin(),
    outlier=None,
)
SHORT = POLICY.replace(timeout=0.3, attempt_timeout=0.1)

pytestmark = [pytest.mark.usefixtures("no_leaks"), pytest.mark.parametrize("flavour", FLAVOURS)]


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Nginx, Nginx]]:
    with ExitStack() as stack:
        first, second = (start_nginx(tmp_path / name) for name in ("first", "second"))
        stack.enter_context(first.proc)
        stack.enter_context(second.proc)
        yield first, second


def mesh_of(*servers: Nginx, policy: resilient.Policy = POLICY) -> resilient.Mesh:
    return resilient.Mesh({"orders": resilient.Service([f"{HOST}:{server.port}" for server in servers], policy)})


def many(caller: Caller, method: str, count: int = 12) -> list[httpx.Response | httpx.HTTPError]:
    return caller.together([{"method": method, "url": f"{URL}/{method}-{number}"} for number in range(count)])


def statuses(results: list[httpx.Response | httpx.HTTPError]) -> set[object]:
    return {getattr(result, "status_code", result) for result in results}


def test_a_frozen_server_is_worked_around_and_comes_back(flavour, pair) -> None:
    frozen, _ = pair
    with calling(flavour, mesh_of(*pair)) as caller:
        assert statuses(many(caller, "GET")) == {200}
        frozen.proc.pause()
        assert statuses(many(caller, "GET")) == {200}
        posts = many(caller, "POST")
        lost = [result for result in posts if not isinstance(result, httpx.Response)]
        assert 0 < len(lost) < len(posts)
        assert {tuple(report_of(result).flags) for result in lost} == {("retry-unsafe",)}
        frozen.proc.resume()
        assert statuses(many(caller, "GET")) == {200}
    delivered = Counter(line.split('"')[1] for one in pair for line in one.requests() if '"POST' in line)
    assert max(delivered.values()) == 1
    assert f"POST /v1/POST-{len(posts) - 1} HTTP/1.1" in delivered or lost


def test_frozen_servers_alone_end_every_call_at_its_deadline(flavour, pair) -> None:
    with calling(flavour, mesh_of(*pair, policy=SHORT)) as caller:
        assert statuses(many(caller, "GET")) == {200}
        for server in pair:
            server.proc.pause()
        for result in many(caller, "GET"):
            assert isinstance(result, resilient.DeadlineExceeded), repr(result)
        for result in many(caller, "POST"):
            assert isinstance(result, httpx.ReadTimeout), repr(result)


def test_a_killed_server_is_worked_around(flavour, pair) -> None:
    killed, survivor = pair
    with calling(flavour, mesh_of(*pair)) as caller:
        assert statuses(many(caller, "GET")) == {200}
        killed.proc.kill()
        # Its idle connections are seen to be closed, and nothing listens: nothing was sent to it.
        assert statuses(many(caller, "POST")) == {200}
        assert statuses(many(caller, "GET")) == {200}
    assert Counter(line.split('"')[1].split()[0] for line in survivor.requests())["POST"] == 12


def by_name(knot: Knot) -> resilient.Mesh:
    resolver = resilient.srv("_http._tcp.orders.test", nameservers=[f"{HOST}:{knot.port}"], timeout=0.5)
    return resilient.Mesh({"orders": resilient.Service(resolver, POLICY)}, max_lag=60.0)


def addresses(mesh: resilient.Mesh) -> set[str]:
    return {endpoint["address"] for endpoint in mesh.status()["orders"]["endpoints"]}


def publish(knot: Knot, *ports: int) -> None:
    knot.put("_http._tcp.orders", "SRV", *(f"0 1 {port} ns.test." for port in ports))


@pytest.mark.slow
def test_a_nameserver_that_is_lost_takes_nothing_with_it(flavour, knot) -> None:
    with serving() as first, serving() as second:
        publish(knot, first.endpoint.port)
        with calling(flavour, mesh := by_name(knot)) as caller:
            assert statuses(many(caller, "POST")) == {200}
            knot.proc.pause()
            until(lambda: mesh.status()["orders"]["error"] is not None, patience=60.0)
            assert statuses(many(caller, "POST")) == {200}
            knot.proc.resume()
            publish(knot, second.endpoint.port)
            until(lambda: addresses(mesh) == {second.endpoint.address}, patience=60.0)
            assert statuses(many(caller, "POST")) == {200}
            assert (len(first.requests), len(second.requests)) == (24, 12)


@pytest.mark.slow
def test_a_name_that_comes_and_goes_keeps_its_last_good_set(flavour, knot) -> None:
    with serving() as server:
        publish(knot, server.endpoint.port)
        with calling(flavour, mesh := by_name(knot)) as caller:
            assert statuses(many(caller, "GET")) == {200}
            for _ in range(2):
                knot.remove("_http._tcp.orders")
                until(lambda: mesh.status()["orders"]["error"] is not None, patience=30.0 * NEGATIVE_TTL)
                assert addresses(mesh) == {server.endpoint.address}
                assert statuses(many(caller, "GET")) == {200}
                publish(knot, server.endpoint.port)
                until(lambda: mesh.status()["orders"]["error"] is None, patience=30.0 * NEGATIVE_TTL)


@pytest.mark.slow
def test_a_name_that_never_answers_ends_calls_at_their_deadline(flavour, knot) -> None:
    knot.proc.pause()
    with calling(flavour, by_name(knot)) as caller:
        late = caller.call("GET", URL, extensions={"resilient": {"timeout": 0.2}})
        assert isinstance(late, resilient.DeadlineExceeded), repr(late)
        assert report_of(late).flags == ["resolved", "deadline"]
        unresolved = caller.call("GET", URL)
        assert isinstance(unresolved, resilient.ResolveError), repr(unresolved)
    knot.proc.resume()


@pytest.mark.slow
def test_an_endpoint_that_is_removed_ends_in_peace(flavour, knot) -> None:
    """What is under way on it goes on; nothing new begins there."""
    with serving() as leaving, serving() as staying:
        publish(knot, leaving.endpoint.port)
        with calling(flavour, mesh := by_name(knot)) as caller, caller.holding(URL) as read:
            publish(knot, staying.endpoint.port)
            until(lambda: addresses(mesh) == {staying.endpoint.address}, patience=60.0)
            assert statuses(many(caller, "GET")) == {200}
            assert (len(leaving.requests), len(staying.requests)) == (1, 12)
            assert read() == b"ok"
