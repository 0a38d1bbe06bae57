"""The driver of calls in plain threads."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from resilient.core.call import Call, journey
from resilient.core.effects import Admit, Discard, Effect, Reply, Resolve, Send, Sleep
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


def _close_quietly(response: Any) -> None:
    try:
        response.close()
    except Exception:  # noqa: S110 - nobody reads it; its connection is closed with it
        pass
