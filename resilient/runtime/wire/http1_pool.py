"""Pools for HTTP/1.1: `Places`, and how one waits for a place in threads and in tasks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Any

import anyio
import httpcore2

from resilient.runtime.waiting import ThreadWaiter
from resilient.runtime.wire.async_link import on_trio, shielded
from resilient.runtime.wire.exchange import Exchange
from resilient.runtime.wire.places import Key, Places, key_of
from resilient.runtime.wire.settings import WireSettings


class _Pool:
    """What does not depend on how one waits."""

    __slots__ = ("_places",)

    def __init__(self, create: Callable[[httpcore2.Origin], Any], settings: WireSettings) -> None:
        self._places = Places(create, settings)

    @property
    def connections(self) -> list[Any]:
        """All that are open or about to be."""
        return self._places.connections

    @property
    def busy(self) -> int:
        """Connections that are held by requests, and requests that wait for one."""
        return self._places.busy


class HTTP1Pool(_Pool):
    """The blocking connections to one endpoint."""

    __slots__ = ()

    def handle_request(self, exchange: Exchange) -> Any:
        """The response to a request. Its connection is held until the response is closed."""
        origin, places = exchange.url.origin, self._places
        key = key_of(origin)
        connection = places.take(key, origin) or self._wait(key, exchange)
        try:
            while True:
                if places.discarded:
                    self._close_discarded()
                if not connection.is_due():
                    with suppress(httpcore2.ConnectionNotAvailable):  # the peer has hung up
                        response = connection.handle_request(exchange)
                        break
                connection = places.another(connection, key, origin) or self._wait(key, exchange)
        except BaseException:
            try:
                connection.close()
            finally:
                self.release(connection)
            raise
        if type(response.stream) is list:  # nothing is to come
            self.release(connection)
        else:
            response.stream = _Held(self, connection, response.stream)
        return response

    def _wait(self, key: Key, exchange: Exchange) -> Any:
        waiter = _Thread(key, exchange.url.origin)
        try:
            self._places.queue(waiter)
            waiter.wait((exchange.extensions.get("timeout") or {}).get("pool"))
            self._places.leave(waiter)
            return _given(waiter)
        except BaseException:
            self._places.leave(waiter)
            if waiter.connection is not None:
                self.release(waiter.connection)
            raise

    def release(self, connection: Any) -> None:
        """Nothing is on it any more."""
        self._places.release(connection)
        if self._places.discarded:
            self._close_discarded()

    def _close_discarded(self) -> None:
        while self._places.discarded:
            with suppress(Exception):  # IndexError: another thread was faster
                self._places.discarded.pop().close()

    def close(self) -> None:
        """Close all connections. What is under way on them fails, and so does who waits for one."""
        self._places.clear()
        self._close_discarded()


class AsyncHTTP1Pool(_Pool):
    """As HTTP1Pool, asynchronous."""

    __slots__ = ()

    async def handle_async_request(self, exchange: Exchange) -> Any:
        """The response to a request. Its connection is held until the response is closed."""
        origin, places = exchange.url.origin, self._places
        key = key_of(origin)
        connection = places.take(key, origin) or await self._wait(key, exchange)
        try:
            while True:
                if places.discarded:
                    await self._close_discarded()
                if not connection.is_due():
                    try:
                        response = await connection.handle_async_request(exchange)
                        break
                    except httpcore2.ConnectionNotAvailable:  # the peer has hung up
                        pass
                connection = places.another(connection, key, origin) or await self._wait(key, exchange)
        except BaseException:
            try:
                await shielded(connection.aclose)
            finally:
                await self.release(connection)
            raise
        if type(response.stream) is list:  # nothing is to come
            await self.release(connection)
        else:
            response.stream = _AsyncHeld(self, connection, response.stream)
        return response

    async def _wait(self, key: Key, exchange: Exchange) -> Any:
        waiter = (_TrioTask if on_trio() else _AsyncioTask)(key, exchange.url.origin)
        try:
            self._places.queue(waiter)
            await waiter.wait((exchange.extensions.get("timeout") or {}).get("pool"))
            self._places.leave(waiter)
            return _given(waiter)
        except BaseException:
            self._places.leave(waiter)
            if waiter.connection is not None:
                await self.release(waiter.connection)
            raise

    async def release(self, connection: Any) -> None:
        """Nothing is on it any more. It does not suspend on asyncio."""
        self._places.release(connection)
        if self._places.discarded:
            await self._close_discarded()

    async def _close_discarded(self) -> None:
        while self._places.discarded:
            with suppress(Exception):
                await shielded(self._places.discarded.pop().aclose)

    async def aclose(self) -> None:
        """Close all connections. What is under way on them fails, and so does who waits for one."""
        self._places.clear()
        await self._close_discarded()


def _given(waiter: _Waiting) -> Any:
    """What it has waited for."""
    if waiter.connection is not None:
        return waiter.connection
    if waiter.error is not None:
        raise waiter.error
    if waiter.refused:
        raise httpcore2.ConnectError("the wire has been closed")
    raise httpcore2.PoolTimeout


class _Waiting:
    """A request that waits for a connection. `_wake` may be called by whoever has one to give."""

    def __init__(self, key: Key, origin: httpcore2.Origin) -> None:
        self.key = key
        self.origin = origin
        self.connection: Any = None
        self.error: Exception | None = None
        self.refused = False

    def give(self, connection: Any) -> None:
        """Of a Waiter."""
        self.connection = connection
        self.refused = connection is None
        self._wake()

    def fail(self, error: Exception) -> None:
        """Of a Waiter."""
        self.error = error
        self._wake()

    def _wake(self) -> None:
        raise NotImplementedError


class _Thread(_Waiting):
    def __init__(self, key: Key, origin: httpcore2.Origin) -> None:
        super().__init__(key, origin)
        self._waiter = ThreadWaiter()
        self._wake = self._waiter.wake  # type: ignore[method-assign,assignment]
        self.wait = self._waiter.wait


class _AsyncioTask(_Waiting):
    def __init__(self, key: Key, origin: httpcore2.Origin) -> None:
        super().__init__(key, origin)
        self._loop = asyncio.get_running_loop()
        self._future = self._loop.create_future()

    def _wake(self) -> None:
        if not self._future.done():
            self._future.set_result(None)

    async def wait(self, timeout: float | None) -> None:
        """Until there is one, or the time is up."""
        timer = None if timeout is None else self._loop.call_later(timeout, self._wake)
        try:
            await self._future
        finally:
            if timer is not None:
                timer.cancel()


class _TrioTask(_Waiting):
    def __init__(self, key: Key, origin: httpcore2.Origin) -> None:
        super().__init__(key, origin)
        self._event = anyio.Event()

    def _wake(self) -> None:
        self._event.set()

    async def wait(self, timeout: float | None) -> None:
        """Until there is one, or the time is up."""
        with anyio.move_on_after(timeout):
            await self._event.wait()


class _Held:
    """The body of a response. The connection is held until it is closed."""

    __slots__ = ("_connection", "_pool", "_stream")

    def __init__(self, pool: HTTP1Pool, connection: Any, stream: Any) -> None:
        self._pool: HTTP1Pool | None = pool
        self._connection = connection
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._stream)

    def close(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            try:
                self._stream.close()
            finally:
                pool.release(self._connection)


class _AsyncHeld:
    __slots__ = ("_connection", "_pool", "_stream")

    def __init__(self, pool: AsyncHTTP1Pool, connection: Any, stream: Any) -> None:
        self._pool: AsyncHTTP1Pool | None = pool
        self._connection = connection
        self._stream = stream

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._stream.__aiter__()  # type: ignore[no-any-return]

    async def aclose(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            try:
                await shielded(self._stream.aclose)
            finally:
                await pool.release(self._connection)
