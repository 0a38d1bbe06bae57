"""Responses read by llhttp, the parser of Node.js, through httptools: `WireSettings(engine="fast")`.

h11 takes some ten times as long. What llhttp leaves to its user is done here: the limits of what
brings no body, the response to HEAD, a body that ends with the connection (RFC 9112).

A head that llhttp refuses, or would take for something else than h11 does, is read again by h11,
and so is all that follows it. So both engines accept the same heads, and say the same of them.
"""

from __future__ import annotations

import re
from typing import NoReturn

import httptools

from resilient.runtime.wire.answers import DISCONNECTED, LARGEST_HEAD, H11Answers

_END = b"\r\n\r\n"  # of a response without a body, or in chunks
_H = ord("H")
_START = b"HTTP/"
_VERSIONS = {"1.1": b"HTTP/1.1", "1.0": b"HTTP/1.0"}
_IS_ILLEGAL = re.compile(rb"[\x00\v\f]").search  # to h11, in a reason phrase


class _Strange(Exception):
    """A head that h11 is to read."""


class LlhttpAnswers(H11Answers):
    """Read by llhttp. httptools calls the methods whose names begin with `on_`.

    There is a connection of h11 while that reads a response.
    """

    __slots__ = ("_bodiless", "_framed_by", "_is_strange", "_parser", "_pieces", "_size", "_tail")

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[bytes] = []  # of a head
        self._framed_by = self._tail = b""
        self._size = 0
        self._renew()

    def _renew(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._parser.set_dangerous_leniencies(lenient_spaces_after_chunk_size=True)  # which some servers send
        self._connection = None
        self._bodiless = self._is_strange = False

    def expect(self, method: bytes) -> None:
        """Make ready for the response to a request of this method."""
        if self._bodiless or self._connection is not None:  # the parser may wait for what never comes
            self._renew()
        self._bodiless = method == b"HEAD"
        self._framed_by = self._tail = b""
        self._size = 0

    def feed(self, data: bytes) -> None:
        """Take what has arrived; b"" at the end of the connection."""
        if self._connection is not None:
            super().feed(data)
            return
        if not data:
            self._end()
            return
        had_head = self.head
        if data[0] != _H and not (had_head or self._pieces):  # llhttp passes over blank lines, and takes RTSP
            self._refuse(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._refuse(data, error)
            return
        if self.complete:
            if data[-1] in b"\r\n":
                self._look_for_blank_lines(data)
            return
        self._tail = (self._tail + data[-4:])[-4:]
        if self.parts or self.head is not had_head:
            self._size = 0
        else:
            self._wait(data)

    def _wait(self, data: bytes) -> None:
        """A piece of a head; or else of a chunk's extensions, or of trailers."""
        if not self.head:
            self._pieces.append(data)
        self._size += len(data)
        if self._size > LARGEST_HEAD:
            self.fail("Receive buffer too long")

    def _refuse(self, data: bytes, error: Exception | None = None) -> None:
        if isinstance(error, httptools.HttpParserCallbackError) and not self._is_strange:
            raise error.__context__ or error  # such as KeyboardInterrupt, in a method of this class
        if not self.head:
            self._read_again(b"".join((*self._pieces, data)), error)
            return
        self.surplus = True
        if not self.complete:
            self.fail(str(error), error)

    def _read_again(self, data: bytes, error: Exception | None) -> None:
        self._pieces.clear()
        if not data.startswith(_START):  # h11 would wait for the end of a head
            self.fail(f"illegal status line: {data[:40]!r}", error)
        super().expect(b"HEAD" if self._bodiless else b"GET")
        super().feed(data)

    def _look_for_blank_lines(self, data: bytes) -> None:
        """llhttp passes over line ends between responses, where any byte is one too many."""
        if self._framed_by == b"content-length" and self.parts:
            body = self.parts[-1]
            self.surplus |= not (data.endswith(body) and body.strip(b"\r\n"))
        else:
            end = (self._tail + data)[-5:]
            self.surplus |= not end.endswith(_END) or end[0] in b"\r\n"

    def _end(self) -> None:
        self.keep_alive = False
        if not self.head:
            self.fail(DISCONNECTED)
        if self._framed_by:
            self.fail("peer closed connection without sending complete message body")
        self.complete = True

    def on_message_begin(self) -> None:
        """A message begins; a second one nobody asked for."""
        if self.complete:
            self.surplus = True

    def on_status(self, reason: bytes) -> None:
        """Part of the reason phrase."""
        if not self.head:
            self.reason += reason
            if reason != b"OK" and _IS_ILLEGAL(reason):
                self._leave()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer, which is dropped."""
        if self.head:
            return
        self.headers.append((name, value.rstrip()))
        size = len(name)
        if size == 14 and name.lower() == b"content-length":
            self._framed_by = b"content-length"
        elif size == 17 and name.lower() == b"transfer-encoding":
            if self._framed_by or value != b"chunked":  # to llhttp, a tab behind it makes it another coding
                self._leave()
            self._framed_by = b"transfer-encoding"

    def on_headers_complete(self) -> None:
        """The head is there."""
        if self.complete:
            return
        parser = self._parser
        self.version = _VERSIONS.get(parser.get_http_version(), b"")
        self.status = parser.get_status_code()
        if self.status < 200 or not self.version:
            self._leave()
        self.head = True
        if self._pieces:
            self._pieces.clear()
        self.keep_alive = parser.should_keep_alive() or (self._bodiless and self._says_nothing_of_closing())
        self.complete = self._bodiless

    def _says_nothing_of_closing(self) -> bool:
        """True if the connection may be kept; the parser thinks that a body without a length ends with it."""
        closes = any(name.lower() == b"connection" and b"close" in value.lower() for name, value in self.headers)
        return self.version == b"HTTP/1.1" and not closes

    def _leave(self) -> NoReturn:
        """Leave the response to h11."""
        self._is_strange = True
        raise _Strange

    def on_body(self, data: bytes) -> None:
        """Part of the body."""
        if self.complete:
            self.surplus = True
        else:
            self.parts.append(data)

    def on_message_complete(self) -> None:
        """The response is complete."""
        self.complete = True
