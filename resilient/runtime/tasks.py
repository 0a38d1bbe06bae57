"""The driver of calls in tasks, for asyncio and trio alike."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import anyio
from anyio.abc import TaskGroup

from resilient.core.call import Call, Journey, journey
from resilient.core.effects import Admit, Discard, Effect, Reply, Resolve, Send, Sleep, Start, Stop, Wait
from resilient.core.outcome import Outcome
from resilient.runtime.lag import Lags
from resilient.runtime.threads import Clock
from resilient.runtime.waiting import TaskWaiter, wait_in_task

Attempt = Callable[[Send], Awaitable[Any]]


class TaskDriver:
    """Runs journeys in the calling task. `clock` and `sleep` are arguments for tests.

    `lags` measures how late the event loop is; None for no measurement.
    """

    def __init__(
        self,
        clock: Clock = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
        lags: Lags | None = None,
    ) -> None:
        self.clock = clock
        self.sleep = sleep
        self.lags = lags

    async def drive(self, call: Call, attempt: Attempt) -> Outcome:
        """Run a call to its end; `attempt` makes one attempt and returns the response."""
        clock = self.clock
        now = clock()
        lag = None
        if self.lags is not None:
            call.lag = lag = self.lags.enter(now)
        steps = journey(call, now)
        try:
            effect = next(steps)
            while True:
                if type(effect) is Send:
                    try:
                        reply: Reply = (await attempt(effect), None, clock())
                    except Exception as error:
                        reply = (None, error, clock())
                elif type(effect) is Start:
                    return await self._race(steps, effect, attempt)
                else:
                    reply = await self._perform(effect)
                effect = steps.send(reply)
        except StopIteration as stop:
            outcome: Outcome = stop.value
            return outcome
        except BaseException:
            await _close_quietly(call.cut_off(clock()))
            raise
        finally:
            steps.close()
            if lag is not None:
                lag.in_flight -= 1

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

    async def _race(self, steps: Journey, effect: Effect, attempt: Attempt) -> Outcome:
        """The rest of a journey that hedges: its attempts run in tasks of their own."""
        runners = _Runners(attempt)
        async with anyio.create_task_group() as group:
            runners.group = group
            try:
                result = await self._run_race(steps, effect, runners)
            finally:
                # Also when cancelled: what has ended meanwhile is closed, the rest stopped.
                await runners.abandon_all()
        # Raised here, or the group would wrap them.
        if runners.escaped is not None:
            raise runners.escaped
        if isinstance(result, Exception):
            raise result
        assert result is not None
        return result

    async def _run_race(self, steps: Journey, effect: Effect, runners: _Runners) -> Outcome | Exception | None:
        try:
            while True:
                if isinstance(effect, (Start, Wait, Stop)):
                    reply = (*await runners.perform(effect), self.clock())
                elif isinstance(effect, Send):
                    runners.start(effect)
                    ended, error = await runners.wait(None)
                    reply = (ended and ended[1], error, self.clock())
                else:
                    reply = await self._perform(effect)
                if runners.escaped is not None:
                    return None
                effect = steps.send(reply)
        except StopIteration as stop:
            outcome: Outcome = stop.value
            return outcome
        except Exception as error:
            return error


class _Runners:
    """Attempts in tasks of one group. One that was given up closes its response if one still comes."""

    group: TaskGroup

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._running: dict[Send, anyio.CancelScope] = {}
        self._ended: deque[tuple[Send, Any, Exception | None]] = deque()
        self._news = anyio.Event()
        self.escaped: BaseException | None = None
        """What an attempt raised that is not an Exception: it ends the call, and goes to the caller."""

    async def perform(self, effect: Effect) -> tuple[Any, Exception | None]:
        """Start, stop or wait."""
        if isinstance(effect, Wait):
            return await self.wait(effect.timeout)
        if isinstance(effect, Start):
            self.start(effect.send)
        elif isinstance(effect, Stop):
            await self._stop(effect.send)
        return None, None

    def start(self, send: Send) -> None:
        """Begin an attempt."""
        self._running[send] = anyio.CancelScope()
        self.group.start_soon(self._run, send, self._running[send])

    async def _run(self, send: Send, scope: anyio.CancelScope) -> None:
        response: Any = None
        failure: Exception | None = None
        with scope:
            try:
                response = await self._attempt(send)
            except Exception as error:
                failure = error
            except GeneratorExit:  # the event loop was closed
                raise
            except BaseException as error:
                if _is_cancellation(error):
                    raise
                self.escaped = error
                self._news.set()
                return
            if self._running.pop(send, None) is not None:
                self._ended.append((send, response, failure))
                self._news.set()
            else:
                await _close_quietly(response)

    async def wait(self, timeout: float | None) -> tuple[Any, Exception | None]:
        """The next attempt to end; None if none does in time."""
        with anyio.move_on_after(timeout):
            while not self._ended and self.escaped is None:
                self._news = anyio.Event()
                await self._news.wait()
        if not self._ended or self.escaped is not None:
            return None, None
        send, response, error = self._ended.popleft()
        return (send, response), error

    async def _stop(self, send: Send) -> None:
        scope = self._running.pop(send, None)
        if scope is not None:
            scope.cancel()
        for entry in [entry for entry in self._ended if entry[0] is send]:
            self._ended.remove(entry)
            await _close_quietly(entry[1])

    async def abandon_all(self) -> None:
        """Give up all attempts: nobody waits any more."""
        self._running.clear()
        self.group.cancel_scope.cancel()
        while self._ended:
            _, response, _ = self._ended.popleft()
            await _close_quietly(response)


def _is_cancellation(error: BaseException) -> bool:
    """True for what belongs to an enclosing scope, and ends there. A CancelledError may come from elsewhere."""
    kinds = (anyio.get_cancelled_exc_class(), BaseExceptionGroup)
    return isinstance(error, kinds) and anyio.current_effective_deadline() == -math.inf


ENDED_WITH_LOOP = (TaskDriver.drive.__code__, _Runners._run.__code__)  # noqa: SLF001
"""What holds something that has to be given back if its event loop is closed under it."""


async def _close_quietly(response: Any) -> None:
    """Close a response that nobody reads, also while cancelled; its connection is closed with it."""
    if response is not None:
        with anyio.CancelScope(shield=True), suppress(Exception):
            await response.aclose()
