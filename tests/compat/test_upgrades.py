"""Connections that leave HTTP: `network_stream`, and WebSockets above it."""

from __future__ import annotations

from typing import Any

import httpcore
import httpcore2
import httpx_ws
import pytest

import resilient
from tests.compat.library import ONLY_HTTPX, ONLY_HTTPX2, Face, World
from tests.compat.origin import Origin

UPGRADE = {"Connection": "Upgrade", "Upgrade": "shout"}


def talk(client: Any, url: str) -> Any:
    with client.stream("GET", url, headers=UPGRADE) as response:
        stream = response.extensions["network_stream"]
        stream.write(b"hello", 5.0)
        return response.status_code, stream.read(1024, 5.0), stream.get_extra_info("server_addr")


async def talk_async(client: Any, url: str) -> Any:
    async with client.stream("GET", url, headers=UPGRADE) as response:
        stream = response.extensions["network_stream"]
        await stream.write(b"hello", 5.0)
        return response.status_code, await stream.read(1024, 5.0), stream.get_extra_info("server_addr")


def test_the_stream_below(world: World, origin: Origin) -> None:
    def scenario(face: Face) -> Any:
        return world.run(talk_async if world.is_async else talk, face.client, origin.url("/upgrade"))

    assert world.same(scenario)[:2] == (101, b"HELLO")
    with resilient.Mesh() as mesh:
        scenario(world.ours(mesh=mesh))
        assert [bound.in_flight for bound in mesh.snapshot.hosts.values()] == [0]


def late(client: Any, url: str) -> Any:
    with client.stream("GET", url, headers=UPGRADE) as response:
        stream = response.extensions["network_stream"]
        errors = [caught(lambda: stream.read(1024, 0.01))]
        stream.close()
        return [*errors, caught(lambda: stream.read(1024, 0.01)), caught(lambda: stream.write(b"x", 0.01))]


async def late_async(client: Any, url: str) -> Any:
    async with client.stream("GET", url, headers=UPGRADE) as response:
        stream = response.extensions["network_stream"]
        errors = [await caught_async(stream.read(1024, 0.01))]
        await stream.aclose()
        return [*errors, await caught_async(stream.read(1024, 0.01)), await caught_async(stream.write(b"x", 0.01))]


def caught(action: Any) -> Any:
    try:
        return action()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is compared
        return type(error)


async def caught_async(action: Any) -> Any:
    try:
        return await action
    except Exception as error:  # noqa: BLE001 - whatever it is, it is compared
        return type(error)


def test_its_errors_are_those_that_users_of_the_library_catch(world: World, origin: Origin) -> None:
    """Not httpcore2's where the library is on httpcore: httpx-ws, for one, looks for its exceptions."""

    def scenario(face: Face) -> Any:
        return world.run(late_async if world.is_async else late, face.client, origin.url("/upgrade"))

    core = {"httpx": httpcore, "httpx2": httpcore2}[world.library.__name__]
    assert world.same(scenario) == [core.ReadTimeout, core.ReadError, core.WriteError]


def chat(client: Any, url: str) -> list[str]:
    with httpx_ws.connect_ws(url, client) as socket:
        return [(socket.send_text(text), socket.receive_text())[1] for text in ("one", "two")]


async def chat_async(client: Any, url: str) -> list[str]:
    async with httpx_ws.aconnect_ws(url, client) as socket:
        found = []
        for text in ("one", "two"):
            await socket.send_text(text)
            found.append(await socket.receive_text())
        return found


@ONLY_HTTPX
@pytest.mark.parametrize("scheme", ["http", "ws"])
def test_httpx_ws(world: World, origin: Origin, scheme: str) -> None:
    url = origin.url("/websocket").replace("http", scheme, 1)

    def scenario(face: Face) -> Any:
        return world.run(chat_async if world.is_async else chat, face.client, url)

    assert world.same(scenario) == ["one", "two"]


def chat2(client: Any, url: str) -> list[str]:
    with client.websocket(url) as socket:
        return [(socket.send_text(text), socket.receive_text())[1] for text in ("one", "two")]


async def chat2_async(client: Any, url: str) -> list[str]:
    async with client.websocket(url) as socket:
        found = []
        for text in ("one", "two"):
            await socket.send_text(text)
            found.append(await socket.receive_text())
        return found


@ONLY_HTTPX2
def test_websockets_of_httpx2(world: World, origin: Origin) -> None:
    url = origin.url("/websocket").replace("http", "ws", 1)

    def scenario(face: Face) -> Any:
        return world.run(chat2_async if world.is_async else chat2, face.client, url)

    assert world.same(scenario) == ["one", "two"]
