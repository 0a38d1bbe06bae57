"""HTTP/2: what becomes of the other streams when a peer, or one of us, gives up."""

from __future__ import annotations

import asyncio
import ssl
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import h2.events
import httpx
import pytest
import trustme

import resilient
from resilient.balance.round_robin import RoundRobin
from tests.faults.callers import FLAVOURS, Caller, calling, report_of
from tests.faults.servers import LONG
from tests.runtime.servers import Closed, H2Peer, Peer, Script, Server, serve_h2, serving
from tests.runtime.wires import until

URL = "https://orders/v1"
POLICY = resilient.Policy(
    timeout=10.0, retry=resilient.Retry(wait=0.0, budget=None), balancer=RoundRobin(), outlier=None
)

pytestmark = [pytest.mark.usefixtures("no_leaks"), pytest.mark.parametrize("flavour", FLAVOURS)]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("orders").configure_cert(context)
    context.set_alpn_protocols(["h2"])
    return context


@pytest.fixture
def trust(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@contextmanager
def met(
    flavour: str, servers: list[Server], trust: ssl.SSLContext, policy: resilient.Policy = POLICY
) -> Iterator[Caller]:
    """A client of these servers."""
    mesh = resilient.Mesh(
        {"orders": resilient.Service([server.endpoint.address for server in servers], policy)}, max_lag=60.0
    )
    with calling(flavour, mesh, http2=True, verify=trust) as caller:
        yield caller


def within(seconds: float) -> dict[str, Any]:
    return {"resilient": {"timeout": seconds}}


class OnDemand:
    """A script that answers no stream until it is told to."""

    def __init__(self, max_streams: int = 100) -> None:
        self.connection: H2Peer
        self.streams: list[int] = []
        self.resets: list[int] = []
        self._max_streams = max_streams

    async def __call__(self, peer: Peer) -> None:
        self.connection = H2Peer(peer, self._max_streams)
        await self.connection.start()
        while data := await peer.reader.read(65536):
            for event in self.connection.state.receive_data(data):
                if isinstance(event, h2.events.StreamEnded):
                    self.streams.append(event.stream_id)
                elif isinstance(event, h2.events.StreamReset):
                    self.resets.append(event.stream_id)
            await self.connection.flush()
        raise Closed

    def begin(self, server: Server, stream: int) -> None:
        """The first part of a response."""

        async def send() -> None:
            self.connection.state.send_headers(stream, [(":status", "200")])
            self.connection.state.send_data(stream, b"abc")
            await self.connection.flush()

        asyncio.run_coroutine_threadsafe(send(), server.loop).result(10)

    def answer(self, server: Server, stream: int) -> None:
        asyncio.run_coroutine_threadsafe(self.connection.respond(stream), server.loop).result(10)


@contextmanager
def elsewhere() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as threads:
        yield threads


def test_a_deadline_is_kept_beside_a_call_that_waits_longer(flavour, tls, trust) -> None:
    script = OnDemand()
    with serving(script, tls=tls) as server, met(flavour, [server], trust) as caller, elsewhere() as threads:
        patient = threads.submit(caller.call, "POST", URL, content=b"pay")
        until(lambda: len(script.streams) == 1)
        assert isinstance(caller.call("GET", URL, extensions=within(0.1)), resilient.DeadlineExceeded)
        assert not patient.done()
        script.answer(server, script.streams[0])
        assert patient.result().status_code == 200
        assert len(server.peers) == 1


def test_a_deadline_is_kept_while_another_call_connects(flavour, trust) -> None:
    async def silent(peer: Peer) -> None:
        await asyncio.sleep(LONG)

    with serving(silent) as server, met(flavour, [server], trust) as caller, elsewhere() as threads:
        patient = threads.submit(caller.call, "GET", URL, extensions=within(2.0))
        until(lambda: len(server.peers) == 1)
        assert isinstance(caller.call("GET", URL, extensions=within(0.1)), resilient.DeadlineExceeded)
        assert not patient.done()
        assert len(server.peers) == 1
        assert isinstance(patient.result(), resilient.DeadlineExceeded)


def test_a_deadline_is_kept_in_the_body(flavour, tls, trust) -> None:
    script = OnDemand()
    with serving(script, tls=tls) as server, met(flavour, [server], trust) as caller, elsewhere() as threads:
        patient = threads.submit(caller.call, "POST", URL, content=b"pay")
        until(lambda: len(script.streams) == 1)
        read = threads.submit(caller.read_stream, URL, extensions=within(3.0))
        until(lambda: len(script.streams) == 2)
        script.begin(server, script.streams[1])
        found, error = read.result()
        assert found == b"abc"
        assert isinstance(error, resilient.DeadlineExceeded)
        whole = threads.submit(caller.call, "GET", URL, extensions=within(1.0))
        until(lambda: len(script.streams) == 3)
        script.begin(server, script.streams[2])
        assert isinstance(whole.result(), resilient.DeadlineExceeded)
        script.answer(server, script.streams[0])
        assert patient.result().status_code == 200
        assert len(server.peers) == 1


def test_one_that_gives_up_waiting_for_a_connection_does_not_lose_it(flavour, tls, trust) -> None:
    with serving(serve_h2, tls=tls) as server, met(flavour, [server], trust) as caller, elsewhere() as threads:
        threads.submit(server.on_loop, lambda: time.sleep(0.5))  # meanwhile it accepts, and shakes no hands
        patient = threads.submit(caller.call, "GET", URL)
        until(lambda: len(caller.wires()) == 1)
        assert isinstance(caller.call("GET", URL, extensions=within(0.1)), resilient.DeadlineExceeded)
        assert patient.result().status_code == 200
        assert caller.call("GET", URL).status_code == 200
        assert len(server.peers) == 1


def test_a_deadline_is_kept_in_the_queue_for_a_stream(flavour, tls, trust) -> None:
    script = OnDemand(max_streams=1)
    with serving(script, tls=tls) as server, met(flavour, [server], trust) as caller, elsewhere() as threads:
        patient = threads.submit(caller.call, "GET", URL)
        until(lambda: len(script.streams) == 1)
        late = caller.call("POST", URL, content=b"pay", extensions=within(0.1))
        assert isinstance(late, resilient.DeadlineExceeded)
        assert [attempt.reason for attempt in report_of(late).attempts] == ["overflow"]
        script.answer(server, script.streams[0])
        assert patient.result().status_code == 200
        assert (len(server.peers), len(script.streams)) == (1, 1)


def test_calls_that_were_given_up_do_not_use_up_the_streams(flavour, tls, trust) -> None:
    script = OnDemand(max_streams=2)
    with serving(script, tls=tls) as server, met(flavour, [server], trust) as caller, elsewhere() as threads:
        for _ in range(5):
            assert isinstance(caller.call("GET", URL, extensions=within(0.3)), resilient.DeadlineExceeded)
        patient = threads.submit(caller.call, "GET", URL)
        until(lambda: len(script.streams) == 6)
        script.answer(server, script.streams[5])
        assert patient.result().status_code == 200
        assert script.resets == script.streams[:5]
        assert len(server.peers) == 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")  # trio's, of httpx's own iterators
def test_bodies_that_were_given_up_do_not_use_up_the_window(flavour, tls, trust) -> None:
    """httpcore opens the window of a connection to 16 MB, and for good."""
    size = 2**20

    async def big(peer: Peer) -> None:
        connection = H2Peer(peer)
        await connection.start()
        while True:
            for stream in await connection.requests():
                await flood(connection, stream, size)

    async def flood(connection: H2Peer, stream: int, left: int) -> None:
        state = connection.state
        state.send_headers(stream, [(":status", "200")])
        while left and not state.streams[stream].closed:
            room = min(left, state.local_flow_control_window(stream), state.max_outbound_frame_size)
            if not room:
                return
            state.send_data(stream, b"x" * room, end_stream=room == left)
            left -= room
            await connection.flush()

    policy = POLICY.replace(retry=None, timeout=5.0)
    with serving(big, tls=tls) as server, met(flavour, [server], trust, policy) as caller:
        for _ in range(24):
            caller.close_early(URL)
        response = caller.call("GET", URL)
        assert isinstance(response, httpx.Response), repr(response)
        assert len(response.content) == size
        assert len(server.peers) == 1


def refuses() -> Script:
    async def script(peer: Peer) -> None:
        connection = H2Peer(peer)
        await connection.start()
        while True:
            for stream in await connection.requests():
                await connection.refuse(stream)

    return script


def goes_away(*, processed: bool) -> Script:
    """GOAWAY in answer to the first request, which it has acted on or not."""

    async def script(peer: Peer) -> None:
        connection = H2Peer(peer)
        await connection.start()
        (stream, *_) = await connection.requests()
        await connection.go_away(stream if processed else 0)

    return script


def resets_in_the_body() -> Script:
    async def script(peer: Peer) -> None:
        connection = H2Peer(peer)
        await connection.start()
        while True:
            for stream in await connection.requests():
                connection.state.send_headers(stream, [(":status", "200")])
                connection.state.send_data(stream, b"abc")
                connection.state.reset_stream(stream, error_code=2)
                await connection.flush()

    return script


def talks_nonsense() -> Script:
    async def script(peer: Peer) -> None:
        await peer.send(b"\x00\x00\x01\x00\x00\x00\x00\x00\x00x")  # DATA of no stream
        await asyncio.sleep(LONG)

    return script


UNPROCESSED = {"refuses": refuses(), "goes-away": goes_away(processed=False)}
PERHAPS = {
    "goes-away-late": goes_away(processed=True),
    "resets-in-the-body": resets_in_the_body(),
    "talks-nonsense": talks_nonsense(),
}


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("script", UNPROCESSED.values(), ids=UNPROCESSED)
def test_what_the_peer_has_not_acted_on_goes_elsewhere(flavour, script, method, tls, trust) -> None:
    with (
        serving(script, tls=tls) as bad,
        serving(serve_h2, tls=tls) as good,
        met(flavour, [bad, good], trust) as caller,
    ):
        results = [caller.call(method, URL, content=b"pay") for _ in range(4)]
        assert [result.status_code for result in results] == [200] * 4
        reasons = Counter(attempt.reason for result in results for attempt in report_of(result).attempts)
        assert reasons["refused-stream"] > 0
        assert set(reasons) == {"", "refused-stream"}
        assert len(good.requests) == 4


@pytest.mark.parametrize("script", PERHAPS.values(), ids=PERHAPS)
def test_what_the_peer_may_have_acted_on_is_not_posted_twice(flavour, script, tls, trust) -> None:
    with (
        serving(script, tls=tls) as bad,
        serving(serve_h2, tls=tls) as good,
        met(flavour, [bad, good], trust) as caller,
    ):
        results = [caller.call("POST", URL, content=b"pay") for _ in range(4)]
        failed = [result for result in results if not isinstance(result, httpx.Response)]
        assert failed
        for error in failed:
            assert isinstance(error, httpx.TransportError)
            assert error.report.flags == ["retry-unsafe"]
        assert len(good.requests) == 4 - len(failed)
        assert [caller.call("GET", URL).status_code for _ in range(4)] == [200] * 4


def test_the_bystanders_of_a_goaway_are_not_posted_twice(flavour, tls, trust) -> None:
    """Three streams are open, and the peer has acted on the first of them."""

    async def first_only(peer: Peer) -> None:
        if peer.number:
            await serve_h2(peer)
        connection = H2Peer(peer)
        await connection.start()
        streams: list[int] = []
        while len(streams) < 3:
            streams += await connection.requests()
        await connection.respond(min(streams))
        await connection.go_away(min(streams))

    with serving(first_only, tls=tls) as server, met(flavour, [server], trust) as caller:
        results = caller.together([{"method": "POST", "url": URL, "content": b"pay"} for _ in range(3)])
        assert [result.status_code for result in results] == [200] * 3
        assert sum(report_of(result).flags == ["resent"] for result in results) == 2
        assert len(server.requests) == 3 + 2


def test_threads_and_tasks_may_share_a_connection(flavour, tls, trust) -> None:
    """As many switches between threads as there can be."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with serving(serve_h2, tls=tls) as server, met(flavour, [server], trust) as caller:
            requests = [{"method": "POST", "url": URL, "content": b"pay"} for _ in range(16)]
            for _ in range(10):
                assert [result.status_code for result in caller.together(requests)] == [200] * 16
            assert len(server.requests) == 160
    finally:
        sys.setswitchinterval(interval)
