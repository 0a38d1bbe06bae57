"""An attempt ends when its time is up: threads by their deadline, tasks by cancellation."""

from __future__ import annotations

import asyncio
import signal
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import anyio
import httpx
import pytest

from resilient.binding import HTTPX
from resilient.core.classify import HttpClassifier
from resilient.core.outcome import Kind
from resilient.identity.tls import TLS
from resilient.runtime.wire import AsyncWire, WireSettings, attempt_deadline
from resilient.runtime.wire.deadline import within_deadline
from tests.runtime.servers import Peer, serve, serve_much, serving
from tests.runtime.wires import ENGINES, outcome, request, wired

FOREVER = 200  # drips, of which each takes 50 ms
PATIENT = {"timeout": httpx.Timeout(20.0).as_dict()}


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    token = attempt_deadline.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        attempt_deadline.reset(token)


async def drip(peer: Peer, data: bytes) -> None:
    for _ in range(FOREVER):
        await peer.send(data)
        await asyncio.sleep(0.05)


async def drip_head(peer: Peer) -> None:
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\nX-Long: ")
    await drip(peer, b"x")


async def drip_body(peer: Peer) -> None:
    await peer.request()
    await peer.respond(b"", length=FOREVER)
    await drip(peer, b"x")


async def deaf(peer: Peer) -> None:
    await asyncio.sleep(20)


class TestThreads:
    @pytest.mark.parametrize("script", [drip_head, drip_body])
    def test_a_dripping_server_is_cut_off(self, script) -> None:
        with serving(script) as server, wired("sync", server.endpoint) as wire, deadline(0.2):
            response = outcome(lambda: wire.open(request(extensions=PATIENT)))
            if script is drip_head:
                error = response
            else:
                error = outcome(response.read)
                response.close()
            assert isinstance(error, httpx.ReadTimeout)
            assert error.unsent is False

    def test_a_server_that_does_not_read_is_cut_off(self) -> None:
        with serving(deaf) as server, wired("sync", server.endpoint) as wire, deadline(0.2):
            post = request("POST", content=b"x" * 20_000_000, extensions=PATIENT)
            assert isinstance(outcome(lambda: wire.send(post)), httpx.WriteTimeout)

    def test_a_silent_handshake_is_cut_off(self) -> None:
        settings = WireSettings(tls=TLS(verify=ssl.create_default_context()))
        with serving(deaf) as server, wired("sync", server.endpoint, settings) as wire, deadline(0.2):
            error = outcome(lambda: wire.send(request(url="https://orders/", extensions=PATIENT)))
            assert isinstance(error, httpx.ConnectTimeout)

    def test_a_wait_for_a_connection_is_cut_off(self) -> None:
        settings = WireSettings(max_connections=1)
        with serving(serve_much) as server, wired("sync", server.endpoint, settings) as wire:
            held = wire.open(request())
            with deadline(0.1):
                error = outcome(lambda: wire.send(request(extensions=PATIENT)))
            assert isinstance(error, httpx.PoolTimeout)
            held.close()

    def test_nothing_is_sent_after_the_deadline(self) -> None:
        with serving() as server, wired("sync", server.endpoint) as wire:
            wire.send(request())
            with deadline(-1):
                error = outcome(lambda: wire.send(request()))
            assert isinstance(error, httpx.TimeoutException)
            assert error.unsent is True
            assert len(server.requests) == 1

    def test_without_a_deadline_the_timeouts_of_the_request_hold(self) -> None:
        with serving(deaf) as server, wired("sync", server.endpoint) as wire:
            hurried = request(extensions={"timeout": httpx.Timeout(0.05).as_dict()})
            assert isinstance(outcome(lambda: wire.send(hurried)), httpx.ReadTimeout)

    @pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="signals of Unix")
    @pytest.mark.parametrize("error", [TimeoutError("alarm"), ConnectionError("alarm")], ids=["timeout", "connection"])
    def test_what_a_signal_handler_raises_is_no_fault_of_the_connection(self, error: OSError) -> None:
        def alarm(*_: object) -> None:
            raise error

        main = threading.get_ident()
        timer = threading.Timer(0.1, signal.pthread_kill, (main, signal.SIGUSR1))
        with serving(deaf) as server, wired("sync", server.endpoint) as wire:
            before = signal.signal(signal.SIGUSR1, alarm)
            try:
                timer.start()
                assert outcome(lambda: wire.send(request(extensions=PATIENT))) is error
            finally:
                signal.signal(signal.SIGUSR1, before)
                timer.join()
        assert HttpClassifier().classify(None, error).kind is Kind.IGNORED

    def test_the_shorter_of_both_holds(self) -> None:
        assert within_deadline(3.0) == 3.0
        assert within_deadline(None) is None
        with deadline(100.0):
            assert within_deadline(3.0) == 3.0
            assert 99 < (within_deadline(None) or 0) <= 100
            assert 99 < (within_deadline(200.0) or 0) <= 100


STAGES: dict[str, Any] = {
    "waiting for the head": drip_head,
    "reading the body": drip_body,
    "writing the body": deaf,
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.anyio
class TestTasks:
    @pytest.mark.parametrize("stage", STAGES)
    async def test_a_cancelled_request_leaves_nothing_behind(self, stage, anyio_backend, engine) -> None:
        async def script(peer: Peer) -> None:
            await (STAGES[stage] if peer.number == 0 else serve)(peer)

        with serving(script) as server:
            wire = AsyncWire(server.endpoint, WireSettings(engine=engine, max_connections=1), HTTPX)
            post = request("POST", content=b"x" * 20_000_000, extensions=PATIENT)
            with anyio.move_on_after(0.1) as scope:
                response = await wire.send(post if stage == "writing the body" else request(), resend=False)
                try:
                    await response.aread()
                finally:
                    await response.aclose()
            assert scope.cancelled_caught
            assert wire.in_flight == 0
            answer = await wire.send(request(), resend=False)
            assert await answer.aread() == b"ok"
            await wire.aclose()
            assert wire._pool.busy == 0

    async def test_a_cancelled_handshake_leaves_nothing_behind(self, anyio_backend, engine) -> None:
        settings = WireSettings(engine=engine, max_connections=1, tls=TLS(verify=ssl.create_default_context()))
        with serving(deaf) as server:
            wire = AsyncWire(server.endpoint, settings, HTTPX)
            with anyio.move_on_after(0.1) as scope:
                await wire.send(request(url="https://orders/"), resend=False)
            assert scope.cancelled_caught
            assert wire.in_flight == 0
            await wire.aclose()
            assert wire._pool.connections == []

    async def test_a_negative_timeout_has_passed(self, anyio_backend, engine) -> None:
        with serving() as server:
            wire = AsyncWire(server.endpoint, WireSettings(engine=engine), HTTPX)
            late = {"timeout": {"connect": -1.0, "read": -1.0, "write": -1.0}}
            with pytest.raises(httpx.ConnectTimeout):
                await wire.send(request(extensions=late), resend=False)
            await (await wire.send(request(), resend=False)).aread()
            with suppress(httpx.TimeoutException):  # on loopback the answer may be there in no time
                await (await wire.send(request(extensions=late), resend=False)).aread()
            assert wire.in_flight == 0
            await wire.aclose()

    async def test_one_who_waits_for_a_connection_may_be_cancelled(self, anyio_backend, engine) -> None:
        with serving(serve_much) as server:
            wire = AsyncWire(server.endpoint, WireSettings(engine=engine, max_connections=1), HTTPX)
            held = await wire.send(request(), resend=False)
            with anyio.move_on_after(0.05) as scope:
                await wire.send(request(), resend=False)
            assert scope.cancelled_caught
            await held.aread()
            answer = await wire.send(request(), resend=False)
            assert len(await answer.aread()) == 1_000_000
            assert len(server.peers) == 1
            await wire.aclose()

    async def test_a_body_left_half_read_closes_its_connection(self, anyio_backend, engine) -> None:
        with serving(drip_body) as server:
            wire = AsyncWire(server.endpoint, WireSettings(engine=engine), HTTPX)
            response = await wire.send(request(), resend=False)
            async for _ in response.stream:
                break
            await response.aclose()
            await response.aclose()
            assert wire.in_flight == 0
            assert wire._pool.connections == []
            await wire.aclose()
