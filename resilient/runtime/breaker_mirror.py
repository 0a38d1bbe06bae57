"""The mirror between a breaker and the storage that it shares with other processes.

Shared storage such as Redis is too far away to be asked on every call. The breaker decides
from memory; off the request path, the mirror tells the storage about its decisions, and the
breaker about those of others. Only OPEN and CLOSED are shared: each process makes its own
probes, and what one of them finds closes or opens all.

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
    `interval` seconds. While the storage fails, the breaker's own decisions stand, and only
    the latest of them is written once the storage is back, so that nothing piles up. An
    outage is logged when it begins and when it ends.
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

        `now` is a time of the breaker's clock, `time.monotonic()` if it is None. Does nothing
        while another thread is doing this. A failure of the storage is not raised.
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
        """Change to OPEN or CLOSED as another process has."""
        shared = self._storage.state
        if shared == self._shared or shared not in (STATE_OPEN, STATE_CLOSED):
            return
        opened_at = self._storage.opened_at
        if opened_at is None and self._shared == STATE_OPEN:
            # Closing leaves the time of opening in place: this storage lost its data, nobody closed.
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
    of all processes whenever Redis fails. It logs through its `logger`: replacing that in a
    copy leaves the user's own storage as it is.
    """
    if not isinstance(storage, CircuitRedisStorage):
        return storage
    outspoken = copy.copy(storage)
    outspoken.logger = _Raise()  # type: ignore[assignment]
    return outspoken


class _Raise:
    """A logger for `except` clauses that re-raises what they caught."""

    def exception(self, *_args: Any) -> NoReturn:
        raise  # noqa: PLE0704 - what the caller's `except` caught
