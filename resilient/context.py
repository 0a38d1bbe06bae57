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
from types import TracebackType

from resilient.core import check
from resilient.core.ambient import Ambient, ambient


def deadline(seconds: float, *, clock: Callable[[], float] = time.monotonic) -> AbstractContextManager[None]:
    """A deadline for all calls inside the block: `with resilient.deadline(2.0): ...`.

    `seconds` from now on; 0 refuses every call. Of nested deadlines the earliest holds, those
    of policies included. It works in sync and in async code and interrupts neither: each call
    of ours that begins or is under way inside is cut off by itself, and raises
    DeadlineExceeded. Raises ConfigError for a negative or infinite number. One use each.
    """
    check.seconds("deadline", seconds, zero=True)
    return _Inside(lambda outer: _with_deadline(outer, seconds, clock))


def inbound_attempt(number: int) -> AbstractContextManager[None]:
    """Inside the block, the caller of this process is making its attempt `number` (from 1).

    Each attempt after the first that somebody outside has made is one retry less that a call
    inside makes: retries of layers add up, and do not multiply. Take it from the request that
    is being served: `x-envoy-attempt-count` as it is, `grpc-previous-rpc-attempts` plus 1.
    Raises ConfigError for what is not a whole number from 1. One use each.
    """
    check.count("inbound_attempt", number)
    return _Inside(lambda outer: Ambient(outer.deadline, outer.clock, outer.attempt + number - 1))


def remaining() -> float | None:
    """Seconds that the code around has left, 0.0 once its deadline has passed; None without one."""
    around = ambient.get()
    left = around.remaining() if around is not None else None
    return None if left is None else max(0.0, left)


def _with_deadline(outer: Ambient, seconds: float, clock: Callable[[], float]) -> Ambient:
    left = outer.remaining()
    if left is not None and left <= seconds:
        return outer
    return Ambient(clock() + seconds, clock, outer.attempt)


class _Inside:
    """A block with surroundings of its own."""

    def __init__(self, change: Callable[[Ambient], Ambient]) -> None:
        self._change = change
        self._outer: Ambient | None = None

    def __enter__(self) -> None:
        self._outer = ambient.get()
        ambient.set(self._change(self._outer or Ambient()))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        ambient.set(self._outer)
