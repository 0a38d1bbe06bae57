"""One text for three flavours: a blocking face on Wire, and on AsyncWire under each loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import anyio
import httpx
import pytest
from anyio.from_thread import start_blocking_portal

from resilient.balance.endpoint import Endpoint
from resilient.binding import HTTPX, Binding
from resilient.runtime.wire import AsyncWire, Wire, WireSettings

ENGINES = ("default", "fast")


class Flavour(str):  # noqa: SLOT000 - it gets an attribute
    """How one waits, and what speaks HTTP/1.1 meanwhile."""

    engine: str


def _flavour(waiting: str, engine: str) -> Any:
    flavour = Flavour(waiting)
    flavour.engine = engine
    return pytest.param(flavour, id=waiting if engine == "default" else f"{waiting}-{engine}")


FLAVOURS = [_flavour(waiting, engine) for engine in ENGINES for waiting in ("sync", "asyncio", "trio")]
URL = "http://orders.internal/v1/42"


def request(method: str = "GET", url: str = URL, *, library: Any = httpx, **kwargs: Any) -> Any:
    kwargs.setdefault("extensions", {"timeout": library.Timeout(5.0).as_dict()})
    return library.Request(method, url, **kwargs)


def until(condition: Callable[[], bool], patience: float = 5.0) -> None:
    """Wait for what other threads bring about."""
    give_up = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < give_up, "it did not happen"
        time.sleep(0.001)


class Blocking:
    """Wire, with each response read to its end."""

    def __init__(self, endpoint: Endpoint, settings: WireSettings, binding: Binding) -> None:
        self.wire = Wire(endpoint, settings, binding)

    def send(self, request: Any, *, resend: bool = True) -> Any:
        response = self.wire.send(request, resend=resend)
        try:
            response.read()
        finally:
            response.close()
        return response

    def open(self, request: Any) -> Any:
        """The response, not read."""
        return self.wire.send(request, resend=True)

    def read(self, response: Any) -> bytes:
        return response.read()

    def read_into(self, response: Any, parts: list[bytes]) -> None:
        """Read its body, part by part."""
        try:
            parts.extend(response.iter_raw())
        finally:
            response.close()

    def close_response(self, response: Any) -> None:
        response.close()

    def talk(self, stream: Any, data: bytes, size: int) -> bytes:
        """Write to a network stream, and read `size` bytes."""
        stream.write(data, 5.0)
        found = b""
        while len(found) < size:
            found += stream.read(size - len(found), 5.0)
        return found

    def together(self, requests: list[Any], *, resend: bool = True) -> list[Any]:
        """What each of them gives, response or exception, sent at once."""
        with ThreadPoolExecutor(len(requests)) as threads:
            return list(threads.map(lambda one: outcome(lambda: self.send(one, resend=resend)), requests))

    def close(self) -> None:
        self.wire.close()


def outcome(action: Callable[[], Any]) -> Any:
    try:
        return action()
    except Exception as error:  # noqa: BLE001 - it is the result
        return error


class Portal:
    """AsyncWire in an event loop of its own."""

    def __init__(self, loop: str, endpoint: Endpoint, settings: WireSettings, binding: Binding) -> None:
        self._manager = start_blocking_portal(loop)
        self.portal = self._manager.__enter__()
        self.wire: AsyncWire = self.portal.call(AsyncWire, endpoint, settings, binding)

    async def _send(self, request: Any, resend: bool) -> Any:
        response = await self.wire.send(request, resend=resend)
        try:
            await response.aread()
        finally:
            await response.aclose()
        return response

    def send(self, request: Any, *, resend: bool = True) -> Any:
        return self.portal.call(self._send, request, resend)

    def open(self, request: Any) -> Any:
        return self.portal.call(lambda: self.wire.send(request, resend=True))

    def read(self, response: Any) -> bytes:
        return self.portal.call(response.aread)

    def read_into(self, response: Any, parts: list[bytes]) -> None:
        self.portal.call(self._read_into, response, parts)

    async def _read_into(self, response: Any, parts: list[bytes]) -> None:
        try:
            async for part in response.aiter_raw():
                parts.append(part)  # noqa: PERF401 - what came before an error counts
        finally:
            await response.aclose()

    def close_response(self, response: Any) -> None:
        self.portal.call(response.aclose)

    def talk(self, stream: Any, data: bytes, size: int) -> bytes:
        return self.portal.call(self._talk, stream, data, size)

    async def _talk(self, stream: Any, data: bytes, size: int) -> bytes:
        await stream.write(data, 5.0)
        found = b""
        while len(found) < size:
            found += await stream.read(size - len(found), 5.0)
        return found

    def together(self, requests: list[Any], *, resend: bool = True) -> list[Any]:
        return self.portal.call(self._together, requests, resend)

    async def _together(self, requests: list[Any], resend: bool) -> list[Any]:
        found: list[Any] = [None] * len(requests)

        async def one(index: int) -> None:
            try:
                found[index] = await self._send(requests[index], resend)
            except Exception as error:  # noqa: BLE001 - it is the result
                found[index] = error

        async with anyio.create_task_group() as tasks:
            for index in range(len(requests)):
                tasks.start_soon(one, index)
        return found

    def close(self) -> None:
        self.portal.call(self.wire.aclose)
        self._manager.__exit__(None, None, None)


@contextmanager
def wired(
    flavour: str, endpoint: Endpoint, settings: WireSettings | None = None, binding: Binding = HTTPX
) -> Iterator[Blocking | Portal]:
    """An open wire that must be empty at the end."""
    settings = settings or WireSettings()
    settings = replace(settings, engine=getattr(flavour, "engine", settings.engine))
    if flavour == "sync":
        face: Blocking | Portal = Blocking(endpoint, settings, binding)
    else:
        face = Portal(flavour, endpoint, settings, binding)
    try:
        yield face
        assert face.wire.in_flight == 0
        assert face.wire._pool.busy == 0
    finally:
        face.close()
