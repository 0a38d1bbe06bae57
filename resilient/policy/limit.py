"""Limit: how many calls of a service may be in flight at once, with a bounded queue.

Envoy and Istio call this circuit breaking (`max_requests`, `max_pending_requests`); the
literature calls it a bulkhead.
"""

from __future__ import annotations

from _thread import RLock  # re-entrant: a garbage-collected response gives its place back at any point
from collections import deque
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from resilient.core import check
from resilient.core.outcome import Outcome


@check.setting
@dataclass(frozen=True, slots=True)
class Limit:
    """At most `max_in_flight` calls at once; `max_queue` more may wait for a place.

    Waiting ends at the call's deadline, and after `queue_timeout` seconds at the latest. A
    call is in flight until its response body is read or closed. Defaults: 1000 in flight
    (.NET's standard handler), 100 waiting, 5 s (httpx's pool timeout).
    """

    max_in_flight: int = 1000
    max_queue: int = 100
    queue_timeout: check.Seconds = 5.0

    def __post_init__(self) -> None:
        check.count("Limit.max_in_flight", self.max_in_flight)
        check.count("Limit.max_queue", self.max_queue, minimum=0)
        check.seconds("Limit.queue_timeout", self.queue_timeout)

    def bind(self) -> LimitState:
        """A limit with nothing in flight."""
        return LimitState(self.max_in_flight, self.max_queue, self.queue_timeout)


@runtime_checkable
class LimitPolicy(Protocol):
    """What `Policy(limit=...)` takes: a frozen value that is bound to a service."""

    def bind(self) -> LimitState:
        """The state of the limit for one service."""
        ...


class Waiter(Protocol):
    """A call that waits for a place; `wake` may be called from any thread.

    False means that nobody is waiting any more (its event loop has ended).
    """

    def wake(self) -> bool:
        """End the wait."""
        ...


class LimitState:
    """The calls in flight and those that wait. A place is given back by `release`.

    A response may be garbage-collected, and release its place, at any moment, even in a thread
    that is inside one of these methods: the lock does not keep that out.
    """

    __slots__ = ("_lock", "_queue", "in_flight", "max_in_flight", "max_queue", "queue_timeout")

    def __init__(self, max_in_flight: int, max_queue: int, queue_timeout: float) -> None:
        self.max_in_flight = max_in_flight
        self.max_queue = max_queue
        self.queue_timeout = queue_timeout
        self.in_flight = 0
        self._queue: deque[Waiter] = deque()
        self._lock = RLock()

    @property
    def waiting(self) -> int:
        """How many wait for a place."""
        return len(self._queue)

    def acquire(self) -> bool:
        """Take a place if one is free and nobody waits for it."""
        with self._lock:
            if self.in_flight < self.max_in_flight and not self._queue:
                self.in_flight += 1
                return True
            return False

    def enqueue(self, waiter: Waiter) -> bool | None:
        """True: it has a place. None: it waits until `wake` is called. False: the queue is full."""
        with self._lock:
            if self.in_flight < self.max_in_flight and not self._queue:
                self.in_flight += 1
                return True
            if len(self._queue) >= self.max_queue:
                return False
            self._queue.append(waiter)
        if self.in_flight < self.max_in_flight:  # a place was given back before it was in the queue
            self._fill()
        return None

    def abandon(self, waiter: Waiter) -> bool:
        """Stop waiting. False if the waiter has already been given a place, which it then holds."""
        with self._lock:
            try:
                self._queue.remove(waiter)
            except ValueError:
                return False
            return True

    def release(self) -> None:
        """Give a place back; a waiter gets it, if there is one."""
        with self._lock:
            self.in_flight -= 1
        if self._queue:
            self._fill()

    def _fill(self) -> None:
        """Give the free places to those that wait."""
        while True:
            with self._lock:
                if not self._queue or self.in_flight >= self.max_in_flight:
                    return
                self.in_flight += 1
                try:
                    waiter = self._next()
                except IndexError:  # a place given back just now went to the last waiter
                    self.in_flight -= 1
                    return
            if not waiter.wake():
                with self._lock:
                    self.in_flight -= 1

    def _next(self) -> Waiter:
        """Remove and return the next waiter, the oldest; IndexError if there is none. The caller holds the lock."""
        return self._queue.popleft()

    def patience(self, left: float | None) -> float:
        """Seconds that a call with `left` seconds in all may wait for a place; none if 0 or less."""
        return self.queue_timeout if left is None else min(self.queue_timeout, left)

    def observe(self, outcome: Outcome, now: float) -> None:
        """Learn from a result; a fixed limit does not."""
