"""What is sent and understood of HTTP/1.1 does not depend on the engine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpcore2
import httpx
import pytest

from resilient.runtime.wire import WireSettings
from resilient.runtime.wire.answers import H11Answers
from resilient.runtime.wire.exchange import Exchange
from resilient.runtime.wire.http1 import HTTP1, _Parts
from resilient.runtime.wire.http1_pool import _given, _Thread
from resilient.runtime.wire.places import Places, key_of
from tests.runtime.servers import Peer, serving
from tests.runtime.wires import ENGINES, FLAVOURS, outcome, request, wired

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

NEWLINE = OK[:-1] + b"\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize(
    ("method", "answer", "status", "body", "reused"),
    [
        pytest.param("GET", OK, 200, b"ok", True, id="length"),
        pytest.param("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n", 200, b"", True, id="head"),
        pytest.param("HEAD", b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\n", 200, b"", True, id="head-without-length"),
        pytest.param("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 200, b"", True, id="head-te"),
        pytest.param("GET", b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", True, id="no-content"),
        pytest.param("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", 304, b"", True, id="304"),
        pytest.param("GET", b"HTTP/1.1 100 Continue\r\n\r\n" + OK, 200, b"ok", True, id="continue"),
        pytest.param("GET", b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" + OK, 200, b"ok", True, id="hints"),
        pytest.param("GET", OK.replace(b"1.1", b"1.0"), 200, b"ok", False, id="http-1.0"),
        pytest.param("GET", b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nok", 200, b"ok", False, id="until-close"),
        pytest.param("GET", b"HTTP/1.0 200 OK\r\n\r\nok", 200, b"ok", False, id="http-1.0-until-close"),
        pytest.param("GET", OK.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n"), 200, b"ok", False, id="close"),
        pytest.param("GET", OK + b"more", 200, b"ok", False, id="surplus"),
        pytest.param("GET", OK + b"\r\n", 200, b"ok", False, id="blank-line"),
        pytest.param("GET", OK + b"\r\n\r\n", 200, b"ok", False, id="blank-lines"),
        pytest.param("GET", NEWLINE, 200, b"o\n", True, id="text"),
        pytest.param("GET", NEWLINE + b"\n", 200, b"o\n", False, id="text-and-blank-line"),
        pytest.param("GET", b"HTTP/1.1 204 No Content\r\n\r\n\r\n", 204, b"", False, id="no-content-blank-line"),
        pytest.param("GET", CHUNKED, 200, b"ok", True, id="chunks"),
        pytest.param("GET", CHUNKED + b"\r\n", 200, b"ok", False, id="chunks-and-blank-line"),
        pytest.param("GET", OK + OK, 200, b"ok", False, id="two-for-one"),
        pytest.param(
            "GET",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;x=y\r\no\r\n1\r\nk\r\n0\r\nX-T: 1\r\n\r\n",
            200,
            b"ok",
            True,
            id="chunks-and-trailers",
        ),
    ],
)
def test_a_response(flavour, method, answer, status, body, reused) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer)
        if b"\r\n\r\nok" in answer and b"Content-Length" not in answer:
            return
        await peer.request()
        await peer.send(OK)

    with serving(script) as server, wired(flavour, server.endpoint) as wire:
        response = wire.send(request(method))
        assert (response.status_code, response.content) == (status, body)
        assert "Link" not in response.headers
        assert "X-T" not in response.headers
        wire.send(request())
        assert len(server.peers) == (1 if reused else 2)


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", id="half-a-body"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", id="no-last-chunk"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nXY\r\nok\r\n", id="bad-chunk"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nok", id="two-lengths"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 0x2\r\n\r\nok", id="bad-length"),
        pytest.param(b"HTTP/1.1 200 OK\r\nBad Name: 1\r\n\r\n", id="bad-name"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 300_000, id="head-without-end"),
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n", id="not-http"),
        pytest.param(b"HTTP/1.1 200", id="half-a-head"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_what_is_no_response_is_a_protocol_error(flavour, answer) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer)

    with serving(script) as server, wired(flavour, server.endpoint) as wire:
        error = outcome(lambda: wire.send(request()))
        assert isinstance(error, (httpx.RemoteProtocolError, httpx.ReadError))
        assert error.unsent is False


def test_both_engines_say_the_same_of_headers() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 Fine By  Me\r\nX-A:  b \r\nx-a:\r\nx-b: \xe9\r\nContent-Length: 0\r\n\r\n")

    heard = []
    for engine in ENGINES:
        with serving(script) as server, _wired("sync", server, engine) as wire:
            response = wire.send(request())
            heard.append((response.headers.raw, response.reason_phrase, response.http_version))
    assert heard[0] == heard[1]


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize(
    ("headers", "parts"),
    [
        ({"X-A": "a\r\nX-Smuggled: 1"}, None),
        ({"X-A": "a\nb"}, None),
        ({"X A": "a"}, None),
        ({"X-A\r\nX-B": "a"}, None),
        ({"Content-Length": "3"}, [b"four"]),
        ({"Content-Length": "5"}, [b"four"]),
        ({"Content-Length": "x"}, [b"four"]),
        ({"Transfer-Encoding": "gzip"}, [b"four"]),
        ({}, [b"four"]),
    ],
)
def test_a_request_that_cannot_be_is_refused(flavour, headers, parts) -> None:
    asked = httpx.Request("POST", "http://orders.internal/", headers=headers, stream=_Flow(parts or []))
    with serving() as server, wired(flavour, server.endpoint) as wire:
        assert isinstance(outcome(lambda: wire.send(asked, resend=False)), httpx.LocalProtocolError)
        assert wire.send(request()).status_code == 200
        assert not any(b"Smuggled" in one for one in server.requests)


class _Flow(httpx.SyncByteStream, httpx.AsyncByteStream):
    def __init__(self, parts: list[bytes]) -> None:
        self.parts = parts

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.parts)

    async def __aiter__(self) -> Any:
        for part in self.parts:
            yield part


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_body_of_unknown_length_is_sent_in_chunks(flavour) -> None:
    asked = request("POST", headers={"Transfer-Encoding": "chunked"}, stream=_Flow([b"ab", b"", b"c" * 20]))
    asked.headers["Host"] = "orders.internal"
    with serving() as server, wired(flavour, server.endpoint) as wire:
        wire.send(asked)
        assert server.requests[0].endswith(b"\r\n\r\n2\r\nab\r\n14\r\n" + b"c" * 20 + b"\r\n0\r\n\r\n")


def test_both_engines_send_the_same_bytes() -> None:
    sent = []
    for engine in ENGINES:
        with serving() as server, _wired("sync", server, engine) as wire:
            wire.send(request("POST", "http://orders.internal/a?b=c", json={"a": 1}, headers={"X-Mixed": "Ye s"}))
            sent.append(server.requests)
    assert sent[0] == sent[1]


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_an_answer_before_the_end_of_the_request_is_heard(flavour) -> None:
    """A server that refuses a large body answers and closes, while we still write."""

    async def script(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.respond(b"no", status="413 Too Large")
        peer.writer.write_eof()
        while await peer.reader.read(65536):
            pass

    with serving(script) as server, wired(flavour, server.endpoint) as wire:
        asked = request("POST", content=b"x" * 100_000)
        assert wire.send(asked).status_code == 413


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_traced_request_is_traced(flavour) -> None:
    seen = []

    async def atrace(event: str, info: object) -> None:
        seen.append(event)

    trace = (lambda event, info: seen.append(event)) if flavour == "sync" else atrace
    with serving() as server, wired(flavour, server.endpoint) as wire:
        wire.send(request())
        wire.send(request(extensions={"trace": trace}))
        wire.send(request())
        assert "http11.receive_response_headers.complete" in seen
        assert len(server.peers) == 1


@contextmanager
def _wired(flavour: str, server: Any, engine: str) -> Iterator[Any]:
    with wired(flavour, server.endpoint, WireSettings(engine=engine)) as wire:  # type: ignore[arg-type]
        yield wire


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200"], ids=["nothing", "half-a-head"])
def test_a_peer_that_hangs_up_is_told_of_in_the_usual_words(flavour, answer) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer)

    with serving(script) as server, wired(flavour, server.endpoint) as wire:
        error = outcome(lambda: wire.send(request()))
        assert str(error) == "Server disconnected without sending a response."


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_small_answer_frees_its_connection_before_it_is_read(flavour) -> None:
    settings = WireSettings(max_connections=1)
    with serving() as server, wired(flavour, server.endpoint, settings) as wire:
        first, second = wire.open(request()), wire.open(request())
        assert len(server.peers) == 1
        wire.close_response(first)
        wire.close_response(second)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_what_came_before_a_fault_is_delivered_before_it(flavour) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED[: CHUNKED.index(b"0\r\n")] + b"XY\r\n")

    with serving(script) as server, wired(flavour, server.endpoint) as wire:
        response = wire.open(request())
        assert response.status_code == 200
        parts = []
        with pytest.raises(httpx.RemoteProtocolError):
            wire.read_into(response, parts)
        assert parts == [b"ok"]


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_http_1_where_http_2_was_possible(flavour) -> None:
    with serving() as server, wired(flavour, server.endpoint, WireSettings(http2=True)) as wire:
        for _ in range(2):
            assert wire.send(request()).content == b"ok"
        assert [response.content for response in wire.together([request() for _ in range(8)])] == [b"ok"] * 8


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize(
    "headers",
    [
        pytest.param([("Content-Length", "0"), ("Content-Length", "5")], id="two-lengths"),
        pytest.param([("Content-Length", "5"), ("Transfer-Encoding", "chunked")], id="length-and-chunks"),
        pytest.param([("Transfer-Encoding", "chunked")] * 2, id="chunks-twice"),
        pytest.param([("Content-Length", "9" * 5000)], id="endless"),
    ],
)
def test_a_request_that_two_readers_may_end_in_two_places_is_not_sent(flavour, headers) -> None:
    with serving() as server, wired(flavour, server.endpoint) as wire:
        wire.send(request())
        smuggled = httpx.Request("POST", "http://orders.internal/", headers=[("Host", "orders"), *headers])
        error = outcome(lambda: wire.send(smuggled))
        assert isinstance(error, httpx.LocalProtocolError)
        assert error.unsent is True
        assert len(server.requests) == 1


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_nobody_has_asked_for_another_protocol(flavour) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")
        await peer.request()

    with serving(script) as server, wired(flavour, server.endpoint) as wire:
        assert isinstance(outcome(lambda: wire.send(request())), httpx.RemoteProtocolError)


def test_a_busy_connection_turns_a_second_request_away_unharmed() -> None:
    class Stream:
        closed = False

        def close(self) -> None:
            self.closed = True

    stream = Stream()
    connection = HTTP1(None, stream, None, H11Answers())
    connection._take()
    with pytest.raises(httpcore2.ConnectionNotAvailable):
        connection.handle_request(Exchange(request(), {}))
    assert not stream.closed


def test_a_body_closed_by_another_thread_while_it_is_read_costs_the_connection() -> None:
    class Stream:
        closed = False

        def read(self, size: int, timeout: float | None) -> bytes:
            parts.close()  # as another thread may at this very moment
            return OK

        def close(self) -> None:
            self.closed = True

    stream = Stream()
    connection = HTTP1(None, stream, None, H11Answers())
    connection._answers.expect(b"GET")
    connection._sent = True
    parts = _Parts(connection, None)
    assert next(parts) == b"ok"
    assert stream.closed
    assert not connection.is_idle()


def test_a_waiter_is_told_why_it_gets_no_connection() -> None:
    def create(origin: Any) -> Any:
        if made:
            raise OSError("no such certificate")
        made.append(origin)
        return object()

    made: list[Any] = []
    places = Places(create, WireSettings(max_connections=1))
    origin = httpcore2.Origin(b"http", b"orders", 80)
    key = key_of(origin)
    held = places.take(key, origin)
    waiter = _Thread(key, origin)
    places.queue(waiter)
    places._discard(held)
    places._give_place()
    waiter.wait(5.0)
    with pytest.raises(OSError, match="no such certificate"):
        _given(waiter)
