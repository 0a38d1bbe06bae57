"""The keep-alive race: a server closes an idle connection as a request sets out on it."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from resilient.runtime.wire import RESENT
from resilient.runtime.wire.link import Link
from tests.runtime.servers import Peer, serve, serving
from tests.runtime.wires import FLAVOURS, outcome, request, until, wired

pytestmark = pytest.mark.parametrize("flavour", FLAVOURS)


async def vanish_on_second(peer: Peer) -> None:
    """The first connection ends when the second request has arrived: nobody acted on it."""
    await peer.request()
    await peer.respond()
    if peer.number == 0:
        await peer.request()
        return
    await serve(peer)


async def reset_on_second(peer: Peer) -> None:
    await peer.request()
    await peer.respond()
    if peer.number == 0:
        await peer.request()
        peer.reset()
        return
    await serve(peer)


async def always_vanish_on_second(peer: Peer) -> None:
    await peer.request()
    await peer.respond()
    await peer.request()


@pytest.mark.parametrize("script", [vanish_on_second, reset_on_second])
def test_a_get_is_sent_again_on_a_fresh_connection(flavour, script) -> None:
    with serving(script) as server, wired(flavour, server.endpoint) as wire:
        assert RESENT not in wire.send(request()).extensions
        response = wire.send(request())
        assert response.content == b"ok"
        assert response.extensions[RESENT] is True
        assert len(server.peers) == 2
        assert RESENT not in wire.send(request()).extensions
        assert len(server.peers) == 2


@pytest.mark.parametrize("script", [vanish_on_second, reset_on_second])
def test_a_post_that_has_left_is_not_sent_again(flavour, script) -> None:
    with serving(script) as server, wired(flavour, server.endpoint) as wire:
        wire.send(request())
        error = outcome(lambda: wire.send(request("POST", content=b"pay"), resend=False))
        assert isinstance(error, (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError))
        assert (error.unsent, error.refused, error.resent) == (False, False, False)
        assert sum(b"POST" in one for one in server.requests) == 1
        assert len(server.peers) == 1


def test_a_post_goes_to_another_connection_when_the_idle_one_is_seen_to_be_closed(flavour) -> None:
    with serving() as server, wired(flavour, server.endpoint) as wire:
        wire.send(request())
        server.on_loop(lambda: server.peers[0].writer.close())
        until(wire.wire._pool.connections[0].link.hung_up)
        response = wire.send(request("POST", content=b"pay"), resend=False)
        assert response.content == b"ok"
        assert sum(b"POST" in one for one in server.requests) == 1


def test_a_post_is_sent_again_when_its_first_write_moved_nothing(flavour, monkeypatch) -> None:
    with serving() as server, wired(flavour, server.endpoint) as wire:
        wire.send(request())
        connection = wire.wire._pool.connections[0].link
        server.on_loop(server.peers[0].reset)
        until(connection.hung_up)
        # As if the pool and the link had looked before the peer reset: only the write finds out.
        monkeypatch.setattr(Link, "hung_up", lambda link: False)
        monkeypatch.setattr(connection.stream, "get_extra_info", lambda info: None)
        if flavour == "asyncio":
            wire.portal.call(asyncio.sleep, 0.01)  # let the loop see the reset
        result = outcome(lambda: wire.send(request("POST", content=b"pay"), resend=False))
        if flavour == "trio":  # which does not tell whether a failed write has moved bytes
            assert (result.unsent, result.resent) == (False, False)
        else:
            assert result.extensions[RESENT] is True
            assert sum(b"POST" in one for one in server.requests) == 1


def test_it_is_sent_again_once(flavour) -> None:
    async def vanish(peer: Peer) -> None:
        if peer.number == 0:
            await peer.request()
            await peer.respond()
        await peer.request()

    with serving(vanish) as server, wired(flavour, server.endpoint) as wire:
        wire.send(request())
        error = outcome(lambda: wire.send(request()))
        assert isinstance(error, httpx.RemoteProtocolError)
        assert error.resent is True
        assert error.unsent is False
        assert len(server.peers) == 2


def test_a_fresh_connection_that_vanishes_is_no_race(flavour) -> None:
    async def vanish(peer: Peer) -> None:
        await peer.request()

    with serving(vanish) as server, wired(flavour, server.endpoint) as wire:
        error = outcome(lambda: wire.send(request()))
        assert isinstance(error, httpx.RemoteProtocolError)
        assert (error.unsent, error.resent) == (False, False)
        assert len(server.requests) == 1


def test_half_a_response_is_no_race(flavour) -> None:
    async def half(peer: Peer) -> None:
        await peer.request()
        await peer.respond()
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-")

    with serving(half) as server, wired(flavour, server.endpoint) as wire:
        wire.send(request())
        error = outcome(lambda: wire.send(request()))
        assert isinstance(error, httpx.RemoteProtocolError)
        assert error.resent is False
        assert len(server.peers) == 1


def test_no_connection_older_than_a_stale_one_is_used_again(flavour) -> None:
    """Four idle connections, all dead in the same way: one race, and then fresh ones."""
    all_four = asyncio.Barrier(4)

    async def four_then_vanish(peer: Peer) -> None:
        await peer.request()
        if peer.number < 4:
            await all_four.wait()
            await peer.respond()
            await peer.request()
            return
        await peer.respond()
        await serve(peer)

    with serving(four_then_vanish) as server, wired(flavour, server.endpoint) as wire:
        wire.together([request() for _ in range(4)])
        assert len(server.peers) == 4
        assert wire.send(request()).extensions[RESENT] is True
        assert wire.send(request("POST", content=b"pay"), resend=False).content == b"ok"
        assert len(server.peers) == 5


def test_requests_that_are_not_replayable_are_delivered_at_most_once(flavour) -> None:
    """Servers that close on a whim: each POST is seen once, or failed."""

    async def whimsical(peer: Peer) -> None:
        for _ in range(peer.number % 3 + 1):
            await peer.request()
            await peer.respond()
        if peer.number % 2:
            await peer.request()

    with serving(whimsical) as server, wired(flavour, server.endpoint) as wire:
        posts = [request("POST", content=b"post-%03d" % number) for number in range(60)]
        for batch in range(0, 60, 6):
            wire.together(posts[batch : batch + 6], resend=False)
        for number in range(60):
            assert sum(b"post-%03d" % number in one for one in server.requests) <= 1


def test_a_body_that_says_that_it_is_spent_is_not_sent_again(flavour) -> None:
    class Spent(httpx.SyncByteStream, httpx.AsyncByteStream):
        def replayable(self) -> bool:
            return False

        def __iter__(self):
            yield b"body"

        async def __aiter__(self):
            yield b"body"

    with serving(vanish_on_second) as server, wired(flavour, server.endpoint) as wire:
        wire.send(request())
        put = request("PUT", stream=Spent(), headers={"Host": "orders", "Content-Length": "4"})
        error = outcome(lambda: wire.send(put, resend=True))
        assert isinstance(error, httpx.RemoteProtocolError)
        assert len(server.peers) == 1
