"""One route of a service is broken and the others are fine: no endpoint is ejected for it, with the default policy."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import pytest

import resilient
from tests.faults.callers import FLAVOURS, calling
from tests.runtime.servers import Peer, serving

Failure = Callable[[Peer], Awaitable[None]]


async def answer_500(peer: Peer) -> None:
    await peer.respond(status="500 No")


async def answer_503(peer: Peer) -> None:
    await peer.respond(status="503 No")


async def reset(peer: Peer) -> None:
    peer.reset()


async def hang(peer: Peer) -> None:
    await anyio.sleep(30)


async def truncate(peer: Peer) -> None:
    await peer.respond(length=100)
    peer.reset()


FAILURES = {"500": answer_500, "503": answer_503, "reset": reset, "hang": hang, "truncated": truncate}
POLICY = resilient.Policy(attempt_timeout=0.05)

pytestmark = [
    pytest.mark.usefixtures("no_leaks"),
    pytest.mark.parametrize("flavour", FLAVOURS),
    pytest.mark.parametrize("failure", FAILURES),
]


def ejected(mesh: resilient.Mesh) -> list[str]:
    return [one["address"] for one in mesh.status()["orders"]["endpoints"] if one["ejected_for"] is not None]


@pytest.mark.parametrize("everywhere", [True, False], ids=["everywhere", "on one endpoint"])
def test_no_endpoint_is_ejected_for_a_bad_route(flavour: str, failure: str, everywhere: bool) -> None:
    async def broken(peer: Peer) -> None:
        while True:
            if b"/report" in await peer.request():
                await FAILURES[failure](peer)
            else:
                await peer.respond()

    async def fine(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.respond()

    with serving(broken) as one, serving(broken if everywhere else fine) as two:
        service = resilient.Service([one.endpoint.address, two.endpoint.address], POLICY)
        mesh = resilient.Mesh({"orders": service}, max_lag=60.0)
        with calling(flavour, mesh) as caller:
            for _ in range(20):
                assert caller.call("GET", "http://orders/ping").status_code == 200
            for _ in range(12):
                caller.call("POST", "http://orders/report")
            for number in range(20):
                caller.call(
                    "POST" if number % 2 else "GET", "http://orders/report" if number % 2 else "http://orders/ping"
                )
            assert ejected(mesh) == []


def test_an_endpoint_that_fails_on_all_routes_is_ejected(flavour: str, failure: str) -> None:
    async def broken(peer: Peer) -> None:
        while True:
            await peer.request()
            await FAILURES[failure](peer)

    async def fine(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.respond()

    policy = POLICY.replace(balancer=resilient.RoundRobin())
    with serving(broken) as one, serving(fine) as two, serving(fine) as three:
        service = resilient.Service([server.endpoint.address for server in (one, two, three)], policy)
        mesh = resilient.Mesh({"orders": service}, max_lag=60.0)
        with calling(flavour, mesh) as caller:
            for number in range(30):
                caller.call("POST", f"http://orders/{('a', 'b', 'c', 'd')[number % 4]}")
            assert ejected(mesh) == [one.endpoint.address]
