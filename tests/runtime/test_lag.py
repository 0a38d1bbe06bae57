"""The lag of event loops, measured by their own timers in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import anyio
import anyio.lowlevel
import httpx
import pytest
import trio
import trio.testing

from resilient import AsyncClient, Mesh, OutlierDetection, Policy, Service, static
from resilient.core.lag import TICK
from resilient.runtime.lag import Lags
from resilient.testing import VirtualLoop


@dataclass
class World:
    """The time of a virtual loop, and how to block it."""

    clock: Callable[[], float]
    block: Callable[[float], None]


Scenario = Callable[[World], Awaitable[Any]]


def run_in_asyncio(scenario: Scenario) -> Any:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        loop: Any = runner.get_loop()

        def block(seconds: float) -> None:
            loop._jumping.now += seconds

        return runner.run(scenario(World(loop.time, block)))  # type: ignore[arg-type]


def run_in_trio(scenario: Scenario) -> Any:
    clock = trio.testing.MockClock(autojump_threshold=0)
    return trio.run(scenario, World(trio.current_time, clock.jump), clock=clock)


@pytest.fixture(params=[run_in_asyncio, run_in_trio], ids=["asyncio", "trio"])
def run(request: pytest.FixtureRequest) -> Callable[[Scenario], Any]:
    return request.param  # type: ignore[no-any-return]


def test_a_blocked_loop_is_late_and_one_that_waits_is_not(run: Callable[[Scenario], Any]) -> None:
    async def scenario(world: World) -> tuple[float, float]:
        lags = Lags(0.05, world.clock)
        lag = lags.enter(world.clock())
        await anyio.sleep(1.0)
        waited = lags.seconds(world.clock())
        world.block(0.3)
        await anyio.lowlevel.checkpoint()
        blocked = lags.seconds(world.clock())
        lag.in_flight -= 1
        return waited, blocked

    waited, blocked = run(scenario)
    assert waited == 0.0
    assert 0.3 - TICK <= blocked <= 0.3


def test_without_calls_there_is_no_timer(run: Callable[[Scenario], Any]) -> None:
    async def scenario(world: World) -> tuple[bool, bool, float]:
        lags = Lags(0.05, world.clock)
        lag = lags.enter(world.clock())
        began = lag.ticking
        lag.in_flight -= 1
        await anyio.sleep(2 * TICK)
        world.block(9.0)
        return began, lag.ticking, lags.seconds(world.clock())

    assert run(scenario) == (True, False, 0.0)


def test_time_between_two_runs_of_a_loop_is_no_lag() -> None:
    lags = Lags(0.05)
    loop = VirtualLoop()
    lags._clock = loop.time

    async def call() -> float:
        lag = lags.enter(loop.time())
        await asyncio.sleep(0)
        lag.in_flight -= 1
        return lag.seconds(loop.time())

    loop.run_until_complete(call())
    loop._jumping.now += 60.0
    assert loop.run_until_complete(call()) == 0.0
    loop.close()


def test_each_loop_has_its_own() -> None:
    lags = Lags()

    async def call() -> Any:
        lag = lags.enter(0.0)
        lag.in_flight -= 1
        return lag

    first = asyncio.run(call())
    second = asyncio.run(call())
    third = trio.run(call)
    assert len({id(first), id(second), id(third)}) == 3
    assert len(lags._by_loop) == 1  # ended loops are forgotten


def test_loops_that_run_at_the_same_time_keep_apart() -> None:
    lags = Lags()

    async def call() -> Any:
        return lags.enter(0.0)

    async def calls() -> list[Any]:
        mine = [await call()]
        other = await asyncio.to_thread(asyncio.run, call())
        return [*mine, await call(), other]

    first, again, other = asyncio.run(calls())
    assert first is again is not other
    assert (first.in_flight, other.in_flight) == (2, 1)
    assert {first.loop, other.loop} == set(lags._by_loop)


@pytest.mark.parametrize(("max_lag", "blames"), [(0.05, False), (1000.0, True)])
def test_a_blocked_loop_does_not_get_healthy_endpoints_ejected(
    run: Callable[[Scenario], Any], max_lag: float, blames: bool
) -> None:
    """Something else of the program blocks the loop again and again, longer than attempts may take."""

    async def answer(request: httpx.Request) -> httpx.Response:
        await anyio.sleep(0.02)
        await anyio.sleep(0.02)  # the time for this one is over when the loop goes on
        return httpx.Response(200, request=request)

    async def scenario(world: World) -> tuple[int, list[str]]:
        policy = Policy(attempt_timeout=0.05, retry=None, outlier=OutlierDetection(consecutive_failures=2))
        service = Service(resolver=static([f"10.0.0.{n}:80" for n in range(1, 6)]))
        mesh = Mesh({"orders": service}, policy=policy, max_lag=max_lag, seed=1, clock=world.clock)
        flags: list[str] = []

        async def call() -> None:
            try:
                response = await client.get("http://orders/")
            except httpx.TimeoutException as error:
                flags.extend(error.report.flags)  # type: ignore[attr-defined]
            else:
                flags.extend(response.extensions["resilient"].flags)

        async with AsyncClient(mesh=mesh, transport=httpx.MockTransport(answer)) as client:
            await call()  # what is usual must be known
            for _ in range(10):
                async with anyio.create_task_group() as group:
                    for _ in range(10):
                        group.start_soon(call)
                    await anyio.sleep(0.01)
                    world.block(0.3)
                    assert mesh.lag >= 0.2
                    assert mesh.status()["orders"]["lag"] >= 0.2
            endpoints = mesh.status()["orders"]["endpoints"]
        mesh.close()
        return sum(endpoint["ejected_for"] is not None for endpoint in endpoints), flags

    ejected, flags = run(scenario)
    assert (ejected > 0) is blames
    assert ("lag" in flags) is not blames
