"""`httpx.Limits(max_connections=...)`: one number for the whole client, over all endpoints.

httpx has one pool and counts its connections; we have a pool for each endpoint, and count
the requests that occupy one. A request waits for its turn as long as `timeout.pool` says.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Iterator
from functools import cache
from typing import Any, NoReturn

from resilient.binding import Binding
from resilient.policy.limit import LimitState
from resilient.runtime.waiting import TaskWaiter, ThreadWaiter, wait_in_task, wait_in_thread
from resilient.runtime.wire.exchange import within_pool_deadline


class Cap:
    """At most `total` requests of a client on connections at once."""

    def __init__(self, total: int, binding: Binding) -> None:
        self._total = total
        self._binding = binding
        self._body = _body_class(binding)
        self.after_fork()

    def after_fork(self) -> None:
        """In a forked child: nobody has a turn."""
        self._limit = LimitState(self._total, sys.maxsize, 0.0)

    def enter(self, request: Any) -> None:
        """Wait for a turn; raises PoolTimeout."""
        if not self._limit.acquire() and not wait_in_thread(self._limit, ThreadWaiter(), _patience(request)):
            self._time_out(request)

    async def enter_async(self, request: Any) -> None:
        """Wait for a turn; raises PoolTimeout."""
        if not self._limit.acquire() and not await wait_in_task(self._limit, TaskWaiter(), _patience(request)):
            self._time_out(request)

    def leave(self) -> None:
        """The next in the queue has its turn."""
        self._limit.release()

    def until_closed(self, response: Any) -> Any:
        """The response; closing its body ends the turn."""
        response.stream = self._body(response.stream, self._limit.release)
        return response

    def _time_out(self, request: Any) -> NoReturn:
        raise self._binding.errors["PoolTimeout"](
            f"no connection was free: {self._limit.max_in_flight} are in use", request=request
        )


def _patience(request: Any) -> float | None:
    timeout: float | None = within_pool_deadline(request.extensions).get("timeout", {}).get("pool")
    return timeout


class _CountedBody:
    def __init__(self, stream: Any, release: Callable[[], None]) -> None:
        self._stream = stream
        self._releases = [release]  # of two threads that close it at once only one gets it by `pop`

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._stream)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return aiter(self._stream)

    def _leave(self) -> None:
        try:
            release = self._releases.pop()
        except IndexError:
            return
        release()

    def close(self) -> None:
        try:
            self._stream.close()
        finally:
            self._leave()

    async def aclose(self) -> None:
        try:
            await self._stream.aclose()
        finally:
            self._leave()

    def __del__(self) -> None:
        self._leave()


@cache
def _body_class(binding: Binding) -> type[_CountedBody]:
    return type("CountedBody", (_CountedBody, binding.SyncByteStream, binding.AsyncByteStream), {})
