"""What may stand in a request of HTTP/1.1, and how one is told what may not."""

from __future__ import annotations

import h11
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
        (b"GET", b"/", (b"X", b" 1"), "Illegal value of the header b'X': b' 1'"),
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


def _h11_takes(method: bytes, target: bytes, headers: list[tuple[bytes, bytes]]) -> bool:
    try:
        h11.Request(method=method, target=target, headers=[HOST, *headers])
    except h11.LocalProtocolError:
        return False
    return True


@given(_BYTES, _BYTES, st.lists(st.tuples(_BYTES, _BYTES), max_size=2))
def test_it_takes_what_h11_takes_and_no_part_makes_another_line(method, target, headers) -> None:
    try:
        framing = Framing(method, target, [HOST, *headers])
    except httpcore2.LocalProtocolError:
        assert not _h11_takes(method, target, headers)
        return
    assert _h11_takes(method, target, headers)
    request, *lines, end, after = framing.head.split(b"\r\n")
    assert request == b"%b %b HTTP/1.1" % (method, target)
    assert lines == [b"%b: %b" % header for header in (HOST, *headers)]
    assert end == after == b""
    assert framing.head.count(b"\n") == len(headers) + 3
