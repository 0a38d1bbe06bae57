"""The driver of calls in tasks, of asyncio and trio alike."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from resilient.core.call import Call, journey
from resilient.core.effects import Admit, Discard, Effect, Reply, Resolve, Send, Sleep
from resilient.core.outcome import Outcome
from resilient.runtime.threads import Clock
from resilient.runtime.waiting import TaskWaiter, wait_in_task

Attempt = Callable[[Send], Awaitable[Any]]


class TaskDriver:
    """Runs journeys in the calling task. `clock` and `sleep` are arguments for tests."""

    def __init__(
        self, clock: Clock = time.monotonic, sleep: Callable[[float], Awaitable[None]] = anyio.sleep
    ) -> None:
        self.clock = clock
        self.sleep = sleep

    async def drive(self, call: Call, attempt: Attempt) -> Outcome:
        """Run a call to its end; `attempt` makes one attempt and returns the response."""
        clock = self.clock
        steps = journey(call, clock())
        try:
            effect = next(steps)
            while True:
                if type(effect) is Send:
                    try:
                        reply: Reply = (await attempt(effect), None, clock())
                    except Exception as error:
                        reply = (None, error, clock())
                else:
                    reply = await self._perform(effect)
                effect = steps.send(reply)
        except StopIteration as stop:
            outcome: Outcome = stop.value
            return outcome
        except BaseException:
            call.stopped_at = clock()
            raise
        finally:
            steps.close()

    async def _perform(self, effect: Effect) -> Reply:
        value: Any = None
        error: Exception | None = None
        if isinstance(effect, Sleep):
            await self.sleep(effect.seconds)
        elif isinstance(effect, Discard):
            await _close_quietly(effect.response)
        elif isinstance(effect, Admit):
            value = await wait_in_task(effect.limit, TaskWaiter(), effect.timeout)
        elif isinstance(effect, Resolve):
            error = await self._resolve(effect)
        else:
            raise TypeError(f"no driver for {effect!r}")
        return value, error, self.clock()

    async def _resolve(self, effect: Resolve) -> Exception | None:
        watch = effect.bound.watch
        if watch is None:
            return None
        waiter = TaskWaiter()
        watch.subscribe(waiter)
        try:
            await waiter.wait(effect.timeout)
        finally:
            watch.unsubscribe(waiter)
        return effect.bound.failure


async def _close_quietly(response: Any) -> None:
    try:
        await response.aclose()
    except Exception:  # noqa: S110 - nobody reads it; its connection is closed with it
        pass
