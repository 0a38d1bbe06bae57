"""Responses read by llhttp, the parser of Node.js, through httptools: `WireSettings(engine="fast")`.

h11 takes some ten times as long. What llhttp leaves to its user is done here: the limit of a
head's size, the response to HEAD, a body that ends with the connection (RFC 9112).
"""

from __future__ import annotations

import httptools

from resilient.runtime.wire.answers import DISCONNECTED, LARGEST_HEAD, Answers

_END = b"\r\n\r\n"  # of a response without a body, or in chunks


class LlhttpAnswers(Answers):
    """Read by llhttp. httptools calls the methods whose names begin with `on_`."""

    __slots__ = ("_bodiless", "_parser", "_size", "_sized")

    def __init__(self) -> None:
        super().__init__()
        self._parser = httptools.HttpResponseParser(self)
        self._bodiless = self._sized = False
        self._size = 0

    def expect(self, method: bytes) -> None:
        """Make ready for the response to a request of this method."""
        if self._bodiless:  # the parser may wait for a body that never comes
            self._parser = httptools.HttpResponseParser(self)
        self._bodiless = method == b"HEAD"
        self._size = 0
        self._sized = False

    def feed(self, data: bytes) -> None:
        """Take what has arrived; b"" at the end of the connection."""
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
                self.fail(str(error), error)
        if not self.head:
            self._size += len(data)
            if self._size > LARGEST_HEAD:
                self.fail("Receive buffer too long: the head of the response has no end")

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
            self.fail(DISCONNECTED)
        if any(name.lower() in (b"content-length", b"transfer-encoding") for name, _ in self.headers):
            self.fail("peer closed connection without sending complete message body")
        self.complete = True

    def on_message_begin(self) -> None:
        """A message begins; a second one nobody asked for."""
        if self.complete:
            self.surplus = True

    def on_status(self, reason: bytes) -> None:
        """Part of the reason phrase."""
        self.reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer, which is dropped."""
        if not self.head:
            self.headers.append((name, value.rstrip()))
            if len(name) == 14 and name.lower() == b"content-length":
                self._sized = True

    def on_headers_complete(self) -> None:
        """The head is there, unless it was an informational one."""
        if self.complete:
            return
        parser = self._parser
        self.status = parser.get_status_code()
        if self.status == 101:
            return  # nobody has asked for it: the parser stops here, which is a failure without a head
        if self.status < 200:
            self.reason = b""
            self.headers.clear()
            return
        self.head = True
        self.version = b"HTTP/" + parser.get_http_version().encode()
        self.keep_alive = parser.should_keep_alive()
        self.complete = self._bodiless

    def on_body(self, data: bytes) -> None:
        """Part of the body."""
        if self.complete:
            self.surplus = True
        else:
            self.parts.append(data)

    def on_message_complete(self) -> None:
        """The response is complete, unless it was an informational one."""
        self.complete = self.head
