"""httpcore's pools with our links under their connections."""

from __future__ import annotations

from time import monotonic
from typing import Any

import httpcore2

from resilient.balance.endpoint import Endpoint
from resilient.runtime.wire.async_link import AsyncLink
from resilient.runtime.wire.blocking import BlockingLink
from resilient.runtime.wire.deadline import Turn
from resilient.runtime.wire.exchange import Exchange, is_plain
from resilient.runtime.wire.http1_pool import AsyncHTTP1Pool, HTTP1Pool
from resilient.runtime.wire.link import Generation, Link
from resilient.runtime.wire.settings import WireSettings
from resilient.runtime.wire.single import AsyncSingle, Single

_SECURE = (b"https", b"wss")


def _options(settings: WireSettings, origin: httpcore2.Origin, link: Link) -> dict[str, Any]:
    return {
        "origin": origin,
        "ssl_context": settings.tls.context(http2=settings.http2) if origin.scheme in _SECURE else None,
        "keepalive_expiry": settings.keepalive_expiry,
        "http1": settings.http1,
        "http2": settings.http2,
        "local_address": settings.local_address,
        "network_backend": link,
        "socket_options": settings.socket_options,
    }


def _multiplexed() -> Any:
    """The module of HTTP/2 connections, which needs the `h2` package."""
    from resilient.runtime.wire import multiplexed

    return multiplexed


def _fast() -> Any:
    """The module of connections that parse with llhttp, which needs the `httptools` package."""
    from resilient.runtime.wire import fast

    return fast


class Connection(httpcore2.HTTPConnection):
    """A connection that knows its age, and looks before it is used again."""

    link: BlockingLink
    fast: type[Any] | None = None
    """What speaks HTTP/1.1 in place of httpcore."""
    idle_until = float("inf")

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._connecting = Turn()

    def handle_request(self, request: httpcore2.Request) -> httpcore2.Response:
        """Send it, unless the peer has hung up; then the pool takes another connection."""
        assert isinstance(request, Exchange)
        if self.link.reads and self.is_idle() and self.link.hung_up():
            self.close()
            raise httpcore2.ConnectionNotAvailable
        request.begin(self.link)
        try:
            if self._connection is None:
                self._connect_once(request)
            if self._connection is None:
                raise httpcore2.ConnectionNotAvailable
            if self.fast is not None and self._connection.is_idle() and not self.link.multiplexed:
                self._converse(self._kind(request))
            return self._connection.handle_request(request)
        except httpcore2.ConnectionNotAvailable:
            request.turned_away()
            raise

    def _connect_once(self, request: Exchange) -> None:
        """Connect, or wait for another thread that does: one that gives up waiting is no failure."""
        with self._connecting:
            if self._connection is not None or self._connect_failed:
                return
            try:
                stream = self._connect(request)
            except BaseException:
                self._connect_failed = True
                raise
            if self.link.multiplexed:
                self._connection = _multiplexed().Multiplexed(self._origin, stream, self._keepalive_expiry, self.link)
            else:
                self._connection = self._kind(request)(self._origin, stream, self._keepalive_expiry)

    def _kind(self, request: Exchange) -> type[Any]:
        if self.fast is not None and is_plain(request):
            return self.fast
        return Single

    def _converse(self, kind: type[Any]) -> None:
        """Go on in another way where the request asks for it: between requests only the stream is left."""
        if type(self._connection) is not kind:
            self._connection = kind(self._origin, self.link.stream, self._keepalive_expiry)

    def is_available(self) -> bool:
        """False once it is retired: what is on it may end, nothing more may begin."""
        return super().is_available() and not self.link.retired

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
        return self.link.retired or super().has_expired()


def connection_to(
    endpoint: Endpoint, settings: WireSettings, generation: Generation, origin: httpcore2.Origin
) -> Connection:
    """A connection to the endpoint in the name of `origin`; TLS is first needed here."""
    link = BlockingLink(endpoint, settings, generation)
    connection = Connection(**_options(settings, origin, link))
    connection.link = link
    connection.fast = _fast().FastConnection if settings.engine == "fast" else None
    return connection


class Pool(httpcore2.ConnectionPool):
    """The blocking connections to one endpoint."""

    def __init__(self, endpoint: Endpoint, settings: WireSettings, generation: Generation) -> None:
        super().__init__(
            max_connections=settings.max_connections,
            max_keepalive_connections=settings.max_keepalive,
            keepalive_expiry=settings.keepalive_expiry,
        )
        self._generation = generation
        self._endpoint = endpoint
        self._settings = settings

    def create_connection(self, origin: httpcore2.Origin) -> Connection:
        """A connection to the endpoint in the name of `origin`."""
        return connection_to(self._endpoint, self._settings, self._generation, origin)

    @property
    def busy(self) -> int:
        """Requests that hold a connection or wait for one."""
        return len(self._requests)


class AsyncConnection(httpcore2.AsyncHTTPConnection):
    """As Connection, asynchronous."""

    link: AsyncLink
    fast: type[Any] | None = None
    idle_until = float("inf")

    async def handle_async_request(self, request: httpcore2.Request) -> httpcore2.Response:
        """Send it, unless the peer has hung up; then the pool takes another connection."""
        assert isinstance(request, Exchange)
        if self.link.reads and self.is_idle() and self.link.hung_up():
            await self.aclose()
            raise httpcore2.ConnectionNotAvailable
        request.begin(self.link)
        try:
            if self._connection is None:
                await self._connect_once(request)
            if self._connection is None:
                raise httpcore2.ConnectionNotAvailable
            if self.fast is not None and not self.link.multiplexed and self._connection.is_idle():
                self._converse(self._kind(request))
            return await self._connection.handle_async_request(request)
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
        async with self._request_lock:
            if self._connection is not None or self._connect_failed:
                return
            try:
                stream = await self._connect(request)
            except BaseException:
                self._connect_failed = True
                raise
            kind = _multiplexed().AsyncMultiplexed if self.link.multiplexed else self._kind(request)
            self._connection = kind(self._origin, stream, self._keepalive_expiry)

    def _kind(self, request: Exchange) -> type[Any]:
        if self.fast is not None and is_plain(request):
            return self.fast
        return AsyncSingle

    def _converse(self, kind: type[Any]) -> None:
        """Go on in another way where the request asks for it: between requests only the stream is left."""
        if type(self._connection) is not kind:
            self._connection = kind(self._origin, self.link.stream, self._keepalive_expiry)

    def is_available(self) -> bool:
        """False once it is retired: what is on it may end, nothing more may begin."""
        return super().is_available() and not self.link.retired

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
        return self.link.retired or super().has_expired()


def async_connection_to(
    endpoint: Endpoint, settings: WireSettings, generation: Generation, origin: httpcore2.Origin
) -> AsyncConnection:
    """A connection to the endpoint in the name of `origin`; TLS is first needed here."""
    link = AsyncLink(endpoint, settings, generation)
    connection = AsyncConnection(**_options(settings, origin, link))
    connection.link = link
    connection.fast = _fast().AsyncFastConnection if settings.engine == "fast" else None
    return connection


class AsyncPool(httpcore2.AsyncConnectionPool):
    """The asynchronous connections to one endpoint."""

    def __init__(self, endpoint: Endpoint, settings: WireSettings, generation: Generation) -> None:
        super().__init__(
            max_connections=settings.max_connections,
            max_keepalive_connections=settings.max_keepalive,
            keepalive_expiry=settings.keepalive_expiry,
        )
        self._generation = generation
        self._endpoint = endpoint
        self._settings = settings

    def create_connection(self, origin: httpcore2.Origin) -> AsyncConnection:
        """A connection to the endpoint in the name of `origin`."""
        return async_connection_to(self._endpoint, self._settings, self._generation, origin)

    async def _close_connections(self, closing: list[httpcore2.AsyncConnectionInterface]) -> None:
        # Called twice for each request, nearly always with nothing to close, and then only a
        # cancel scope is entered and left. If httpcore renames it, it is merely slower.
        if closing:
            await super()._close_connections(closing)

    @property
    def busy(self) -> int:
        """Requests that hold a connection or wait for one."""
        return len(self._requests)


def pool_for(endpoint: Endpoint, settings: WireSettings, generation: Generation) -> Pool | HTTP1Pool:
    """The pool that suits the settings."""
    if settings.http2:
        return Pool(endpoint, settings, generation)
    return HTTP1Pool(lambda origin: connection_to(endpoint, settings, generation, origin), settings)


def async_pool_for(endpoint: Endpoint, settings: WireSettings, generation: Generation) -> AsyncPool | AsyncHTTP1Pool:
    """The pool that suits the settings."""
    if settings.http2:
        return AsyncPool(endpoint, settings, generation)
    return AsyncHTTP1Pool(lambda origin: async_connection_to(endpoint, settings, generation, origin), settings)
