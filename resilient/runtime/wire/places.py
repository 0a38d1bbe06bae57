"""Who has which HTTP/1.1 connection: the state of a pool, without I/O.

A connection of HTTP/1.1 serves one request at a time, so nothing needs to be looked for: idle
connections lie in stacks, the warmest on top, those who wait stand in a queue, and whoever is
done hands its connection, or the place of a closed one, to the first of them. httpcore's
pool, which knows multiplexed connections too, looks through all connections and requests at
each beginning and end.
"""

from __future__ import annotations

from _thread import allocate_lock
from collections import OrderedDict
from collections.abc import Callable
from time import monotonic
from typing import Any, Protocol

import httpcore2

from resilient.runtime.wire.settings import WireSettings

_SWEEP = 1.0  # seconds between looks for connections that have been idle for too long

Key = tuple[bytes, bytes, int]


def key_of(origin: httpcore2.Origin) -> Key:
    """What tells origins apart. Raises UnsupportedProtocol, in httpcore's words, for what is not HTTP."""
    scheme = origin.scheme
    if scheme in (b"http", b"https", b"ws", b"wss"):
        return scheme, origin.host, origin.port
    if not scheme:
        raise httpcore2.UnsupportedProtocol("Request URL is missing an 'http://' or 'https://' protocol.")
    raise httpcore2.UnsupportedProtocol(f"Request URL has an unsupported protocol '{scheme.decode()}://'.")


class Waiter(Protocol):
    """A request that waits for a connection."""

    origin: httpcore2.Origin
    key: Key
    connection: Any

    def give(self, connection: Any) -> None:
        """It is this request's from now on, also if it gives up before it notices. None: there will be none."""

    def fail(self, error: Exception) -> None:
        """None could be made."""


class Places:
    """The places of a pool. Every connection is idle on a stack, or held by one request.

    Nobody waits while a connection is idle or another may be opened. Connections that are
    given up lie in `discarded` until somebody closes them. For any number of threads.
    """

    __slots__ = (
        "_create",
        "_idle",
        "_idle_count",
        "_keep",
        "_limit",
        "_lock",
        "_next_sweep",
        "_open",
        "_waiting",
        "discarded",
    )

    def __init__(self, create: Callable[[httpcore2.Origin], Any], settings: WireSettings) -> None:
        self._create = create
        self._limit = float("inf") if settings.max_connections is None else settings.max_connections
        self._keep = float("inf") if settings.max_keepalive is None else settings.max_keepalive
        self._open: dict[Any, Key] = {}
        self._idle: dict[Key, list[Any]] = {}
        self._idle_count = 0
        self._waiting: OrderedDict[Waiter, None] = OrderedDict()
        self._next_sweep = 0.0
        self._lock = allocate_lock()
        self.discarded: list[Any] = []

    @property
    def connections(self) -> list[Any]:
        """All that are open or about to be."""
        return list(self._open)

    @property
    def busy(self) -> int:
        """Connections that are held by requests, and requests that wait for one."""
        return len(self._open) - self._idle_count + len(self._waiting)

    def take(self, key: Key, origin: httpcore2.Origin) -> Any:
        """An idle connection, or a new one; None if one has to `queue`."""
        with self._lock:
            return self._take(key, origin)

    def queue(self, waiter: Waiter) -> None:
        """Stand in the queue; the connection may come at once."""
        with self._lock:
            connection = self._take(waiter.key, waiter.origin)
            if connection is None:
                self._waiting[waiter] = None
                return
        waiter.give(connection)

    def leave(self, waiter: Waiter) -> None:
        """Give up waiting. A connection that came in the very moment is the waiter's to release."""
        with self._lock:
            self._waiting.pop(waiter, None)

    def another(self, connection: Any, key: Key, origin: httpcore2.Origin) -> Any:
        """In place of one that is of no use any more."""
        with self._lock:
            self._discard(connection)
            return self._take(key, origin)

    def release(self, connection: Any) -> None:
        """Nothing is on it any more: it rests, or goes to the first who waits."""
        reusable = connection.is_reusable()
        with self._lock:
            key = self._open.get(connection)
            if key is None or not reusable:
                self._discard(connection)
                self._give_place()
            elif self._waiting:
                self._give(connection, key)
            else:
                self._rest(connection, key)
            now = monotonic()
            if now >= self._next_sweep:
                self._sweep(now)

    def clear(self) -> None:
        """Give up all connections, and tell those who wait."""
        with self._lock:
            self.discarded += self._open
            self._open.clear()
            self._idle.clear()
            self._idle_count = 0
            waiting = list(self._waiting)
            self._waiting.clear()
        for waiter in waiting:
            waiter.give(None)

    def _take(self, key: Key, origin: httpcore2.Origin) -> Any:
        stack = self._idle.get(key)
        if stack:
            self._idle_count -= 1
            return stack.pop()
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
                self._discard(stack.pop(0))
                return True
        return False

    def _discard(self, connection: Any) -> None:
        self._open.pop(connection, None)
        self.discarded.append(connection)

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
            try:
                connection = self._new(waiter.key, waiter.origin)
            except Exception as error:  # such as a certificate that has gone: not the releasing one's fault
                waiter.fail(error)
            else:
                waiter.give(connection)

    def _rest(self, connection: Any, key: Key) -> None:
        if self._idle_count >= self._keep:
            self._discard(connection)
            return
        self._idle_count += 1
        self._idle.setdefault(key, []).append(connection)

    def _sweep(self, now: float) -> None:
        """Give up what has been idle for too long: of each stack the bottom."""
        self._next_sweep = now + _SWEEP
        for key, stack in list(self._idle.items()):
            while stack and stack[0].has_expired():
                self._idle_count -= 1
                self._discard(stack.pop(0))
            if not stack:
                del self._idle[key]
