"""What code gives to all calls made inside it: a deadline, and the count of outer attempts.

Both live in one context variable, so that they follow the code into the tasks that it starts,
and into the threads of `asyncio.to_thread` and `anyio.to_thread`. A thread that you start
yourself inherits nothing (before Python 3.14), unless you run its function in a copy of the
context: `Thread(target=contextvars.copy_context().run, args=(function,))`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from inspect import CO_ASYNC_GENERATOR, CO_GENERATOR
from types import FrameType, TracebackType

from resilient.core import check
from resilient.core.ambient import Ambient, ambient, enter


def deadline(seconds: float, *, clock: Callable[[], float] = time.monotonic) -> AbstractContextManager[None]:
    """A deadline for all calls inside the block: `with resilient.deadline(2.0): ...`.

    `seconds` from now; 0 refuses every call. The earliest of nested deadlines holds, those of
    policies included. It works in sync and in async code and interrupts neither: each of our
    calls that begins or is under way inside is cut off separately, and raises
    DeadlineExceeded. Raises ConfigError for a negative or infinite number. For one use only.

    A task that outlives the block is no longer bound by it. A generator shares the context of
    its consumer, which has the deadline too while the generator is suspended inside the block:
    do not `yield` there.
    """
    check.seconds("deadline", seconds, zero=True)
    return _Block("deadline", lambda: enter(clock() + seconds, clock, None))


def inbound_attempt(number: int) -> AbstractContextManager[None]:
    """Inside the block, the caller of this process is making its attempt `number` (from 1).

    Each attempt that the caller has made after its first leaves a call inside one retry fewer:
    the retries of layers add up, and do not multiply. Take the number from the request being
    served: `x-envoy-attempt-count` as it is, `grpc-previous-rpc-attempts` plus 1. Raises
    ConfigError for anything but a whole number from 1. For one use only.
    """
    check.count("inbound_attempt", number)
    return _Block("inbound_attempt", lambda: enter(None, None, _attempt() + number - 1))


def remaining() -> float | None:
    """Seconds that the surrounding code has left, 0.0 once its deadline has passed; None without one."""
    around = ambient.get()
    left = around.remaining() if around is not None else None
    return None if left is None else max(0.0, left)


def _attempt() -> int:
    around = ambient.get()
    return 1 if around is None else around.attempt


_GENERATOR = CO_GENERATOR | CO_ASYNC_GENERATOR


def is_generator(frame: FrameType) -> bool:
    """True for code that shares the context of others: a generator, asynchronous or not."""
    return bool(frame.f_code.co_flags & _GENERATOR)


class _Block:
    """A block with surroundings of its own."""

    def __init__(self, name: str, make: Callable[[], Ambient]) -> None:
        self._name = name
        self._make = make
        self._inside: Ambient | None = None

    def __enter__(self) -> None:
        if self._inside is not None:
            raise RuntimeError(f"{self._name}() is for one use: call it again for each `with`")
        self._inside = self._make()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._inside is not None:
            self._inside.leave()
