"""The timers that measure the lag of event loops while calls are under way."""

from __future__ import annotations

import sys
import time
from _thread import get_ident
from asyncio import AbstractEventLoop
from asyncio.events import _get_running_loop
from collections.abc import Callable
from typing import Any

from resilient.core.lag import THRESHOLD, TICK, Lag
from resilient.runtime import ended

Clock = Callable[[], float]


class LoopLag(Lag):
    """The lag of one loop, and the calls under way in it; without calls there is no timer."""

    __slots__ = ("_clock", "in_flight", "loop", "ticking")

    def __init__(self, threshold: float, clock: Clock, loop: Any) -> None:
        super().__init__(threshold)
        self._clock = clock
        self.loop = loop
        self.in_flight = 0
        """Calls under way; whoever calls `enter` subtracts one at the end."""
        self.ticking = False

    def start(self) -> None:
        """Start ticking; it stops by itself when no call is under way."""
        self.ticking = True
        self._start()

    def _start(self) -> None:
        self.loop.call_later(TICK, self._on_timer)

    def _on_timer(self) -> None:
        if self._goes_on():
            self._start()

    def _goes_on(self) -> bool:
        """Take a tick; True if another one is wanted."""
        now = self._clock()
        self.tick(now)
        self.ticking = self.in_flight > 0
        if self.ticking:
            self.due = now + TICK
        return self.ticking


class _TrioLag(LoopLag):
    """The same in a trio run, where a system task takes the place of a timer."""

    __slots__ = ()

    def _start(self) -> None:
        import trio

        trio.lowlevel.spawn_system_task(self._tick_on, name="resilient lag")

    async def _tick_on(self) -> None:
        import trio

        goes_on = True
        while goes_on:
            await trio.sleep(TICK)
            goes_on = self._goes_on()


class Lags:
    """The lag of each event loop that makes calls.

    `threshold`: seconds of lag from which no endpoint is blamed for a timeout and no call is
    hedged. Default 50 ms: more than garbage collection takes, and little beside usual timeouts.
    """

    def __init__(self, threshold: float = THRESHOLD, clock: Clock = time.monotonic) -> None:
        self._threshold = threshold
        self._clock = clock
        self._by_loop: dict[Any, LoopLag] = {}
        self._latest: LoopLag | None = None
        """That of the newest loop, if it is asyncio's: its `_thread_id` says where it runs now."""
        ended.watch(self)

    def enter(self, now: float) -> LoopLag:
        """A call begins in the loop that runs this code; it ends with `in_flight -= 1`."""
        lag = self._latest
        # Before Python 3.12, asking asyncio which loop runs takes a system call, and as much time as
        # all the rest. A loop that runs in this thread is the one.
        if lag is None or lag.loop._thread_id != get_ident():  # noqa: SLF001
            lag = self._by_loop.get(_get_running_loop()) or self._find()
        if not lag.in_flight:
            lag.due = now + TICK  # whatever was due before: the loop may have been idle meanwhile
            if not lag.ticking:
                lag.start()
                if len(self._by_loop) > 1:
                    ended.forget_closed()
        lag.in_flight += 1
        return lag

    def _find(self) -> LoopLag:
        # `get_running_loop` would raise in trio.
        key = _get_running_loop() or _trio_run()
        return self._by_loop.get(key) or self._meet(key)

    def _meet(self, key: Any) -> LoopLag:
        ended.forget_closed()
        # Idle loops, ended ones among them, are dropped; they are added again if they come back.
        kept = {key: lag for key, lag in list(self._by_loop.items()) if lag.in_flight}
        kind = LoopLag if isinstance(key, AbstractEventLoop) else _TrioLag
        lag = kind(self._threshold, self._clock, key)
        self._by_loop = {**kept, key: lag}
        self._latest = lag if hasattr(key, "_thread_id") else None  # uvloop's is not visible
        return lag

    def forget_closed(self) -> None:
        """End the calls of loops that were closed under them."""
        for loop in [loop for loop in list(self._by_loop) if ended.is_closed(loop)]:
            lag = self._by_loop.pop(loop, None)
            if lag is not None and lag.in_flight:
                ended.end_calls(loop)

    def seconds(self, now: float) -> float:
        """The largest lag of the loops that make calls now."""
        busy = [lag for lag in list(self._by_loop.values()) if lag.in_flight]
        return max((lag.seconds(now) for lag in busy), default=0.0)

    def after_fork(self) -> None:
        """In a forked child: none of the event loops goes on."""
        self._by_loop = {}
        self._latest = None


def _trio_run() -> Any:
    return sys.modules["trio"].lowlevel.current_trio_token()
