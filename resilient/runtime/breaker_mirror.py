"""The mirror between a breaker and the storage that it shares with other processes.

A shared storage such as Redis is too far away to be asked at every call. The breaker decides
by what is in memory; the mirror tells the storage of its decisions, and the breaker of those
of others, off the request path. Only OPEN and CLOSED are shared: each process makes its own
probes, and what one of them finds out closes or opens all.

Give the client of the storage a timeout, and no retries of its own
(`redis.Redis(..., socket_timeout=1.0, socket_connect_timeout=1.0, retry=None)`): the thread
that runs `sync_once` waits for it.
"""

from __future__ import annotations

import copy
import logging
import threading
import time
from datetime import UTC, datetime
from typing import Any, NoReturn

from pybreaker import STATE_CLOSED, STATE_OPEN, CircuitBreakerStorage, CircuitRedisStorage

from resilient.policy.breaker_state import BreakerState

log = logging.getLogger("resilient.breaker")


class BreakerMirror:
    """Keeps one breaker and its remote storage in step.

    `sync_once` blocks, for as long as the storage does: call it from a worker thread, every
    `interval` seconds. While the storage fails, the breaker's own decisions stand, and the
    latest of them is told once the storage is back; what it said before that is forgotten,
    so that nothing piles up. An outage is logged when it begins and when it ends.
    """

    def __init__(self, breaker: BreakerState) -> None:
        if breaker.remote is None:
            raise ValueError(f"the breaker of {breaker.name!r} has no storage to share")
        self.interval = breaker.setting.sync_interval
        self._breaker = breaker
        self._storage = _outspoken(breaker.remote)
        self._shared = STATE_CLOSED
        self._failing = False
        self._busy = threading.Lock()

    def sync_once(self, now: float | None = None) -> None:
        """Tell the storage what is new here, then follow what is new there.

        `now` is on the clock of the breaker, `time.monotonic()` if it is None. Does nothing
        while another thread is at it. A failure of the storage is not raised.
        """
        if not self._busy.acquire(blocking=False):
            return
        try:
            self._tell()
            self._follow(time.monotonic() if now is None else now)
        except Exception as failure:
            self._failed(failure)
        else:
            self._recovered()
        finally:
            self._busy.release()

    def _tell(self) -> None:
        """Write our latest OPEN or CLOSED, if the storage does not have it."""
        news = self._breaker.untold
        if news is not None:
            self._write(news.name)
            self._breaker.told(news)

    def _write(self, state: str) -> None:
        opened_at = self._breaker.opened_at
        if state == STATE_OPEN and opened_at is not None:
            self._storage.opened_at = opened_at
        self._storage.state = state
        self._shared = state

    def _follow(self, now: float) -> None:
        """Go over to OPEN or CLOSED as another process has."""
        shared = self._storage.state
        if shared == self._shared or shared not in (STATE_OPEN, STATE_CLOSED):
            return
        opened_at = self._storage.opened_at
        if opened_at is None and self._shared == STATE_OPEN:
            # Who closes leaves the time of opening in place: this one has lost its data, not closed.
            self._write(STATE_OPEN)
        elif self._breaker.adopt(shared, now, _age(opened_at)):
            self._shared = shared

    def _failed(self, failure: Exception) -> None:
        if not self._failing:
            log.warning("%s: shared breaker state is out of reach, going on alone: %r", self._breaker.name, failure)
        self._failing = True

    def _recovered(self) -> None:
        if self._failing:
            log.info("%s: shared breaker state is back", self._breaker.name)
        self._failing = False


def _age(opened_at: datetime | None) -> float:
    """Seconds since then by the wall clock, which is all that hosts have in common."""
    return 0.0 if opened_at is None else max(0.0, (datetime.now(UTC) - opened_at).total_seconds())


def _outspoken(storage: CircuitBreakerStorage) -> CircuitBreakerStorage:
    """The same storage, raising its errors.

    pybreaker's Redis storage logs them and answers "closed", which would close the breakers
    of all processes whenever Redis fails. It logs through its `logger`: a copy of it that
    has another one keeps the user's own as it is.
    """
    if not isinstance(storage, CircuitRedisStorage):
        return storage
    outspoken = copy.copy(storage)
    outspoken.logger = _Raise()  # type: ignore[assignment]
    return outspoken


class _Raise:
    """A logger for `except` clauses, which raises again what they caught."""

    def exception(self, *_args: Any) -> NoReturn:
        raise  # noqa: PLE0704 - what the caller's `except` holds
