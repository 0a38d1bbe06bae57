"""A peer that says more than it was asked must not answer the question of somebody else."""

from __future__ import annotations

import pytest

import resilient
from tests.faults.callers import FLAVOURS, calling
from tests.runtime.servers import Peer, serving

pytestmark = [pytest.mark.usefixtures("no_leaks"), pytest.mark.parametrize("flavour", FLAVOURS)]


@pytest.mark.parametrize("surplus", [b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", b"\r\n", b"x"])
def test_what_follows_a_response_is_not_the_next_one(flavour, surplus) -> None:
    async def chatty(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood" + surplus)

    with serving(chatty) as server:
        mesh = resilient.Mesh({"orders": resilient.Service([server.endpoint.address])})
        with calling(flavour, mesh) as caller:
            assert [caller.call("GET", "http://orders/v1").content for _ in range(4)] == [b"good"] * 4
        assert len(server.peers) == 4
