"""One text for six worlds: httpx and httpx2, each in threads, on asyncio and on trio.

A scenario is a function of a Face. It is played with the library's own client and with ours,
in the same situation, and must tell the same of both.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import cache, partial
from typing import Any

import anyio
import httpx
import httpx2
import pytest
from anyio.from_thread import start_blocking_portal

import resilient
import resilient.httpx2

LIBRARIES = {"httpx": (httpx, resilient), "httpx2": (httpx2, resilient.httpx2)}
FLAVOURS = ("sync", "asyncio", "trio")
WORLDS = [(library, flavour) for library in LIBRARIES for flavour in FLAVOURS]
ONLY_HTTPX = pytest.mark.parametrize("world", [world for world in WORLDS if world[0] == "httpx"], indirect=True)
ONLY_HTTPX2 = pytest.mark.parametrize("world", [world for world in WORLDS if world[0] == "httpx2"], indirect=True)

abandons_generators = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
"""trio tells of the asynchronous generators that httpx leaves behind, when a body is not read to its end."""


class World:
    """A library and a way to wait."""

    def __init__(self, library: str, flavour: str, stack: ExitStack) -> None:
        self.library: Any = LIBRARIES[library][0]
        self.resilient: Any = LIBRARIES[library][1]
        self.flavour = flavour
        self.is_async = flavour != "sync"
        self._stack = stack
        self._portal = stack.enter_context(start_blocking_portal(flavour)) if self.is_async else None

    def kind(self, module: Any, name: str) -> Any:
        """The class of the module for this flavour: Client or AsyncClient, and so on."""
        return getattr(module, f"Async{name}" if self.is_async else name)

    def run(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Call it, in the event loop if there is one, and wait for what it returns."""
        if self._portal is None:
            return function(*args, **options)
        return self._portal.call(_settled, partial(function, *args, **options))

    def plain(self, **options: Any) -> Face:
        """The library's own client."""
        if not options.keys() & {"verify", "cert", "transport"}:
            options["verify"] = trusting(self.library)  # a context takes longer to make than all the rest
        return self.client(self.library, **options)

    def ours(self, **options: Any) -> Face:
        """Our client on the library."""
        return self.client(self.resilient, **options)

    def client(self, module: Any, **options: Any) -> Face:
        """The client of a module, for this flavour; it is closed with the world."""
        face = Face(self, self.kind(module, "Client")(**options))
        self._stack.callback(face.close)
        return face

    def same(self, scenario: Callable[[Face], Any], **options: Any) -> Any:
        """What the scenario gives with our client, after a look that plain gives the same.

        An option may be a function of no arguments, where the clients may not share its value.
        """
        plain, ours = (
            outcome(lambda make=make: self._play(scenario, make, options), self.library)
            for make in (self.plain, self.ours)
        )
        assert ours == plain
        return ours

    def resilient_mesh(self, *args: Any, **options: Any) -> resilient.Mesh:
        """A Mesh, to look inside."""
        return resilient.Mesh(*args, **options)

    def _play(self, scenario: Callable[[Face], Any], make: Callable[..., Face], options: dict[str, Any]) -> Any:
        face = make(**_fresh(options))
        try:
            return scenario(face)
        finally:
            face.close()

    def function(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A hook or a handler, as the clients of this flavour want it."""
        if not self.is_async:
            return function

        async def later(*args: Any) -> Any:
            await anyio.lowlevel.checkpoint()
            return function(*args)

        return later

    def body(self, chunks: Iterable[bytes]) -> Any:
        """A request or response body that can be read once."""
        if not self.is_async:
            return (chunk for chunk in chunks)
        return _async_body(chunks)

    def stream(self, chunks: Iterable[bytes], *, error: Exception | None = None) -> Any:
        """A response stream of the library that may break at its end."""
        base = self.library.AsyncByteStream if self.is_async else self.library.SyncByteStream
        return type("Stream", (_AsyncStream if self.is_async else _Stream, base), {})(chunks, error)

    def mock(self, handler: Callable[[Any], Any]) -> Any:
        """A MockTransport."""
        return self.library.MockTransport(self.function(handler))


@cache
def trusting(library: Any) -> ssl.SSLContext:
    """The library's default TLS context."""
    return library.create_ssl_context()


class Face:
    """A client, spoken to without `await`; what is not a method is the client's own."""

    def __init__(self, world: World, client: Any) -> None:
        self.world = world
        self.client = client

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.client, name)
        return partial(self.world.run, value) if callable(value) else value

    def close(self) -> None:
        self.world.run(self.client.aclose if self.world.is_async else self.client.close)

    def read(self, response: Any) -> bytes:
        return self.world.run(response.aread if self.world.is_async else response.read)

    def close_response(self, response: Any) -> None:
        self.world.run(response.aclose if self.world.is_async else response.close)

    def stream(self, method: str, url: str, read: str = "bytes", **options: Any) -> tuple[Any, list[Any]]:
        """A streamed response after its end, and what `iter_{read}` gave."""
        function = _stream_async if self.world.is_async else _stream
        return self.world.run(function, self.client, method, url, read, options)

    def inside(self, action: Callable[[], Any]) -> Any:
        """What the action gives within `with client:`."""
        self.world.run(self.client.__aenter__ if self.world.is_async else self.client.__enter__)
        try:
            return action()
        finally:
            leave = self.client.__aexit__ if self.world.is_async else self.client.__exit__
            self.world.run(leave, None, None, None)


class _Stream:
    def __init__(self, chunks: Iterable[bytes], error: Exception | None) -> None:
        self._chunks = chunks
        self._error = error
        self.closed = False

    def __iter__(self) -> Any:
        yield from self._chunks
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        self.closed = True


class _AsyncStream(_Stream):
    async def __aiter__(self) -> Any:
        for chunk in _Stream.__iter__(self):
            yield chunk

    async def aclose(self) -> None:
        self.closed = True


async def _settled(function: Callable[[], Any]) -> Any:
    value = function()
    return await value if hasattr(value, "__await__") else value


async def _async_body(chunks: Iterable[bytes]) -> Any:
    for chunk in chunks:
        await anyio.lowlevel.checkpoint()
        yield chunk


def _stream(client: Any, method: str, url: str, read: str, options: dict[str, Any]) -> tuple[Any, list[Any]]:
    with client.stream(method, url, **options) as response:
        return response, list(getattr(response, f"iter_{read}")())


async def _stream_async(
    client: Any, method: str, url: str, read: str, options: dict[str, Any]
) -> tuple[Any, list[Any]]:
    async with client.stream(method, url, **options) as response:
        return response, [item async for item in getattr(response, f"aiter_{read}")()]


def _fresh(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value() if isinstance(value, Fresh) else value for name, value in options.items()}


class Fresh(partial[Any]):
    """An option that is made anew for each client."""


def outcome(action: Callable[[], Any], library: Any) -> Any:
    """What an action gives: a value, or its exception as plain data."""
    try:
        return action()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is compared
        return failure(error, library)


def failure(error: BaseException, library: Any) -> tuple[str, str | None]:
    """An exception as callers catch it: the library's own class, and the request in it."""
    name = next(
        (base.__name__ for base in type(error).__mro__ if base.__module__ == library.__name__), type(error).__name__
    )
    request = getattr(error, "_request", None)
    return name, None if request is None else f"{request.method} {request.url}"


def told(response: Any) -> dict[str, Any]:
    """All that a response tells, but for the time of day."""
    return {
        "status": (response.status_code, response.reason_phrase, response.http_version),
        "headers": [item for item in response.headers.multi_items() if item[0] != "date"],
        "url": str(response.url),
        "request": asked(response.request),
        "body": response.content,
        "text": (response.encoding, response.text),
        "cookies": dict(response.cookies),
        "history": [(past.status_code, str(past.url), past.content) for past in response.history],
        "next": response.next_request and asked(response.next_request),
        "state": (response.is_closed, response.is_stream_consumed, response.num_bytes_downloaded),
        "elapsed": hasattr(response, "_elapsed"),  # never set where a mock gives the body as a whole
    }


def asked(request: Any) -> tuple[Any, ...]:
    """What a request says."""
    return request.method, str(request.url), request.headers.multi_items()
