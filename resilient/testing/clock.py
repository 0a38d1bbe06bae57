"""Virtual time for threads and asyncio. trio has its own: `trio.testing.MockClock(autojump_threshold=0)`.

Pure code takes `now` as an argument and needs none of this. A Mesh takes `clock=`.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import selectors
import threading

_REAL_WAIT = 10.0  # seconds; a virtual loop that only a thread can wake waits in real time


class VirtualClock:
    """Time that moves only when told to, for plain threads.

    Call it for the time. `sleep` moves it on at once: right for one thread. With several,
    make it with `manual=True`: a sleeper then waits until another thread has called
    `advance` far enough, and sleepers wake in the order of their times.
    """

    def __init__(self, now: float = 0.0, *, manual: bool = False) -> None:
        self._now = now
        self._manual = manual
        self._sleepers: list[tuple[float, int, threading.Event]] = []
        self._order = itertools.count()
        self._changed = threading.Condition()

    def __call__(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        """Let `seconds` pass."""
        if not self._manual:
            self._now += max(0.0, seconds)
            return
        woken = threading.Event()
        with self._changed:
            heapq.heappush(self._sleepers, (self._now + seconds, next(self._order), woken))
            self._changed.notify_all()
        woken.wait()

    def advance(self, seconds: float) -> None:
        """Move the time on, waking those whose time has come, the earliest first."""
        with self._changed:
            end = self._now + seconds
            while self._sleepers and self._sleepers[0][0] <= end:
                self._now, _, woken = heapq.heappop(self._sleepers)
                woken.set()
            self._now = end

    def wait_for_sleepers(self, count: int, timeout: float = 5.0) -> None:
        """Wait, in real time, until `count` threads sleep; raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._sleepers) >= count, timeout):
                raise TimeoutError(f"{len(self._sleepers)} of {count} threads sleep after {timeout} s")


class VirtualLoop(asyncio.SelectorEventLoop):
    """An asyncio loop whose time starts at 0 and jumps to the next timer when all wait.

    `asyncio.Runner(loop_factory=VirtualLoop)`; a Mesh under test takes `clock=loop.time`.
    """

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        """The virtual time."""
        return self._jumping.now


class _JumpingSelector(selectors.DefaultSelector):
    """Waits by moving the clock on, unless a descriptor is ready."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            return super().select(_REAL_WAIT)  # only another thread can end this wait
        self.now += max(0.0, timeout)
        return []
