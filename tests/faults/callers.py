"""One face on Client in threads, and on AsyncClient under asyncio and trio."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import anyio
import httpx
from anyio.from_thread import start_blocking_portal

import resilient
from resilient.core.report import CallReport
from tests.runtime.wires import until

FLAVOURS = ("sync", "asyncio", "trio")

Request = dict[str, Any]
"""The arguments of `client.request`."""


def report_of(result: Any) -> CallReport:
    """The report of a response or of an exception."""
    return result.extensions["resilient"] if isinstance(result, httpx.Response) else result.report


class Threads:
    """A Client; `together` uses a thread for each request."""

    def __init__(self, mesh: resilient.Mesh, options: dict[str, Any]) -> None:
        self.client = resilient.Client(mesh=mesh, **options)

    def call(self, method: str, url: str, **options: Any) -> Any:
        """The response, or the error of httpx; anything else is raised."""
        try:
            return self.client.request(method, url, **options)
        except httpx.HTTPError as error:
            return error

    def together(self, requests: list[Request]) -> list[Any]:
        with ThreadPoolExecutor(len(requests)) as threads:
            return list(threads.map(lambda one: self.call(**one), requests))

    def read_stream(self, url: str, **options: Any) -> Any:
        """The bytes that came, and the error that ended them."""
        found = b""
        with self.client.stream("GET", url, **options) as response:
            try:
                for chunk in response.iter_raw():
                    found += chunk
            except httpx.HTTPError as error:
                return found, error
        return found, None

    @contextmanager
    def holding(self, url: str) -> Iterator[Callable[[], bytes]]:
        """An open response, and the function that reads it."""
        with self.client.stream("GET", url) as response:
            yield response.read

    def close_early(self, url: str) -> None:
        """Close a response after its first bytes."""
        with self.client.stream("GET", url) as response:
            next(response.iter_raw())

    def wires(self) -> list[Any]:
        return list(self.client._transport._carrier._wires.values())

    def close(self) -> None:
        self.client.close()


class Tasks:
    """An AsyncClient in an event loop of its own."""

    def __init__(self, loop: str, mesh: resilient.Mesh, options: dict[str, Any]) -> None:
        backend, how = ("asyncio", {"use_uvloop": True}) if loop == "uvloop" else (loop, None)
        self._manager = start_blocking_portal(backend, how)
        self._portal = self._manager.__enter__()
        self.client = resilient.AsyncClient(mesh=mesh, **options)
        self._tasks_before = self._portal.call(_task_count)

    async def _call(self, method: str, url: str, **options: Any) -> Any:
        try:
            return await self.client.request(method, url, **options)
        except httpx.HTTPError as error:
            return error

    def call(self, method: str, url: str, **options: Any) -> Any:
        """The response, or the error of httpx; anything else is raised."""
        return self._portal.call(lambda: self._call(method, url, **options))

    def together(self, requests: list[Request]) -> list[Any]:
        return self._portal.call(self._together, requests)

    async def _together(self, requests: list[Request]) -> list[Any]:
        found: list[Any] = [None] * len(requests)

        async def one(index: int) -> None:
            found[index] = await self._call(**requests[index])

        async with anyio.create_task_group() as tasks:
            for index in range(len(requests)):
                tasks.start_soon(one, index)
        return found

    async def _read_stream(self, url: str, **options: Any) -> Any:
        found = b""
        async with self.client.stream("GET", url, **options) as response:
            try:
                async for chunk in response.aiter_raw():
                    found += chunk
            except httpx.HTTPError as error:
                return found, error
        return found, None

    def read_stream(self, url: str, **options: Any) -> Any:
        """The bytes that came, and the error that ended them."""
        return self._portal.call(lambda: self._read_stream(url, **options))

    @contextmanager
    def holding(self, url: str) -> Iterator[Callable[[], bytes]]:
        """An open response, and the function that reads it."""
        with self._portal.wrap_async_context_manager(self.client.stream("GET", url)) as response:
            yield lambda: self._portal.call(response.aread)

    async def _close_early(self, url: str) -> None:
        async with self.client.stream("GET", url) as response:
            await anext(response.aiter_raw())

    def close_early(self, url: str) -> None:
        """Close a response after its first bytes."""
        self._portal.call(self._close_early, url)

    def wires(self) -> list[Any]:
        return [wire for home in self.client._transport._carrier._homes.values() for wire in home.wires.values()]

    def close(self) -> None:
        until(lambda: self._portal.call(_task_count) == self._tasks_before)
        self._portal.call(self.client.aclose)
        self._manager.__exit__(None, None, None)


async def _task_count() -> int:
    """Tasks of the running loop, this one included."""
    try:
        return len(asyncio.all_tasks())
    except RuntimeError:
        import trio

        return trio.lowlevel.current_statistics().tasks_living


Caller = Threads | Tasks


def in_flight(mesh: resilient.Mesh) -> int:
    return sum(endpoint["in_flight"] for service in mesh.status().values() for endpoint in service["endpoints"])


@contextmanager
def calling(flavour: str, mesh: resilient.Mesh, **options: Any) -> Iterator[Caller]:
    """A client on the mesh; afterwards nothing may be in flight anywhere."""
    options = {"trust_env": False, **options}
    caller: Caller = Threads(mesh, options) if flavour == "sync" else Tasks(flavour, mesh, options)
    try:
        yield caller
        assert in_flight(mesh) == 0
        for wire in caller.wires():
            assert (wire.in_flight, wire._pool.busy) == (0, 0)
    finally:
        caller.close()
        mesh.close()
