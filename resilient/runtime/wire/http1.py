"""Blocking connections of HTTP/1.1."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpcore2

from resilient.runtime.wire.conversation import ONE_WRITE, READ, Conversation
from resilient.runtime.wire.exchange import Exchange, is_whole
from resilient.runtime.wire.framing import Framing


class HTTP1(Conversation):
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
                answers.feed(self._stream.read(READ, patience))
            if self._is_whole():
                reply = self._reply(answers.parts)
                self.finish()
                return reply
        except BaseException:
            self.close()
            raise
        return self._reply(_Parts(self, patience))

    def _send(self, framing: Framing, body: Any, timeout: float | None) -> None:
        if framing.left < ONE_WRITE and is_whole(body):
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
            answers.feed(connection._stream.read(READ, self._timeout))  # noqa: SLF001
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
