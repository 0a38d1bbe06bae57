"""The instant at which blocking code gives an attempt up, however slowly its bytes drip in.

Timeouts of sockets are for one operation each. Asynchronous code is cut off by cancelling
it; a thread can only be told before each operation how long that one may take.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from time import monotonic

attempt_deadline: ContextVar[float | None] = ContextVar("resilient_attempt_deadline", default=None)
"""Seconds of `time.monotonic()`; read at each operation of a blocking connection."""


class AttemptOver(BaseException):
    """The deadline of an attempt passed on a connection that others use as well.

    Not an Exception, since httpcore must take it for a cancellation, which ends one request,
    and not for a fault of the connection, which ends all of them.
    """


def is_over() -> bool:
    """True once the deadline of the attempt has passed."""
    deadline = attempt_deadline.get()
    return deadline is not None and monotonic() >= deadline


def within_deadline(timeout: float | None) -> float | None:
    """`timeout`, or the time until the deadline where that is less. Raises TimeoutError after it."""
    deadline = attempt_deadline.get()
    if deadline is None:
        return timeout
    left = deadline - monotonic()
    if left <= 0:
        raise TimeoutError("the deadline of the attempt has passed")
    return left if timeout is None or left < timeout else timeout


def wait_until_deadline(acquire: Callable[..., bool]) -> None:
    """Acquire a lock or a semaphore of `threading`; raises AttemptOver."""
    deadline = attempt_deadline.get()
    if deadline is None:
        acquire()
        return
    left = deadline - monotonic()
    if left <= 0 or not acquire(timeout=left):
        raise AttemptOver


class Turn:
    """A lock that is waited for until the deadline of the attempt; raises AttemptOver.

    First come, first served. A lock of `threading` goes to whoever asks first when it is free,
    mostly the thread that has just released it: on a shared connection that one reads what is
    another's, and would go on reading while the other waits for the lock to find it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_taken = False
        self._queue: deque[threading.Lock] = deque()

    def __enter__(self) -> None:
        with self._lock:
            if not self._is_taken:
                self._is_taken = True
                return
            waiter = threading.Lock()
            waiter.acquire()
            self._queue.append(waiter)
        try:
            wait_until_deadline(waiter.acquire)
        except BaseException:
            self._leave(waiter)
            raise

    def _leave(self, waiter: threading.Lock) -> None:
        """Stop waiting; a turn that was given meanwhile goes to the next."""
        with self._lock:
            if waiter in self._queue:
                self._queue.remove(waiter)
                return
        self.__exit__()

    def __exit__(self, *exc_info: object) -> None:
        with self._lock:
            if self._queue:
                self._queue.popleft().release()  # it is taken still, by another
            else:
                self._is_taken = False


class Places:
    """A semaphore in the shape of httpcore's that is waited for likewise."""

    def __init__(self, count: int) -> None:
        self._semaphore = threading.Semaphore(count)

    def acquire(self) -> None:
        """Take a place."""
        if not self.acquire_if_available():
            wait_until_deadline(self._semaphore.acquire)

    def acquire_if_available(self) -> bool:
        """Take a place if one is free."""
        return self._semaphore.acquire(blocking=False)

    def release(self) -> None:
        """Give a place back."""
        self._semaphore.release()
