"""The body of a response on the wire, as a stream of the caller's HTTP library."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

from resilient.binding import Binding
from resilient.runtime.wire.deadline import AttemptOver

if TYPE_CHECKING:
    from resilient.runtime.wire.exchange import Exchange
    from resilient.runtime.wire.wire import AsyncWire, Wire


class Body:
    """A blocking body. It occupies its connection until it is closed.

    It is its own iterator, so that it can keep those beneath from the collector.
    """

    __slots__ = ("_exchange", "_open", "_parts", "_stream", "_wire")

    def __init__(self, wire: Wire, exchange: Exchange, stream: Any) -> None:
        self._wire = wire
        self._exchange = exchange
        self._stream = stream
        self._parts: Any = None
        self._open = True

    def __iter__(self) -> Iterator[bytes]:
        if self._parts is None:
            self._parts = iter(self._stream)
        return self

    def __next__(self) -> bytes:
        try:
            return next(self._parts)  # type: ignore[no-any-return]
        except StopIteration:
            raise
        except (Exception, AttemptOver) as error:
            raise self._wire.fault(error, self._exchange) from error

    def __del__(self) -> None:
        if self._open:
            self._wire.lose(self._stream, self._parts)

    def close(self) -> None:
        """Give the connection back, or close it if the body was not read to its end."""
        if self._open:
            self._open = False
            try:
                self._stream.close()
            finally:
                self._wire.end()


class AsyncBody:
    """An asynchronous body. It occupies its connection until it is closed.

    It is its own iterator, so that closing it also ends the generators beneath.
    """

    __slots__ = ("_exchange", "_open", "_parts", "_stream", "_wire")

    def __init__(self, wire: AsyncWire, exchange: Exchange, stream: Any) -> None:
        self._wire = wire
        self._exchange = exchange
        self._stream = stream
        self._parts: Any = None
        self._open = True

    def __aiter__(self) -> AsyncIterator[bytes]:
        if self._parts is None:
            self._parts = self._stream.__aiter__()
        return self

    async def __anext__(self) -> bytes:
        try:
            return await self._parts.__anext__()  # type: ignore[no-any-return]
        except StopAsyncIteration:
            raise
        except Exception as error:
            raise self._wire.fault(error, self._exchange) from error

    async def aclose(self) -> None:
        """Give the connection back, or close it if the body was not read to its end."""
        if self._open:
            self._open = False
            try:
                await self._stream.aclose()
            finally:
                self._wire.end()
                # Also when cancelled: the collector would close it in whatever loop it runs.
                if self._parts is not None and not getattr(self._parts, "ag_running", False):
                    await self._parts.aclose()

    def __del__(self) -> None:
        if self._open:
            self._wire.lose(self._stream, self._parts)


class LoadedBody:
    """A body that has been read: raw chunks, ready to be decoded."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self.chunks = chunks

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.chunks)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self.chunks:
            yield chunk

    def close(self) -> None:
        """Nothing is open."""

    async def aclose(self) -> None:
        """Nothing is open."""


@cache
def loaded_body_type(binding: Binding) -> type[LoadedBody]:
    """LoadedBody as a stream of the binding's library, sync and async."""
    return type("LoadedBody", (LoadedBody, binding.SyncByteStream, binding.AsyncByteStream), {})


@cache
def body_type(binding: Binding) -> type[Body]:
    """Body as a SyncByteStream of the binding's library."""
    return type("Body", (Body, binding.SyncByteStream), {})


@cache
def async_body_type(binding: Binding) -> type[AsyncBody]:
    """AsyncBody as an AsyncByteStream of the binding's library."""
    return type("AsyncBody", (AsyncBody, binding.AsyncByteStream), {})
