"""The driver of calls in plain threads."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from typing import Any

from resilient.core.call import Call, Journey, journey
from resilient.core.effects import Admit, Discard, Effect, Reply, Resolve, Send, Sleep, Start, Stop, Wait
from resilient.core.outcome import Outcome
from resilient.runtime import spare
from resilient.runtime.waiting import ThreadWaiter, WaitInThread, wait_in_thread

Clock = Callable[[], float]
Attempt = Callable[[Send], Any]


class ThreadDriver:
    """Runs journeys in the calling thread.

    `sleep` and `wait` are the clock's own if it has them, as `testing.VirtualClock` does.
    """

    def __init__(
        self,
        clock: Clock = time.monotonic,
        sleep: Callable[[float], None] | None = None,
        wait: WaitInThread | None = None,
    ) -> None:
        self.clock = clock
        own_sleep: Callable[[float], None] = getattr(clock, "sleep", time.sleep)
        own_wait: WaitInThread = getattr(clock, "wait", ThreadWaiter.wait)
        self.sleep = sleep or own_sleep
        self.wait = wait or own_wait

    def drive(self, call: Call, attempt: Attempt) -> Outcome:
        """Run a call to its end; `attempt` makes one attempt and returns the response."""
        clock = self.clock
        steps = journey(call, clock())
        try:
            effect = next(steps)
            while True:
                if type(effect) is Send:
                    try:
                        reply: Reply = (attempt(effect), None, clock())
                    except Exception as error:
                        reply = (None, error, clock())
                elif type(effect) is Start:
                    return self._race(steps, effect, attempt)
                else:
                    reply = self._perform(effect)
                effect = steps.send(reply)
        except StopIteration as stop:
            outcome: Outcome = stop.value
            return outcome
        except BaseException:
            _close_quietly(call.cut_off(clock()))
            raise
        finally:
            steps.close()

    def _perform(self, effect: Effect) -> Reply:
        value: Any = None
        error: Exception | None = None
        if isinstance(effect, Sleep):
            self.sleep(effect.seconds)
        elif isinstance(effect, Discard):
            _close_quietly(effect.response)
        elif isinstance(effect, Admit):
            value = wait_in_thread(effect.limit, ThreadWaiter(), effect.timeout, self.wait)
        elif isinstance(effect, Resolve):
            error = self._resolve(effect)
        else:
            raise TypeError(f"no driver for {effect!r}")
        return value, error, self.clock()

    def _resolve(self, effect: Resolve) -> Exception | None:
        watch = effect.bound.watch
        if watch is None:
            return None
        waiter = ThreadWaiter()
        watch.subscribe(waiter)
        try:
            self.wait(waiter, effect.timeout)
        finally:
            watch.unsubscribe(waiter)
        return effect.bound.failure

    def _race(self, steps: Journey, effect: Effect, attempt: Attempt) -> Outcome:
        """The rest of a journey that hedges: its attempts run in threads of their own."""
        runners = _Runners(attempt, self.wait)
        try:
            while True:
                if isinstance(effect, (Start, Wait, Stop)):
                    reply = (*runners.perform(effect), self.clock())
                elif isinstance(effect, Send):
                    runners.start(effect)
                    ended, error = runners.wait(None)
                    reply = (ended and ended[1], error, self.clock())
                else:
                    reply = self._perform(effect)
                effect = steps.send(reply)
        except StopIteration as stop:
            outcome: Outcome = stop.value
            return outcome
        finally:
            runners.abandon_all()


class _Runners:
    """Attempts in threads. One that was given up closes its response when it comes.

    A thread cannot be cancelled: its attempt ends by its own timeouts.
    """

    def __init__(self, attempt: Attempt, wait: WaitInThread) -> None:
        self._attempt = attempt
        self._wait = wait
        # A virtual clock stands still while a thread neither waits on it nor ends.
        self._begin = spare.run_soon if wait is ThreadWaiter.wait else spare.start
        self._running: set[Send] = set()
        self._ended: deque[tuple[Send, Any, BaseException | None]] = deque()
        self._waiter = ThreadWaiter()
        self._lock = threading.Lock()

    def perform(self, effect: Effect) -> tuple[Any, Exception | None]:
        """Start, stop or wait."""
        if isinstance(effect, Wait):
            return self.wait(effect.timeout)
        if isinstance(effect, Start):
            self.start(effect.send)
        elif isinstance(effect, Stop):
            self._stop(effect.send)
        return None, None

    def start(self, send: Send) -> None:
        """Begin an attempt, in the context of the caller."""
        self._running.add(send)
        self._begin(partial(copy_context().run, self._run, send))

    def _run(self, send: Send) -> None:
        response: Any = None
        failure: BaseException | None = None
        try:
            response = self._attempt(send)
        except BaseException as error:  # the caller waits for it
            failure = error
        with self._lock:
            wanted = send in self._running
            if wanted:
                self._running.remove(send)
                self._ended.append((send, response, failure))
                self._waiter.wake()
        if wanted:
            return
        _close_quietly(response)
        if failure is not None and not isinstance(failure, Exception):
            raise failure  # to `threading.excepthook`, which reports it: the caller has gone on

    def wait(self, timeout: float | None) -> tuple[Any, Exception | None]:
        """The next attempt to end; None if none does in time. Raises what is not an Exception."""
        with self._lock:
            if not self._ended:
                self._waiter = ThreadWaiter()
        if not self._ended:
            self._wait(self._waiter, timeout)
        with self._lock:
            if not self._ended:
                return None, None
            send, response, error = self._ended.popleft()
        if error is not None and not isinstance(error, Exception):
            raise error
        return (send, response), error

    def _stop(self, send: Send) -> None:
        with self._lock:
            self._running.discard(send)
            given_up = [entry for entry in self._ended if entry[0] is send]
            for entry in given_up:
                self._ended.remove(entry)
        for _, response, _ in given_up:
            _close_quietly(response)

    def abandon_all(self) -> None:
        """Give up all attempts: nobody waits any more."""
        with self._lock:
            self._running.clear()
            given_up = list(self._ended)
            self._ended.clear()
        for _, response, _ in given_up:
            _close_quietly(response)


def _close_quietly(response: Any) -> None:
    if response is None:
        return
    # Nobody reads it; its connection is closed with it.
    with suppress(Exception):
        response.close()
