"""HTTP/1.1 without I/O: requests are written here, responses are parsed by llhttp.

llhttp is the parser of Node.js; httptools wraps it. h11 takes some ten times as long. What it
leaves to its user is done here: the limit of a head's size, the response to HEAD, a body that
ends with the connection, and what may stand in a request (RFC 9112).
"""

from __future__ import annotations

import re
from collections import deque
from typing import Any

import httpcore2
import httptools

_LARGEST_HEAD = 100 * 1024  # bytes; as httpcore
_LINES = re.compile(
    rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+ [^\x00-\x20\x7f]+ HTTP/1\.1\r\n"
    rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+: [^\x00\r\n\f\v]*\r\n)+\r\n"
)
_CHUNKED = -1
_END = b"\r\n\r\n"  # of a response without a body, or in chunks

Headers = list[tuple[bytes, bytes]]


class Framing:
    """A request as bytes. Raises LocalProtocolError for what HTTP/1.1 cannot say.

    `left` is how many bytes of the body are still to come, or -1 if it is sent in chunks.
    """

    __slots__ = ("head", "left")

    def __init__(self, method: bytes, target: bytes, headers: Headers) -> None:
        self.left = 0
        first, rest = [b"%b %b HTTP/1.1" % (method, target)], []
        for name, value in headers:
            size = len(name)
            if size == 4 and name.lower() == b"host":
                first.append(b"%b: %b" % (name, value))  # where RFC 9112, section 3.2 wants it
                continue
            if size == 14 and name.lower() == b"content-length":
                self._declare(value)
            elif size == 17 and name.lower() == b"transfer-encoding":
                if value.lower() != b"chunked":
                    raise httpcore2.LocalProtocolError("Only Transfer-Encoding: chunked is supported")
                self.left = _CHUNKED
            rest.append(b"%b: %b" % (name, value))
        if len(first) != 2:
            raise httpcore2.LocalProtocolError("Missing or repeated mandatory Host: header")
        self.head = head = b"\r\n".join((*first, *rest, b"\r\n"))
        # A line that was smuggled into a value would pass for a header, but one too many.
        if head.count(b"\n") != len(headers) + 2 or not _LINES.fullmatch(head):
            raise httpcore2.LocalProtocolError("Illegal method, target, header name or header value")

    def _declare(self, value: bytes) -> None:
        if not value.isdigit() or self.left not in (0, int(value), _CHUNKED):
            raise httpcore2.LocalProtocolError("bad Content-Length")
        if self.left != _CHUNKED:
            self.left = int(value)

    def part(self, data: bytes) -> bytes:
        """Some of the body, as it is sent."""
        if self.left == _CHUNKED:
            return b"%x\r\n%b\r\n" % (len(data), data) if data else b""
        self.left -= len(data)
        if self.left < 0:
            raise httpcore2.LocalProtocolError("Too much data for declared Content-Length")
        return data

    def end(self) -> bytes:
        """What follows the body."""
        if self.left == _CHUNKED:
            return b"0\r\n\r\n"
        if self.left:
            raise httpcore2.LocalProtocolError("Too little data for declared Content-Length")
        return b""

    def whole(self, body: Any) -> bytes:
        """Head and body, where the body is in memory."""
        return b"".join((self.head, *map(self.part, body), self.end()))


class Answers:
    """The responses of one connection, one after another: `expect`, then `feed` until `complete`.

    httptools calls the methods whose names begin with `on_`.
    """

    __slots__ = (
        "_bodiless",
        "_parser",
        "_size",
        "_sized",
        "complete",
        "head",
        "headers",
        "keep_alive",
        "parts",
        "reason",
        "status",
        "surplus",
        "version",
    )

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._bodiless = False
        self.surplus = False
        """True once there was more than was asked for: the connection is of no further use."""
        self.expect(b"GET")

    def expect(self, method: bytes) -> None:
        """Make ready for the response to a request of this method."""
        if self._bodiless:  # the parser may wait for a body that never comes
            self._parser = httptools.HttpResponseParser(self)
        self._bodiless = method == b"HEAD"
        self._size = 0
        self._sized = False
        self.status = 0
        self.version = self.reason = b""
        self.headers: Headers = []
        self.parts: deque[bytes] = deque()
        self.head = False
        """True once status and headers are there."""
        self.complete = False
        self.keep_alive = False

    def feed(self, data: bytes) -> None:
        """Take what has arrived; b"" at the end of the connection. Raises RemoteProtocolError."""
        if not data:
            self._end()
            return
        waiting = not self.complete
        try:
            self._parser.feed_data(data)
            if self.complete and waiting and data[-1] in b"\r\n":
                self._look_for_blank_lines(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self.surplus = True
            if not self.complete:
                raise httpcore2.RemoteProtocolError(str(error)) from error
        if not self.head:
            self._size += len(data)
            if self._size > _LARGEST_HEAD:
                raise httpcore2.RemoteProtocolError("Receive buffer too long: the head of the response has no end")

    def _look_for_blank_lines(self, data: bytes) -> None:
        """llhttp passes over line ends between responses, where any byte is one too many."""
        if self._sized and self.parts:
            body = self.parts[-1]
            self.surplus |= not (data.endswith(body) and body.strip(b"\r\n"))
        else:
            ends = data[len(data.rstrip(b"\r\n")) :]
            self.surplus |= ends != _END and not _END.endswith(data)

    def _end(self) -> None:
        self.keep_alive = False
        if not self.head:
            raise httpcore2.RemoteProtocolError("Server disconnected without sending a response.")
        if any(name.lower() in (b"content-length", b"transfer-encoding") for name, _ in self.headers):
            raise httpcore2.RemoteProtocolError("peer closed connection without sending complete message body")
        self.complete = True

    def on_message_begin(self) -> None:
        """A response begins."""
        """A message begins; a second one nobody asked for."""
        if self.complete:
            self.surplus = True

    def on_status(self, reason: bytes) -> None:
        """Some of the reason phrase."""
        """Part of the reason phrase."""
        self.reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer."""
        """A header, or a trailer, which is dropped."""
        if not self.head:
            self.headers.append((name, value.rstrip()))
            if len(name) == 14 and name.lower() == b"content-length":
                self._sized = True

    def on_headers_complete(self) -> None:
        """The head is there, unless it was an informational one."""
        """The head is there."""
        if self.complete:
            return
        parser = self._parser
        self.status = parser.get_status_code()
        if self.status < 200 and self.status != 101:
            self.reason = b""
            self.headers.clear()
            return
        self.head = True
        self.version = b"HTTP/" + parser.get_http_version().encode()
        self.keep_alive = parser.should_keep_alive()
        self.complete = self._bodiless

    def on_body(self, data: bytes) -> None:
        """Some of the body."""
        """Part of the body."""
        if self.complete:
            self.surplus = True
        else:
            self.parts.append(data)

    def on_message_complete(self) -> None:
        """The response is complete, unless it was an informational one."""
        """The message has ended."""
        self.complete = self.head

    def extensions(self, stream: Any) -> dict[str, Any]:
        """What httpcore says of a response beside its status and headers."""
        return {"http_version": self.version, "reason_phrase": self.reason, "network_stream": stream}
