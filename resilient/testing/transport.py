"""Fake endpoints behind a real client: a transport of httpx that plays what they do."""

from __future__ import annotations

import inspect
import math
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from types import ModuleType
from typing import Any

import anyio
import httpx

from resilient.core.route import route_group
from resilient.testing.async_clock import AsyncVirtualClock
from resilient.testing.attempts import deadline_of_attempt, read_timeout
from resilient.testing.behaviour import FakeResponse
from resilient.testing.clock import VirtualClock
from resilient.testing.fakes import FakeEndpoint, RemoteProtocolError
from resilient.testing.streams import cut_stream

_NEVER = float("inf")


class FakeTransport(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Plays fake endpoints under a Client or an AsyncClient, in virtual time.

        clock = VirtualClock()  # for an AsyncClient: AsyncVirtualClock()
        endpoints = fleet(3)
        mesh = resilient.Mesh({"orders": resilient.Service([each.endpoint for each in endpoints])}, clock=clock)
        client = resilient.Client(mesh=mesh, transport=FakeTransport(endpoints, clock))

    A request goes to the fake endpoint of its address; where there is none, nobody listens
    (`ConnectError`). Scripts go by `clock`, and so do latencies and timeouts. `handler`: a
    function of the request that makes the answers, but for those to which a Behaviour gives
    another status than 200; it may be `async def` under an AsyncClient. Default: empty ones.
    The routes of scripts are here such as `GET /v1/orders/*`: the method, and the path with a
    `*` for what looks like an identifier. `seed`: the same one gives the same latencies and
    failures.
    """

    def __init__(
        self,
        endpoints: Sequence[FakeEndpoint],
        clock: Callable[[], float],
        handler: Callable[[httpx.Request], Any] | None = None,
        *,
        seed: int = 0,
    ) -> None:
        self.endpoints = list(endpoints)
        self.clock = clock
        self._handler = handler
        self._rng = Random(seed)
        self._lock = threading.Lock()
        self._sleep: Callable[[float], None] = getattr(clock, "sleep", time.sleep)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Play one request, in the calling thread."""
        if isinstance(self.clock, AsyncVirtualClock):
            raise TypeError("FakeTransport needs a VirtualClock under a Client")
        patience = read_timeout(request)
        when, answer = self._answer(request)
        if not _refuses(answer):
            request.read()
        self._wait(request, when, patience)
        if isinstance(answer, Exception):
            raise _as_library_error(answer, request)
        response = self._response(request, answer)
        if inspect.iscoroutine(response):
            response.close()
            raise TypeError("the handler of FakeTransport is async, and the client is not")
        if answer.fault:
            response.read()
            response = self._cut(request, response, answer.fault, patience)
        response.headers.update(answer.headers)
        return response  # type: ignore[no-any-return]

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Play one request, in the calling task."""
        if isinstance(self.clock, VirtualClock):
            raise TypeError("FakeTransport needs an AsyncVirtualClock under an AsyncClient")
        if isinstance(self.clock, AsyncVirtualClock) and self.clock() != anyio.current_time():
            raise RuntimeError("this event loop does not go by the clock: begin it with AsyncVirtualClock.run")
        patience = read_timeout(request)
        when, answer = self._answer(request)
        if not _refuses(answer):
            await request.aread()
        await self._wait_in_task(request, when, patience)
        if isinstance(answer, Exception):
            raise _as_library_error(answer, request)
        response = self._response(request, answer)
        if inspect.isawaitable(response):
            response = await response
        if answer.fault:
            await response.aread()
            response = self._cut(request, response, answer.fault, patience)
        response.headers.update(answer.headers)
        return response  # type: ignore[no-any-return]

    def _answer(self, request: httpx.Request) -> tuple[float, FakeResponse | Exception]:
        endpoint = self._find(request)
        if endpoint is None:
            known = ", ".join(each.address for each in self.endpoints)
            address = _address(request)
            return self.clock(), _library(request).ConnectError(f"no fake endpoint {address}; there are {known}")
        with self._lock:
            return endpoint.answer(self.clock(), self._rng, route_group(request.method, request.url.path))

    def _find(self, request: httpx.Request) -> FakeEndpoint | None:
        address = _address(request)
        is_it = (each for each in self.endpoints if address in (each.address, each.endpoint.address))
        return next(is_it, None)

    def _response(self, request: httpx.Request, answer: FakeResponse) -> Any:
        if self._handler is not None and answer.status_code == 200:
            return self._handler(request)
        return _library(request).Response(answer.status_code, headers=answer.headers)

    def _cut(
        self, request: httpx.Request, response: httpx.Response, fault: str, patience: float | None
    ) -> httpx.Response:
        """The response with half of its body, and then the fault."""
        library = _library(request)
        half = response.content[: len(response.content) // 2]
        if fault == "breaks":
            stream = cut_stream(library, half, partial(_break, request), partial(_break_in_task, request))
        else:
            stream = cut_stream(
                library,
                half,
                partial(self._wait, request, _NEVER, patience),
                partial(self._wait_in_task, request, _NEVER, patience),
            )
        return library.Response(response.status_code, headers=response.headers, stream=stream)  # type: ignore[no-any-return]

    def _wait(self, request: httpx.Request, when: float, patience: float | None) -> None:
        """Wait until then, at most `patience` seconds; raises what a socket would."""
        now = self.clock()
        deadline = deadline_of_attempt()
        end = _NEVER if patience is None else now + patience
        if deadline is not None:
            end = min(end, deadline)
        if end == when == _NEVER:
            raise RuntimeError(f"{request.method} {request.url} would hang for ever: give the call a timeout")
        _sleep_until(min(when, end), self.clock, self._sleep)
        if when <= end:
            return
        if end == deadline:
            raise TimeoutError("the deadline of the attempt has passed")
        raise _library(request).ReadTimeout("no answer in time", request=request)

    async def _wait_in_task(self, request: httpx.Request, when: float, patience: float | None) -> None:
        now = self.clock()
        end = _NEVER if patience is None else now + patience
        if end == when == _NEVER:
            await anyio.sleep(600.0)  # somebody may yet cancel it
            raise RuntimeError(f"{request.method} {request.url} would hang for ever: give the call a timeout")
        await anyio.sleep(min(when, end) - now)
        if when > end:
            raise _library(request).ReadTimeout("no answer in time", request=request)


def _address(request: httpx.Request) -> str:
    """Where the request goes: to the endpoint that was picked, or to the host of its URL."""
    picked: str | None = request.extensions.get("resilient.endpoint")
    if picked is not None:
        return picked
    url = request.url
    host = f"[{url.host}]" if ":" in url.host else url.host
    return f"{host}:{url.port or (443 if url.scheme in ('https', 'wss') else 80)}"


def _refuses(answer: FakeResponse | Exception) -> bool:
    """True if there was no connection, over which the body of the request could have gone."""
    return type(answer).__name__ == "ConnectError"


def _library(request: httpx.Request) -> ModuleType:
    """Whose classes the caller expects: httpx's, or httpx2's."""
    return httpx if isinstance(request, httpx.Request) else sys.modules["httpx2"]


def _break(request: httpx.Request) -> None:
    raise _as_library_error(RemoteProtocolError("the peer closed the connection in mid-body"), request)


async def _break_in_task(request: httpx.Request) -> None:
    _break(request)


def _as_library_error(error: Exception, request: httpx.Request) -> Exception:
    kind: type[Exception] = getattr(_library(request), type(error).__name__)
    return kind(str(error), request=request)  # type: ignore[call-arg]


def _sleep_until(when: float, clock: Callable[[], float], sleep: Callable[[float], None]) -> None:
    now = clock()
    seconds = max(0.0, when - now)
    while now + seconds < when:  # by rounding: a deadline has passed or not
        seconds = math.nextafter(seconds, _NEVER)
    sleep(seconds)
