"""One connection to an endpoint: httpcore's, which dials and shakes hands, with our links under it."""

from __future__ import annotations

from time import monotonic
from typing import Any, TypeVar

import httpcore2

from resilient.balance.endpoint import Endpoint
from resilient.runtime.wire.answers import Answers, H11Answers
from resilient.runtime.wire.async_http1 import AsyncHTTP1
from resilient.runtime.wire.async_link import AsyncLink
from resilient.runtime.wire.blocking import BlockingLink
from resilient.runtime.wire.body import LoadedBody
from resilient.runtime.wire.deadline import Turn
from resilient.runtime.wire.exchange import Exchange, is_plain
from resilient.runtime.wire.http1 import HTTP1
from resilient.runtime.wire.link import Generation, Link
from resilient.runtime.wire.settings import WireSettings
from resilient.runtime.wire.single import AsyncSingle, Single

_SECURE = (b"https", b"wss")


class _Lives:
    """What both kinds know of their age, beside what httpcore knows.

    `_connection` is httpcore's name for what speaks on the connection, None until it is made.
    """

    link: Link
    answers: type[Answers]
    """What reads responses of HTTP/1.1."""
    turn: Any = None
    """Held while it connects, where several requests may be given to it at once; None where not."""
    idle_until = float("inf")
    _connection: Any
    _plain: type[Any]
    _other: type[Any]
    _origin: Any
    _keepalive_expiry: float | None

    def _speak(self, request: Exchange, stream: Any) -> None:
        """Speak HTTP/1.1 as the request asks for it: between requests only the stream is left."""
        if is_plain(request):
            if type(self._connection) is not self._plain:
                self._connection = self._plain(self._origin, stream, self._keepalive_expiry, self.answers())
        elif type(self._connection) is not self._other:
            self._connection = self._other(self._origin, stream, self._keepalive_expiry)

    def _as_pooled(self, response: Any) -> Any:
        """A response as its pool takes it: httpcore's knows nothing of bodies that are there already."""
        if self.turn is not None and type(response.stream) is list:
            response.stream = LoadedBody(response.stream)
        return response

    def is_available(self) -> bool:
        """False once it is retired: what is on it may end, nothing more may begin."""
        return super().is_available() and not self.link.retired  # type: ignore[misc]

    def is_reusable(self) -> bool:
        """True if a request has ended well on it, and another may begin; its keep-alive counts from now."""
        if self._connection is None or not self._connection.is_idle() or self.link.retired:
            return False
        if self._keepalive_expiry is not None:
            self.idle_until = monotonic() + self._keepalive_expiry
        return True

    def is_due(self) -> bool:
        """True if it has been idle for too long, or is retired. Of its peer, `link.hung_up` knows."""
        return monotonic() > self.idle_until or self.link.retired

    def has_expired(self) -> bool:
        """True once it is retired; asked only while nothing is on it or about to be."""
        return self.link.retired or super().has_expired()  # type: ignore[misc]


class Connection(_Lives, httpcore2.HTTPConnection):
    """A blocking connection that knows its age, and looks before it is used again."""

    link: BlockingLink
    _plain = HTTP1
    _other = Single

    def handle_request(self, request: httpcore2.Request) -> Any:
        """Send it, unless the peer has hung up; then the pool takes another connection."""
        assert isinstance(request, Exchange)
        if self.link.reads and self._connection.is_idle() and self.link.hung_up():
            self.close()
            raise httpcore2.ConnectionNotAvailable
        request.begin(self.link)
        try:
            if self._connection is None:
                self._connect_once(request)
            if self._connection is None:
                raise httpcore2.ConnectionNotAvailable
            if not self.link.multiplexed and self._connection.is_idle():
                self._speak(request, self.link.stream)
            return self._as_pooled(self._connection.handle_request(request))
        except httpcore2.ConnectionNotAvailable:
            request.turned_away()
            raise

    def _connect_once(self, request: Exchange) -> None:
        """Connect, or wait for another thread that does: one that gives up waiting is no failure."""
        if self.turn is None:
            self._set_up(request)
            return
        with self.turn:
            if self._connection is None and not self._connect_failed:
                self._set_up(request)

    def _set_up(self, request: Exchange) -> None:
        try:
            stream = self._connect(request)
        except BaseException:
            self._connect_failed = True
            raise
        if self.link.multiplexed:
            self._connection = _multiplexed().Multiplexed(self._origin, stream, self._keepalive_expiry, self.link)
        else:
            self._speak(request, stream)


class AsyncConnection(_Lives, httpcore2.AsyncHTTPConnection):
    """As Connection, asynchronous."""

    link: AsyncLink
    _plain = AsyncHTTP1
    _other = AsyncSingle

    async def handle_async_request(self, request: httpcore2.Request) -> Any:
        """Send it, unless the peer has hung up; then the pool takes another connection."""
        assert isinstance(request, Exchange)
        if self.link.reads and self._connection.is_idle() and self.link.hung_up():
            await self.aclose()
            raise httpcore2.ConnectionNotAvailable
        request.begin(self.link)
        try:
            if self._connection is None:
                await self._connect_once(request)
            if self._connection is None:
                raise httpcore2.ConnectionNotAvailable
            if not self.link.multiplexed and self._connection.is_idle():
                self._speak(request, self.link.stream)
            return self._as_pooled(await self._connection.handle_async_request(request))
        except httpcore2.ConnectionNotAvailable:
            request.turned_away()
            raise
        except BaseException:
            # httpcore2 2.16 forgets a new HTTP/1.1 connection, and its place in the pool, if
            # cancellation comes between the connect and the request.
            if self.link.born is not None and not (self.link.writes or self.link.multiplexed):
                await self.aclose()
            raise

    async def _connect_once(self, request: Exchange) -> None:
        """Connect, or wait for another task that does: one that gives up waiting is no failure."""
        if self.turn is None:
            await self._set_up(request)
            return
        async with self.turn:
            if self._connection is None and not self._connect_failed:
                await self._set_up(request)

    async def _set_up(self, request: Exchange) -> None:
        try:
            stream = await self._connect(request)
        except BaseException:
            self._connect_failed = True
            raise
        if self.link.multiplexed:
            self._connection = _multiplexed().AsyncMultiplexed(self._origin, stream, self._keepalive_expiry)
        else:
            self._speak(request, stream)


def connection_to(
    endpoint: Endpoint, settings: WireSettings, generation: Generation, origin: httpcore2.Origin
) -> Connection:
    """A connection to the endpoint in the name of `origin`; TLS is first needed here."""
    return _made(Connection, BlockingLink(endpoint, settings, generation), settings, origin)


def async_connection_to(
    endpoint: Endpoint, settings: WireSettings, generation: Generation, origin: httpcore2.Origin
) -> AsyncConnection:
    """As `connection_to`, asynchronous."""
    return _made(AsyncConnection, AsyncLink(endpoint, settings, generation), settings, origin)


Made = TypeVar("Made", Connection, AsyncConnection)


def _made(kind: type[Made], link: Any, settings: WireSettings, origin: httpcore2.Origin) -> Made:
    connection = kind(
        origin=origin,
        ssl_context=settings.tls.context(http2=settings.http2) if origin.scheme in _SECURE else None,
        keepalive_expiry=settings.keepalive_expiry,
        http1=settings.http1,
        http2=settings.http2,
        local_address=settings.local_address,
        network_backend=link,
        socket_options=settings.socket_options,
    )
    connection.link = link
    connection.answers = _answers(settings)
    if settings.http2:
        connection.turn = Turn() if kind is Connection else connection._request_lock  # noqa: SLF001
    return connection


def _answers(settings: WireSettings) -> type[Answers]:
    """What reads responses; llhttp needs the `httptools` package."""
    if settings.engine == "default":
        return H11Answers
    from resilient.runtime.wire.fast import LlhttpAnswers

    return LlhttpAnswers


def _multiplexed() -> Any:
    """The module of HTTP/2 connections, which needs the `h2` package."""
    from resilient.runtime.wire import multiplexed

    return multiplexed
