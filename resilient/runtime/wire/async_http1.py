"""Asynchronous connections of HTTP/1.1."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpcore2

from resilient.runtime.wire.async_link import shielded
from resilient.runtime.wire.conversation import ONE_WRITE, READ, Conversation
from resilient.runtime.wire.exchange import Exchange, is_whole
from resilient.runtime.wire.framing import Framing


class AsyncHTTP1(Conversation):
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
                answers.feed(await self._stream.read(READ, patience))
            if self._is_whole():
                reply = self._reply(answers.parts)
                await self.finish()
                return reply
        except BaseException:
            await shielded(self.aclose)
            raise
        return self._reply(_AsyncParts(self, patience))

    async def _send(self, framing: Framing, body: Any, timeout: float | None) -> None:
        if framing.left < ONE_WRITE and is_whole(body):
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
            answers.feed(await connection._stream.read(READ, self._timeout))  # noqa: SLF001
        self._ready = iter(answers.take())
        return next(self._ready)

    async def aclose(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._ready = iter(())
            await connection.finish()
