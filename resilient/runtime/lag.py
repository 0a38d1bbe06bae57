"""The timers that measure the lag of event loops while calls are under way."""

from __future__ import annotations

import sys
import time
from asyncio import AbstractEventLoop
from asyncio.events import _get_running_loop
from collections.abc import Callable
from typing import Any

from resilient.core.lag import TICK, Lag

Clock = Callable[[], float]


class LoopLag(Lag):
    """The lag of one loop, and the calls under way in it. Without any there is no timer."""

    __slots__ = ("_clock", "_in_flight", "_loop", "_ticking")

    def __init__(self, threshold: float, clock: Clock, loop: Any) -> None:
        super().__init__(threshold)
        self._clock = clock
        self._loop = loop
        self._in_flight = 0
        self._ticking = False

    @property
    def is_idle(self) -> bool:
        """True if no call is under way."""
        return self._in_flight == 0

    def enter(self, now: float) -> None:
        """A call begins."""
        if not self._in_flight:
            self.expect(now)  # whatever was expected of a timer before: the loop may have rested
            if not self._ticking:
                self._ticking = True
                self._start()
        self._in_flight += 1

    def leave(self) -> None:
        """A call has ended. The timer finds out by itself, so that a row of calls shares it."""
        self._in_flight -= 1
        if not self._in_flight:
            self.rest()

    def _start(self) -> None:
        self._loop.call_later(TICK, self._on_timer)

    def _on_timer(self) -> None:
        if self._goes_on():
            self._start()

    def _goes_on(self) -> bool:
        """Take a tick; True if another one is wanted."""
        now = self._clock()
        self.tick(now)
        self._ticking = self._in_flight > 0
        if self._ticking:
            self.expect(now)
        return self._ticking


class _TrioLag(LoopLag):
    """The same in a run of trio, where a system task takes the place of a timer."""

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

    `threshold`: seconds from which an endpoint is not blamed for a timeout, nor hedged. Default
    50 ms: more than garbage collection takes, and little beside the usual timeouts.
    """

    def __init__(self, threshold: float = 0.05, clock: Clock = time.monotonic) -> None:
        self._threshold = threshold
        self._clock = clock
        self._by_loop: dict[Any, LoopLag] = {}

    def here(self) -> LoopLag:
        """That of the loop that runs this code."""
        loop = _get_running_loop()  # `get_running_loop` would raise in trio
        found = self._by_loop.get(_trio_run() if loop is None else loop)
        return found or self._meet(loop)

    def _meet(self, loop: AbstractEventLoop | None) -> LoopLag:
        # Loops that have nothing to do, ended ones among them, are met again if they come back.
        kept = {key: lag for key, lag in list(self._by_loop.items()) if not lag.is_idle}
        if loop is None:
            key = _trio_run()
            lag: LoopLag = _TrioLag(self._threshold, self._clock, key)
        else:
            key, lag = loop, LoopLag(self._threshold, self._clock, loop)
        self._by_loop = {**kept, key: lag}
        return lag

    def seconds(self, now: float) -> float:
        """The largest lag of all loops."""
        return max((lag.seconds(now) for lag in list(self._by_loop.values())), default=0.0)


def _trio_run() -> Any:
    return sys.modules["trio"].lowlevel.current_trio_token()
