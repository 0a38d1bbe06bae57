"""Event loops that are closed while calls are under way in them."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import anyio
import httpx
import pytest

from resilient import AsyncClient, Hedge, Limit, Mesh, Policy, Retry, Service
from resilient.core.bound import Bound
from resilient.runtime import ended
from resilient.runtime.lag import Lags
from resilient.testing import VirtualLoop
from tests.runtime.servers import Peer, Server, serving

Call = Callable[[AsyncClient], Coroutine[Any, Any, object]]


async def hang_when_asked(peer: Peer) -> None:
    while True:
        head = await peer.request()
        if b"/hang" in head:
            await anyio.sleep(30)
        elif b"/open" in head:
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nsome")
        else:
            await peer.respond()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(hang_when_asked) as server:
        yield server


@pytest.fixture(autouse=True)
def destroyed_tasks_may_complain() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield
        gc.collect()


async def get(client: AsyncClient) -> None:
    await client.get("http://orders/hang")


async def get_in_a_scope(client: AsyncClient) -> None:
    with anyio.move_on_after(20):
        await get(client)


async def get_in_a_generator(client: AsyncClient) -> None:
    async def generate() -> AsyncIterator[None]:
        await get(client)
        yield

    async for _ in generate():
        pass


async def stream(client: AsyncClient) -> None:
    async with client.stream("GET", "http://orders/open") as response:
        async for _ in response.aiter_raw():
            pass


def call_in_closed_loop(client: AsyncClient, calls: list[Call], until: Callable[[], bool]) -> None:
    """Begin calls in a loop, and close it once they are `until` there."""

    async def begin() -> None:
        tasks.extend(asyncio.ensure_future(call(client)) for call in calls)
        async with asyncio.timeout(10):
            while not until():  # noqa: ASYNC110 - what ends it may happen in the server's thread
                await asyncio.sleep(0.002)

    tasks: list[asyncio.Future[object]] = []
    loop = asyncio.new_event_loop()
    loop.run_until_complete(begin())
    loop.close()


async def call_again(client: AsyncClient) -> None:
    assert (await client.get("http://orders/")).status_code == 200


def in_flight(bound: Bound) -> tuple[int, int, int]:
    assert bound.limit is not None
    return bound.in_flight, bound.limit.in_flight, bound.limit.waiting


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # "Event loop is closed"
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("seconds", [None, 20.0], ids=["no timeout", "a timeout"])
@pytest.mark.parametrize("call", [get, get_in_a_scope, get_in_a_generator, stream])
def test_the_next_call_finds_their_places_free(server: Server, backend: str, seconds: float | None, call: Call) -> None:
    policy = Policy(timeout=seconds, limit=Limit(max_in_flight=2, max_queue=2))
    mesh = Mesh({"orders": Service([str(server.endpoint)], policy)})
    bound = mesh.find("orders", 80)
    client = AsyncClient(mesh=mesh, timeout=seconds)

    def until() -> bool:
        return in_flight(bound) == (2, 2, 2) and len(server.requests) == 2

    call_in_closed_loop(client, [call] * 4, until)
    anyio.run(call_again, client, backend=backend)
    assert in_flight(bound) == (0, 0, 0)


def test_also_those_of_the_client_and_of_hedges(server: Server) -> None:
    policy = Policy(hedge=Hedge(delay=0.01, max_extra_ratio=1.0), limit=Limit(max_in_flight=2, max_queue=1))
    host, port = str(server.endpoint).split(":")
    mesh = Mesh({"orders": Service([f"{host}:{port}", f"localhost:{port}"], policy)}, max_lag=60.0)
    bound = mesh.find("orders", 80)
    client = AsyncClient(mesh=mesh, timeout=20, limits=httpx.Limits(max_connections=2))
    call_in_closed_loop(client, [get], lambda: len(server.requests) == 2)
    assert in_flight(bound) == (2, 1, 0)
    asyncio.run(call_again(client))
    assert in_flight(bound) == (0, 0, 0)
    carrier: Any = client._transport._carrier  # type: ignore[attr-defined]
    assert carrier._cap._limit.in_flight == 0


def test_what_is_ended_is_not_tried_again(server: Server) -> None:
    policy = Policy(retry=Retry(attempts=3), attempt_timeout=5.0, limit=Limit(max_in_flight=1))
    mesh = Mesh({"orders": Service([str(server.endpoint)], policy)})
    client = AsyncClient(mesh=mesh, timeout=20)
    call_in_closed_loop(client, [get_in_a_scope], lambda: len(server.requests) == 1)
    asyncio.run(call_again(client))
    assert [b"/hang" in head for head in server.requests] == [True, False]
    [endpoint] = mesh.find("orders", 80).members
    assert (endpoint.requests, endpoint.failures) == (2, 0)


def test_a_loop_that_goes_on_notices_it_when_it_had_rested() -> None:
    async def enter() -> Any:
        return lags.enter(0.0)

    lags = Lags(0.05, lambda: 0.0)
    one, other = VirtualLoop(), VirtualLoop()
    lag = one.run_until_complete(enter())
    other.run_until_complete(enter())
    other.close()
    lag.in_flight -= 1
    one.run_until_complete(asyncio.sleep(1.0))
    assert set(lags._by_loop) == {one, other}
    one.run_until_complete(enter())
    assert set(lags._by_loop) == {one}
    one.close()


def test_who_keeps_something_for_loops_is_not_kept_alive() -> None:
    before = len(ended._keepers)
    lags = Lags()
    assert len(ended._keepers) == before + 1
    del lags
    assert len(ended._keepers) == before
