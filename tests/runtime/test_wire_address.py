"""Where a request goes, and what the server is told: the address is pinned, the URL is kept."""

from __future__ import annotations

import socket
import ssl

import httpx
import httpx2
import pytest
import trustme

from resilient.balance.endpoint import Endpoint
from resilient.binding import bind
from resilient.identity.tls import TLS
from resilient.runtime.wire import WireSettings
from tests.runtime.servers import Peer, serve, serving
from tests.runtime.wires import FLAVOURS, outcome, request, wired

pytestmark = pytest.mark.parametrize("flavour", FLAVOURS)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def server_tls(authority) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("orders.internal").configure_cert(context)
    return context


@pytest.fixture
def settings(authority) -> WireSettings:
    return WireSettings(tls=TLS(verify=_trusting(authority)))


def _trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def test_the_server_sees_the_logical_host_and_the_headers_of_the_request(flavour) -> None:
    with serving() as server, wired(flavour, server.endpoint) as wire:
        wire.send(request(url="http://orders.internal/v1/42?a=b", headers={"X-Mixed": "Yes"}))
        head = server.requests[0]
        assert head.startswith(b"GET /v1/42?a=b HTTP/1.1\r\nHost: orders.internal\r\n")
        assert b"X-Mixed: Yes" in head


def test_the_response_is_what_the_library_makes_of_it(flavour) -> None:
    async def teapot(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 418 Short\r\nX-A: 1\r\nX-A: 2\r\nContent-Length: 0\r\n\r\n")

    with serving(teapot) as server, wired(flavour, server.endpoint) as wire:
        response = wire.send(request())
        assert type(response) is httpx.Response
        assert response.status_code == 418
        assert response.reason_phrase == "Short"
        assert response.http_version == "HTTP/1.1"
        assert response.headers.raw == [(b"X-A", b"1"), (b"X-A", b"2"), (b"Content-Length", b"0")]
        assert "network_stream" in response.extensions


@pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])
def test_classes_are_those_of_the_binding(flavour, library) -> None:
    with serving() as server, wired(flavour, server.endpoint, binding=bind(library)) as wire:
        response = wire.open(request(library=library))
        base = library.SyncByteStream if flavour == "sync" else library.AsyncByteStream
        assert isinstance(response, library.Response)
        assert isinstance(response.stream, base)
        wire.close_response(response)


def test_one_wire_serves_several_names_on_connections_of_their_own(flavour) -> None:
    with serving() as server, wired(flavour, server.endpoint) as wire:
        for name in ("a.internal", "b.internal", "a.internal"):
            wire.send(request(url=f"http://{name}/"))
        assert [len(peer.requests) for peer in server.peers] == [2, 1]


def test_the_target_extension_replaces_the_path(flavour) -> None:
    with serving() as server, wired(flavour, server.endpoint) as wire:
        wire.send(request("OPTIONS", extensions={"target": b"*"}))
        assert server.requests[0].startswith(b"OPTIONS * HTTP/1.1\r\n")


def test_tls_verifies_the_logical_name(flavour, server_tls, settings) -> None:
    with serving(tls=server_tls) as server, wired(flavour, server.endpoint, settings) as wire:
        for _ in range(2):
            response = wire.send(request(url="https://orders.internal/"))
        assert response.content == b"ok"
        assert response.extensions["network_stream"].get_extra_info("ssl_object").version()
        assert len(server.peers) == 1


def test_tls_refuses_another_name(flavour, server_tls, settings) -> None:
    with serving(tls=server_tls) as server, wired(flavour, server.endpoint, settings) as wire:
        error = outcome(lambda: wire.send(request(url="https://payments.internal/")))
        assert isinstance(error, httpx.ConnectError)
        assert "CERTIFICATE_VERIFY_FAILED" in str(error)
        assert error.unsent is True
        assert server.requests == []


def test_tls_sends_the_name_in_the_sni_hostname_extension_if_there_is_one(flavour, server_tls, settings) -> None:
    with serving(tls=server_tls) as server, wired(flavour, server.endpoint, settings) as wire:
        asked = request(url="https://10.0.0.1/", extensions={"sni_hostname": "orders.internal"})
        assert wire.send(asked).status_code == 200


def test_a_large_body_over_tls_comes_through(flavour, server_tls, settings) -> None:
    async def large(peer: Peer) -> None:
        await peer.request()
        await peer.respond(b"x" * 3_000_000)

    with serving(large, tls=server_tls) as server, wired(flavour, server.endpoint, settings) as wire:
        post = request("POST", "https://orders.internal/", content=b"y" * 2_000_000)
        assert len(wire.send(post).content) == 3_000_000
        assert len(server.requests[0]) > 2_000_000


def test_an_answer_too_many_in_a_tls_record_of_its_own(flavour, server_tls, settings) -> None:
    async def twice(peer: Peer) -> None:
        await peer.request()
        # Two records, in one segment: what has been read of the first has the second behind it.
        peer.writer.writelines([b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"] * 2)
        await serve(peer)

    with serving(twice, tls=server_tls) as server, wired(flavour, server.endpoint, settings) as wire:
        for _ in range(2):
            assert wire.send(request(url="https://orders.internal/")).status_code == 200
            assert wire.wire.in_flight == 0
        assert len(server.peers) == 2


def test_a_server_that_does_not_speak_tls_is_a_connect_error(flavour, settings) -> None:
    async def plain(peer: Peer) -> None:
        await peer.reader.read(1)
        await peer.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    with serving(plain) as server, wired(flavour, server.endpoint, settings) as wire:
        error = outcome(lambda: wire.send(request(url="https://orders.internal/")))
        assert isinstance(error, httpx.ConnectError)
        assert error.unsent is True


def test_a_silent_handshake_times_out(flavour, settings) -> None:
    async def silent(peer: Peer) -> None:
        await peer.reader.read()

    with serving(silent) as server, wired(flavour, server.endpoint, settings) as wire:
        hurried = {"timeout": httpx.Timeout(5.0, connect=0.05).as_dict()}
        error = outcome(lambda: wire.send(request(url="https://orders.internal/", extensions=hurried)))
        assert isinstance(error, httpx.ConnectTimeout)
        assert error.unsent is True


def test_a_unix_socket(flavour, tmp_path) -> None:
    with serving(path=str(tmp_path / "s")) as server, wired(flavour, server.endpoint) as wire:
        for _ in range(2):
            assert wire.send(request()).content == b"ok"
        assert len(server.peers) == 1
        assert b"Host: orders.internal" in server.requests[0]


def test_no_unix_socket_there(flavour, tmp_path) -> None:
    with wired(flavour, Endpoint(str(tmp_path / "none"))) as wire:
        error = outcome(lambda: wire.send(request()))
        assert isinstance(error, httpx.ConnectError)
        assert error.unsent is True


def test_ipv6(flavour) -> None:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            pass
    except OSError as error:
        pytest.skip(f"no IPv6 on loopback: {error}")
    with serving(host="::1") as server, wired(flavour, server.endpoint) as wire:
        assert wire.send(request()).content == b"ok"


def test_the_local_address_and_the_socket_options_are_those_of_the_settings(flavour) -> None:
    keepalive = (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    settings = WireSettings(local_address="127.0.0.1", socket_options=[keepalive])
    with serving() as server, wired(flavour, server.endpoint, settings) as wire:
        stream = wire.send(request()).extensions["network_stream"]
        assert stream.get_extra_info("client_addr")[0] == "127.0.0.1"
        assert stream.get_extra_info("server_addr")[1] == server.endpoint.port
        assert stream.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1


def test_an_address_where_nobody_listens(flavour) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        endpoint = Endpoint("127.0.0.1", free.getsockname()[1])
    with wired(flavour, endpoint) as wire:
        asked = request()
        error = outcome(lambda: wire.send(asked))
        assert isinstance(error, httpx.ConnectError)
        assert error.request is asked
        assert (error.unsent, error.refused, error.resent) == (True, False, False)


def test_an_upgrade_passes_through(flavour) -> None:
    async def echo(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\nhi")
        await peer.send(await peer.reader.readexactly(4))

    with serving(echo) as server, wired(flavour, server.endpoint) as wire:
        response = wire.open(request(headers={"Upgrade": "echo", "Connection": "Upgrade"}))
        assert response.status_code == 101
        assert wire.talk(response.extensions["network_stream"], b"ping", 6) == b"hiping"
        wire.close_response(response)
