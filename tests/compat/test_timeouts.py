"""Timeouts of each operation, and limits of connections."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import resilient
from tests.compat.library import Face, World, abandons_generators, told
from tests.compat.origin import Origin
from tests.runtime.servers import Peer, serving

SHORT = 0.05


@pytest.fixture
def full_backlog() -> Iterator[int]:
    """A port whose queue is full: connecting takes for ever."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        yield port
        for filler in fillers:
            filler.close()


async def drip(peer: Peer) -> None:
    """A body that comes a byte at a time, for ten seconds."""
    await peer.request()
    await peer.respond(b"x", length=1000)
    for _ in range(999):
        await asyncio.sleep(0.01)
        await peer.send(b"x")


@pytest.mark.parametrize("stream", [True, False])
def test_the_deadline_holds_through_a_transport_of_the_users(world: World, stream: bool) -> None:
    with serving(drip) as server:
        transport = world.kind(world.library, "HTTPTransport")()
        face = world.ours(transport=transport, policy=resilient.Policy(timeout=0.2))
        ask = face.stream if stream else face.request
        with pytest.raises(resilient.DeadlineExceeded):
            ask("GET", f"http://{server.endpoint.address}/")


@pytest.mark.parametrize("on_client", [True, False])
@pytest.mark.parametrize(("path", "name"), [("/stall", "ReadTimeout"), ("/stall-in-body", "ReadTimeout")])
def test_reading(world: World, origin: Origin, path: str, name: str, on_client: bool) -> None:
    timeout = world.library.Timeout(5.0, read=SHORT)
    on_call = {} if on_client else {"timeout": timeout}
    on_both = {"timeout": timeout} if on_client else {}
    assert world.same(lambda face: face.get(origin.url(path), **on_call), **on_both) == (
        name,
        f"GET {origin.url(path)}",
    )
    assert world.same(lambda face: face.stream("GET", origin.url(path), **on_call), **on_both)[0] == name


def test_connecting(world: World, full_backlog: int) -> None:
    url = f"http://127.0.0.1:{full_backlog}/"
    timeout = world.library.Timeout(5.0, connect=SHORT)
    assert world.same(lambda face: face.get(url), timeout=timeout) == ("ConnectTimeout", f"GET {url}")


async def deaf(peer: Peer) -> None:
    """Does not listen to the body."""
    await peer.reader.readuntil(b"\r\n\r\n")
    await asyncio.sleep(60)


@abandons_generators
def test_writing(world: World) -> None:
    timeout = world.library.Timeout(5.0, write=SHORT)
    with serving(deaf) as server:
        url = f"http://{server.endpoint.address}/"
        given = world.same(lambda face: face.post(url, content=bytes(1 << 24), timeout=timeout))
    assert given == ("WriteTimeout", f"POST {url}")


@pytest.mark.parametrize("timeout", [None, 5, 5.0, (1.0, 2.0, 3.0, 4.0)])
def test_spellings(world: World, origin: Origin, timeout: Any) -> None:
    def scenario(face: Face) -> object:
        return (
            told(face.get(origin.url())),
            face.client.timeout.as_dict(),
            face.get(origin.url(), timeout=None).status_code,
        )

    world.same(scenario, timeout=timeout)


def held(world: World, face: Face, origin: Origin, action: Any) -> Any:
    """What the action gives while another response of the client is open."""
    response = face.send(face.client.build_request("GET", origin.url("/big")), stream=True)
    try:
        return action()
    finally:
        face.close_response(response)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_one_connection_for_the_whole_client(world: World, origin: Origin, host: str) -> None:
    limits = world.library.Limits(max_connections=1)
    timeout = world.library.Timeout(5.0, pool=SHORT)

    def scenario(face: Face) -> object:
        def second() -> str:
            with pytest.raises(world.library.PoolTimeout) as caught:
                face.get(origin.url(host=host))
            return str(caught.value.request.url)

        return held(world, face, origin, second), face.get(origin.url(host=host)).status_code

    assert world.same(scenario, limits=limits, timeout=timeout) == (origin.url(host=host), 200)


def test_waiting_for_the_connection(world: World, origin: Origin) -> None:
    """The second request waits for the first to be closed, as long as it takes."""
    limits = world.library.Limits(max_connections=1)

    def scenario(face: Face) -> object:
        found: list[int] = []
        response = face.send(face.client.build_request("GET", origin.url("/big")), stream=True)
        second = threading.Thread(target=lambda: found.append(face.get(origin.url(), timeout=None).status_code))
        second.start()
        second.join(SHORT)
        before = list(found)
        face.close_response(response)
        second.join(10)
        return before, found

    assert world.same(scenario, limits=limits) == ([], [200])


def test_an_answer_that_is_there_whole_takes_no_connection(world: World, origin: Origin) -> None:
    """Ours alone: a small body that came with its head gives its connection back before it is read."""
    face = world.ours(limits=world.library.Limits(max_connections=1), timeout=world.library.Timeout(5.0, pool=SHORT))
    response = face.send(face.client.build_request("GET", origin.url()), stream=True)
    assert face.get(origin.url()).status_code == 200
    face.close_response(response)


def test_limits_of_none(world: World, origin: Origin) -> None:
    limits = world.library.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=None)
    world.same(lambda face: told(face.get(origin.url())), limits=limits)


@pytest.mark.parametrize(("keepalive", "connections"), [(0, 3), (1, 1), (None, 1)])
def test_connections_are_kept(world: World, keepalive: int | None, connections: int) -> None:
    def scenario(face: Face) -> int:
        with Origin() as origin:
            for _ in range(3):
                face.get(origin.url())
            return len(origin.peers)

    limits = world.library.Limits(max_connections=5, max_keepalive_connections=keepalive)
    assert world.same(scenario, limits=limits) == connections


def test_connections_expire(world: World) -> None:
    def scenario(face: Face) -> int:
        with Origin() as origin:
            for _ in range(3):
                face.get(origin.url())
            return len(origin.peers)

    assert world.same(scenario, limits=world.library.Limits(keepalive_expiry=0.0)) == 3


@pytest.mark.parametrize(
    ("limits", "connections"),
    [
        ({"keepalive_expiry": -1}, 3),
        ({"keepalive_expiry": float("inf")}, 1),
        ({"max_keepalive_connections": -1}, 3),
        ({"max_keepalive_connections": 0.5}, 3),
        ({"max_keepalive_connections": 1.5}, 1),
        ({"max_connections": 2.5}, 1),
        ({"max_connections": float("inf"), "max_keepalive_connections": float("inf")}, 1),
    ],
)
def test_odd_limits_that_httpx_serves(world: World, limits: dict[str, float], connections: int) -> None:
    def scenario(face: Face) -> int:
        with Origin() as origin:
            for _ in range(3):
                assert face.get(origin.url()).status_code == 200
            return len(origin.peers)

    assert world.same(scenario, limits=world.library.Limits(**limits)) == connections


@pytest.mark.parametrize("connections", [1.5, 2])
def test_a_part_of_a_connection_is_one_more(world: World, origin: Origin, connections: float) -> None:
    limits = world.library.Limits(max_connections=connections)
    timeout = world.library.Timeout(5.0, pool=SHORT)

    def scenario(face: Face) -> object:
        def second() -> object:
            return held(world, face, origin, third)

        def third() -> object:
            with pytest.raises(world.library.PoolTimeout):
                face.get(origin.url())
            return "full"

        return held(world, face, origin, second)

    assert world.same(scenario, limits=limits, timeout=timeout) == "full"


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("max_connections", 0, "a number > 0, or None for no limit"),
        ("max_connections", -1, "a number > 0, or None for no limit"),
        ("max_connections", "3", "a number > 0, or None for no limit"),
        ("max_connections", float("nan"), "a number > 0, or None for no limit"),
        ("max_keepalive_connections", "3", "a number, or None for all"),
        ("keepalive_expiry", "5s", "a number of seconds, or None for never"),
        ("keepalive_expiry", float("nan"), "a number of seconds, or None for never"),
    ],
)
def test_limits_that_httpx_serves_nothing_with_are_refused(world: World, field: str, value: Any, expected: str) -> None:
    with pytest.raises(resilient.ConfigError) as caught:
        world.ours(limits=world.library.Limits(**{field: value}))
    assert str(caught.value) == f"limits.{field}: {value!r} is not valid; expected {expected}"


def test_a_pool_timeout_is_not_waited_for_thrice(world: World, origin: Origin) -> None:
    """`timeout.pool` is the time that a call waits, not an attempt."""
    limits = world.library.Limits(max_connections=1)
    timeout = world.library.Timeout(5.0, pool=SHORT)
    face = world.ours(limits=limits, timeout=timeout)

    def second() -> Any:
        with pytest.raises(world.library.PoolTimeout) as caught:
            face.get(origin.url())
        return caught.value.report

    assert len(held(world, face, origin, second).attempts) == 1
