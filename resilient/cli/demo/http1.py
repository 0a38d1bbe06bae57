"""A tiny HTTP/1.1 server connection: keep-alive, pipelining, bodies by Content-Length."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import NamedTuple

_MAX_HEAD = 16 * 1024
_MAX_BODY = 64 * 1024
_MAX_BUFFER = 4 * (_MAX_HEAD + _MAX_BODY)
_HEAD_END = b"\r\n\r\n"


class Reply(NamedTuple):
    """A status, `delay` seconds after the request was complete."""

    status: int
    delay: float = 0.0


class BadRequest(Exception):
    """A request that cannot be served; `status` says why."""

    def __init__(self, status: int) -> None:
        super().__init__(HTTPStatus(status).phrase)
        self.status = status


class Head(NamedTuple):
    """What the server needs to know from a request's head (RFC 9112)."""

    method: str
    length: int
    keep_alive: bool


def parse_head(head: bytes) -> Head:
    """The head of a request, without the empty line; raises BadRequest."""
    request_line, *lines = head.decode("latin-1").split("\r\n")
    try:
        method, _target, version = request_line.split(" ")
    except ValueError:
        raise BadRequest(400) from None
    if version not in ("HTTP/1.1", "HTTP/1.0"):
        raise BadRequest(505)
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        # Whitespace around the name would be read differently by others (request smuggling).
        if not colon or not name or name != name.strip():
            raise BadRequest(400)
        key = name.lower()
        headers[key] = f"{headers[key]},{value.strip()}" if key in headers else value.strip()
    if "transfer-encoding" in headers:
        raise BadRequest(501)
    return Head(method, _length(headers.get("content-length", "0")), _keep_alive(version, headers))


def _length(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise BadRequest(400)
    if len(text) > 9 or int(text) > _MAX_BODY:
        raise BadRequest(413)
    return int(text)


def _keep_alive(version: str, headers: dict[str, str]) -> bool:
    options = {option.strip().lower() for option in headers.get("connection", "").split(",")}
    return "close" not in options and (version == "HTTP/1.1" or "keep-alive" in options)


class Connection(asyncio.Protocol):
    """One connection; requests are answered in order, one at a time.

    `handle` is called for the reply to each complete request; None leaves it unanswered.
    `opened` and `closed` are called when the connection opens and when it closes.
    """

    _transport: asyncio.Transport

    def __init__(
        self,
        handle: Callable[[], Reply | None],
        opened: Callable[[Connection], None],
        closed: Callable[[Connection], None],
    ) -> None:
        self._handle = handle
        self._opened = opened
        self._closed = closed
        self._buffer = bytearray()
        self._busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._opened(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the loop's signature
        """Called by the event loop."""
        self._closed(self)

    def data_received(self, data: bytes) -> None:
        """Called by the event loop."""
        self._buffer += data
        if len(self._buffer) > _MAX_BUFFER:
            self.abort()
        elif not self._busy:
            self._serve()

    def abort(self) -> None:
        """Drop the connection, as a dying process does."""
        self._transport.abort()

    def _serve(self) -> None:
        """Start on the next request if all of it has arrived."""
        try:
            head = self._take()
        except BadRequest as fault:
            self._busy = True
            self._answer(fault.status, Head("GET", 0, keep_alive=False))
            return
        if head is None:
            return
        self._busy = True
        reply = self._handle()
        if reply is not None and reply.delay > 0:
            asyncio.get_running_loop().call_later(reply.delay, self._answer, reply.status, head)
        elif reply is not None:
            self._answer(reply.status, head)

    def _take(self) -> Head | None:
        """Take a request off the buffer; None while it is incomplete."""
        size = self._buffer.find(_HEAD_END, 0, _MAX_HEAD)
        if size < 0:
            if len(self._buffer) >= _MAX_HEAD:
                raise BadRequest(431)
            return None
        head = parse_head(bytes(self._buffer[:size]))
        end = size + len(_HEAD_END) + head.length
        if len(self._buffer) < end:
            return None
        del self._buffer[:end]
        return head

    def _answer(self, status: int, head: Head) -> None:
        if self._transport.is_closing():
            return
        self._transport.write(_response(status, head))
        if not head.keep_alive:
            self._transport.close()
            return
        self._busy = False
        if self._buffer:
            # Not called directly: a long pipeline would become a deep recursion.
            asyncio.get_running_loop().call_soon(self._resume)

    def _resume(self) -> None:
        if not self._busy:
            self._serve()


def _response(status: int, head: Head) -> bytes:
    phrase = HTTPStatus(status).phrase
    body = f"{phrase}\n".encode()
    close = "" if head.keep_alive else "connection: close\r\n"
    text = f"HTTP/1.1 {status} {phrase}\r\ncontent-type: text/plain\r\ncontent-length: {len(body)}\r\n{close}\r\n"
    return text.encode() + (b"" if head.method == "HEAD" else body)
