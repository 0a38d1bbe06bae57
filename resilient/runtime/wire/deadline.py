"""The instant at which blocking code gives an attempt up, however slowly its bytes drip in.

Timeouts of sockets are for one operation each. Asynchronous code is cut off by cancelling
it; a thread can only be told before each operation how long that one may take.
"""

from __future__ import annotations

from contextvars import ContextVar
from time import monotonic

attempt_deadline: ContextVar[float | None] = ContextVar("resilient_attempt_deadline", default=None)
"""Seconds of `time.monotonic()`; read at each operation of a blocking connection."""


def within_deadline(timeout: float | None) -> float | None:
    """`timeout`, or the time until the deadline where that is less. Raises TimeoutError after it."""
    deadline = attempt_deadline.get()
    if deadline is None:
        return timeout
    left = deadline - monotonic()
    if left <= 0:
        raise TimeoutError("the deadline of the attempt has passed")
    return left if timeout is None or left < timeout else timeout
