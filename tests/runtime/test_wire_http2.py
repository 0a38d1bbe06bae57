"""HTTP/2: many requests on one connection, and peers that go away."""

from __future__ import annotations

import ssl

import httpx
import pytest
import trustme

from resilient.identity.tls import TLS
from resilient.runtime.wire import RESENT, WireSettings, link
from tests.runtime.servers import H2Peer, Peer, serve, serve_h2, serving
from tests.runtime.wires import FLAVOURS, outcome, request, until, wired

pytestmark = pytest.mark.parametrize("flavour", FLAVOURS)
PLAIN = WireSettings(http1=False, http2=True)  # prior knowledge, without TLS


@pytest.mark.parametrize("protocol", ["h2", "http/1.1"])
def test_the_protocol_is_negotiated_in_the_handshake(flavour, protocol) -> None:
    authority = trustme.CA()
    server_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_tls.set_alpn_protocols([protocol])
    authority.issue_cert("orders.internal").configure_cert(server_tls)
    client_tls = ssl.create_default_context()
    authority.configure_trust(client_tls)
    settings = WireSettings(http2=True, tls=TLS(verify=client_tls))
    script = serve_h2 if protocol == "h2" else serve
    with serving(script, tls=server_tls) as server, wired(flavour, server.endpoint, settings) as wire:
        answers = wire.together([request(url="https://orders.internal/") for _ in range(10)])
        assert {answer.http_version for answer in answers} == {"HTTP/2" if protocol == "h2" else "HTTP/1.1"}
        if protocol == "h2":
            assert len(server.peers) == 1
            assert all("stream_id" in answer.extensions for answer in answers)


def test_a_refused_stream_is_known_not_to_have_been_processed(flavour) -> None:
    async def refuse(peer: Peer) -> None:
        connection = H2Peer(peer)
        await connection.start()
        while True:
            for stream in await connection.requests():
                await connection.refuse(stream)

    with serving(refuse) as server, wired(flavour, server.endpoint, PLAIN) as wire:
        error = outcome(lambda: wire.send(request("POST", content=b"pay")))
        assert isinstance(error, httpx.RemoteProtocolError)
        assert (error.unsent, error.refused, error.resent) == (False, True, False)
        assert len(server.requests) == 1


def test_a_goaway_before_any_stream_refuses_the_request(flavour) -> None:
    async def shut(peer: Peer) -> None:
        connection = H2Peer(peer)
        await connection.start()
        await connection.requests()
        await connection.go_away(0)

    with serving(shut) as server, wired(flavour, server.endpoint, PLAIN) as wire:
        error = outcome(lambda: wire.send(request("POST", content=b"pay"), resend=False))
        assert isinstance(error, httpx.RemoteProtocolError)
        assert (error.unsent, error.refused) == (False, True)


async def go_away_after_one(peer: Peer) -> None:
    """One answer, and then GOAWAY for the second request."""
    connection = H2Peer(peer)
    await connection.start()
    first = await connection.requests()
    await connection.respond(first[0])
    await connection.requests()
    await connection.go_away(first[0])
    await peer.reader.read()


def test_a_request_above_the_last_stream_of_a_goaway_moves_to_another_connection(flavour) -> None:
    async def script(peer: Peer) -> None:
        await (go_away_after_one if peer.number == 0 else serve_h2)(peer)

    with serving(script) as server, wired(flavour, server.endpoint, PLAIN) as wire:
        wire.send(request())
        response = wire.send(request("POST", content=b"pay"), resend=False)
        assert response.status_code == 200
        assert response.extensions[RESENT] is True
        assert [len(peer.requests) for peer in server.peers] == [2, 1]


def test_it_moves_once(flavour) -> None:
    async def always_away(peer: Peer) -> None:
        connection = H2Peer(peer)
        await connection.start()
        if peer.number == 0:
            await connection.respond((await connection.requests())[0])
        stream = (await connection.requests())[0]
        await connection.go_away(max(0, stream - 2))
        await peer.reader.read()

    with serving(always_away) as server, wired(flavour, server.endpoint, PLAIN) as wire:
        wire.send(request())
        error = outcome(lambda: wire.send(request("POST", content=b"pay"), resend=False))
        assert isinstance(error, httpx.RemoteProtocolError)
        assert error.refused is True
        assert len(server.requests) <= 3


def test_a_body_that_flows_once_does_not_move(flavour) -> None:
    class Once(httpx.SyncByteStream, httpx.AsyncByteStream):
        def __init__(self) -> None:
            self.parts = iter([b"pay"])

        def __iter__(self):
            yield from self.parts

        async def __aiter__(self):
            for part in self.parts:
                yield part

    with serving(go_away_after_one) as server, wired(flavour, server.endpoint, PLAIN) as wire:
        wire.send(request())
        post = request("POST", stream=Once(), headers={"Host": "orders", "Content-Length": "3"})
        error = outcome(lambda: wire.send(post, resend=False))
        assert isinstance(error, httpx.RemoteProtocolError)
        assert (error.refused, error.resent) == (True, False)
        assert len(server.requests) == 2


def test_a_get_on_an_idle_connection_that_vanishes_is_sent_again(flavour) -> None:
    async def vanish(peer: Peer) -> None:
        connection = H2Peer(peer)
        await connection.start()
        await connection.respond((await connection.requests())[0])
        if peer.number == 0:
            await connection.requests()
            return
        await connection.requests()

    with serving(vanish) as server, wired(flavour, server.endpoint, PLAIN) as wire:
        wire.send(request())
        assert wire.send(request()).extensions[RESENT] is True
        assert len(server.peers) == 2


def test_a_post_goes_to_another_connection_when_the_idle_one_is_seen_to_be_closed(flavour) -> None:
    async def one_each(peer: Peer) -> None:
        connection = H2Peer(peer)
        await connection.start()
        await connection.respond((await connection.requests())[0])

    with serving(one_each) as server, wired(flavour, server.endpoint, PLAIN) as wire:
        wire.send(request())
        until(wire.wire._pool.connections[0].link.hung_up)
        assert wire.send(request("POST", content=b"pay"), resend=False).status_code == 200
        assert len(server.requests) == 2


def test_a_connection_that_is_too_old_takes_no_further_stream(flavour, monkeypatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr(link, "monotonic", lambda: clock[0])
    settings = WireSettings(http1=False, http2=True, max_connection_age=60.0)
    with serving(serve_h2) as server, wired(flavour, server.endpoint, settings) as wire:
        held = wire.open(request())
        clock[0] += 61
        wire.send(request())
        assert len(server.peers) == 2
        wire.close_response(held)


def test_the_callers_trace_is_called(flavour) -> None:
    seen = []

    async def atrace(event: str, info: object) -> None:
        seen.append(event)

    trace = (lambda event, info: seen.append(event)) if flavour == "sync" else atrace
    with serving(serve_h2) as server, wired(flavour, server.endpoint, PLAIN) as wire:
        wire.send(request(extensions={"trace": trace}))
    assert "http2.send_request_headers.complete" in seen
