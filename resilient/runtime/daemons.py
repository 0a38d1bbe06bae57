"""Threads for what blocks in the control loop: the mirrors of breakers, getaddrinfo."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from threading import Thread
from typing import Any


class DaemonThreads(ThreadPoolExecutor):
    """Runs each piece of work in a daemon thread of its own.

    The interpreter waits at its end for the threads of a ThreadPoolExecutor, which accepts no
    work once the main thread has ended, though other threads may go on for days.
    """

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Start at once; work that blocks ends by its own timeout."""
        future: Future[Any] = Future()
        work = partial(fn, *args, **kwargs)
        Thread(target=_run, args=(future, work), name="resilient-control-worker", daemon=True).start()
        return future


def _run(future: Future[Any], work: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = work()
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(result)
