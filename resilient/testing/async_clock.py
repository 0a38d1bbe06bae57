"""Virtual time for tasks, of asyncio and of trio."""

from __future__ import annotations

import asyncio
import math
import selectors
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Literal, TypeVar, TypeVarTuple, Unpack

import anyio

from resilient.core import check
from resilient.testing.standstill import Standstill

if TYPE_CHECKING:
    from trio.testing import MockClock

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
Backend = Literal["asyncio", "trio"]

_REAL_WAIT = 10.0  # seconds; a virtual loop that only a thread can wake waits in real time
_POLL = 0.001  # seconds between looks at what the control thread does


class AsyncVirtualClock:
    """Time that jumps to the next timer whenever all tasks wait, in asyncio and in trio.

        clock = AsyncVirtualClock()
        mesh = resilient.Mesh(services, clock=clock)
        clock.run(main)

    Call it for the time, from any thread and also while nothing runs: a Mesh asks it from its
    control thread too, which `trio.current_time` and `anyio.current_time` do not allow. Every
    timer goes by it, those of your own code included. A later run goes on where the one
    before has ended; there is one at a time.
    """

    def __init__(self, now: float = 0.0) -> None:
        check.number("AsyncVirtualClock", now)
        self._now: Callable[[], float] = lambda: now
        self._standstill = Standstill(self)

    def __call__(self) -> float:
        """The time."""
        return self._now()

    def run(
        self,
        function: Callable[[Unpack[Ts]], Awaitable[T]],
        *args: *Ts,
        backend: Backend = "asyncio",
    ) -> T:
        """Run an async function to its end, as `anyio.run` does; returns what it returns."""
        name, options = self.backend(backend)
        return anyio.run(function, *args, backend=name, backend_options=options)

    def backend(self, name: Backend) -> tuple[str, dict[str, Any]]:
        """What the fixture `anyio_backend` of anyio's pytest plugin returns for this clock."""
        check.one_of("backend", name, ("asyncio", "trio"))
        return (name, {"loop_factory": self.loop}) if name == "asyncio" else (name, {"clock": self.trio_clock()})

    def loop(self) -> VirtualLoop:
        """A new event loop that goes by this clock: `asyncio.Runner(loop_factory=clock.loop)`."""
        loop = VirtualLoop(self(), self._standstill)
        self._now = loop.time
        return loop

    def trio_clock(self) -> MockClock:
        """A new clock for trio that this one follows: `trio.run(main, clock=clock.trio_clock())`."""
        import trio
        from trio.testing import MockClock

        clock = MockClock(autojump_threshold=0)
        clock.jump(self())
        jump = clock._autojump  # noqa: SLF001 - the class is final, and has no other way in

        def jump_unless_awaited() -> None:
            if self._standstill.holds() or trio.lowlevel.current_statistics().seconds_to_next_deadline == math.inf:
                time.sleep(_POLL)  # trio looks for news then, and comes back
            else:
                jump()

        clock._autojump = jump_unless_awaited  # type: ignore[method-assign]  # noqa: SLF001
        self._now = clock.current_time
        return clock


class VirtualLoop(asyncio.SelectorEventLoop):
    """An asyncio loop whose time starts at 0 and jumps to the next timer when all wait.

    `asyncio.Runner(loop_factory=VirtualLoop)`; a Mesh under test takes `clock=loop.time`.
    `now`: where its time starts. AsyncVirtualClock makes one, and is there before the loop.
    """

    def __init__(self, now: float = 0.0, standstill: Standstill | None = None) -> None:
        self._jumping = _JumpingSelector(now, standstill or Standstill(self.time))
        super().__init__(self._jumping)

    def time(self) -> float:
        """The virtual time."""
        return self._jumping.now

    def run_in_executor(self, executor: Any, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        """As usual; time stands still until it has ended (`asyncio.to_thread`, lookups of names)."""
        future = super().run_in_executor(executor, func, *args)
        self._jumping.working += 1
        future.add_done_callback(self._jumping.worked)
        return future


class _JumpingSelector(selectors.DefaultSelector):
    """Waits by moving the clock on, unless a descriptor is ready."""

    def __init__(self, now: float, standstill: Standstill) -> None:
        super().__init__()
        self.now = now
        self._standstill = standstill
        self.working = 0

    def worked(self, _: object) -> None:
        """A thread that tasks wait for has ended."""
        self.working -= 1

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            return super().select(_REAL_WAIT)  # only another thread can end this wait
        while self.working or self._standstill.holds():
            ready = super().select(_POLL)
            if ready:
                return ready
        self.now += max(0.0, timeout)
        return []
