"""What is said on a connection of HTTP/1.1: `Framing` writes the request, `Answers` read what comes.

Connections that speak so stand where httpcore's stand, on the same streams; so address, TLS,
timeouts, trio and Unix sockets are not their business. They have no locks, no traces and no
state machine, since each is in one pair of hands. httpcore keeps HTTP/2, and what is not
`exchange.is_plain`.
"""

from __future__ import annotations

from time import monotonic
from typing import Any

import httpcore2

from resilient.runtime.wire.answers import Answers
from resilient.runtime.wire.exchange import Exchange
from resilient.runtime.wire.framing import Framing, Headers

READ = 64 * 1024
"""Bytes to ask for at a time."""
ONE_WRITE = 64 * 1024
"""Bytes of a body that are worth copying to save a packet."""


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


class Conversation:
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

    def __init__(self, origin: httpcore2.Origin, stream: Any, keepalive_expiry: float | None, answers: Answers) -> None:
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
