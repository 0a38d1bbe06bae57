"""Three worlds without real time: a thread, a task of asyncio, a task of trio.

A scenario is written once, as a coroutine. In the world of threads nothing in it ever waits,
so that it can be run by a single `send`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import anyio
import trio
import trio.testing

from resilient.callsite import Blocks, bound_of, decorate
from resilient.core.bound import Bound
from resilient.policy.policy import Policy
from resilient.runtime.tasks import TaskDriver
from resilient.runtime.threads import ThreadDriver
from tests.discovery.virtual_loop import VirtualLoop

Scenario = Callable[[], Coroutine[Any, Any, None]]


class World:
    """Where a scenario takes place; after it nothing may be in flight."""

    def __init__(self) -> None:
        self.bounds: list[Bound] = []

    def under(self, policy: Policy, function: Callable[..., Any]) -> Any:
        """The function, which is written as a coroutine function, decorated."""
        decorated = self._decorate(policy, function)
        self.bounds.append(bound_of(decorated))
        return decorated

    def block(self, policy: Policy) -> Any:
        blocks = Blocks(policy, self.clock)
        self.bounds.append(blocks.bound)
        return self._enterable(blocks)

    def run(self, scenario: Scenario) -> None:
        self._run(scenario)
        for bound in self.bounds:
            assert bound.in_flight == 0
            assert bound.limit is None or bound.limit.in_flight == 0

    def clock(self) -> float:
        raise NotImplementedError

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError

    async def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError

    def _decorate(self, policy: Policy, function: Callable[..., Any]) -> Any:
        raise NotImplementedError

    def _enterable(self, blocks: Blocks) -> Any:
        raise NotImplementedError

    def _run(self, scenario: Scenario) -> None:
        raise NotImplementedError


class Threads(World):
    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def clock(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds

    async def sleep(self, seconds: float) -> None:
        self.advance(seconds)

    async def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    def _decorate(self, policy: Policy, function: Callable[..., Awaitable[Any]]) -> Any:
        def plain(*args: Any, **kwargs: Any) -> Any:
            return at_once(function(*args, **kwargs))

        return decorate(policy, plain, threads=ThreadDriver(self.clock, self.advance))

    def _enterable(self, blocks: Blocks) -> Any:
        return _Plain(blocks)

    def _run(self, scenario: Scenario) -> None:
        at_once(scenario())


class Tasks(World):
    def clock(self) -> float:
        return anyio.current_time()

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)

    async def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return await function(*args, **kwargs)

    def _decorate(self, policy: Policy, function: Callable[..., Any]) -> Any:
        return decorate(policy, function, tasks=TaskDriver(anyio.current_time, anyio.sleep))

    def _enterable(self, blocks: Blocks) -> Any:
        return blocks


class Asyncio(Tasks):
    def _run(self, scenario: Scenario) -> None:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(scenario())


class Trio(Tasks):
    def _run(self, scenario: Scenario) -> None:
        trio.run(scenario, clock=trio.testing.MockClock(autojump_threshold=0))


WORLDS = {"threads": Threads, "asyncio": Asyncio, "trio": Trio}


class _Plain:
    """A `with` block in the clothes of an `async with` block."""

    def __init__(self, blocks: Blocks) -> None:
        self._blocks = blocks

    async def __aenter__(self) -> Any:
        return self._blocks.__enter__()

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self._blocks.__exit__(kind, error, traceback)


def at_once(coroutine: Any) -> Any:
    """The result of a coroutine that never waits."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    finally:
        coroutine.close()
    raise AssertionError("it waited")


class Script:
    """A function that ends as it is told to: each step an exception to raise or a value to return."""

    def __init__(self, world: World, *steps: Any, seconds: float = 0.0) -> None:
        self._world = world
        self._steps = list(steps)
        self._seconds = seconds
        self.calls = 0

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        if self._seconds:
            await self._world.sleep(self._seconds)
        step = self._steps.pop(0) if len(self._steps) > 1 else self._steps[0]
        if isinstance(step, BaseException) or (isinstance(step, type) and issubclass(step, BaseException)):
            raise step
        return step
