"""A Policy as a context manager: deadline, breaker and limit around a block of code."""

from __future__ import annotations

import time
from contextvars import ContextVar
from types import TracebackType

import anyio

from resilient.callsite.site import Attempt, Site
from resilient.core.bound import Bound
from resilient.core.call import journey
from resilient.core.effects import Admit, Effect, Reply, Send
from resilient.core.outcome import Outcome
from resilient.core.report import CallReport
from resilient.policy.policy import Policy
from resilient.runtime.threads import Clock
from resilient.runtime.waiting import TaskWaiter, ThreadWaiter, wait_in_task, wait_in_thread


class Block:
    """One block: its journey stands still at the attempt, which is the block itself."""

    __slots__ = ("_steps", "attempt", "call", "scope", "site", "step")

    def __init__(self, site: Site, now: float) -> None:
        self.site = site
        self.call = site.begin()
        self.attempt: Attempt | None = None
        self.scope: anyio.CancelScope | None = None
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
        """Leave the attempt; raises what takes the place of `error`, if anything does."""
        assert self.attempt is not None
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

    Any number may be entered at once, nested ones and those of other tasks and threads
    included: what belongs to one of them lives in its context. `clock` is an argument for
    tests; timers in tasks go by that of the event loop.
    """

    def __init__(self, policy: Policy, clock: Clock = time.monotonic) -> None:
        self._site = Site("block", policy.replace(retry=None), clock)
        self._clock = clock

    @property
    def bound(self) -> Bound:
        """The state that the blocks share."""
        return self._site.bound

    def __enter__(self) -> CallReport:
        block = Block(self._site, self._clock())
        while isinstance(block.step, Admit):
            admitted = wait_in_thread(block.step.limit, ThreadWaiter(), block.step.timeout)
            block.resume((admitted, None, self._clock()))
        return self._push(block)

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self._pop().end(error, self._clock())

    async def __aenter__(self) -> CallReport:
        block = Block(self._site, self._clock())
        while isinstance(block.step, Admit):
            admitted = await wait_in_task(block.step.limit, TaskWaiter(), block.step.timeout)
            block.resume((admitted, None, self._clock()))
        report = self._push(block)
        if isinstance(block.step, Send) and block.step.timeout is not None:
            block.scope = anyio.move_on_after(block.step.timeout)
            block.scope.__enter__()
        return report

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        block = self._pop()
        if block.scope is not None:
            block.scope.__exit__(kind, error, traceback)
            if block.scope.cancelled_caught:
                assert isinstance(block.step, Send)
                error = self._site.timed_out(block.step)
                block.end(error, self._clock())
                raise error
        block.end(error, self._clock())

    def _push(self, block: Block) -> CallReport:
        block.begin()
        _entered.set((*_entered.get(), (self, block)))
        return block.call.report

    def _pop(self) -> Block:
        entered = _entered.get()
        for index in range(len(entered) - 1, -1, -1):
            owner, block = entered[index]
            if owner is self:
                _entered.set(entered[:index] + entered[index + 1 :])
                return block
        raise RuntimeError("a `with policy:` block must be left in the task or thread that entered it")
