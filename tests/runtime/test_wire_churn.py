"""Cancellation at random moments must not cost a place in the pool.

httpcore 1.0.9 loses places for good under this load. RESILIENT_CHURN_SECONDS sets how long
each run takes.
"""

from __future__ import annotations

import asyncio
import os
import random

import anyio
import httpx
import pytest

from resilient.binding import HTTPX
from resilient.runtime.wire import AsyncWire, WireSettings
from tests.runtime.servers import Peer, serving
from tests.runtime.wires import ENGINES, request

SECONDS = float(os.environ.get("RESILIENT_CHURN_SECONDS", "1"))
PLACES = 10


async def moody(peer: Peer) -> None:
    """Answers within 2 ms; three times in ten it closes instead of keeping the connection."""
    rng = random.Random(peer.number)
    while True:
        await peer.request()
        await asyncio.sleep(rng.random() * 0.002)
        await peer.respond()
        if rng.random() < 0.3:
            return


async def one(wire: AsyncWire) -> None:
    response = await wire.send(request(), resend=True)
    try:
        await response.aread()
    finally:
        await response.aclose()


async def churn(wire: AsyncWire, tally: dict[str, int]) -> None:
    rng = random.Random(7)

    async def worker() -> None:
        while True:
            # One in five is left alone, so that there are answers however slow the machine is.
            patience = rng.random() * 0.02 if rng.random() < 0.8 else 10.0
            with anyio.move_on_after(patience) as scope:
                try:
                    await one(wire)
                    tally["answered"] += 1
                except httpx.TransportError:
                    tally["failed"] += 1
            tally["cancelled"] += scope.cancelled_caught

    with anyio.move_on_after(SECONDS):
        async with anyio.create_task_group() as tasks:
            for _ in range(40):
                tasks.start_soon(worker)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.anyio
async def test_the_pool_serves_at_full_capacity_after_a_storm_of_cancellations(anyio_backend, engine) -> None:
    tally = {"answered": 0, "failed": 0, "cancelled": 0}
    with serving(moody) as server:
        wire = AsyncWire(server.endpoint, WireSettings(max_connections=PLACES, engine=engine), HTTPX)
        await churn(wire, tally)
        assert min(tally["answered"], tally["cancelled"]) > 20, tally
        assert wire.in_flight == 0
        assert wire._pool.busy == 0
        assert [one for one in wire._pool.connections if not one.is_idle()] == []
        await full_house(wire)
        await wire.aclose()
        assert wire._pool.connections == []


async def full_house(wire: AsyncWire) -> None:
    """As many responses open at once as there are places, and then all are read."""
    with anyio.fail_after(10):
        held = [await wire.send(request(), resend=True) for _ in range(PLACES)]
        for response in held:
            await response.aread()


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_cancelling_bare_asyncio_tasks_does_no_harm_either(no_leaks, engine) -> None:
    """asyncio's own cancel() knows no shields."""

    async def main() -> None:
        with serving(moody) as server:
            wire = AsyncWire(server.endpoint, WireSettings(max_connections=PLACES, engine=engine), HTTPX)
            rng = random.Random(11)
            end = asyncio.get_running_loop().time() + SECONDS

            async def worker() -> None:
                while asyncio.get_running_loop().time() < end:
                    task = asyncio.create_task(one(wire))
                    await asyncio.sleep(rng.random() * 0.02)
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)

            await asyncio.gather(*(worker() for _ in range(40)))
            assert wire.in_flight == 0
            assert wire._pool.busy == 0
            await full_house(wire)
            await wire.aclose()

    asyncio.run(main())
