"""What code gives to all calls made inside it: a deadline, and the count of outer attempts.

Both live in one context variable, so that they follow the code into the tasks that it starts,
and into the threads of `asyncio.to_thread` and `anyio.to_thread`. A thread that you start
yourself inherits nothing (before Python 3.14), unless you run its function in a copy of the
context: `Thread(target=contextvars.copy_context().run, args=(function,))`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from inspect import CO_ASYNC_GENERATOR, CO_GENERATOR
from types import FrameType, TracebackType

from resilient.core import check
from resilient.core.ambient import Ambient, ambient


def deadline(seconds: float, *, clock: Callable[[], float] = time.monotonic) -> AbstractContextManager[None]:
    """A deadline for all calls inside the block: `with resilient.deadline(2.0): ...`.

    `seconds` from now; 0 refuses every call. The earliest of nested deadlines holds, those of
    policies included. It works in sync and in async code and interrupts neither: each of our
    calls that begins or is under way inside is cut off separately, and raises
    DeadlineExceeded. Raises ConfigError for a negative or infinite number. For one use only.

    A generator shares the context of its consumer, which has the deadline too while the
    generator is suspended inside the block: do not `yield` there.
    """
    check.seconds("deadline", seconds, zero=True)
    return _Block("deadline", lambda outer: _with_deadline(outer, seconds, clock))


def inbound_attempt(number: int) -> AbstractContextManager[None]:
    """Inside the block, the caller of this process is making its attempt `number` (from 1).

    Each attempt that the caller has made after its first leaves a call inside one retry fewer:
    the retries of layers add up, and do not multiply. Take the number from the request being
    served: `x-envoy-attempt-count` as it is, `grpc-previous-rpc-attempts` plus 1. Raises
    ConfigError for anything but a whole number from 1. For one use only.
    """
    check.count("inbound_attempt", number)
    return _Block("inbound_attempt", lambda outer: Ambient(outer.deadline, outer.clock, outer.attempt + number - 1))


def remaining() -> float | None:
    """Seconds that the surrounding code has left, 0.0 once its deadline has passed; None without one."""
    outer = around()
    left = outer.remaining() if outer is not None else None
    return None if left is None else max(0.0, left)


def _with_deadline(outer: Ambient, seconds: float, clock: Callable[[], float]) -> Ambient:
    left = outer.remaining()
    if left is not None and left <= seconds:
        return outer
    return Ambient(clock() + seconds, clock, outer.attempt)


_GENERATOR = CO_GENERATOR | CO_ASYNC_GENERATOR


def is_generator(frame: FrameType) -> bool:
    """True for code that shares the context of others: a generator, asynchronous or not."""
    return bool(frame.f_code.co_flags & _GENERATOR)


@dataclass(frozen=True, slots=True)
class Inside(Ambient):
    """Surroundings that code enters and leaves.

    `lent`: a generator enters them. It does so in the context of its consumer, and may be
    closed in another one: what the consumer keeps then says the same as `outer` from then on.
    """

    lent: bool = False
    outer: Ambient | None = None
    is_over: bool = False

    def remaining(self) -> float | None:
        """Seconds until the deadline; None without one."""
        if self.is_over:
            return None if self.outer is None else self.outer.remaining()
        return Ambient.remaining(self)

    def leave(self) -> None:
        """Restore the outer surroundings if these are current: whoever closes a generator keeps their own."""
        ours = around() is self
        if ours:
            ambient.set(self.outer)
        if self.lent or not ours:
            object.__setattr__(self, "is_over", True)
            object.__setattr__(self, "attempt", 1 if self.outer is None else self.outer.attempt)


def around() -> Ambient | None:
    """The surroundings of the running code, except those that are over."""
    found = ambient.get()
    while isinstance(found, Inside) and found.is_over:
        found = found.outer
    return found


def enter(deadline: float | None, clock: Callable[[], float] | None, attempt: int, *, lent: bool) -> Inside:
    """Set surroundings inside the present ones."""
    inside = Inside(deadline, clock, attempt, lent, around())
    ambient.set(inside)
    return inside


class _Block:
    """A block with surroundings of its own."""

    def __init__(self, name: str, change: Callable[[Ambient], Ambient]) -> None:
        self._name = name
        self._change = change
        self._inside: Inside | None = None

    def __enter__(self) -> None:
        if self._inside is not None:
            raise RuntimeError(f"{self._name}() is for one use: call it again for each `with`")
        new = self._change(around() or Ambient())
        lent = is_generator(sys._getframe(1))  # noqa: SLF001 - as inspect does
        self._inside = enter(new.deadline, new.clock, new.attempt, lent=lent)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._inside is not None:
            self._inside.leave()
