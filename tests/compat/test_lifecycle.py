"""Opening, closing, and what a client costs before it is used."""

from __future__ import annotations

import asyncio
import gc
import ssl
import threading
from typing import Any

import pytest

import resilient
from tests.compat.library import FLAVOURS, LIBRARIES, Face, World, told
from tests.compat.origin import Origin


def test_use_after_close(world: World, origin: Origin) -> None:
    def scenario(face: Face) -> object:
        face.get(origin.url())
        before = face.client.is_closed
        face.close()
        try:
            face.get(origin.url())
        except RuntimeError as error:
            return before, face.client.is_closed, str(error)
        return None

    assert world.same(scenario)[:2] == (False, True)


def test_as_a_context_manager(world: World, origin: Origin) -> None:
    def scenario(face: Face) -> object:
        inside = face.inside(lambda: (face.get(origin.url()).status_code, face.client.is_closed))
        return inside, face.client.is_closed

    assert world.same(scenario) == ((200, False), True)


def test_opened_twice(world: World) -> None:
    assert world.same(lambda face: face.inside(lambda: face.inside(lambda: None)))[0] == "RuntimeError"


def test_opened_again(world: World) -> None:
    def scenario(face: Face) -> object:
        face.inside(lambda: None)
        return face.inside(lambda: None)

    assert world.same(scenario)[0] == "RuntimeError"


def test_closed_without_use(world: World) -> None:
    world.same(lambda face: (face.close(), face.close(), face.client.is_closed)[-1])


def test_properties_can_be_changed(world: World, origin: Origin) -> None:
    def scenario(face: Face) -> object:
        client = face.client
        client.base_url, client.headers, client.params = origin.url("/echo"), {"x": "1"}, {"q": "2"}
        client.cookies, client.auth, client.timeout = {"c": "3"}, ("u", "p"), 9
        client.headers["y"] = "4"
        client.cookies.set("d", "5")
        client.event_hooks = {"request": [], "response": []}
        known = str(client.base_url), client.timeout.as_dict(), dict(client.cookies), client.event_hooks
        return told(face.get("deep")), known

    world.same(scenario)


def recorder(world: World, calls: list[str]) -> Any:
    """A transport of the user's that tells what is done to it."""
    base = world.kind(world.library, "BaseTransport")
    response = world.library.Response

    class Sync(base):  # type: ignore[misc,valid-type]
        def handle_request(self, request: Any) -> Any:
            calls.append(str(request.url))
            return response(200, content=b"recorded")

        def __enter__(self) -> Any:
            calls.append("enter")
            return self

        def __exit__(self, *exc_info: object) -> None:
            calls.append("exit")

        def close(self) -> None:
            calls.append("close")

    class Async(base):  # type: ignore[misc,valid-type]
        async def handle_async_request(self, request: Any) -> Any:
            return Sync.handle_request(self, request)

        async def __aenter__(self) -> Any:
            return Sync.__enter__(self)

        async def __aexit__(self, *exc_info: object) -> None:
            Sync.__exit__(self)

        async def aclose(self) -> None:
            Sync.close(self)

    return (Async if world.is_async else Sync)()


def test_what_a_transport_of_the_users_is_told(world: World) -> None:
    calls: list[str] = []

    def scenario(face: Face) -> object:
        calls.clear()
        face.get("http://a/")
        face.close()
        return list(calls)

    transport = recorder(world, calls)
    mounts = {"http://b": recorder(world, calls), "http://c": None}
    assert world.same(scenario, transport=transport, mounts=mounts) == ["http://a/", "close", "close"]


def test_what_a_transport_is_told_of_a_context(world: World) -> None:
    calls: list[str] = []

    def scenario(face: Face) -> object:
        calls.clear()
        face.inside(lambda: face.get("http://a/"))
        return list(calls)

    options = {"transport": recorder(world, calls), "mounts": {"http://b": recorder(world, calls)}}
    assert world.same(scenario, **options) == ["enter", "enter", "http://a/", "exit", "exit"]


def test_an_own_mesh_is_closed_with_the_client_and_a_shared_one_is_not(world: World) -> None:
    with resilient.Mesh() as mesh:
        own, shared = world.ours(), world.ours(mesh=mesh)
        own.close()
        shared.inside(lambda: None)
        assert (own.client.mesh.closed, mesh.closed) == (True, False)
        within = world.ours()
        within.inside(lambda: None)
        assert within.client.mesh.closed


def test_a_client_is_cheap_until_it_is_used(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    build = ssl.SSLContext.__new__

    def counting(*args: Any, **options: Any) -> Any:
        made.append(args)
        return build(*args, **options)

    monkeypatch.setattr(ssl.SSLContext, "__new__", counting)
    before = set(threading.enumerate())
    for _ in range(50):
        world.ours()
        world.ours(http2=True, timeout=None, follow_redirects=True)
    assert made == []
    world.plain(verify=True)
    assert made != []
    assert set(threading.enumerate()) <= before  # one of an earlier test may end meanwhile


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("flavour", FLAVOURS[1:])
def test_one_client_in_one_event_loop_after_another(library: str, flavour: str, no_leaks: None) -> None:
    """httpx may break here: it takes a connection of the loop that has ended."""
    module = LIBRARIES[library][1]
    client = module.AsyncClient()

    async def twice(url: str) -> tuple[bytes, bytes]:
        return (await client.get(url)).content, (await client.get(url)).content

    with Origin() as origin:
        for _ in range(3):
            assert run(flavour, twice, origin.url("/status/200")) == (b"this is 200",) * 2
        assert len(origin.peers) == 3
    run(flavour, client.aclose)


def _used_in_loops_that_do_not_end_well(client: Any, url: str) -> None:
    for _ in range(2):
        loop = asyncio.new_event_loop()
        assert loop.run_until_complete(client.get(url)).status_code == 200
        loop.close()
    asyncio.run(client.get(url))
    gc.collect()


@pytest.mark.parametrize("library", LIBRARIES)
def test_also_if_the_loop_did_not_end_well(library: str) -> None:
    client = LIBRARIES[library][1].AsyncClient()
    with Origin() as origin, pytest.warns(ResourceWarning):  # asyncio's, of transports left open; at any time
        _used_in_loops_that_do_not_end_well(client, origin.url())
    asyncio.run(client.aclose())


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("flavour", FLAVOURS[1:])
def test_a_forgotten_client_leaves_nothing_open_at_the_end_of_the_loop(
    library: str, flavour: str, no_leaks: None
) -> None:
    async def forget(url: str) -> None:
        client = LIBRARIES[library][1].AsyncClient()
        assert (await client.get(url)).status_code == 200
        kept.append(client)

    kept: list[Any] = []
    with Origin() as origin:
        run(flavour, forget, origin.url())


def run(flavour: str, function: Any, *args: Any) -> Any:
    if flavour == "asyncio":
        return asyncio.run(function(*args))
    import trio

    return trio.run(function, *args)
