"""A response body that is cut short."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import cache
from types import ModuleType
from typing import Any


class CutBody:
    """What came of a body, and then what becomes of it: a function that waits, or raises, for each kind of caller."""

    def __init__(self, content: bytes, then: Callable[[], None], then_in_task: Callable[[], Awaitable[None]]) -> None:
        self._content = content
        self._then = then
        self._then_in_task = then_in_task

    def __iter__(self) -> Iterator[bytes]:
        if self._content:
            yield self._content
        self._then()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._content:
            yield self._content
        await self._then_in_task()

    def close(self) -> None:
        """Nothing is open."""

    async def aclose(self) -> None:
        """Nothing is open."""


@cache
def _stream_class(library: ModuleType) -> type[CutBody]:
    return type("CutBody", (CutBody, library.SyncByteStream, library.AsyncByteStream), {})


def cut_stream(
    library: ModuleType, content: bytes, then: Callable[[], None], then_in_task: Callable[[], Awaitable[None]]
) -> Any:
    """A CutBody as a stream of httpx, or of httpx2."""
    return _stream_class(library)(content, then, then_in_task)
