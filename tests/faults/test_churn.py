"""Cancellation at random moments, under contention, must not cost a slot of any kind.

There is one at the client's cap on connections, one under the service's limit, one in the
endpoint's pool, and one of each that a body occupies. RESILIENT_CHURN_SECONDS sets how long
each run takes.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager

import anyio
import httpx
import pytest

import resilient
from tests.faults.callers import in_flight
from tests.runtime.servers import Peer, serving

SECONDS = float(os.environ.get("RESILIENT_CHURN_SECONDS", "3"))
WORKERS = 40
PLACES = 10
URL = "http://orders/v1"
POLICY = resilient.Policy(
    attempt_timeout=1.0,
    retry=resilient.Retry(wait=0.001),
    limit=resilient.Limit(max_in_flight=PLACES, max_queue=WORKERS),
    hedge=resilient.Hedge(delay=0.005, max_extra_ratio=1.0),
    outlier=None,
)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_leaks")]


async def moody(peer: Peer) -> None:
    """Answers within 2 ms, with more than is read at once; sometimes fails, and three times in ten closes."""
    rng = random.Random(peer.number)
    while True:
        await peer.request()
        await asyncio.sleep(rng.random() * 0.002)
        await peer.respond(b"x" * 300_000, status="503 No" if rng.random() < 0.1 else "200 OK")
        if rng.random() < 0.3:
            return


@asynccontextmanager
async def crowded() -> AsyncIterator[resilient.AsyncClient]:
    """A client with few places, on three servers."""
    with ExitStack() as stack:
        servers = [stack.enter_context(serving(moody)) for _ in range(3)]
        service = resilient.Service([server.endpoint.address for server in servers], POLICY)
        mesh = stack.enter_context(resilient.Mesh({"orders": service}))
        limits = httpx.Limits(max_connections=PLACES, max_keepalive_connections=PLACES)
        async with resilient.AsyncClient(mesh=mesh, limits=limits, trust_env=False, timeout=10.0) as client:
            yield client


async def one(client: resilient.AsyncClient, rng: random.Random) -> None:
    if rng.random() < 0.3:
        async with client.stream("GET", URL) as response:
            await anyio.sleep(rng.random() * 0.002)
            await response.aread()
    else:
        await client.request(rng.choice(("GET", "POST")), URL, content=b"order")


async def has_every_place(client: resilient.AsyncClient) -> None:
    """Nothing is taken, and as many bodies can be open at once as there are places."""
    bound = client.mesh.snapshot.services["orders"]
    assert (in_flight(client.mesh), bound.limit.in_flight, bound.limit.waiting) == (0, 0, 0)
    carrier = client._transport._carrier
    assert (carrier._cap._limit.in_flight, carrier._cap._limit.waiting) == (0, 0)
    for wire in [wire for home in carrier._homes.values() for wire in home.wires.values()]:
        assert (wire.in_flight, wire._pool.busy) == (0, 0)
        assert [connection for connection in wire._pool.connections if not connection.is_idle()] == []
    with anyio.fail_after(30):
        async with AsyncExitStack() as stack:
            for _ in range(PLACES):
                await stack.enter_async_context(client.stream("GET", URL))
            assert bound.limit.in_flight == PLACES


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_every_place_is_there_after_a_storm_of_cancellations(loop) -> None:
    anyio.run(storm, backend=loop)  # the loop of anyio's plugin keeps a thread


async def storm() -> None:
    tally: Counter[str] = Counter()

    async def worker(client: resilient.AsyncClient, rng: random.Random) -> None:
        while True:
            # One in five is left alone, so that there are answers however slow the machine is.
            patience = rng.random() * 0.03 if rng.random() < 0.8 else 10.0
            with anyio.move_on_after(patience) as scope:
                try:
                    await one(client, rng)
                    tally["answered"] += 1
                except httpx.TransportError as error:
                    tally[type(error).__name__] += 1
            tally["cancelled"] += scope.cancelled_caught

    async with crowded() as client:
        with anyio.move_on_after(SECONDS):
            async with anyio.create_task_group() as tasks:
                for number in range(WORKERS):
                    tasks.start_soon(worker, client, random.Random(number))
        assert min(tally["answered"], tally["cancelled"]) > 20, tally
        await has_every_place(client)


def test_cancelling_bare_asyncio_tasks_does_no_harm_either() -> None:
    """asyncio's own cancel() knows no scopes, and may come twice."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + SECONDS

        async def worker(client: resilient.AsyncClient, rng: random.Random) -> None:
            while loop.time() < end:
                task = asyncio.create_task(one(client, rng))
                await asyncio.sleep(rng.random() * 0.03)
                task.cancel()
                if rng.random() < 0.3:
                    await asyncio.sleep(0)
                    task.cancel()
                await asyncio.gather(task, return_exceptions=True)

        async with crowded() as client:
            await asyncio.gather(*(worker(client, random.Random(number)) for number in range(WORKERS)))
            await has_every_place(client)

    asyncio.run(main())
