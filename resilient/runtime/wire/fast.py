"""Connections of HTTP/1.1 that leave the parsing to llhttp: `WireSettings(engine="fast")`.

They stand where httpcore's stand, on the same streams; so address, TLS, timeouts, trio and
Unix sockets are not their business. httpcore keeps HTTP/2, and what is not `exchange.is_plain`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from time import monotonic
from typing import Any

import httpcore2

from resilient.runtime.wire.async_link import shielded
from resilient.runtime.wire.exchange import Exchange, is_whole
from resilient.runtime.wire.http1 import Answers, Framing, Headers

_READ = 64 * 1024
_ONE_WRITE = 64 * 1024  # bytes of a body that are worth copying to save a packet


class Reply:
    """A response; as httpcore's, but its parts are not looked at again."""

    __slots__ = ("extensions", "headers", "status", "stream")

    def __init__(self, status: int, headers: Headers, stream: Any, extensions: dict[str, Any]) -> None:
        self.status = status
        self.headers = headers
        self.stream = stream
        self.extensions = extensions


class _Conversation:
    """The state of a connection: new, busy, idle or closed."""

    def __init__(self, origin: httpcore2.Origin, stream: Any, keepalive_expiry: float | None) -> None:
        self._origin = origin
        self._stream = stream
        self._keepalive_expiry = keepalive_expiry
        self._expires = float("inf")
        self._answers = Answers()
        self._sent = False
        self._new = True
        self._idle = False
        self._closed = False

    def _begin(self, exchange: Exchange) -> None:
        if not (self._new or self._idle):
            raise httpcore2.ConnectionNotAvailable
        self._new = self._idle = self._sent = False
        self._answers.expect(exchange.method)

    def _reply(self, stream: Any) -> Reply:
        answers = self._answers
        return Reply(answers.status, answers.headers, stream, answers.extensions(self._stream))

    def _rest(self) -> bool:
        """Be idle, if all has been said on both sides; False if the connection is to be closed."""
        answers = self._answers
        if not (self._sent and answers.complete and answers.keep_alive) or answers.surplus or self._closed:
            return False
        self._idle = True
        if self._keepalive_expiry is not None:
            self._expires = monotonic() + self._keepalive_expiry
        return True

    def can_handle_request(self, origin: httpcore2.Origin) -> bool:
        """True for the origin that it was made for."""
        return origin == self._origin

    def can_multiplex(self) -> bool:
        """False: one request at a time."""
        return False

    def is_available(self) -> bool:
        """True if it can take a request."""
        return self._idle

    def is_idle(self) -> bool:
        """True if it has served, and nothing is on it."""
        return self._idle

    def is_closed(self) -> bool:
        """True once it was closed."""
        return self._closed

    def is_connected(self) -> bool:
        """True until it is closed."""
        return not self._closed

    def has_expired(self) -> bool:
        """True if it has been idle for too long, or the peer has closed it."""
        return self._idle and (monotonic() > self._expires or bool(self._stream.get_extra_info("is_readable")))

    def info(self) -> str:
        """A description."""
        state = "CLOSED" if self._closed else "IDLE" if self._idle else "ACTIVE"
        return f"{str(self._origin)!r}, HTTP/1.1, {state}"


class FastConnection(_Conversation, httpcore2.ConnectionInterface):
    """A blocking connection."""

    def handle_request(self, request: httpcore2.Request) -> Any:
        """Send the request, and return the response with its body still to be read."""
        assert isinstance(request, Exchange)
        self._begin(request)
        timeouts = request.extensions.get("timeout") or {}
        try:
            with suppress(httpcore2.WriteError):  # the peer may have answered before it stopped reading
                self._send(request, timeouts.get("write"))
            patience = timeouts.get("read")
            answers = self._answers
            while not answers.head:
                answers.feed(self._stream.read(_READ, patience))
        except BaseException:
            self.close()
            raise
        return self._reply(_Parts(self, patience))

    def _send(self, exchange: Exchange, timeout: float | None) -> None:
        framing = Framing(exchange.method, exchange.url.target, exchange.headers)
        stream = self._stream
        if is_whole(exchange.stream) and framing.left < _ONE_WRITE:
            stream.write(framing.whole(exchange.stream), timeout)
        else:
            stream.write(framing.head, timeout)
            for data in exchange.stream:  # type: ignore[union-attr]
                stream.write(framing.part(data), timeout)
            stream.write(framing.end(), timeout)
        self._sent = True

    def finish(self) -> None:
        """A response was closed: be idle, or close."""
        if not self._rest():
            self.close()

    def close(self) -> None:
        """Close the stream."""
        self._closed, self._idle = True, False
        self._stream.close()


class _Parts:
    """The body of a response, as it arrives."""

    __slots__ = ("_connection", "_timeout")

    def __init__(self, connection: FastConnection, timeout: float | None) -> None:
        self._connection: FastConnection | None = connection
        self._timeout = timeout

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        connection = self._connection
        if connection is None:
            raise StopIteration
        answers = connection._answers  # noqa: SLF001
        while not answers.parts:
            if answers.complete:
                raise StopIteration
            answers.feed(connection._stream.read(_READ, self._timeout))  # noqa: SLF001
        return answers.parts.popleft()

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.finish()


class AsyncFastConnection(_Conversation, httpcore2.AsyncConnectionInterface):
    """As FastConnection, asynchronous."""

    async def handle_async_request(self, request: httpcore2.Request) -> Any:
        """Send the request, and return the response with its body still to be read."""
        assert isinstance(request, Exchange)
        self._begin(request)
        timeouts = request.extensions.get("timeout") or {}
        try:
            with suppress(httpcore2.WriteError):  # the peer may have answered before it stopped reading
                await self._send(request, timeouts.get("write"))
            patience = timeouts.get("read")
            answers = self._answers
            while not answers.head:
                answers.feed(await self._stream.read(_READ, patience))
        except BaseException:
            await shielded(self.aclose)
            raise
        return self._reply(_AsyncParts(self, patience))

    async def _send(self, exchange: Exchange, timeout: float | None) -> None:
        framing = Framing(exchange.method, exchange.url.target, exchange.headers)
        if is_whole(exchange.stream) and framing.left < _ONE_WRITE:
            await self._stream.write(framing.whole(exchange.stream), timeout)
        else:
            await self._stream_body(framing, exchange.stream.__aiter__(), timeout)  # type: ignore[union-attr]
        self._sent = True

    async def _stream_body(self, framing: Framing, parts: Any, timeout: float | None) -> None:
        stream = self._stream
        try:
            await stream.write(framing.head, timeout)
            async for data in parts:
                await stream.write(framing.part(data), timeout)
        finally:
            if hasattr(parts, "aclose"):
                await parts.aclose()
        await stream.write(framing.end(), timeout)

    async def finish(self) -> None:
        """A response was closed: be idle, or close."""
        if not self._rest():
            await self.aclose()

    async def aclose(self) -> None:
        """Close the stream."""
        self._closed, self._idle = True, False
        await self._stream.aclose()


class _AsyncParts:
    """The body of a response, as it arrives."""

    __slots__ = ("_connection", "_timeout")

    def __init__(self, connection: AsyncFastConnection, timeout: float | None) -> None:
        self._connection: AsyncFastConnection | None = connection
        self._timeout = timeout

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        connection = self._connection
        if connection is None:
            raise StopAsyncIteration
        answers = connection._answers  # noqa: SLF001
        while not answers.parts:
            if answers.complete:
                raise StopAsyncIteration
            answers.feed(await connection._stream.read(_READ, self._timeout))  # noqa: SLF001
        return answers.parts.popleft()

    async def aclose(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.finish()
