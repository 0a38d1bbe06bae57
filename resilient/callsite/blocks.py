"""A Policy as a context manager: deadline, breaker and limit around a block of code."""

from __future__ import annotations

import math
import sys
import time
from asyncio import AbstractEventLoop
from asyncio.events import _get_running_loop
from contextvars import ContextVar
from types import FrameType, TracebackType
from weakref import WeakSet

import anyio

from resilient.callsite.site import Attempt, Site
from resilient.context import is_generator
from resilient.core.bound import Bound
from resilient.core.call import journey
from resilient.core.effects import Admit, Effect, Reply, Send
from resilient.core.outcome import Outcome
from resilient.core.report import CallReport
from resilient.policy.policy import Policy
from resilient.runtime import ended
from resilient.runtime.threads import Clock
from resilient.runtime.waiting import TaskWaiter, ThreadWaiter, wait_in_task, wait_in_thread


class Block:
    """One block: its journey pauses at the attempt, which is the block itself."""

    __slots__ = ("__weakref__", "_steps", "attempt", "call", "is_over", "scope", "site", "step")

    def __init__(self, site: Site, now: float) -> None:
        self.site = site
        self.call = site.begin()
        self.attempt: Attempt | None = None
        self.scope: anyio.CancelScope | None = None
        self.is_over = False
        self.step: Effect | Outcome
        self._steps = journey(self.call, now)
        self.resume(None)

    def resume(self, reply: Reply | None) -> None:
        """Go on to the next effect, or to the outcome."""
        try:
            self.step = self._steps.send(reply)  # type: ignore[arg-type]
        except StopIteration as stop:
            self.step = stop.value

    def begin(self) -> None:
        """Enter the attempt; raises the reason if there is none."""
        if isinstance(self.step, Outcome):
            error = self.site.error(self.call, self.step)
            assert error is not None
            raise error
        assert isinstance(self.step, Send)
        self.attempt = self.site.attempt(self.call, self.step)
        self.attempt.__enter__()

    def end(self, error: BaseException | None, now: float) -> None:
        """Leave the attempt, once; raises what takes the place of `error`, if anything does."""
        assert self.attempt is not None
        if self.is_over:
            return
        self.is_over = True
        self.attempt.__exit__(None, error, None)
        if error is not None and not isinstance(error, Exception):
            self.call.stopped_at = now
            self._steps.close()
            return
        self.resume((None, error, now))
        assert isinstance(self.step, Outcome)  # without retries there is nothing after the attempt
        raised = self.site.error(self.call, self.step)
        if raised is not None and raised is not error:
            raise raised


_entered: ContextVar[tuple[tuple[Blocks, Block], ...]] = ContextVar("resilient_blocks", default=())


class Blocks:
    """The blocks of one Policy object, which share a breaker and a limit.

    Any number may be entered at once, including nested ones and those of other tasks and
    threads: the state of each lives in its context. A generator has no context of its own, and
    may be closed in any: its state is found by its frame. `clock` is an argument for tests;
    timers in tasks use the event loop's.
    """

    def __init__(self, policy: Policy, clock: Clock = time.monotonic) -> None:
        self._site = Site("block", policy.replace(retry=None), clock)
        self._clock = clock
        self._lent: dict[int, list[Block]] = {}
        """The blocks of generators, by the `id` of the frame, which leaves them before it dies."""
        self._by_loop: dict[AbstractEventLoop, WeakSet[Block]] = {}

    @property
    def bound(self) -> Bound:
        """The state that the blocks share."""
        return self._site.bound

    def __enter__(self) -> CallReport:
        generator = _generator(_caller())
        block = self._new()
        while isinstance(block.step, Admit):
            admitted = wait_in_thread(block.step.limit, ThreadWaiter(), block.step.timeout)
            block.resume((admitted, None, self._clock()))
        return self._push(block, generator)

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        block = self._pop(_generator(_caller()), error)
        if block is not None:
            block.end(error, self._clock())

    async def __aenter__(self) -> CallReport:
        caller = _caller()
        generator, is_cancellable = _generator(caller), _is_cancellable(caller)
        del caller
        block = self._new()
        while isinstance(block.step, Admit):
            admitted = await wait_in_task(block.step.limit, TaskWaiter(), block.step.timeout)
            block.resume((admitted, None, self._clock()))
        report = self._push(block, generator)
        if is_cancellable and isinstance(block.step, Send) and block.step.timeout is not None:
            block.scope = anyio.move_on_after(block.step.timeout)
            block.scope.__enter__()
        return report

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        block = self._pop(_generator(_caller()), error)
        if block is None or block.is_over:
            return
        if block.scope is not None:
            try:
                block.scope.__exit__(kind, error, traceback)
            except BaseException as failure:
                # Left in a different task from the one that entered it, which it must no longer cancel.
                block.scope.deadline = math.inf
                block.end(failure if error is None else error, self._clock())
                raise
            if block.scope.cancelled_caught:
                assert isinstance(block.step, Send)
                error = self._site.timed_out(block.step)
                block.end(error, self._clock())
                raise error
        block.end(error, self._clock())

    def _new(self) -> Block:
        if self._by_loop:
            self._end_closed()
        return Block(self._site, self._clock())

    def _end_closed(self) -> None:
        """End the blocks of closed loops: nothing runs there any more, and tasks may never be collected."""
        for loop in [loop for loop in list(self._by_loop) if ended.is_closed(loop)]:
            for block in list(self._by_loop.pop(loop, ())):
                block.end(GeneratorExit(), self._clock())

    def _push(self, block: Block, generator: int | None) -> CallReport:
        block.begin()
        if generator is not None:
            self._lent.setdefault(generator, []).append(block)
        else:
            _entered.set((*_entered.get(), (self, block)))
        loop = _get_running_loop()
        if loop is not None:
            self._by_loop.setdefault(loop, WeakSet()).add(block)
        return block.call.report

    def _pop(self, generator: int | None, error: BaseException | None) -> Block | None:
        """The block that is left; None if it was given up with its context, as a GeneratorExit shows."""
        if generator in self._lent:
            blocks = self._lent[generator]
            if len(blocks) == 1:
                del self._lent[generator]
            return blocks.pop()
        entered = _entered.get()
        for index in range(len(entered) - 1, -1, -1):
            owner, block = entered[index]
            if owner is self:
                _entered.set(entered[:index] + entered[index + 1 :])
                return block
        if isinstance(error, GeneratorExit):
            return None
        raise RuntimeError("a `with policy:` block must be left in the task or thread that entered it")


def _caller() -> FrameType | None:
    """What enters or leaves a block: the code with the `with` statement, or an ExitStack."""
    frame = sys._getframe(1).f_back  # noqa: SLF001 - the public way, inspect.currentframe(), is the same
    by_policy = frame is not None and frame.f_globals.get("__name__") == Policy.__module__
    return frame.f_back if frame is not None and by_policy else frame


def _generator(caller: FrameType | None) -> int | None:
    """What tells apart generators that hold a `with` statement; None for other code."""
    return id(caller) if caller is not None and is_generator(caller) else None


def _is_cancellable(caller: FrameType | None) -> bool:
    """False for a generator: its block would cancel the consumer, wherever that is by then.

    One that contextlib turns into a context manager has no consumer, only a `with` block.
    """
    if caller is None or not is_generator(caller):
        return True
    driver = caller.f_back
    return driver is not None and driver.f_globals.get("__name__") == "contextlib"
