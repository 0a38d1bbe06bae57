"""Request bodies that can be sent again, and whether this one can.

httpx itself does not say: a body of bytes may be iterated for ever, a generator raises on the
second time, and any other one-shot iterator is silently empty then.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from functools import cache
from typing import Any

from resilient.binding import Binding


class ReplayableBody:
    """A request body that a factory makes anew for each attempt.

    `client.post(url, content=ReplayableBody(lambda: open_rows()))`: the factory returns an
    iterable of bytes (an async iterable, for async clients) and is called once per attempt,
    so that a body of any size can be retried.
    """

    def __init__(self, factory: Callable[[], Iterable[bytes] | AsyncIterable[bytes]]) -> None:
        self._factory = factory

    def __iter__(self) -> Iterator[bytes]:
        body = self._factory()
        if not isinstance(body, Iterable):
            raise TypeError(f"ReplayableBody: the factory returned {body!r}; a sync client needs an iterable of bytes")
        return iter(body)

    def __aiter__(self) -> AsyncIterator[bytes]:
        body = self._factory()
        if isinstance(body, AsyncIterable):
            return aiter(body)
        return _as_async(body)


async def _as_async(body: Iterable[bytes]) -> AsyncIterator[bytes]:
    for chunk in body:
        yield chunk


def always_replayable(stream: Any, binding: Binding) -> bool:
    """True if the stream gives the whole body each time it is iterated, by itself."""
    if isinstance(stream, binding.ByteStream):
        return True
    inner = getattr(stream, "_stream", None)
    if isinstance(inner, (ReplayableBody, list, tuple)):
        return True
    # httpx rewinds the files of a multipart body by itself, where they can be rewound.
    fields = getattr(stream, "fields", None)
    return fields is not None and all(_rewinds(field) for field in fields)


def shareable(stream: Any, binding: Binding) -> bool:
    """True if two attempts may read the stream at the same time: a file has one position for both."""
    fields = getattr(stream, "fields", None)
    if fields is None:
        return always_replayable(stream, binding)
    return not any(_is_file(field) for field in fields)


def _rewinds(field: Any) -> bool:
    return not _is_file(field) or _is_seekable(field.file)


def _is_file(field: Any) -> bool:
    return not isinstance(getattr(field, "file", None), (str, bytes, type(None)))


def _is_seekable(file: Any) -> bool:
    try:
        return bool(file.seekable())
    except (AttributeError, ValueError):
        return False


class RepeatedBody:
    """A one-shot body, made repeatable: a file by rewinding it, another by keeping its start.

    Up to `limit` bytes are kept; a longer body can be sent again only until it outgrew that.
    Nor can one whose source broke: asked again, a generator would be at its end, and what was
    kept would be sent as if it were the whole.
    The stream given to the request is this object, in a class that the HTTP library accepts.
    """

    def __init__(self, stream: Any, limit: int) -> None:
        self._stream = stream
        self._limit = limit
        self._source: Any = None
        self._kept: list[bytes] = []
        self._size = 0
        self._asking = False
        """True from asking the source for a chunk until it has answered: for good, if it broke."""
        self._file = _file_of(stream)
        self._file_start = self._file.tell() if self._file is not None else 0

    def replayable(self) -> bool:
        """True if the next iteration would give the whole body."""
        if self._file is not None or self._source is None:
            return True
        return self._size <= self._limit and not self._asking

    def _keep(self, chunk: bytes) -> None:
        self._asking = False
        self._size += len(chunk)
        if self._size <= self._limit:
            self._kept.append(chunk)
        else:
            self._kept.clear()

    def __iter__(self) -> Iterator[bytes]:
        if self._file is not None:
            self._file.seek(self._file_start)
            yield from self._stream
            return
        self._require()
        yield from tuple(self._kept)
        if self._source is None:
            self._source = iter(self._stream)
        self._asking = True
        for chunk in self._source:
            self._keep(chunk)
            yield chunk
            self._asking = True
        self._asking = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._file is not None:
            self._file.seek(self._file_start)
            async for chunk in self._stream:
                yield chunk
            return
        self._require()
        for chunk in tuple(self._kept):
            yield chunk
        if self._source is None:
            self._source = aiter(self._stream)
        self._asking = True
        async for chunk in self._source:
            self._keep(chunk)
            yield chunk
            self._asking = True
        self._asking = False

    def _require(self) -> None:
        if not self.replayable():
            raise RuntimeError("the request body has been consumed and cannot be sent again")

    def close(self) -> None:
        """Streams of httpx have it; the caller closes what the caller opened."""

    async def aclose(self) -> None:
        """As `close`."""


def _file_of(stream: Any) -> Any:
    inner = getattr(stream, "_stream", None)
    return inner if hasattr(inner, "read") and _is_seekable(inner) else None


@cache
def repeated_body_class(binding: Binding) -> type[RepeatedBody]:
    """RepeatedBody as a stream of one HTTP library."""
    return type("RepeatedBody", (RepeatedBody, binding.SyncByteStream, binding.AsyncByteStream), {})
