"""The pools: httpcore's for HTTP/2, ours for HTTP/1.1, with our connections in both."""

from __future__ import annotations

from functools import partial

import httpcore2

from resilient.balance.endpoint import Endpoint
from resilient.runtime.wire.connection import AsyncConnection, Connection, async_connection_to, connection_to
from resilient.runtime.wire.http1_pool import AsyncHTTP1Pool, HTTP1Pool
from resilient.runtime.wire.link import Generation
from resilient.runtime.wire.settings import WireSettings


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
    return HTTP1Pool(partial(connection_to, endpoint, settings, generation), settings)


def async_pool_for(endpoint: Endpoint, settings: WireSettings, generation: Generation) -> AsyncPool | AsyncHTTP1Pool:
    """The pool that suits the settings."""
    if settings.http2:
        return AsyncPool(endpoint, settings, generation)
    return AsyncHTTP1Pool(partial(async_connection_to, endpoint, settings, generation), settings)
