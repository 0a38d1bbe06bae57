"""Request bodies that can be sent again, and whether this one can.

httpx itself does not say: a body of bytes can be iterated any number of times, a generator
raises the second time, and any other one-shot iterator is then silently empty.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from contextlib import suppress
from functools import cache, partial
from typing import Any

from resilient.binding import Binding
from resilient.core.classify import FROM_BODY


class _Marked:
    """Marks what the user's own code raises, which might look like a connection error.

    A body may come from another peer, and end in that peer's ReadError.
    """

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, Exception):
            with suppress(Exception):  # some exceptions allow no attributes to be set
                setattr(error, FROM_BODY, True)


_marked = _Marked()


class ReplayableBody:
    """A request body that a factory makes anew for each attempt.

    `client.post(url, content=ReplayableBody(lambda: open_rows()))`: the factory returns an
    iterable of bytes and is called once per attempt, so that a body of any size can be
    retried. For async clients there is AsyncReplayableBody: httpx tells the two apart by class.
    """

    def __init__(self, factory: Callable[[], Iterable[bytes]]) -> None:
        self._factory = factory

    def __iter__(self) -> Iterator[bytes]:
        with _marked:
            yield from self._factory()


class AsyncReplayableBody:
    """As ReplayableBody, for async clients: the factory returns an async iterable, or an iterable."""

    def __init__(self, factory: Callable[[], AsyncIterable[bytes] | Iterable[bytes]]) -> None:
        self._factory = factory

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _marked:
            body = self._factory()
            if isinstance(body, AsyncIterable):
                async for chunk in body:
                    yield chunk
            else:
                for chunk in body:
                    yield chunk


_MADE_ANEW = (ReplayableBody, AsyncReplayableBody, list, tuple)


def always_replayable(stream: Any, binding: Binding) -> bool:
    """True if the stream itself yields the whole body each time it is iterated.

    Not if it contains a file, which has one position for all readers and may fail to be read.
    """
    if isinstance(stream, binding.ByteStream):
        return True
    if isinstance(getattr(stream, "_stream", None), _MADE_ANEW):
        return True
    fields = getattr(stream, "fields", None)  # of a form
    return fields is not None and not any(_is_file(field) for field in fields)


def _is_file(field: Any) -> bool:
    return not isinstance(getattr(field, "file", None), (str, bytes, type(None)))


def _is_seekable(file: Any) -> bool:
    try:
        return bool(file.seekable())
    except (AttributeError, ValueError):
        return False


class RepeatedBody:
    """A one-shot body, made repeatable: files by rewinding them, others by keeping their start.

    Up to `limit` bytes are kept; a longer body can be sent again only until it outgrows that.
    One whose source broke cannot: its generator would be exhausted, and what was kept would be
    sent as if it were the whole. What the source raises is marked as its own. The stream given
    to the request is this object, in a class that the HTTP library accepts.
    """

    def __init__(self, stream: Any, limit: int) -> None:
        self._stream = stream
        self._limit = limit
        self._source: Any = None
        self._kept: list[bytes] = []
        self._size = 0
        self._asking = False
        """True from asking the source for a chunk until it answers; for good if it broke."""
        self._rewind = _rewinder(stream)

    def replayable(self) -> bool:
        """True if the next iteration would give the whole body."""
        is_whole = self._rewind is not None or self._source is None or self._size <= self._limit
        return is_whole and not self._asking

    def __iter__(self) -> Iterator[bytes]:
        with _marked:
            yield from self._start()
            if self._source is None:
                self._source = iter(self._stream)
            self._asking = True
            for chunk in self._source:
                self._keep(chunk)
                yield chunk
                self._asking = True
            self._asking = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _marked:
            for chunk in self._start():
                yield chunk
            if self._source is None:
                self._source = aiter(self._stream)
            self._asking = True
            async for chunk in self._source:
                self._keep(chunk)
                yield chunk
                self._asking = True
            self._asking = False

    def _start(self) -> tuple[bytes, ...]:
        """Go back to the start; returns what was kept of it."""
        if not self.replayable():
            raise RuntimeError("the request body has been consumed and cannot be sent again")
        if self._rewind is not None:
            self._rewind()
            self._source = None
        return tuple(self._kept)

    def _keep(self, chunk: bytes) -> None:
        self._asking = False
        if self._rewind is not None:
            return
        self._size += len(chunk)
        if self._size <= self._limit:
            self._kept.append(chunk)
        else:
            self._kept.clear()

    def close(self) -> None:
        """httpx's streams have it; the caller closes what the caller opened."""

    async def aclose(self) -> None:
        """As `close`."""


def _rewinder(stream: Any) -> Callable[[], object] | None:
    """The function that rewinds the stream; None if nothing can."""
    file: Any = getattr(stream, "_stream", None)
    if hasattr(file, "read") and not isinstance(file, AsyncIterable) and _is_seekable(file):
        return partial(file.seek, file.tell())
    fields = getattr(stream, "fields", ())
    # httpx itself rewinds the files of a form, if they can be rewound.
    if fields and all(not _is_file(field) or _is_seekable(field.file) for field in fields):
        return _nothing
    return None


def _nothing() -> None:
    """The stream rewinds itself."""


@cache
def repeated_body_class(binding: Binding) -> type[RepeatedBody]:
    """RepeatedBody as a stream of one HTTP library."""
    return type("RepeatedBody", (RepeatedBody, binding.SyncByteStream, binding.AsyncByteStream), {})
