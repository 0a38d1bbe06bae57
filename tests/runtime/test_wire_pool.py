"""How many connections there are, and how long they live."""

from __future__ import annotations

import threading
import time
from typing import Any

import httpx
import pytest

import resilient
from resilient import httpx2 as httpx2_
from resilient.balance.endpoint import Endpoint
from resilient.binding import HTTPX
from resilient.core.check import ConfigError
from resilient.runtime.cap import Cap
from resilient.runtime.wire import Wire, WireSettings, link
from resilient.runtime.wire.aio import _HIGH_WATER
from tests.runtime.servers import Peer, serve_much, serving
from tests.runtime.wires import FLAVOURS, outcome, request, until, wired


@pytest.mark.parametrize("flavour", FLAVOURS)
class TestConnections:
    def test_one_serves_after_another(self, flavour) -> None:
        with serving() as server, wired(flavour, server.endpoint) as wire:
            for _ in range(5):
                wire.send(request())
            assert [len(peer.requests) for peer in server.peers] == [5]

    def test_all_of_them_stay_open(self, flavour) -> None:
        """httpcore 1.0.9 would close all but max_keepalive, counting the busy ones as idle."""
        with serving() as server, wired(flavour, server.endpoint, WireSettings(max_connections=30)) as wire:
            for _ in range(4):
                wire.together([request() for _ in range(30)])
            assert len(server.peers) <= 30

    def test_no_more_than_max_connections_and_nobody_is_forgotten(self, flavour) -> None:
        with serving() as server, wired(flavour, server.endpoint, WireSettings(max_connections=3)) as wire:
            answers = wire.together([request() for _ in range(30)])
            assert [answer.status_code for answer in answers] == [200] * 30
            assert len(server.peers) <= 3

    def test_a_wait_for_a_connection_times_out_unsent(self, flavour) -> None:
        settings = WireSettings(max_connections=1)
        with serving(serve_much) as server, wired(flavour, server.endpoint, settings) as wire:
            held = wire.open(request())
            impatient = request(extensions={"timeout": httpx.Timeout(5.0, pool=0.01).as_dict()})
            error = outcome(lambda: wire.send(impatient))
            assert isinstance(error, httpx.PoolTimeout)
            assert error.unsent is True
            wire.close_response(held)

    def test_one_that_waits_for_its_turn_is_not_unused(self, flavour) -> None:
        """A sweep would close the wire, and the connection would be nobody's."""
        settings = WireSettings(keepalive_expiry=0.0)
        with serving(serve_much) as server, wired(flavour, server.endpoint, settings) as face:
            wire: Any = face.wire
            wire._cap = Cap(1, HTTPX)
            held = face.open(request())
            waiting = threading.Thread(target=lambda: face.send(request()))
            waiting.start()
            until(lambda: wire.in_flight == 2)
            assert not wire.unused(time.monotonic() + 1000.0)
            face.close_response(held)
            waiting.join(10)
            assert wire.in_flight == 0

    def test_no_more_than_max_keepalive_stay_open(self, flavour) -> None:
        settings = WireSettings(max_keepalive=0)
        with serving() as server, wired(flavour, server.endpoint, settings) as wire:
            wire.send(request())
            wire.send(request())
            assert len(server.peers) == 2

    def test_an_idle_one_expires(self, flavour) -> None:
        settings = WireSettings(keepalive_expiry=0.0)
        with serving() as server, wired(flavour, server.endpoint, settings) as wire:
            wire.send(request())
            wire.send(request())
            assert len(server.peers) == 2

    def test_one_that_is_too_old_takes_no_further_request(self, flavour, monkeypatch) -> None:
        clock = [1000.0]
        monkeypatch.setattr(link, "monotonic", lambda: clock[0])
        settings = WireSettings(max_connection_age=60.0)
        with serving() as server, wired(flavour, server.endpoint, settings) as wire:
            wire.send(request())
            clock[0] += 53.9
            wire.send(request())
            assert len(server.peers) == 1
            clock[0] += 6.2
            wire.send(request())
            assert len(server.peers) == 2

    def test_one_that_is_too_old_finishes_its_response(self, flavour, monkeypatch) -> None:
        clock = [1000.0]
        monkeypatch.setattr(link, "monotonic", lambda: clock[0])
        settings = WireSettings(max_connection_age=60.0)
        with serving() as server, wired(flavour, server.endpoint, settings) as wire:
            held = wire.open(request())
            clock[0] += 61
            wire.send(request())
            assert len(server.peers) == 2
            wire.close_response(held)

    def test_unsolicited_bytes_end_an_idle_one(self, flavour) -> None:
        """HAProxy and nginx say 408 to an idle connection before they close it."""

        late = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n"
        with serving() as server, wired(flavour, server.endpoint) as wire:
            wire.send(request())
            server.on_loop(lambda: server.peers[0].writer.write(late))
            until(wire.wire._pool.connections[0].link.hung_up)
            assert wire.send(request("POST", content=b"x"), resend=False).status_code == 200
            assert len(server.peers) == 2

    def test_a_chunked_body_and_a_large_one_come_through(self, flavour) -> None:
        async def large(peer: Peer) -> None:
            await peer.request()
            await peer.respond(b"x" * 3_000_000)

        with serving(large) as server, wired(flavour, server.endpoint) as wire:
            post = request("POST", content=b"y" * 2_000_000)
            assert len(wire.send(post).content) == 3_000_000
            assert len(server.requests[0]) > 2_000_000

    def test_a_body_that_nobody_reads_waits_at_the_server(self, flavour) -> None:
        async def large(peer: Peer) -> None:
            await peer.request()
            await peer.respond(b"x" * 20_000_000)

        with serving(large) as server, wired(flavour, server.endpoint) as wire:
            response = wire.open(request())
            if flavour == "asyncio":
                stream = wire.wire._pool.connections[0].link._stream
                until(lambda: stream._size > _HIGH_WATER)
                time.sleep(0.05)  # more would come now
                assert stream._size <= 2 * _HIGH_WATER
            assert len(wire.read(response)) == 20_000_000


def test_a_wire_is_unused_when_nothing_is_in_flight_and_its_connections_have_expired() -> None:
    with serving(serve_much) as server:
        wire = Wire(server.endpoint, WireSettings(keepalive_expiry=5.0), HTTPX)
        response = wire.send(request(), resend=True)
        assert not wire.unused(1e12)
        response.read()
        assert wire.unused(1e12)
        assert not wire.unused(wire._used + 4.9)
        wire.close()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_connections", 0),
        ("max_keepalive", -1),
        ("keepalive_expiry", -1.0),
        ("max_connection_age", 0.0),
    ],
)
def test_a_wrong_setting_is_refused(field, value) -> None:
    with pytest.raises(ConfigError, match=f"WireSettings.{field}: {value}"):
        WireSettings(**{field: value})


def test_some_version_of_http_is_needed() -> None:
    with pytest.raises(ConfigError, match="http1"):
        WireSettings(http1=False)


@pytest.mark.parametrize("setting", [WireSettings, resilient.Client, resilient.AsyncClient, httpx2_.Client])
def test_the_fast_wire_is_an_extra(setting, monkeypatch) -> None:
    argument = "engine" if setting is WireSettings else "wire"
    monkeypatch.setattr("resilient.runtime.wire.settings.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install resilient-mesh\[fast\]"):
        setting(**{argument: "fast"})
    with pytest.raises(ConfigError, match=f"{argument}: 'faster'"):
        setting(**{argument: "faster"})


def test_a_client_is_told_by_one_word_to_be_fast() -> None:
    with serving() as server, resilient.Client(wire="fast") as client:
        client.get(f"http://{server.endpoint.address}/")
        (wire,) = client._transport._carrier._wires.values()
        assert type(wire._pool.connections[0]._connection).__name__ == "HTTP1"


def test_connections_of_one_moment_do_not_retire_together() -> None:
    settings = WireSettings(max_connection_age=100.0)
    ages = set()
    for _ in range(20):
        one = link.Link(Endpoint("127.0.0.1", 1), settings, link.Generation())
        one.connected(None)
        assert 90 <= one.retires - one.born <= 100
        ages.add(one.retires - one.born)
    assert len(ages) > 10
