"""Waiting for something that another thread or event loop will announce."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import anyio

from resilient.policy.limit import LimitState


class ThreadWaiter:
    """A thread that waits."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = threading.Event()

    def wake(self) -> bool:
        """End the wait; from any thread."""
        self._event.set()
        return True

    def wait(self, timeout: float | None) -> bool:
        """True once woken, False after `timeout` seconds."""
        return self._event.wait(timeout)


class TaskWaiter:
    """A task of asyncio or trio that waits; `wake` may be called from any thread."""

    __slots__ = ("_call_soon", "_event")

    def __init__(self) -> None:
        self._event = anyio.Event()
        self._call_soon = _call_soon_threadsafe()

    def wake(self) -> bool:
        """End the wait; False if the event loop has ended."""
        try:
            self._call_soon(self._event.set)
        except RuntimeError:  # asyncio: "Event loop is closed"; trio: RunFinishedError
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


def wait_in_thread(limit: LimitState, waiter: ThreadWaiter, timeout: float | None) -> bool:
    """Queue for a place under a limit; True if the place is ours."""
    place = limit.enqueue(waiter)
    if place is not None:
        return place
    try:
        admitted = waiter.wait(timeout)
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
        if not limit.abandon(waiter):
            limit.release()
        raise
    return admitted or not limit.abandon(waiter)
