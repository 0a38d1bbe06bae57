"""Pools for HTTP/1.1, where a connection serves one request at a time.

So nothing needs to be looked for: idle connections lie in stacks, the warmest on top, those
who wait stand in a queue, and whoever is done hands its connection, or the place of a closed
one, to the first of them. httpcore's pool, which knows multiplexed connections too, looks
through all connections and requests at each beginning and end.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from time import monotonic
from typing import Any

import anyio
import httpcore2

from resilient.runtime.wire.async_link import on_trio, shielded
from resilient.runtime.wire.exchange import Exchange
from resilient.runtime.wire.settings import WireSettings

_SWEEP = 1.0  # seconds between looks for connections that have been idle for too long

Key = tuple[bytes, bytes, int]


def check_scheme(scheme: bytes) -> None:
    """Refuse what is not HTTP, in httpcore's words."""
    if scheme in (b"http", b"https", b"ws", b"wss"):
        return
    if not scheme:
        raise httpcore2.UnsupportedProtocol("Request URL is missing an 'http://' or 'https://' protocol.")
    raise httpcore2.UnsupportedProtocol(f"Request URL has an unsupported protocol '{scheme.decode()}://'.")


class AsyncHTTP1Pool:
    """The asynchronous connections to one endpoint.

    Every connection in `_open` is idle in one of `_idle`, or held by one request. Nobody waits
    while a connection is idle or another may be opened.
    """

    def __init__(self, create: Callable[[httpcore2.Origin], Any], settings: WireSettings) -> None:
        self._create = create
        self._limit = float("inf") if settings.max_connections is None else settings.max_connections
        self._keep = float("inf") if settings.max_keepalive is None else settings.max_keepalive
        self._open: dict[Any, Key] = {}
        self._idle: dict[Key, deque[Any]] = {}
        self._idle_count = 0
        self._waiting: OrderedDict[_Waiter, None] = OrderedDict()
        self._discarded: list[Any] = []
        self._next_sweep = 0.0

    @property
    def connections(self) -> list[Any]:
        """All that are open or about to be."""
        return list(self._open)

    @property
    def busy(self) -> int:
        """Connections that are held by requests, and requests that wait for one."""
        return len(self._open) - self._idle_count + len(self._waiting)

    async def handle_async_request(self, exchange: Exchange) -> Any:
        """The response to a request. Its connection is held until the response is closed."""
        origin = exchange.url.origin
        key = (origin.scheme, origin.host, origin.port)
        connection = self._take(key, origin) or await self._wait(_Waiter(key, origin), exchange)
        try:
            if self._discarded:
                await self._close_discarded()
            while True:
                try:
                    response = await connection.handle_async_request(exchange)
                    break
                except httpcore2.ConnectionNotAvailable:  # its peer has hung up: its place is ours
                    self._discard(connection)
                    connection = self._take(key, origin)
        except BaseException:
            await shielded(connection.aclose)
            await self.release(connection)
            raise
        response.stream = _Held(self, connection, response.stream)
        return response

    def _take(self, key: Key, origin: httpcore2.Origin) -> Any:
        """An idle connection, or a new one; None if one has to wait."""
        stack = self._idle.get(key)
        while stack:
            self._idle_count -= 1
            connection = stack.pop()
            if not connection.has_expired():
                return connection
            self._discard(connection)
        if len(self._open) < self._limit or self._evict():
            return self._new(key, origin)
        return None

    def _new(self, key: Key, origin: httpcore2.Origin) -> Any:
        connection = self._create(origin)
        self._open[connection] = key
        return connection

    def _evict(self) -> bool:
        """Make room by giving up an idle connection that bears another name."""
        for stack in self._idle.values():
            if stack:
                self._idle_count -= 1
                self._discard(stack.popleft())
                return True
        return False

    def _discard(self, connection: Any) -> None:
        self._open.pop(connection, None)
        self._discarded.append(connection)

    async def _wait(self, waiter: _Waiter, exchange: Exchange) -> Any:
        self._waiting[waiter] = None
        try:
            return await waiter.wait((exchange.extensions.get("timeout") or {}).get("pool"))
        except BaseException:
            self._waiting.pop(waiter, None)
            if waiter.connection is not None:  # it was given in the very moment
                await self.release(waiter.connection)
            raise

    async def release(self, connection: Any) -> None:
        """Nothing is on it any more. It never suspends on asyncio."""
        now = monotonic()
        key = self._open.get(connection)
        if key is None or not connection.is_reusable():
            self._discard(connection)
            self._give_place()
        elif self._waiting:
            self._give(connection, key)
        else:
            self._rest(connection, key)
        if now >= self._next_sweep:
            self._sweep(now)
        if self._discarded:
            await self._close_discarded()

    def _give(self, connection: Any, key: Key) -> None:
        """Give an idle connection to the first who waits, or its place if it bears another name."""
        if next(iter(self._waiting)).key != key:
            self._discard(connection)
            self._give_place()
            return
        waiter, _ = self._waiting.popitem(last=False)
        waiter.give(connection)

    def _give_place(self) -> None:
        if self._waiting and len(self._open) < self._limit:
            waiter, _ = self._waiting.popitem(last=False)
            waiter.give(self._new(waiter.key, waiter.origin))

    def _rest(self, connection: Any, key: Key) -> None:
        if self._idle_count >= self._keep:
            self._discard(connection)
            return
        self._idle_count += 1
        self._idle.setdefault(key, deque()).append(connection)

    def _sweep(self, now: float) -> None:
        """Give up what has been idle for too long: of each stack the bottom."""
        self._next_sweep = now + _SWEEP
        for key, stack in list(self._idle.items()):
            while stack and stack[0].has_expired():
                self._idle_count -= 1
                self._discard(stack.popleft())
            if not stack:
                del self._idle[key]

    async def _close_discarded(self) -> None:
        while self._discarded:
            await shielded(self._discarded.pop().aclose)

    async def aclose(self) -> None:
        """Close all connections. What is under way on them fails, and so does who waits for one."""
        self._discarded += self._open
        self._open.clear()
        self._idle.clear()
        self._idle_count = 0
        while self._waiting:
            self._waiting.popitem()[0].fail()
        await self._close_discarded()


class _Waiter:
    """A request that waits for a connection."""

    __slots__ = ("_event", "_failed", "_future", "connection", "key", "origin")

    def __init__(self, key: Key, origin: httpcore2.Origin) -> None:
        self.key = key
        self.origin = origin
        self.connection: Any = None
        self._failed = False
        self._event = self._future = None
        if on_trio():
            self._event = anyio.Event()
        else:
            self._future = asyncio.get_running_loop().create_future()

    def give(self, connection: Any) -> None:
        """It is this request's from now on, also if it is cancelled before it notices."""
        self.connection = connection
        self._wake()

    def fail(self) -> None:
        """There will be none."""
        self._failed = True
        self._wake()

    def _wake(self) -> None:
        if self._event is not None:
            self._event.set()
        elif self._future is not None and not self._future.done():
            self._future.set_result(None)

    async def wait(self, timeout: float | None) -> Any:
        """The connection. Raises PoolTimeout."""
        if self._event is not None:
            with anyio.move_on_after(timeout):
                await self._event.wait()
        else:
            await self._wait_on_asyncio(timeout)
        if self._failed:
            raise httpcore2.ConnectError("the wire has been closed")
        if self.connection is None:
            raise httpcore2.PoolTimeout
        return self.connection

    async def _wait_on_asyncio(self, timeout: float | None) -> None:
        assert self._future is not None
        if timeout is None:
            await self._future
            return
        timer = self._future.get_loop().call_later(timeout, self._wake)
        try:
            await self._future
        finally:
            timer.cancel()


class _Held:
    """The body of a response. The connection is held until it is closed."""

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
