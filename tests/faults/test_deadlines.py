"""Where a call may have to wait, and that it waits no longer than its caller."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

import resilient
from tests.faults.callers import FLAVOURS, calling, report_of
from tests.faults.servers import LONG, deaf, drips_the_body, hangs, resets_in_the_body, truncates
from tests.runtime.servers import Peer, serving
from tests.runtime.wires import until

URL = "http://orders/v1"
POLICY = resilient.Policy(timeout=30.0, retry=None, outlier=None)
LARGE = b"x" * 2**24  # more than the buffers of the kernel hold

pytestmark = [pytest.mark.usefixtures("no_leaks"), pytest.mark.parametrize("flavour", FLAVOURS)]


def mesh_of(server: Any, policy: resilient.Policy = POLICY) -> resilient.Mesh:
    return resilient.Mesh({"orders": resilient.Service([server.endpoint.address], policy)}, max_lag=60.0)


def within(seconds: float) -> dict[str, Any]:
    return {"resilient": {"timeout": seconds}}


QUEUES = {
    "of-the-client": ({"limits": httpx.Limits(max_connections=1, max_keepalive_connections=1)}, POLICY),
    "of-the-service": ({}, POLICY.replace(limit=resilient.Limit(max_in_flight=1, queue_timeout=60.0))),
}


@pytest.mark.parametrize(("options", "policy"), QUEUES.values(), ids=QUEUES)
def test_in_a_queue(flavour, options, policy) -> None:
    """Another call has the only place for as long as it likes."""
    answer = asyncio.Event()

    async def on_demand(peer: Peer) -> None:
        await peer.request()
        await answer.wait()
        await peer.respond()

    with (
        serving(on_demand) as server,
        calling(flavour, mesh_of(server, policy), timeout=None, **options) as caller,
        ThreadPoolExecutor(1) as threads,
    ):
        first = threads.submit(caller.call, "GET", URL)
        until(lambda: len(server.requests) == 1)
        late = caller.call("POST", URL, extensions=within(0.2))
        assert isinstance(late, resilient.DeadlineExceeded), repr(late)
        assert not first.done()
        server.on_loop(answer.set)
        assert first.result().status_code == 200
        assert len(server.requests) == 1


def test_with_a_peer_that_takes_no_more_of_the_body(flavour) -> None:
    with deaf() as server, calling(flavour, mesh_of(server), timeout=None) as caller:
        late = caller.call("POST", URL, content=LARGE, extensions=within(0.2))
        assert isinstance(late, resilient.DeadlineExceeded), repr(late)


@pytest.mark.parametrize("script", [hangs, drips_the_body])
def test_around_the_call(flavour, script) -> None:
    """The deadline of the surrounding code, crossing into the task or thread of the call."""
    with serving(script) as server, calling(flavour, mesh_of(server), timeout=None) as caller:
        with resilient.deadline(0.2):
            late = caller.call("GET", URL)
        assert isinstance(late, resilient.DeadlineExceeded), repr(late)
        assert report_of(late).flags == ["deadline"]


def test_while_a_streamed_body_drips(flavour) -> None:
    with serving(drips_the_body) as server, calling(flavour, mesh_of(server), timeout=None) as caller:
        found, error = caller.read_stream(URL, extensions=within(1.0))
        assert found
        assert isinstance(error, resilient.DeadlineExceeded), repr(error)


@pytest.mark.parametrize("script", [resets_in_the_body, truncates])
def test_a_streamed_body_that_breaks_is_an_error_of_httpx(flavour, script) -> None:
    with serving(script) as server, calling(flavour, mesh := mesh_of(server)) as caller:
        found, error = caller.read_stream(URL)
        assert found in (b"abc", b"")
        assert isinstance(error, httpx.TransportError), repr(error)
        (endpoint,) = mesh.status()["orders"]["endpoints"]
        assert endpoint["failures"] == 1


def test_attempts_are_not_cut_by_what_others_may_take(flavour) -> None:
    """Each of many calls has a deadline of its own; those that have time are answered."""

    async def slow(peer: Peer) -> None:
        while True:
            request = await peer.request()
            await asyncio.sleep(LONG if b"/never" in request else 0.3)
            await peer.respond()

    with serving(slow) as server, calling(flavour, mesh_of(server), timeout=None) as caller:
        never = [{"method": "GET", "url": f"{URL}/never", "extensions": within(0.2)} for _ in range(6)]
        late = [{"method": "GET", "url": URL, "extensions": within(20.0)} for _ in range(6)]
        results = caller.together([*never, *late])
        assert all(isinstance(result, resilient.DeadlineExceeded) for result in results[:6])
        assert [result.status_code for result in results[6:]] == [200] * 6
