"""Response bodies: read within the attempt, or followed until they are closed."""

from __future__ import annotations

import asyncio
import time
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from functools import cache
from typing import Any, NoReturn

import anyio

from resilient.binding import Binding
from resilient.core.held import Held
from resilient.runtime.wire import attempt_deadline
from resilient.runtime.wire.async_link import on_trio
from resilient.runtime.wire.body import loaded_body_type


class FollowedBody:
    """A streamed body: bounded by the call's deadline, and counted as in flight to its end.

    A response that nobody closes is noticed when it is garbage-collected: its place is given
    back, with a ResourceWarning.
    """

    def __init__(
        self,
        stream: Any,
        held: Held,
        deadline: float | None,
        clock: Callable[[], float],
        expired: Callable[[], Exception],
    ) -> None:
        self._stream = stream
        self._held = held
        self._deadline = deadline
        self._clock = clock
        self._expired = expired

    def __iter__(self) -> Iterator[bytes]:
        chunks = iter(self._stream)
        while True:
            if self._deadline is not None and self._clock() >= self._deadline:
                raise self._expired()
            token = attempt_deadline.set(self._wire_deadline()) if self._deadline is not None else None
            try:
                chunk = next(chunks)
            except StopIteration:
                return
            except Exception as error:
                self._raise_broken(error)
            finally:
                if token is not None:
                    attempt_deadline.reset(token)
            yield chunk

    def _wire_deadline(self) -> float:
        assert self._deadline is not None
        return time.monotonic() + self._deadline - self._clock()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        chunks = aiter(self._stream)
        while True:
            try:
                chunk = await self._next(chunks)
            except StopAsyncIteration:
                return
            except Exception as error:
                self._raise_broken(error)
            yield chunk

    async def _next(self, chunks: AsyncIterator[bytes]) -> bytes:
        if self._deadline is None:
            return await anext(chunks)
        seconds = max(0.0, self._deadline - self._clock())
        if on_trio():
            with anyio.fail_after(seconds):
                return await anext(chunks)
        # anyio would keep the task, and with it this body, if the loop is closed under it.
        async with asyncio.timeout(seconds):
            return await anext(chunks)

    def _raise_broken(self, error: Exception) -> NoReturn:
        """Raise what the reader gets: our error, if it was the deadline that ended the body."""
        if self._deadline is not None and self._clock() >= self._deadline:
            raise self._expired() from error
        self._held.broke(error, self._clock())
        raise error

    def close(self) -> None:
        """Close the body, and free its place in flight."""
        try:
            self._stream.close()
        finally:
            self._held.release(self._clock())

    async def aclose(self) -> None:
        """Close the body, and free its place in flight."""
        try:
            await self._stream.aclose()
        finally:
            self._held.release(self._clock())

    def __del__(self) -> None:
        held = getattr(self, "_held", None)
        if held is not None and held.release(self._clock()):
            warnings.warn(
                f"a response of {held.bound.name!r} was neither read nor closed",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )


class Streams:
    """The body classes, as streams that one HTTP library accepts."""

    def __init__(self, binding: Binding) -> None:
        bases = (binding.SyncByteStream, binding.AsyncByteStream)
        self.Loaded = loaded_body_type(binding)
        self.Followed: type[FollowedBody] = type("FollowedBody", (FollowedBody, *bases), {})
        self.loaded = (binding.ByteStream, self.Loaded)
        """Streams that need no reading: nothing is open behind them."""


@cache
def streams(binding: Binding) -> Streams:
    """The body classes for a library."""
    return Streams(binding)
