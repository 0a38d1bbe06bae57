"""From birth to death: forks, the end of the interpreter, collection, closing, draining."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

import resilient
from resilient import Limit, Mesh, Policy, Service
from resilient.balance.endpoint import Endpoint
from resilient.binding import HTTPX
from resilient.runtime import wires
from resilient.runtime.wire import WireSettings
from tests.compat.certificates import Certificates
from tests.runtime.servers import Peer, Server, serve_much, serving

PREAMBLE = """
import asyncio, faulthandler, os, signal, sys, threading, time, traceback
import httpx, resilient
faulthandler.dump_traceback_later(20, exit=True)
addresses, extra = sys.argv[1].split(","), sys.argv[2:]

def in_child(work):
    pid = os.fork()
    if pid == 0:
        signal.alarm(15)
        try:
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    return pid

def joined(pid):
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, "the child failed"

def in_threads(count, work):
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
"""


def script(body: str, *args: object) -> str:
    """Run a program to its good end; what it wrote to stderr."""
    program = PREAMBLE + textwrap.dedent(body)
    command = [sys.executable, "-c", program, *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


def requests_of(server: Server) -> list[int]:
    """How many requests came on each connection."""
    return [len(peer.requests) for peer in server.peers]


class TestFork:
    def test_a_client_that_was_never_used(self) -> None:
        with serving() as server:
            script(
                """
                client = resilient.Client(mesh=resilient.Mesh({"orders": resilient.Service([addresses[0]])}))
                get = lambda: client.get("http://orders/").raise_for_status()
                children = [in_child(get) for _ in range(2)]
                for child in children: joined(child)
                get()
                """,
                server.endpoint,
            )
            assert requests_of(server) == [1, 1, 1]

    @pytest.mark.parametrize("scheme", ["http", "https"])
    def test_a_client_that_threads_have_used(self, scheme: str, tmp_path: Path) -> None:
        certificates = Certificates.issue(tmp_path)
        with serving(tls=certificates.server("orders") if scheme == "https" else None) as server:
            script(
                """
                import ssl
                verify = ssl.create_default_context(cafile=extra[1])
                mesh = resilient.Mesh({"orders": resilient.Service([addresses[0]])})
                client = resilient.Client(mesh=mesh, verify=verify)
                get = lambda: client.get(f"{extra[0]}://orders/").raise_for_status()
                get()
                joined(in_child(lambda: (in_threads(3, get), client.close())))
                joined(in_child(get))
                get()
                """,
                server.endpoint,
                scheme,
                certificates.ca_file,
            )
            parent, *children = requests_of(server)
            assert parent == 2
            assert sum(children) == 4

    def test_a_closed_connection_of_the_parent_is_not_kept_open_by_the_child(self) -> None:
        closed = threading.Event()

        async def serve(peer: Peer) -> None:
            try:
                while b"/closed" not in await peer.request():
                    await peer.respond()
                await peer.respond(b"yes" if await anyio.to_thread.run_sync(closed.wait, 5) else b"no")
            finally:
                if peer.number == 0:
                    closed.set()

        with serving(serve) as server:
            script(
                """
                here, there = os.pipe()
                async def main():
                    async with resilient.AsyncClient() as client:
                        await client.get(f"http://{addresses[0]}/")
                        return in_child(lambda: (os.close(there), os.read(here, 1)))
                pid = asyncio.run(main())
                assert httpx.get(f"http://{addresses[0]}/closed").text == "yes"
                os.close(there)
                joined(pid)
                """,
                server.endpoint,
            )

    def test_an_async_client_also_within_its_event_loop(self) -> None:
        with serving() as server:
            script(
                """
                client = resilient.AsyncClient()
                get = lambda: client.get(f"http://{addresses[0]}/")
                async def main():
                    await get()
                    pid = in_child(lambda: in_threads(1, lambda: asyncio.run(get())))
                    await get()
                    await asyncio.to_thread(joined, pid)
                    await get()
                asyncio.run(main())
                joined(in_child(lambda: asyncio.run(get())))
                asyncio.run(get())
                """,
                server.endpoint,
            )
            assert sorted(requests_of(server)) == [1, 1, 1, 3]

    def test_a_tls_context_that_was_being_built(self) -> None:
        script(
            """
            import ssl
            from resilient.identity import tls
            begun, go_on = threading.Event(), threading.Event()
            def build(**_):
                begun.set()
                go_on.wait()
                return ssl.create_default_context()
            threading.Thread(target=lambda: tls.ssl_context(create=build)).start()
            begun.wait()
            joined(in_child(tls.ssl_context))
            go_on.set()
            """,
            "-",
        )

    def test_what_is_in_flight_is_the_parents(self) -> None:
        with serving(serve_much) as server:
            script(
                """
                policy = resilient.Policy(limit=resilient.Limit(max_in_flight=1))
                mesh = resilient.Mesh({"orders": resilient.Service([addresses[0]], policy)})
                client = resilient.Client(mesh=mesh, limits=httpx.Limits(max_connections=1))
                with client.stream("GET", "http://orders/") as response:
                    def child():
                        client.get("http://orders/").raise_for_status()
                        bound = mesh.find("orders", 80)
                        assert (bound.in_flight, bound.limit.in_flight) == (0, 0)
                        response.close()
                        assert (bound.in_flight, bound.limit.in_flight) == (0, 0)
                        client.get("http://orders/").raise_for_status()
                    joined(in_child(child))
                    assert mesh.find("orders", 80).in_flight == 1
                    assert len(response.read()) == 1_000_000
                assert mesh.find("orders", 80).in_flight == 0
                """,
                server.endpoint,
            )

    def test_locks_that_were_held_do_not_block_the_child(self) -> None:
        with serving() as server:
            script(
                """
                policy = resilient.Policy(
                    breaker=resilient.Breaker(consecutive_failures=1), limit=resilient.Limit(), retry=None,
                    outlier=resilient.OutlierDetection(consecutive_failures=1), balancer=resilient.RoundRobin(),
                )
                mesh = resilient.Mesh({"orders": resilient.Service([addresses[0], "127.0.0.1:1"], policy)})
                client = resilient.Client(mesh=mesh)
                bound = mesh.find("orders", 80)
                locks = [
                    mesh._lock, mesh._control._lock, bound.limit._lock, bound.outlier._lock,
                    bound.breaker._lock, bound.breaker._circuit._scribe._lock,
                ]
                held, go_on = threading.Event(), threading.Event()
                def hold():
                    for lock in locks: lock.acquire()
                    held.set()
                    go_on.wait()
                    for lock in locks: lock.release()
                holder = threading.Thread(target=hold)
                holder.start()
                held.wait()
                def child():
                    for _ in range(4):
                        try:
                            client.get("http://orders/")
                        except (httpx.ConnectError, resilient.CircuitOpen):
                            pass
                    assert mesh.status()["orders"]["breaker"] == "open"
                    mesh.close()
                joined(in_child(child))
                go_on.set()
                """,
                server.endpoint,
            )

    def test_sources_are_followed_again_once_the_child_calls(self, tmp_path: Path) -> None:
        with serving() as old, serving() as new:
            file = tmp_path / "orders.json"
            file.write_text(json.dumps([str(old.endpoint)]))
            script(
                """
                source = resilient.file(extra[0], poll_interval=0.05)
                mesh = resilient.Mesh({"orders": resilient.Service(source)})
                client = resilient.Client(mesh=mesh)
                get = lambda: client.get("http://orders/")
                get()
                control = lambda: [t for t in threading.enumerate() if t.name == "resilient-control"]
                assert control()
                def child():
                    assert not control(), "a child that never calls needs no thread"
                    get()
                    assert control()
                    import json, pathlib
                    pathlib.Path(extra[0]).write_text(json.dumps([extra[1]]))
                    while [e["address"] for e in mesh.status()["orders"]["endpoints"]] != [extra[1]]:
                        time.sleep(0.01)
                    get()
                    mesh.close()
                    assert not control()
                joined(in_child(child))
                """,
                old.endpoint,
                file,
                new.endpoint,
            )
            assert requests_of(new) == [1]

    def test_a_check_of_the_parent_is_not_kept_open_by_the_child(self, tmp_path: Path) -> None:
        begun, closed = tmp_path / "begun", threading.Event()

        async def serve(peer: Peer) -> None:
            try:
                request = await peer.request()
                if b"/closed" in request:
                    await peer.respond(b"yes" if await anyio.to_thread.run_sync(closed.wait, 5) else b"no")
                begun.touch()
                await peer.request()
            finally:
                if peer.number == 0:
                    closed.set()

        with serving(serve) as server:
            script(
                """
                health = resilient.HealthCheck(interval=0.01, no_traffic_interval=0.01, timeout=60.0)
                mesh = resilient.Mesh({"orders": resilient.Service([addresses[0]], resilient.Policy(health=health))})
                while not os.path.exists(extra[0]):
                    time.sleep(0.01)
                here, there = os.pipe()
                pid = in_child(lambda: (os.close(there), os.read(here, 1)))
                mesh.close()
                assert httpx.get(f"http://{addresses[0]}/closed").text == "yes"
                os.close(there)
                joined(pid)
                """,
                server.endpoint,
                begun,
            )

    def test_a_child_that_changes_its_configuration_first_follows_each_source_once(self) -> None:
        script(
            """
            from resilient.balance.endpoint import Endpoint
            class Counted:
                watched = 0
                async def watch(self):
                    self.watched += 1
                    yield (Endpoint("127.0.0.1", 1),)
                    await asyncio.sleep(60)
            old, new = Counted(), Counted()
            service = resilient.Service(old)
            mesh = resilient.Mesh({"orders": service})
            while not old.watched: time.sleep(0.01)
            def child():
                mesh.apply({"orders": service, "stock": resilient.Service(new)})
                for name in ("orders", "stock"):
                    while mesh.find(name, 80).picker is None: time.sleep(0.01)
                time.sleep(0.1)
                assert (old.watched, new.watched) == (2, 1), (old.watched, new.watched)
                mesh.close()
            joined(in_child(child))
            """,
            "-",
        )

    def test_decorated_functions(self) -> None:
        script(
            """
            @resilient.Policy(limit=resilient.Limit(max_in_flight=1, max_queue=0))
            def work(inner=None):
                return inner() if inner else 1
            def outer():
                joined(in_child(lambda: work()))
            work(outer)
            assert work.bound.in_flight == 0
            """,
            "-",
        )


class TestEndOfTheInterpreter:
    SETUP = """
        import logging
        logging.basicConfig()
        mesh = resilient.Mesh({"orders": resilient.Service(resilient.file(extra[0]))})
        client, async_client = resilient.Client(mesh=mesh), resilient.AsyncClient(mesh=mesh)
        get = lambda path="": client.get(f"http://orders/{path}")
    """

    @pytest.mark.parametrize(
        "body",
        [
            "get()",
            "asyncio.run(async_client.get('http://orders/'))",
            "response = client.send(client.build_request('GET', 'http://orders/'), stream=True)",
            "get(); del mesh, client, async_client",
            "threading.Thread(target=lambda: (time.sleep(0.3), get())).start()",
            "threading.Thread(target=get, args=['slow'], daemon=True).start(); time.sleep(0.2)",
        ],
        ids=["client", "async client", "response", "collected", "a thread that goes on", "a call in flight"],
    )
    def test_nothing_needs_to_be_closed(self, body: str, tmp_path: Path) -> None:
        async def serve(peer: Peer) -> None:
            while True:
                if b"/slow" in await peer.request():
                    await anyio.sleep(30)
                await peer.respond()

        with serving(serve) as server:
            file = tmp_path / "orders.json"
            file.write_text(json.dumps([str(server.endpoint)]))
            assert script(textwrap.dedent(self.SETUP) + body, server.endpoint, file) == ""

    def test_a_shared_breaker_is_kept_in_step_while_other_threads_go_on(self) -> None:
        script(
            """
            from tests.runtime.test_breaker_mirror import SharedStorage
            storage = SharedStorage()
            policy = resilient.Policy(breaker=resilient.Breaker(storage=storage, sync_interval=0.01))
            mesh = resilient.Mesh({"orders": resilient.Service(["127.0.0.1:1"], policy)})
            def go_on():
                threading.main_thread().join()
                time.sleep(0.1)
                seen = storage.touched
                deadline = time.monotonic() + 10
                while storage.touched < seen + 3:
                    if time.monotonic() > deadline:
                        os._exit(1)
                    time.sleep(0.01)
            threading.Thread(target=go_on).start()
            """,
            "-",
        )

    def test_a_source_that_takes_its_time_to_end(self) -> None:
        written = script(
            """
            from contextlib import suppress
            class Slow:
                async def watch(self):
                    try:
                        yield (resilient.Endpoint("127.0.0.1", 1),)
                        await asyncio.sleep(1000)
                    finally:
                        await asyncio.sleep(0.2)
                        print("ended", file=sys.stderr)
            mesh = resilient.Mesh({"orders": resilient.Service(Slow())})
            with suppress(httpx.ConnectError):
                resilient.Client(mesh=mesh).get("http://orders/")
            """,
            "-",
        )
        assert written == "ended\n"

    def test_a_hedge_that_hangs(self) -> None:
        async def hang_at_first(peer: Peer) -> None:
            await peer.request()
            if peer.number == 0:
                await anyio.sleep(30)
            await peer.respond()

        with serving(hang_at_first) as server:
            written = script(
                """
                policy = resilient.Policy(hedge=resilient.Hedge(delay=0.05, max_extra_ratio=1.0))
                host, port = addresses[0].split(":")
                mesh = resilient.Mesh({"orders": resilient.Service([f"{host}:{port}", f"localhost:{port}"], policy)})
                assert resilient.Client(mesh=mesh).get("http://orders/").extensions["resilient"].flags == ["hedged"]
                """,
                server.endpoint,
            )
            assert written == ""


class Silent:
    """A resolver that never says anything."""

    def watch(self) -> AsyncIterator[tuple[Endpoint, ...]]:
        return self._watch()

    async def _watch(self) -> AsyncIterator[tuple[Endpoint, ...]]:
        await anyio.sleep_forever()
        yield ()


def wait_for(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.002)


class TestMesh:
    def test_collected_without_being_closed_it_ends_its_thread(self, no_leaks: None) -> None:
        mesh = Mesh({"orders": Service(Silent())})
        assert mesh._control.running
        del mesh
        gc.collect()

    def test_closed_often_and_by_many(self, no_leaks: None) -> None:
        mesh = Mesh({"orders": Service(Silent())})
        with ThreadPoolExecutor(8) as threads:
            for _ in threads.map(lambda _: mesh.close(), range(16)):
                assert not mesh._control.running
        mesh.close()

    def test_a_closed_mesh_refuses_calls_and_changes(self) -> None:
        with serving() as server, resilient.Client(mesh=Mesh()) as client:
            url = f"http://{server.endpoint}/"
            assert client.get(url).status_code == 200
            client.mesh.close()
            for again in (url, "http://elsewhere/"):
                with pytest.raises(RuntimeError, match="the mesh is closed"):
                    client.get(again)
            with pytest.raises(RuntimeError, match="the mesh is closed"):
                client.mesh.apply({"orders": Service(["10.0.0.1:80"])})

    @pytest.mark.anyio
    async def test_a_closed_mesh_refuses_calls_of_async_clients(self) -> None:
        mesh = Mesh()
        mesh.close()
        async with resilient.AsyncClient(mesh=mesh) as client:
            with pytest.raises(RuntimeError, match="the mesh is closed"):
                await client.get("http://127.0.0.1:1/")

    def test_calls_in_flight_end_well(self, no_leaks: None) -> None:
        go_on = threading.Event()

        async def slow(peer: Peer) -> None:
            await peer.request()
            await anyio.to_thread.run_sync(go_on.wait)
            await peer.respond()

        with serving(slow) as server, resilient.Client(mesh=Mesh()) as client, ThreadPoolExecutor(1) as thread:
            call = thread.submit(client.get, f"http://{server.endpoint}/")
            wait_for(lambda: bool(server.requests))
            client.mesh.close()
            go_on.set()
            assert call.result().status_code == 200
            assert sum(bound.in_flight for bound in client.mesh._bounds()) == 0

    @pytest.mark.parametrize("how", ["close", "apply"])
    def test_who_waits_for_endpoints_does_not_wait_in_vain(self, how: str, no_leaks: None) -> None:
        mesh = Mesh({"orders": Service(Silent())})
        watch = mesh.find("orders", 80).watch
        with resilient.Client(mesh=mesh) as client, ThreadPoolExecutor(1) as thread:
            call = thread.submit(client.get, "http://orders/")
            wait_for(lambda: bool(watch._waiters))  # type: ignore[union-attr]
            if how == "close":
                mesh.close()
            else:
                mesh.apply({"orders": Service(["10.0.0.1:80"])})
            with pytest.raises(resilient.ResolveError, match="no longer being resolved"):
                call.result(timeout=10)
        mesh.close()


class TestClient:
    def test_closing_ends_the_calls_in_flight(self, no_leaks: None) -> None:
        async def hang(peer: Peer) -> None:
            await peer.request()
            await anyio.sleep(30)

        with serving(hang) as server, ThreadPoolExecutor(1) as thread, Mesh() as mesh:
            client = resilient.Client(mesh=mesh, timeout=20)
            call = thread.submit(client.get, f"http://{server.endpoint}/")
            wait_for(lambda: bool(server.requests))
            client.close()
            with pytest.raises((httpx.TransportError, RuntimeError)):
                call.result(timeout=10)
            assert sum(bound.in_flight for bound in mesh._bounds()) == 0
            assert len(server.peers) == 1

    def test_closing_ends_the_calls_in_flight_of_an_async_client(self, no_leaks: None, anyio_backend: str) -> None:
        anyio.run(self._close_with_a_call_in_flight, backend=anyio_backend)

    async def _close_with_a_call_in_flight(self) -> None:
        async def hang(peer: Peer) -> None:
            await peer.request()
            await anyio.sleep(30)

        with serving(hang) as server, Mesh() as mesh:
            client = resilient.AsyncClient(mesh=mesh, timeout=20)

            async def call() -> None:
                with pytest.raises((httpx.TransportError, RuntimeError)):
                    await client.get(f"http://{server.endpoint}/")

            with anyio.fail_after(10):
                async with anyio.create_task_group() as group:
                    group.start_soon(call)
                    while not server.requests:  # noqa: ASYNC110 - the server is in a thread
                        await anyio.sleep(0.002)
                    await client.aclose()
            assert sum(bound.in_flight for bound in mesh._bounds()) == 0
            assert len(server.peers) == 1


class FakeWire:
    """A wire that records its end; `at_birth` and `at_end` are what other threads do meanwhile."""

    at_birth: Callable[[], object] = staticmethod(lambda: None)
    at_end: Callable[[], object] = staticmethod(lambda: None)

    def __init__(self, *_: object) -> None:
        self.closed = False
        self.at_birth()

    def close(self) -> None:
        self.closed = True
        self.at_end()


class TestWires:
    """Requests of other threads while the client is being closed."""

    @pytest.fixture
    def wires(self, monkeypatch: pytest.MonkeyPatch) -> Any:
        monkeypatch.setattr(wires, "Wire", FakeWire)
        return wires.Wires(WireSettings(), HTTPX)

    def test_a_wire_that_comes_while_the_others_are_closed(self, wires: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        first, known = wires._open(Endpoint("10.0.0.1", 80)), wires._wires
        monkeypatch.setattr(FakeWire, "at_end", lambda _: known.setdefault("late", None))
        wires.close()
        assert first.closed

    def test_a_wire_that_comes_too_late(self, wires: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        known = wires._wires
        monkeypatch.setattr(FakeWire, "at_birth", lambda _: wires.close())
        with pytest.raises(RuntimeError, match="has been closed"):
            wires._open(Endpoint("10.0.0.1", 80))
        assert [wire.closed for wire in known.values()] == [True]
        assert not wires._wires


def chunks() -> Iterator[bytes]:
    yield from (b"some", b"more", b"rest")


async def stream_chunks(peer: Peer) -> None:
    while True:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nsome")
        await peer.send(b"morerest")


ONE = Policy(limit=Limit(max_in_flight=1, max_queue=0))


class TestForgottenResponses:
    """A response that nobody closes gives its place and its connection back."""

    @pytest.mark.parametrize("read", [False, True], ids=["unread", "half read"])
    def test_of_a_client(self, read: bool, no_leaks: None) -> None:
        limits = httpx.Limits(max_connections=1)
        with serving(serve_much) as server, resilient.Client(policy=ONE, limits=limits) as client:
            url = f"http://{server.endpoint}/"

            def forget() -> None:
                response: Any = client.send(client.build_request("GET", url), stream=True)
                response.cycle = response
                if read:
                    next(response.iter_bytes(1))
                del response
                gc.collect()

            with pytest.warns(ResourceWarning, match="neither read nor closed"):
                forget()
            [bound] = client.mesh._bounds()
            assert bound.limit is not None
            assert (bound.in_flight, bound.limit.in_flight) == (0, 0)
            assert len(client.get(url).content) == 1_000_000

    def test_of_an_async_client(self, no_leaks: None, anyio_backend: str) -> None:
        anyio.run(self._forget_in_a_task, backend=anyio_backend)

    async def _forget_in_a_task(self) -> None:
        limits = httpx.Limits(max_connections=1)
        with serving(serve_much) as server:
            async with resilient.AsyncClient(policy=ONE, limits=limits) as client:
                url = f"http://{server.endpoint}/"

                async def forget() -> None:
                    response: Any = await client.send(client.build_request("GET", url), stream=True)
                    response.cycle = response
                    del response
                    gc.collect()

                with pytest.warns(ResourceWarning, match="neither read nor closed"):
                    await forget()
                [bound] = client.mesh._bounds()
                assert bound.limit is not None
                assert (bound.in_flight, bound.limit.in_flight) == (0, 0)
                assert len((await client.get(url)).content) == 1_000_000

    def test_collected_at_any_moment_they_block_nobody(self, no_leaks: None) -> None:
        policy = Policy(limit=Limit(max_in_flight=2, max_queue=50))
        transport = httpx.MockTransport(lambda _: httpx.Response(200, content=chunks()))
        before = gc.get_threshold()

        def work() -> None:
            for turn in range(60):
                response: Any = client.send(client.build_request("GET", "http://orders/"), stream=True)
                if turn % 2:
                    response.close()
                else:
                    response.cycle = response
                del response

        with warnings.catch_warnings(), resilient.Client(policy=policy, transport=transport) as client:
            warnings.simplefilter("ignore", ResourceWarning)
            threads = [threading.Thread(target=work, daemon=True) for _ in range(6)]
            gc.set_threshold(1)
            try:
                for thread in threads:
                    thread.start()
                give_up = time.monotonic() + 30
                while any(thread.is_alive() for thread in threads) and time.monotonic() < give_up:
                    gc.collect()  # if all of them wait, nobody else does
            finally:
                gc.set_threshold(*before)
            assert not any(thread.is_alive() for thread in threads)
            gc.collect()
            [bound] = client.mesh._bounds()
            assert bound.limit is not None
            assert (bound.in_flight, bound.limit.in_flight, bound.limit.waiting) == (0, 0, 0)


class TestDraining:
    """An endpoint that discovery has removed."""

    def test_what_is_in_flight_ends_and_nothing_new_begins(self, no_leaks: None) -> None:
        with serving(stream_chunks) as old, serving(stream_chunks) as new, Mesh() as mesh:
            limits = httpx.Limits(keepalive_expiry=0.01)
            mesh.apply({"orders": Service([str(old.endpoint)])})
            with resilient.Client(mesh=mesh, limits=limits) as client:
                with client.stream("GET", "http://orders/") as response:
                    mesh.apply({"orders": Service([str(new.endpoint)])})
                    for _ in range(3):
                        client.get("http://orders/")
                    assert response.read() == b"somemorerest"
                assert requests_of(old) == [1]
                assert requests_of(new) == [3]
                assert mesh.find("orders", 80).in_flight == 0
                self._sweep(client)
                assert len(client._transport._carrier._wires) == 1

    @staticmethod
    def _sweep(client: Any) -> None:
        carrier = client._transport._carrier
        time.sleep(0.02)  # the keep-alive of the sockets is in real time
        carrier._next_sweep = 0.0
        client.get("http://orders/")

    def test_it_comes_back_with_its_statistics(self) -> None:
        now = 0.0
        mesh = Mesh(clock=lambda: now)
        mesh.apply({"orders": Service(["10.0.0.1:80", "10.0.0.2:80"])})
        known = mesh.find("orders", 80).members[0]
        known.requests = 42
        for away, kept in ((599.0, True), (601.0, False)):
            now += 10_000.0
            mesh.apply({"orders": Service(["10.0.0.2:80"])})
            now += away
            mesh.apply({"orders": Service(["10.0.0.2:80", "10.0.0.3:80"])})
            mesh.apply({"orders": Service(["10.0.0.1:80", "10.0.0.2:80"])})
            assert (mesh.find("orders", 80).members[0] is known) is kept
