"""One Mesh for many clients: of both libraries, in threads, in several event loops."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import pytest
import trio

import resilient
from tests.compat.library import LIBRARIES
from tests.compat.origin import Origin

CALLS = 20


def sync_calls(module: Any, mesh: resilient.Mesh) -> list[int]:
    with module.Client(mesh=mesh) as client:
        return [client.get("http://orders/echo").status_code for _ in range(CALLS)]


async def async_calls(module: Any, mesh: resilient.Mesh) -> list[int]:
    found: list[int] = []

    async def one() -> None:
        found.append((await client.get("http://orders/echo")).status_code)

    async with module.AsyncClient(mesh=mesh) as client, anyio.create_task_group() as tasks:
        for _ in range(CALLS):
            tasks.start_soon(one)
    return found


def test_all_at_once(no_leaks: None) -> None:
    with Origin() as first, Origin() as second, ThreadPoolExecutor(6) as threads:
        addresses = [first.endpoint.address, second.endpoint.address]
        with resilient.Mesh({"orders": resilient.Service(addresses)}) as mesh:
            jobs = []
            for _, module in LIBRARIES.values():
                jobs.append(threads.submit(sync_calls, module, mesh))
                jobs.append(threads.submit(lambda module=module: asyncio.run(async_calls(module, mesh))))
                jobs.append(threads.submit(lambda module=module: trio.run(async_calls, module, mesh)))
            assert [job.result(60) for job in jobs] == [[200] * CALLS] * 6
            status = mesh.status()["orders"]["endpoints"]
            assert [endpoint["in_flight"] for endpoint in status] == [0, 0]
            assert sum(endpoint["requests"] for endpoint in status) == 6 * CALLS
            assert min(endpoint["requests"] for endpoint in status) > 0
        assert len(first.log) + len(second.log) == 6 * CALLS


def test_one_async_client_in_two_loops_at_once(no_leaks: None) -> None:
    client = resilient.AsyncClient()

    async def calls(url: str) -> list[int]:
        responses = [await client.get(url) for _ in range(CALLS)]
        return [response.status_code for response in responses]

    with Origin() as origin, ThreadPoolExecutor(2) as threads:
        in_asyncio = threads.submit(lambda: asyncio.run(calls(origin.url())))
        in_trio = threads.submit(lambda: trio.run(calls, origin.url()))
        assert in_asyncio.result(60) == in_trio.result(60) == [200] * CALLS
        assert len(origin.peers) == 2
    asyncio.run(client.aclose())


def test_what_one_client_learns_the_others_know(no_leaks: None) -> None:
    policy = resilient.Policy(
        retry=None,
        outlier=None,
        breaker=resilient.Breaker(failure_ratio=0.5, minimum_throughput=4, window=10.0, break_duration=60.0),
    )
    with Origin() as origin, resilient.Mesh(policy=policy) as mesh:
        with resilient.Client(mesh=mesh) as client:
            for _ in range(4):
                client.get(origin.url("/status/503"))
        for _, module in LIBRARIES.values():
            with module.Client(mesh=mesh) as other:
                with pytest.raises(resilient.CircuitOpen) as caught:
                    other.get(origin.url())
                assert caught.value.report.flags == ["circuit-open"]
