"""What may stand in a request of HTTP/1.1, and how one is told what may not."""

from __future__ import annotations

import httpcore2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient.runtime.wire.framing import Framing

HOST = (b"Host", b"orders")


@pytest.mark.parametrize(
    ("method", "target", "header", "message"),
    [
        (b"GE T", b"/", HOST, "Illegal method: b'GE T'"),
        (b"GET", b"/a b", HOST, "Illegal target: b'/a b'"),
        (b"GET", b"/", (b"X Y", b"1"), "Illegal header name: b'X Y'"),
        (b"GET", b"/", (b"X", b"1\r\nY: 2"), r"Illegal value of the header b'X': b'1\r\nY: 2'"),
        (b"GET", b"/", (b"Content-Length", b"x"), "bad Content-Length: b'x', expected one number"),
        (b"GET", b"/", (b"Transfer-Encoding", b"gzip"), "bad Transfer-Encoding: b'gzip', only 'chunked' is supported"),
    ],
)
def test_a_fault_is_named(method, target, header, message) -> None:
    headers = [HOST, header] if header is not HOST else [HOST]
    with pytest.raises(httpcore2.LocalProtocolError) as caught:
        Framing(method, target, headers)
    assert message in str(caught.value)


_BYTES = st.text("a/ :\r\n\t\0\x7f\xff", max_size=4).map(lambda text: text.encode("latin-1"))


@given(_BYTES, _BYTES, st.lists(st.tuples(_BYTES, _BYTES), max_size=2))
def test_no_part_of_a_request_makes_another_line_of_it(method, target, headers) -> None:
    try:
        framing = Framing(method, target, [HOST, *headers])
    except httpcore2.LocalProtocolError:
        return
    request, *lines, end, after = framing.head.split(b"\r\n")
    assert request == b"%b %b HTTP/1.1" % (method, target)
    assert lines == [b"%b: %b" % header for header in (HOST, *headers)]
    assert end == after == b""
    assert framing.head.count(b"\n") == len(headers) + 3
