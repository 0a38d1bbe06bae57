"""The driver of calls in plain threads."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

from resilient.core.call import Call, Journey, journey
from resilient.core.effects import Admit, Discard, Effect, Reply, Resolve, Send, Sleep, Start, Stop, Wait
from resilient.core.outcome import Outcome
from resilient.runtime.waiting import ThreadWaiter, wait_in_thread

Clock = Callable[[], float]
Attempt = Callable[[Send], Any]


class ThreadDriver:
    """Runs journeys in the calling thread. `clock` and `sleep` are arguments for tests."""

    def __init__(self, clock: Clock = time.monotonic, sleep: Callable[[float], None] = time.sleep) -> None:
        self.clock = clock
        self.sleep = sleep

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
            call.stopped_at = clock()
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
            value = wait_in_thread(effect.limit, ThreadWaiter(), effect.timeout)
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
            waiter.wait(effect.timeout)
        finally:
            watch.unsubscribe(waiter)
        return effect.bound.failure

    def _race(self, steps: Journey, effect: Effect, attempt: Attempt) -> Outcome:
        """The rest of a journey that hedges: its attempts run in threads of their own."""
        runners = _Runners(attempt)
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

    A thread cannot be cancelled: it ends by the timeouts of its own attempt.
    """

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._ended: queue.SimpleQueue[tuple[Send, Any, Exception | None]] = queue.SimpleQueue()
        self._running: set[Send] = set()
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
        threading.Thread(target=copy_context().run, args=(self._run, send), name="resilient-hedge", daemon=True).start()

    def _run(self, send: Send) -> None:
        response: Any = None
        failure: Exception | None = None
        try:
            response = self._attempt(send)
        except Exception as error:
            failure = error
        with self._lock:
            wanted = send in self._running
            if wanted:
                self._ended.put((send, response, failure))
        if not wanted and response is not None:
            _close_quietly(response)

    def wait(self, timeout: float | None) -> tuple[Any, Exception | None]:
        """The next attempt to end."""
        try:
            send, response, error = self._ended.get(timeout=timeout)
        except queue.Empty:
            return None, None
        self._running.discard(send)
        return (send, response), error

    def _stop(self, send: Send) -> None:
        with self._lock:
            self._running.discard(send)
        self._close_ended()

    def abandon_all(self) -> None:
        """Nobody waits any more."""
        with self._lock:
            self._running.clear()
        self._close_ended()

    def _close_ended(self) -> None:
        """Close what had ended before it was given up."""
        kept = []
        while not self._ended.empty():
            entry = self._ended.get()
            if entry[0] in self._running:
                kept.append(entry)
            elif entry[1] is not None:
                _close_quietly(entry[1])
        for entry in kept:
            self._ended.put(entry)


def _close_quietly(response: Any) -> None:
    try:
        response.close()
    except Exception:  # noqa: S110 - nobody reads it; its connection is closed with it
        pass
