"""Virtual time for threads; for tasks see async_clock.py.

Pure code takes `now` as an argument and needs none of this. A Mesh takes `clock=`.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from resilient.runtime.waiting import ThreadWaiter
from resilient.testing.standstill import Standstill, is_control

_POLL = 0.0005  # seconds between looks at threads that have yet to begin to wait, or to end
_PATIENCE = 10.0  # seconds of real time in which threads have to come to rest


class VirtualClock:
    """Time that passes only while somebody waits for it, and then at once.

    Call it for the time; `Mesh(clock=...)` takes it. A mesh then pauses and waits by it too,
    so that a `transport` which calls `sleep` makes attempts slow without taking time.

    With one thread `sleep` moves it on. Where several threads play together (a hedge is a
    thread), let `run` begin them.
    """

    def __init__(self, now: float = 0.0) -> None:
        self._now = now
        self._sleepers: list[_Sleeper] = []
        self._changed = threading.Condition()
        self._order = itertools.count()
        self._runs = 0
        self._standstill = Standstill(self)

    def __call__(self) -> float:
        """The time."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Move the time on; within `run` time moves by itself."""
        self._now += seconds

    def sleep(self, seconds: float) -> None:
        """Let `seconds` pass."""
        self.wait(ThreadWaiter(), max(0.0, seconds))

    def wait(self, waiter: ThreadWaiter, timeout: float | None) -> bool:
        """Wait until somebody wakes `waiter`; False if `timeout` seconds pass before."""
        if waiter.woken:
            return True
        if not self._runs:
            if timeout is None:
                return waiter.wait(None)
            while self._standstill.holds():
                if waiter.wait(_POLL):
                    return True
            self._now += timeout
            return waiter.woken
        sleeper = _Sleeper(waiter, None if timeout is None else self._now + timeout, next(self._order))
        with self._changed:
            self._sleepers.append(sleeper)
            self._changed.notify_all()
        try:
            waiter.wait(None)
        finally:
            with self._changed:
                self._sleepers.remove(sleeper)
        if sleeper.given_up:
            raise RuntimeError("virtual time stands still")
        return not sleeper.expired

    def run(self, *functions: Callable[[], Any]) -> list[Any]:
        """Call each function in a thread of its own; what they return, in their order.

        Whenever all these threads, and all that they have started, wait by this clock, time
        moves on to the moment at which the first of them goes on. Returns once all of them
        have ended; raises what the first function that raised did. Threads that wait for each
        other in another way stop the time: RuntimeError says so after 10 s of real time.
        """
        before = set(threading.enumerate())
        runs = [_Run(function) for function in functions]
        self._runs += 1
        try:
            for run in runs:
                run.start()
            self._let_pass(
                lambda: [each for each in threading.enumerate() if each not in before and not is_control(each)]
            )
        finally:
            self._runs -= 1
        return [run.result() for run in runs]

    def _let_pass(self, running: Callable[[], Sequence[threading.Thread]]) -> None:
        give_up = time.monotonic() + _PATIENCE
        while running():
            with self._changed:
                if self._at_rest(running) and not self._standstill.holds():
                    give_up = time.monotonic() + _PATIENCE
                    self._wake_first()
                else:
                    self._changed.wait(_POLL)
            if time.monotonic() > give_up:
                self._give_up(running())

    def _give_up(self, running: Sequence[threading.Thread]) -> NoReturn:
        """End the waits too: a thread of a pool that waited for ever would keep the program from its end."""
        with self._changed:
            waiting = {sleeper.thread for sleeper in self._sleepers}
            for sleeper in self._sleepers:
                sleeper.given_up = True
                sleeper.waiter.wake()
        others = ", ".join(thread.name for thread in running if thread not in waiting)
        raise RuntimeError(
            f"virtual time stands still: {len(waiting)} of {len(running)} threads wait by the clock; not: {others}"
        )

    def _at_rest(self, running: Callable[[], Sequence[threading.Thread]]) -> bool:
        """True if every thread waits, and some for a time. The caller holds the lock."""
        if not any(sleeper.end is not None for sleeper in self._sleepers):
            return False
        # In this order: who could still wake one of them is found running, or has woken it.
        waiting = {sleeper.thread for sleeper in self._sleepers}
        return waiting.issuperset(running()) and not any(sleeper.waiter.woken for sleeper in self._sleepers)

    def _wake_first(self) -> None:
        end, _, first = min(
            (sleeper.end, sleeper.order, sleeper) for sleeper in self._sleepers if sleeper.end is not None
        )
        self._now = max(self._now, end)
        first.expired = True
        first.waiter.wake()


class _Sleeper:
    """A thread that waits by the clock."""

    def __init__(self, waiter: ThreadWaiter, end: float | None, order: int) -> None:
        self.waiter = waiter
        self.end = end
        self.order = order
        self.expired = False
        self.given_up = False
        self.thread = threading.current_thread()


class _Run(threading.Thread):
    """A function in a thread, and what became of it."""

    def __init__(self, function: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._function = function
        self._value: Any = None
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._value = self._function()
        except BaseException as error:  # noqa: BLE001 - raised again by `result`
            self._error = error

    def result(self) -> Any:
        if self._error is not None:
            raise self._error
        return self._value
