"""Connections of HTTP/1.1: a request goes out as `Framing` writes it, `Answers` read what comes.

They stand where httpcore's stand, on the same streams; so address, TLS, timeouts, trio and
Unix sockets are not their business. httpcore's own spend most of their time on locks, traces
and states that a connection in one pair of hands has no use for; they keep HTTP/2, and what is
not `exchange.is_plain`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from time import monotonic
from typing import Any

import httpcore2

from resilient.runtime.wire.answers import Answers
from resilient.runtime.wire.async_link import shielded
from resilient.runtime.wire.exchange import Exchange, is_whole
from resilient.runtime.wire.framing import Framing, Headers

_READ = 64 * 1024
_ONE_WRITE = 64 * 1024  # bytes of a body that are worth copying to save a packet


class Reply:
    """A response; as httpcore's, but its parts are not looked at again.

    Its stream is a list of the parts if all of them are there, and the connection is free.
    """

    __slots__ = ("extensions", "headers", "status", "stream")

    def __init__(self, status: int, headers: Headers, stream: Any, extensions: dict[str, Any]) -> None:
        self.status = status
        self.headers = headers
        self.stream = stream
        self.extensions = extensions


class _Conversation:
    """The state of a connection: new, busy, idle or closed.

    It has the methods of httpcore's interface, whose attributes it does without.
    """

    __slots__ = (
        "_answers",
        "_closed",
        "_expires",
        "_idle",
        "_is_last",
        "_keepalive_expiry",
        "_new",
        "_origin",
        "_sent",
        "_stream",
    )

    def __init__(
        self, origin: httpcore2.Origin, stream: Any, keepalive_expiry: float | None, answers: Answers
    ) -> None:
        self._origin = origin
        self._stream = stream
        self._keepalive_expiry = keepalive_expiry
        self._expires = float("inf")
        self._answers = answers
        self._sent = False
        self._is_last = False
        self._new = True
        self._idle = False
        self._closed = False

    def _take(self) -> None:
        """Be busy; raises ConnectionNotAvailable if it is already, which does it no harm."""
        if not (self._new or self._idle):
            raise httpcore2.ConnectionNotAvailable
        self._new = self._idle = self._sent = False

    def _begin(self, exchange: Exchange) -> Framing:
        framing = Framing(exchange.method, exchange.url.target, exchange.headers)
        self._answers.expect(exchange.method)
        self._is_last = framing.is_last
        return framing

    def _reply(self, stream: Any) -> Reply:
        answers = self._answers
        return Reply(answers.status, answers.headers, stream, answers.extensions(self._stream))

    def _is_whole(self) -> bool:
        """True if the body came with the head, as small ones do."""
        return self._answers.complete and self._answers.failure is None

    def _rest(self) -> bool:
        """Be idle, if all has been said on both sides; False if the connection is to be closed."""
        answers = self._answers
        is_over = self._sent and answers.complete and answers.keep_alive
        if not is_over or answers.surplus or self._is_last or self._closed:
            return False
        self._idle = True
        answers.reset()
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


class HTTP1(_Conversation):
    """A blocking connection."""

    __slots__ = ()

    def handle_request(self, request: httpcore2.Request) -> Any:
        """Send the request, and return the response with its body still to be read."""
        assert isinstance(request, Exchange)
        timeouts = request.extensions.get("timeout") or {}
        self._take()
        try:
            self._send(self._begin(request), request.stream, timeouts.get("write"))
            patience = timeouts.get("read")
            answers = self._answers
            while not answers.head:
                answers.feed(self._stream.read(_READ, patience))
            if self._is_whole():
                reply = self._reply(answers.parts)
                self.finish()
                return reply
        except BaseException:
            self.close()
            raise
        return self._reply(_Parts(self, patience))

    def _send(self, framing: Framing, body: Any, timeout: float | None) -> None:
        if framing.left < _ONE_WRITE and is_whole(body):
            self._sent = self._write(framing.whole(body), timeout)
        elif self._write(framing.head, timeout):
            for data in body:
                if not self._write(framing.part(data), timeout):
                    return
            self._sent = self._write(framing.end(), timeout)

    def _write(self, data: bytes, timeout: float | None) -> bool:
        """False if the peer has stopped reading: it may have answered before."""
        try:
            self._stream.write(data, timeout)
        except httpcore2.WriteError:
            return False
        return True

    def finish(self) -> None:
        """A response was closed: be idle, or close."""
        if not self._rest():
            self.close()

    def close(self) -> None:
        """Close the stream."""
        self._closed, self._idle = True, False
        self._stream.close()


class _Parts:
    """The body of a response, as it arrives.

    Another thread may close it meanwhile. The connection is of no further use then, since what
    arrives next on it could be taken by the reader here.
    """

    __slots__ = ("_connection", "_is_reading", "_ready", "_timeout")

    def __init__(self, connection: HTTP1, timeout: float | None) -> None:
        self._connection: HTTP1 | None = connection
        self._timeout = timeout
        self._is_reading = False
        self._ready: Iterator[bytes] = iter(())

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        for part in self._ready:
            return part
        self._is_reading = True
        try:
            return self._read()
        finally:
            self._is_reading = False

    def _read(self) -> bytes:
        connection = self._connection
        if connection is None:
            raise StopIteration
        answers = connection._answers  # noqa: SLF001
        while not answers.parts:
            if answers.complete:
                raise answers.failure or StopIteration
            answers.feed(connection._stream.read(_READ, self._timeout))  # noqa: SLF001
        self._ready = iter(answers.take())
        return next(self._ready)

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        self._ready = iter(())
        if self._is_reading:
            connection.close()
        else:
            connection.finish()


class AsyncHTTP1(_Conversation):
    """As HTTP1, asynchronous."""

    __slots__ = ()

    async def handle_async_request(self, request: httpcore2.Request) -> Any:
        """Send the request, and return the response with its body still to be read."""
        assert isinstance(request, Exchange)
        timeouts = request.extensions.get("timeout") or {}
        self._take()
        try:
            await self._send(self._begin(request), request.stream, timeouts.get("write"))
            patience = timeouts.get("read")
            answers = self._answers
            while not answers.head:
                answers.feed(await self._stream.read(_READ, patience))
            if self._is_whole():
                reply = self._reply(answers.parts)
                await self.finish()
                return reply
        except BaseException:
            await shielded(self.aclose)
            raise
        return self._reply(_AsyncParts(self, patience))

    async def _send(self, framing: Framing, body: Any, timeout: float | None) -> None:
        if framing.left < _ONE_WRITE and is_whole(body):
            self._sent = await self._write(framing.whole(body), timeout)
        elif await self._write(framing.head, timeout) and await self._send_parts(framing, body, timeout):
            self._sent = await self._write(framing.end(), timeout)

    async def _send_parts(self, framing: Framing, body: Any, timeout: float | None) -> bool:
        parts = body.__aiter__()
        try:
            async for data in parts:
                if not await self._write(framing.part(data), timeout):
                    return False
        finally:
            if hasattr(parts, "aclose"):
                await parts.aclose()
        return True

    async def _write(self, data: bytes, timeout: float | None) -> bool:
        """False if the peer has stopped reading: it may have answered before."""
        try:
            await self._stream.write(data, timeout)
        except httpcore2.WriteError:
            return False
        return True

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

    __slots__ = ("_connection", "_ready", "_timeout")

    def __init__(self, connection: AsyncHTTP1, timeout: float | None) -> None:
        self._connection: AsyncHTTP1 | None = connection
        self._timeout = timeout
        self._ready: Iterator[bytes] = iter(())

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        for part in self._ready:
            return part
        connection = self._connection
        if connection is None:
            raise StopAsyncIteration
        answers = connection._answers  # noqa: SLF001
        while not answers.parts:
            if answers.complete:
                raise answers.failure or StopAsyncIteration
            answers.feed(await connection._stream.read(_READ, self._timeout))  # noqa: SLF001
        self._ready = iter(answers.take())
        return next(self._ready)

    async def aclose(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._ready = iter(())
            await connection.finish()
