"""Waiting for something that another thread or event loop will announce."""

from __future__ import annotations

import asyncio
import threading
from _thread import allocate_lock
from collections.abc import Callable
from contextlib import suppress

import anyio

from resilient.policy.limit import LimitState


class ThreadWaiter:
    """A thread that waits.

    A bare lock, and not a threading.Event: a response that is garbage-collected gives its
    place to the next in a queue, at any moment in any thread, even one that is just inside
    the lock of that very Event.
    """

    __slots__ = ("_lock", "woken")

    def __init__(self) -> None:
        self.woken = False
        self._lock = allocate_lock()
        self._lock.acquire()

    def wake(self) -> bool:
        """End the wait; from any thread."""
        self.woken = True
        with suppress(RuntimeError):  # it was woken before
            self._lock.release()
        return True

    def wait(self, timeout: float | None) -> bool:
        """True once woken, False after `timeout` seconds."""
        return self.woken or self._lock.acquire(timeout=-1 if timeout is None else min(timeout, threading.TIMEOUT_MAX))


class TaskWaiter:
    """A task of asyncio or trio that waits; `wake` may be called from any thread."""

    __slots__ = ("_call_soon", "_event", "missed")

    def __init__(self) -> None:
        self.missed = False
        """True if the announcement came after the end of the event loop."""
        self._event = anyio.Event()
        self._call_soon = _call_soon_threadsafe()

    def wake(self) -> bool:
        """End the wait; False if the event loop has ended."""
        try:
            self._call_soon(self._event.set)
        except RuntimeError:  # asyncio: "Event loop is closed"; trio: RunFinishedError
            self.missed = True
            return False
        return True

    async def wait(self, timeout: float | None) -> bool:
        """True once woken, False after `timeout` seconds."""
        with anyio.move_on_after(timeout):
            await self._event.wait()
            return True
        return False


def _call_soon_threadsafe() -> Callable[[Callable[[], None]], object]:
    try:
        return asyncio.get_running_loop().call_soon_threadsafe
    except RuntimeError:
        import trio

        return trio.lowlevel.current_trio_token().run_sync_soon


WaitInThread = Callable[[ThreadWaiter, float | None], bool]


def wait_in_thread(
    limit: LimitState, waiter: ThreadWaiter, timeout: float | None, wait: WaitInThread = ThreadWaiter.wait
) -> bool:
    """Queue for a place under a limit; True if the place is ours."""
    place = limit.enqueue(waiter)
    if place is not None:
        return place
    try:
        admitted = wait(waiter, timeout)
    except BaseException:
        # KeyboardInterrupt: a place that was given meanwhile goes to the next.
        if not limit.abandon(waiter):
            limit.release()
        raise
    # Given between the end of the wait and now: ours, whatever the wait said.
    return admitted or not limit.abandon(waiter)


async def wait_in_task(limit: LimitState, waiter: TaskWaiter, timeout: float | None) -> bool:
    """Queue for a place under a limit; True if the place is ours."""
    place = limit.enqueue(waiter)
    if place is not None:
        return place
    try:
        admitted = await waiter.wait(timeout)
    except BaseException:
        # Cancelled: a place that was given meanwhile goes to the next.
        if not limit.abandon(waiter) and not waiter.missed:
            limit.release()
        raise
    return admitted or not limit.abandon(waiter)
