"""The control thread: at most one per Mesh, started when it is first needed.

It runs an asyncio event loop of its own, in which resolvers watch their sources. Requests
never wait for it, except for the first resolution of a service.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from random import Random

from resilient.core import forking
from resilient.core.bound import Bound
from resilient.discovery.resolver import ResolutionFailed, Resolver
from resilient.policy.limit import Waiter
from resilient.runtime.daemons import DaemonThreads
from resilient.runtime.health import HealthChecker

log = logging.getLogger("resilient.discovery")

BACKOFF_FIRST = 1.0
BACKOFF_MAX = 30.0
"""Pause before a failed source is asked again: doubling from 1 s to 30 s, with jitter."""

_REPEATED_AT_ONCE = 8
"""Threads for functions that block: storage that hangs must not take up one for each breaker."""


class Watch:
    """One service being watched, and the calls that wait for its first resolution."""

    def __init__(self, bound: Bound, resolver: Resolver, clock: Callable[[], float]) -> None:
        self.bound = bound
        self.resolver = resolver
        self._clock = clock
        self._waiters: set[Waiter] = set()
        self._lock = threading.Lock()
        self._answered = False
        self._task: asyncio.Task[None] | None = None

    def subscribe(self, waiter: Waiter) -> None:
        """Wake `waiter` once resolving the service has succeeded or failed; at once if it has."""
        with self._lock:
            if not self._answered:
                self._waiters.add(waiter)
                return
        waiter.wake()

    @property
    def is_awaited(self) -> bool:
        """True while somebody waits for the first resolution."""
        return bool(self._waiters)

    def unsubscribe(self, waiter: Waiter) -> None:
        """Forget a waiter."""
        with self._lock:
            self._waiters.discard(waiter)

    def answer(self) -> None:
        """Wake all waiters: there are endpoints, or a reason why not."""
        with self._lock:
            self._answered = True
            waiters, self._waiters = self._waiters, set()
        for waiter in waiters:
            waiter.wake()

    def start(self, rng: Random) -> None:
        """Begin to follow, in the running loop."""
        self._task = asyncio.get_running_loop().create_task(self.run(rng))
        self._task.add_done_callback(self._ended)

    def cancel(self) -> None:
        """Stop following, in the control loop."""
        if self._task is not None:
            self._task.cancel()

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Let nobody wait for what will not come any more."""
        if task.cancelled() and self.bound.picker is None:
            self.bound.failure = ResolutionFailed("its endpoints are no longer being resolved")
        self.answer()

    async def run(self, rng: Random) -> None:
        """Follow the resolver forever; its failures leave the last good set in place."""
        failures = 0
        while True:
            try:
                async for endpoints in self.resolver.watch():
                    self.bound.update(endpoints, self._clock())
                    if failures:
                        log.info("%s: resolved again", self.bound.name)
                    failures = 0
                    self.answer()
                return
            except ResolutionFailed as failure:
                pause = self._failed(failure, failures, rng)
            except Exception as error:
                if failures == 0:
                    log.exception("%s: %r broke", self.bound.name, self.resolver)
                pause = self._failed(error, failures, rng)
            failures += 1
            await asyncio.sleep(pause)

    def _failed(self, error: Exception, failures: int, rng: Random) -> float:
        self.bound.failure = error
        if failures == 0:
            count = len(self.bound.endpoints)
            kept = f"keeping {count} known endpoints" if count else "no endpoints"
            log.warning("%s: %s; %s", self.bound.name, str(error) or repr(error), kept)
        self.answer()
        asked: float | None = getattr(error, "retry_after", None)
        if asked is not None:
            return asked
        pause: float = min(BACKOFF_MAX, BACKOFF_FIRST * 2 ** min(failures, 10))
        return pause * (0.5 + rng.random() / 2)


class Repeated:
    """A blocking function that is called repeatedly; `turns` bounds how many run at a time."""

    def __init__(self, work: Callable[[], None], interval: float) -> None:
        self._work = work
        self._interval = interval
        self._task: asyncio.Task[None] | None = None

    def start(self, turns: asyncio.Semaphore) -> None:
        """Begin, in the running loop."""
        self._task = asyncio.get_running_loop().create_task(self._run(turns))

    def cancel(self) -> None:
        """End, in the running loop."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self, turns: asyncio.Semaphore) -> None:
        failing = False
        while True:
            try:
                async with turns:
                    await asyncio.to_thread(self._work)
                failing = False
            except Exception:
                if not failing:
                    log.exception("%r failed; it is called again every %g s", self._work, self._interval)
                failing = True
            await asyncio.sleep(self._interval)


class Control:
    """The thread and what it runs. `watch` and `spawn` may be called from any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, rng: Random | None = None) -> None:
        self._clock = clock
        self._rng = rng or Random()
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closed = False
        self._turns: asyncio.Semaphore
        _controls.add(self)
        forking.register(self)

    @property
    def running(self) -> bool:
        """True while there is a thread."""
        return self._thread is not None and self._thread.is_alive()

    def watch(self, bound: Bound, resolver: Resolver) -> Watch:
        """Keep `bound` up to date from `resolver`."""
        watch = Watch(bound, resolver, self._clock)
        self.spawn(lambda: watch.start(self._rng))
        return watch

    def repeat(self, work: Callable[[], None], interval: float) -> Repeated:
        """Call a function that may block every `interval` seconds, in a worker thread."""
        repeated = Repeated(work, interval)
        self.spawn(lambda: repeated.start(self._turns))
        return repeated

    def checker(self, bound: Bound) -> HealthChecker:
        """What checks the health of a service's endpoints as its policy says; not yet started."""
        assert bound.policy.health is not None
        return HealthChecker(bound, bound.policy.health, self._clock, self._rng)

    def check(self, checker: HealthChecker) -> None:
        """Start checking."""
        self.spawn(checker.start)

    def stop(self, job: Watch | Repeated | HealthChecker) -> None:
        """End a job that was started here."""
        if self.running:
            self.spawn(job.cancel)

    def spawn(self, function: Callable[[], object]) -> None:
        """Call `function` in the control loop, starting the thread if there is none."""
        with self._lock:
            if self._closed:
                raise RuntimeError("the mesh is closed")
            if self._loop is None or not self.running:
                self._begin()
            assert self._loop is not None
            self._loop.call_soon_threadsafe(function)

    def _begin(self) -> None:
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=_run, args=(loop,), name="resilient-control", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no thread can be started now
            loop.close()
            raise
        self._loop, self._thread = loop, thread
        self._turns = asyncio.Semaphore(_REPEATED_AT_ONCE)

    def close(self, timeout: float = 5.0) -> None:
        """End all jobs and the thread, waiting for it at most `timeout` seconds."""
        with self._lock:
            is_first, self._closed = not self._closed, True
            thread, loop = self._thread, self._loop
        if thread is None or loop is None:
            return
        if is_first:  # a second stop would interrupt the loop's cleanup
            with suppress(RuntimeError):  # the interpreter has closed it
                loop.call_soon_threadsafe(loop.stop)
        if thread is not threading.current_thread():
            thread.join(timeout)

    def after_fork(self) -> None:
        """In a forked child: the thread lives on in the parent only, so begin anew when needed."""
        forking.inherited.append(self._loop)
        self._thread = self._loop = None
        self._lock = threading.Lock()
        self._rng.seed()


@cache
def process_control() -> Control:
    """The control of what belongs to no mesh: the breakers of decorated functions."""
    return Control()


_controls: weakref.WeakSet[Control] = weakref.WeakSet()

_LAST_WAIT = 1.0
"""Seconds for which the end of the program waits for the threads: tasks that it cuts off complain."""


@atexit.register
def _close_all() -> None:
    controls = list(_controls)
    for control in controls:
        control.close(0.0)
    latest = time.monotonic() + _LAST_WAIT
    for control in controls:
        control.close(max(0.0, latest - time.monotonic()))


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    loop.set_default_executor(DaemonThreads())
    try:
        loop.run_forever()
        _end_tasks(loop)
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def _end_tasks(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel all tasks, including those that a timer starts while others end."""
    while tasks := asyncio.all_tasks(loop):
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
