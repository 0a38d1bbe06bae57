"""Both engines understand the same of the same bytes, but for what docs/wire.md tells of."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import httpcore2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from resilient.runtime.wire.answers import LARGEST_HEAD, Answers, H11Answers
from resilient.runtime.wire.conversation import READ
from resilient.runtime.wire.fast import LlhttpAnswers

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

REFUSED = "refused"
BROKEN = "broken"

STARTS = st.sampled_from(
    [b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0", b"RTSP/1.0", b"ICE/1.0", b"http/1.1", b""]
)
CODES = st.sampled_from([b"200", b"204", b"304", b"404", b"599", b"600", b"100", b"101", b"199", b"099", b"000", b"20"])
REASONS = st.sampled_from(
    [b"", b" ", b" OK", b"  Not  OK ", b" \xe9", b" a\tb", b" a\x00b", b" a\x0bb", b" a\x0cb", b" a\rb"]
)
NAMES = st.sampled_from(
    [b"X-A", b"x!#$", b"X-A ", b"", b"X(A)", b"Content-Length", b"content-length", b"Transfer-Encoding"]
)
WORDS = [
    b"",
    b"2",
    b"2, 2",
    b"3",
    b"0x2",
    b"-2",
    b"+2",
    b"2\t",
    b"a  b",
    b"\xe9",
    b"a\x01b",
    b"a\x00b",
    b"a\x0bb",
    b"a\x7fb",
]
CODINGS = [
    b"chunked",
    b"Chunked",
    b"chunked ",
    b"chunked\t",
    b"gzip, chunked",
    b"chunked, chunked",
    b"gzip",
    b"identity",
]
LENGTHS = st.sampled_from([b"2", b"02", b"2, 2", b"3", b"9" * 21, b"\t2 "]).map(
    lambda value: b"Content-Length: " + value
)
LINES = st.one_of(
    st.builds(lambda name, value: name + b":" + value, NAMES, st.sampled_from([*WORDS, b" v", b"\tv \t"])),
    st.sampled_from(CODINGS).map(lambda value: b"Transfer-Encoding: " + value),
    LENGTHS,
    st.sampled_from(
        [b"Connection: close", b"Connection: foo, Close", b"Upgrade: h2c", b" folded", b"\tfolded", b"no colon"]
    ),
)
ENDS = st.sampled_from([b"\r\n"] * 8 + [b"\n", b"\r", b"\r\r\n"])
BODIES = st.sampled_from(
    [
        b"",
        b"ok",
        b"o",
        b"\r\n",
        b"2\r\nok\r\n0\r\n\r\n",
        b"2 \t\r\nok\r\n0\r\n\r\n",
        b'2;a=b;c="d"\r\nok\r\n0;e\r\nX: y\r\n\r\n',
        b"2\nok\r\n0\r\n\r\n",
        b"2\r\nokX0\r\n\r\n",
        b"zz\r\nok\r\n0\r\n\r\n",
        b"2\r\nok\r\n",
        b"0x2\r\nok\r\n0\r\n\r\n",
    ]
)


@st.composite
def responses(draw: Any) -> bytes:
    """From pieces that alone, or beside others, are taken in different ways."""
    ends = draw(st.lists(ENDS, min_size=8, max_size=8)) if draw(st.booleans()) else [b"\r\n"] * 8
    line = draw(
        st.one_of(
            st.just(b"HTTP/1.1 200 OK"), st.builds(lambda *of: of[0] + b" " + b"".join(of[1:]), STARTS, CODES, REASONS)
        )
    )
    lines = [line, *draw(st.lists(LINES, max_size=4)), b""]
    head = b"".join(one + end for one, end in zip(lines, ends, strict=False))
    return head + draw(BODIES)


MESSAGES = st.lists(responses(), min_size=1, max_size=3).map(b"".join)
LEADS = st.sampled_from(
    [b""] * 4 + [b"\r\n", b"\n", b"\r", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Hints\r\nLink: a\r\n\r\n"]
)


def understood(answers: Answers, method: bytes, pieces: Sequence[bytes]) -> Any:
    """What comes of the pieces, and then the end of the connection."""
    answers.expect(method)
    body = b""
    try:
        for piece in (*pieces, b""):
            if not answers.complete:
                answers.feed(piece)
                body += b"".join(answers.take()) if answers.head else b""
    except httpcore2.RemoteProtocolError:
        return REFUSED
    said = (answers.status, answers.reason, answers.version, answers.headers)
    return (*said, BROKEN if answers.failure else body)


def pieces_of(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    return [data[start:end] for start, end in pairwise(places)]


@given(st.sampled_from([b"GET", b"HEAD"]), LEADS, MESSAGES, st.lists(st.integers(1, 200), max_size=4))
@example(b"GET", b"", CHUNKED[:-2] + b"Content-Length: 9\r\n\r\n2\r\nok\r\n0\r\n\r\n", [])
@example(b"GET", b"", OK.replace(b"\r\n\r\n", b"\r\nContent-Length: 2\r\n\r\n"), [])
@example(b"GET", b"", OK.replace(b"\r\n\r\n", b"\r\nX: a\r\n  b\r\n\tc\r\n\r\n"), [])
@example(b"GET", b"", b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", [20])
@example(b"GET", b"", b"SSH-2.0-OpenSSH_9.2\r\n", [])
def test_the_same_is_understood(method, lead, message, cuts) -> None:
    pieces = pieces_of(lead + message, cuts)
    assert understood(LlhttpAnswers(), method, pieces) == understood(H11Answers(), method, pieces)


@given(st.binary(max_size=3), st.integers(0, 120), st.integers(0, 3), st.booleans())
def test_a_head_with_some_other_bytes_in_it_is_understood_alike(other, place, gone, is_chunked) -> None:
    """Of the head alone: see below for chunks."""
    head, body = (CHUNKED, b"2\r\nok\r\n0\r\n\r\n") if is_chunked else (OK[:-2], OK[-2:])
    place %= len(head) - 3  # what follows the end of a head is a chunk
    data = head[:place] + other + head[place + gone :] + body
    assert understood(LlhttpAnswers(), b"GET", [data]) == understood(H11Answers(), b"GET", [data])


@given(MESSAGES, st.lists(st.integers(1, 200), max_size=4))
def test_what_h11_has_read_does_not_matter_to_the_next_response(message, cuts) -> None:
    answers = LlhttpAnswers()
    if understood(answers, b"GET", pieces_of(message, cuts)) == REFUSED or answers.surplus or not answers.keep_alive:
        return  # the connection is closed
    answers.reset()
    assert understood(answers, b"GET", [OK]) == (200, b"OK", b"HTTP/1.1", [(b"Content-Length", b"2")], b"ok")
    assert answers.keep_alive
    assert not answers.surplus


ENGINES = [pytest.param(H11Answers, id="default"), pytest.param(LlhttpAnswers, id="fast")]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"HTTP/1.1 099 OK\r\n\r\n", "status_code should be in range [100, 200), not 99"),
        (b"HTTP/1.1 101 Go\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "_SWITCH_UPGRADE event without a pending"),
        (b"HTTP/1.1 101 Go\r\n\r\n", "_SWITCH_UPGRADE event without a pending proposal"),
        (CHUNKED.replace(b"chunked", b"gzip, chunked"), "Only Transfer-Encoding: chunked is supported"),
        (b"HTTP/1.1 200 a\x00b\r\n\r\n", "illegal status line: "),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * LARGEST_HEAD, "Receive buffer too long"),
    ],
    ids=["099", "upgrade", "101", "gzip", "reason", "endless"],
)
def test_a_head_is_refused_at_once_and_in_the_same_words(engine, answer, message) -> None:
    answers = engine()
    answers.expect(b"GET")
    with pytest.raises(httpcore2.RemoteProtocolError) as caught:
        answers.feed(answer)
    assert message in str(caught.value)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
@pytest.mark.parametrize(
    "surplus",
    [b"HTTP/1.1 500 Evil\r\nX-Evil: 1\r\nContent-Length: 4\r\n\r\nevil", b"HTTP/1.1 101 E\r\nUpgrade: x\r\n\r\n"],
    ids=["response", "upgrade"],
)
def test_what_nobody_asked_for_is_no_part_of_the_response(engine, method, surplus) -> None:
    answers = engine()
    head, body = OK[:-2], OK[-2:] if method == b"GET" else b""
    assert understood(answers, method, [head + body + surplus]) == understood(engine(), method, [head + body])
    assert answers.surplus


LIMITLESS = [
    pytest.param(b"2;", b"a" * READ, id="extension"),
    pytest.param(b"2\r\nok\r\n0\r\nX: ", b"a" * READ, id="trailer"),
    pytest.param(b"2\r\nok\r\n0\r\n", b"X: y\r\n" * (READ // 6), id="trailers"),
    pytest.param(b"000", b"0" * READ, id="size"),
]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("start", "more"), LIMITLESS)
def test_what_brings_no_body_has_an_end(engine, start, more) -> None:
    answers = engine()
    answers.expect(b"GET")
    answers.feed(CHUNKED)
    answers.feed(start)
    assert answers.failure is None
    answers.take()
    for _ in range(3):
        if not answers.complete:
            answers.feed(more)
    assert str(answers.failure) == "Receive buffer too long"
    assert not answers.keep_alive


@pytest.mark.parametrize("engine", ENGINES)
def test_the_limits_are_not_those_of_a_whole_response(engine) -> None:
    hints = b"HTTP/1.1 103 Hints\r\nLink: " + b"a" * 60_000 + b"\r\n\r\n"
    head = CHUNKED[:-2] + b"X: " + b"a" * 99_000 + b"\r\n\r\n"
    chunk = b"2;x=" + b"a" * 60_000 + b"\r\nok\r\n"
    stream = hints * 3 + head + chunk * 3 + b"0\r\nX: " + b"a" * 60_000 + b"\r\n\r\n"
    for size in (100, READ, len(stream)):
        answers = engine()
        pieces = [stream[start : start + size] for start in range(0, len(stream), size)]
        status, *_, body = understood(answers, b"GET", pieces)
        assert (status, body) == (200, b"ok" * 3)
        assert answers.keep_alive
        assert not answers.surplus


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("surplus", [b"", b"\r\n", b"\n", b"\r", b"\r\n\r\n"])
@pytest.mark.parametrize(
    "answer",
    [OK, CHUNKED + b"2\r\nok\r\n0\r\n\r\n", CHUNKED + b"0\r\nX: y\r\n\r\n", b"HTTP/1.1 204 N\r\nX: y\r\n\r\n"],
    ids=["length", "chunks", "trailer", "no-body"],
)
def test_blank_lines_behind_a_response_are_seen(answer, surplus, size) -> None:
    """Those that arrive with its end: what comes later is seen before the connection is used again."""
    answers = LlhttpAnswers()
    stream = answer + surplus
    pieces = [stream[start : start + size] for start in range(0, len(stream), size)]
    understood(answers, b"GET", pieces)
    has_come = sum(map(len, pieces[: -(-len(answer) // size)])) > len(answer)
    assert answers.surplus is has_come


@pytest.mark.parametrize(
    ("body", "default", "fast"),
    [
        pytest.param(b"2;a b\r\nok\r\n0\r\n\r\n", b"ok", BROKEN, id="extension"),
        pytest.param(b"2 ;a\r\nok\r\n0\r\n\r\n", BROKEN, b"ok", id="space-before-extension"),
        pytest.param(b"%022d\r\nok\r\n0\r\n\r\n" % 2, BROKEN, b"ok", id="zeros"),
        pytest.param(b"2\r\nok\r\n0\r\nX: a\x01\r\n\r\n", b"ok", BROKEN, id="control-character"),
        pytest.param(b"2\r\nok\r\n0\r\nX: a\r\n b\r\n\r\n", b"ok", BROKEN, id="folded"),
        pytest.param(b"2\r\nok\r\n0\r\nX: a\n\r\n", b"ok", BROKEN, id="line-feed"),
        pytest.param(b"2\r\nok\r\n0\r\nContent-Length: 2\r\n\r\n", b"ok", BROKEN, id="length"),
    ],
)
def test_what_differs(body, default, fast) -> None:
    """As docs/wire.md says, under "A faster HTTP/1.1"."""
    assert understood(H11Answers(), b"GET", [CHUNKED + body])[-1] == default
    assert understood(LlhttpAnswers(), b"GET", [CHUNKED + body])[-1] == fast


@pytest.mark.parametrize("engine", ENGINES)
def test_http_1_0_may_keep_its_connection(engine) -> None:
    answers = engine()
    understood(answers, b"GET", [b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok"])
    assert answers.keep_alive is (engine is LlhttpAnswers)


def test_an_interrupt_is_not_a_strange_head() -> None:
    class Interrupted(LlhttpAnswers):
        def on_header(self, name: bytes, value: bytes) -> None:
            raise KeyboardInterrupt

    answers = Interrupted()
    answers.expect(b"GET")
    with pytest.raises(KeyboardInterrupt):
        answers.feed(OK)
