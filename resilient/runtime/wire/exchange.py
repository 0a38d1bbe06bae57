"""One request as httpcore takes it, and what can be proven about it when it fails."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any

import httpcore2

from resilient.runtime.wire.deadline import attempt_deadline
from resilient.runtime.wire.link import Link

_PORTS = {b"http": 80, b"https": 443, b"ws": 80, b"wss": 443}
_REFUSED_STREAM = 7  # RFC 9113, section 7
_STREAM_OPENS = "http2.send_request_headers.started"


class GoingAway:
    """In place of h2's event, of which httpcore says nothing when it moves a request."""

    last_stream_id = 0

    def __str__(self) -> str:
        return "the peer goes away"


class Target(httpcore2.URL):
    """A URL whose parts are known: nothing is parsed, and its origin is made once."""

    __slots__ = ("origin",)
    origin: httpcore2.Origin

    def __init__(self, url: Any, target: bytes | None) -> None:
        self.scheme = scheme = url.raw_scheme
        self.host = host = url.raw_host
        self.port = port = url.port
        self.target = url.raw_path if target is None else target
        self.origin = httpcore2.Origin(scheme, host, port or _PORTS.get(scheme, 0))


class Exchange(httpcore2.Request):
    """A request of httpx on its way, with the link that carries it."""

    def __init__(self, request: Any, extensions: Mapping[str, Any]) -> None:
        self.method = request.method.encode("ascii")
        self.url = Target(request.url, extensions.get("target"))
        self.headers = request.headers.raw
        self.stream = request.stream
        self.extensions = extensions  # type: ignore[assignment]
        self.request = request
        self.resent = False
        self._stream_id: int | None = None
        self._has_left = False
        self._trace: Any = None
        self._link: Link | None = None
        self._writes = 0
        self._reads = 0

    def begin(self, link: Link) -> None:
        """It is about to be sent on this link."""
        self._link = link
        self._writes = link.writes
        self._reads = link.reads

    def turned_away(self) -> None:
        """The connection has not taken it, and httpcore is about to look for another.

        For an HTTP/2 stream this means that the peer goes away without having acted on it.
        httpcore would move it as often as that happens; here it moves once, and only with a
        body that can be read again.
        """
        self._link = None
        if self._stream_id is None:
            return
        if self.resent or not self.replayable(default=is_whole(self.stream)):
            self._has_left = True
            raise httpcore2.RemoteProtocolError(GoingAway())
        self.resent = self._has_left = True
        self._stream_id = None

    @property
    def unsent(self) -> bool:
        """True if it is proven that not one byte of it has left."""
        if self._has_left or self._link is None:
            return not self._has_left
        # What left on a shared connection may be another's: what has no stream has sent nothing.
        return self._link.writes == self._writes or (self._link.multiplexed and self._stream_id is None)

    @property
    def stage(self) -> str:
        """What it is waiting for: `pool`, `connect`, or "" once a byte may have left."""
        if not self.unsent:
            return ""
        # On a multiplexed connection that has served, what is waited for is a stream.
        is_queued = self._link is None or (self._link.multiplexed and self._link.reads > 0)
        return "pool" if is_queued else "connect"

    @property
    def stale(self) -> bool:
        """True if the link has served before and has not brought a byte since this began."""
        return self._link is not None and 0 < self._link.reads == self._reads

    def replayable(self, *, default: bool) -> bool:
        """What the body itself says of being read again; `default` where it says nothing."""
        ask = getattr(self.stream, "replayable", None)
        return default if ask is None else bool(ask())

    def refused(self, error: BaseException) -> bool:
        """True if the peer has said that it did not act on it (RFC 9113, sections 6.8, 8.7)."""
        event = error.args[0] if isinstance(error, httpcore2.RemoteProtocolError) and error.args else None
        last_stream_id = getattr(event, "last_stream_id", None)
        if last_stream_id is not None:
            return bool(last_stream_id < (self._stream_id or 1))
        return getattr(event, "error_code", None) == _REFUSED_STREAM

    def watch(self, callback: Callable[..., Any]) -> None:
        """Learn its HTTP/2 stream from httpcore's trace, through `note` or `anote`."""
        self._trace = self.extensions.get("trace")
        self.extensions = {**self.extensions, "trace": callback}

    def note(self, event: str, info: Mapping[str, Any]) -> None:
        """The trace callback of blocking code."""
        if event == _STREAM_OPENS:
            self._stream_id = info["stream_id"]
        if self._trace is not None:
            self._trace(event, info)

    async def anote(self, event: str, info: Mapping[str, Any]) -> None:
        """The trace callback of asynchronous code."""
        if event == _STREAM_OPENS:
            self._stream_id = info["stream_id"]
        if self._trace is not None:
            await self._trace(event, info)


def is_plain(exchange: Exchange) -> bool:
    """False for upgrades, tunnels, and requests that are traced, which only httpcore's connections know."""
    if exchange.method == b"CONNECT" or "trace" in exchange.extensions:
        return False
    for name, _ in exchange.headers:  # noqa: SIM110 - a generator costs more than all of them
        if len(name) == 7 and name.lower() == b"upgrade":
            return False
    return True


def is_whole(body: Any) -> bool:
    """True for the ByteStream of either library: sync and async at once, bytes inside."""
    return type(body).__name__ == "ByteStream"


def within_pool_deadline(extensions: Mapping[str, Any]) -> Mapping[str, Any]:
    """`extensions` with a wait for a connection that ends at the deadline of the attempt."""
    deadline = attempt_deadline.get()
    if deadline is None:
        return extensions
    timeouts = extensions.get("timeout") or {}
    pool = timeouts.get("pool")
    left = max(0.0, deadline - monotonic())
    return {**extensions, "timeout": {**timeouts, "pool": left if pool is None else min(pool, left)}}
