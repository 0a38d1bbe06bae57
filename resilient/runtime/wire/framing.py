"""Requests of HTTP/1.1 as bytes, and what may stand in one (RFC 9112)."""

from __future__ import annotations

import re
from typing import Any

import httpcore2

# What may follow a part cannot be in it, so that none is tried again at a shorter length ("++"): a third less to do.
_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_TARGET = rb"[\x21-\x7e]++"
_VALUE = rb"(?:[^\x00\s]++(?:[ \t]++[^\x00\s]++)*+)?+"  # as h11 has it: no space at either end
_LINES = re.compile(rb"%b %b HTTP/1\.1\r\n(?:%b: %b\r\n)++\r\n" % (_TOKEN, _TARGET, _TOKEN, _VALUE))
_CHUNKED = -1
_DIGITS = 18  # of a length; Python itself refuses thousands

Headers = list[tuple[bytes, bytes]]


class Framing:
    """A request as bytes. Raises LocalProtocolError for what HTTP/1.1 cannot say.

    `left` is how many bytes of the body are still to come, or -1 if it is sent in chunks.
    `is_last` says that the request asks for the connection to be closed.
    """

    __slots__ = ("head", "is_last", "left")

    def __init__(self, method: bytes, target: bytes, headers: Headers) -> None:
        self.left = 0
        self.is_last = False
        length: int | None = None
        chunked = False
        first, rest = [b"%b %b HTTP/1.1" % (method, target)], []
        for name, value in headers:
            size = len(name)
            if size == 4 and name.lower() == b"host":
                first.append(b"%b: %b" % (name, value))  # where RFC 9112, section 3.2 wants it
                continue
            if size == 14 and name.lower() == b"content-length":
                self.left = length = _length(value, length)
            elif size == 17 and name.lower() == b"transfer-encoding":
                if value.lower() != b"chunked" or chunked:
                    message = f"bad Transfer-Encoding: {value!r}, only 'chunked' is supported, once"
                    raise httpcore2.LocalProtocolError(message)
                chunked = True
            elif size == 10 and name.lower() == b"connection":
                self.is_last |= b"close" in value.lower()
            rest.append(b"%b: %b" % (name, value))
        if chunked:
            if length is not None:  # a gateway in between may believe the other one (RFC 9112, section 6.2)
                raise httpcore2.LocalProtocolError("Both Transfer-Encoding and Content-Length")
            self.left = _CHUNKED
        if len(first) != 2:
            raise httpcore2.LocalProtocolError("Missing or repeated mandatory Host: header")
        self.head = head = b"\r\n".join((*first, *rest, b"\r\n"))
        # A line that was smuggled into a value would pass for a header, but one too many.
        if head.count(b"\n") != len(headers) + 2 or not _LINES.fullmatch(head):
            raise httpcore2.LocalProtocolError(_fault(method, target, headers))

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


def _fault(method: bytes, target: bytes, headers: Headers) -> str:
    """What is wrong with a head."""
    parts = [("method", _TOKEN, method), ("target", _TARGET, target)]
    for name, value in headers:
        parts += [("header name", _TOKEN, name), (f"value of the header {name!r}", _VALUE, value)]
    return next(f"Illegal {what}: {part!r}" for what, legal, part in parts if not re.fullmatch(legal, part))


def _length(value: bytes, known: int | None) -> int:
    """A Content-Length, which must not differ from another in the same request."""
    if not value.isdigit() or len(value) > _DIGITS or known not in (None, int(value)):
        raise httpcore2.LocalProtocolError(f"bad Content-Length: {value[:40]!r}, expected one number")
    return int(value)
