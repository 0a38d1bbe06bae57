"""Spare threads: those that run the attempts of hedged calls, kept for the next one.

A call that may be hedged needs a thread for its first attempt too, since the caller's own has
to be able to go on without it. Starting one for each call costs more than all else that a
hedge does; consecutive calls share one, and calls under way at the same time each have their
own. A thread that has been idle for a second ends. They are daemons: none of them keeps the
interpreter from ending.
"""

from __future__ import annotations

import threading
from _thread import allocate_lock
from collections import deque
from collections.abc import Callable

from resilient.core import forking

IDLE = 1.0  # seconds for which a thread is kept: more than pass between the calls of a busy service

Job = Callable[[], object]

_spare: deque[_Worker] = deque()


class _Worker:
    """A thread that runs one job after the other."""

    __slots__ = ("_given", "_job")

    def __init__(self, job: Job) -> None:
        self._job: Job | None = job
        self._given = allocate_lock()
        self._given.acquire()
        start(self._work)

    def give(self, job: Job) -> None:
        """Hand over the next job; only for the caller that took the worker from the spare ones."""
        self._job = job
        self._given.release()

    def _work(self) -> None:
        while self._job is not None:
            job, self._job = self._job, None
            job()
            del job  # so that what it holds is not kept until the next one
            _spare.append(self)
            if not self._given.acquire(timeout=IDLE) and not self._is_retired():
                self._given.acquire()  # taken at the last moment: the job is on its way

    def _is_retired(self) -> bool:
        try:
            _spare.remove(self)
        except ValueError:
            return False
        return True


def run_soon(job: Job) -> None:
    """Run `job` in a thread: in a spare one if there is one."""
    try:
        worker = _spare.pop()  # the most recent, so that the others can expire
    except IndexError:
        _Worker(job)
    else:
        worker.give(job)


def start(job: Job) -> None:
    """Run `job` in a thread of its own, which ends with it."""
    threading.Thread(target=job, name="resilient-hedge", daemon=True).start()


forking.in_child(_spare.clear)  # none of them lives there
