"""`httpx.Limits(max_connections=...)`: one number for the whole client, over all endpoints.

httpx has one pool and counts its connections; we have a pool for each endpoint, and count
the requests that occupy one. A request waits for its turn as long as `timeout.pool` says.
"""

from __future__ import annotations

import sys
from typing import Any, NoReturn

from resilient.binding import Binding
from resilient.policy.limit import LimitState
from resilient.runtime.waiting import TaskWaiter, ThreadWaiter, wait_in_task, wait_in_thread
from resilient.runtime.wire.exchange import within_pool_deadline


class Cap:
    """At most `total` requests of a client on connections at once."""

    def __init__(self, total: int, binding: Binding) -> None:
        self._binding = binding
        self._limit = LimitState(total, sys.maxsize, 0.0)

    def enter(self, request: Any) -> None:
        """Wait for a turn; raises PoolTimeout."""
        if not self._limit.acquire() and not wait_in_thread(self._limit, ThreadWaiter(), _patience(request)):
            self._time_out(request)

    async def enter_async(self, request: Any) -> None:
        """Wait for a turn; raises PoolTimeout."""
        if not self._limit.acquire() and not await wait_in_task(self._limit, TaskWaiter(), _patience(request)):
            self._time_out(request)

    def leave(self) -> None:
        """Give the next in the queue its turn."""
        self._limit.release()

    def _time_out(self, request: Any) -> NoReturn:
        raise self._binding.errors["PoolTimeout"](
            f"no connection was free: {self._limit.max_in_flight} are in use", request=request
        )


def _patience(request: Any) -> float | None:
    timeout: float | None = within_pool_deadline(request.extensions).get("timeout", {}).get("pool")
    return timeout
