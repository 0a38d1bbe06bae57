"""Responses of HTTP/1.1 as they come in, without I/O; h11 reads them, or what stands in its place.

h11 also keeps count of what was sent, and would want to write it. What it checks thereby is
checked in `Framing`, at a fraction of the time; so it is told of a request of the same method
that has nothing else to it, which is all that the meaning of a response depends on.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import h11
import httpcore2

from resilient.runtime.wire.framing import Headers

LARGEST_HEAD = 100 * 1024
"""Bytes; as httpcore."""
DISCONNECTED = "Server disconnected without sending a response."
"""httpcore's words, which are known from many logs; h11's tell of its states."""


class Answers:
    """The responses of one connection, one after another: `expect`, then `feed` until `complete`."""

    __slots__ = (
        "complete",
        "failure",
        "head",
        "headers",
        "keep_alive",
        "parts",
        "reason",
        "status",
        "surplus",
        "version",
    )

    def __init__(self) -> None:
        self.surplus = False
        """True once there was more than was asked for: the connection is of no further use."""
        self.reset()

    def reset(self) -> None:
        """Forget the last response: an idle connection need not keep it."""
        self.status = 0
        self.version = self.reason = b""
        self.headers: Headers = []
        self.parts: list[bytes] = []
        self.head = False
        """True once status and headers are there."""
        self.complete = False
        """True once nothing more is to come: the end, or a `failure` behind the last of `parts`."""
        self.failure: Exception | None = None
        self.keep_alive = False

    def take(self) -> list[bytes]:
        """The parts of the body that have come since."""
        parts, self.parts = self.parts, []
        return parts

    def expect(self, method: bytes) -> None:
        """Make ready for the response to a request of this method."""
        raise NotImplementedError

    def feed(self, data: bytes) -> None:
        """Take what has arrived; b"" at the end of the connection.

        Raises RemoteProtocolError until the head is there; then the reader of the body gets it.
        """
        raise NotImplementedError

    def fail(self, message: str, cause: Exception | None = None) -> None:
        """The peer does not speak HTTP, or has stopped in the middle."""
        error = httpcore2.RemoteProtocolError(message)
        error.__cause__ = cause
        self.keep_alive = False
        if not self.head:
            raise error
        self.complete, self.failure = True, error

    def extensions(self, stream: Any) -> dict[str, Any]:
        """What httpcore says of a response beside its status and headers."""
        return {"http_version": self.version, "reason_phrase": self.reason, "network_stream": stream}


class H11Answers(Answers):
    """Read by h11."""

    __slots__ = ("_connection",)

    def __init__(self) -> None:
        super().__init__()
        self._connection: h11.Connection | None = None

    def expect(self, method: bytes) -> None:
        """Make ready for the response to a request of this method."""
        connection = self._connection
        if connection is None:
            connection = self._connection = h11.Connection(h11.CLIENT, LARGEST_HEAD)
        else:
            connection.start_next_cycle()
        connection.send(_request(method))
        connection.send(_END)

    def feed(self, data: bytes) -> None:
        """Take what has arrived; b"" at the end of the connection."""
        assert self._connection is not None
        if not data and not self.head:
            self.fail(DISCONNECTED)
        self._connection.receive_data(data)
        try:
            while not self.complete and self._take(self._connection.next_event()):
                pass
        except h11.RemoteProtocolError as error:
            self.fail(str(error), error)

    def _take(self, event: Any) -> bool:
        """Take one event; False if there are no more."""
        kind = type(event)
        if kind is h11.Data:
            self.parts.append(bytes(event.data))
        elif kind is h11.Response:
            self.head = True
            self.status, self.reason = event.status_code, event.reason
            self.version = b"HTTP/" + event.http_version
            self.headers = event.headers.raw_items()
        elif kind is h11.EndOfMessage:
            self._finish()
        else:
            return kind is h11.InformationalResponse
        return True

    def _finish(self) -> None:
        assert self._connection is not None
        self.complete = True
        self.keep_alive = self._connection.their_state is h11.DONE
        self.surplus = bool(self._connection.trailing_data[0])


_END = h11.EndOfMessage()


@lru_cache(64)
def _request(method: bytes) -> h11.Request:
    return h11.Request(method=method, target=b"/", headers=[(b"Host", b"h")])
