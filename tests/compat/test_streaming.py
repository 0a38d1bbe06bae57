"""Streamed responses, and what a response that was read tells."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from tests.compat.library import Face, World, abandons_generators, outcome, told
from tests.compat.origin import BIG, TEXT, Origin

STATUSES = ["/status/204", "/status/304", "/status/500"]
PATHS = ["/echo", "/zipped", "/latin", "/latin?charset", "/chunked", "/big", "/hint", *STATUSES]


@pytest.mark.parametrize("path", PATHS)
def test_responses(world: World, origin: Origin, path: str) -> None:
    given = world.same(lambda face: told(face.get(origin.url(path))))
    assert given["state"][:2] == (True, True)


@pytest.mark.parametrize("path", ["/big", "/zipped", "/status/404"])
def test_head(world: World, origin: Origin, path: str) -> None:
    given = world.same(lambda face: told(face.head(origin.url(path))))
    assert given["body"] == b""
    assert given["headers"][0][1] != "0"


def test_what_comes_zipped_is_counted_as_it_came(world: World, origin: Origin) -> None:
    given = world.same(lambda face: told(face.get(origin.url("/zipped"))))
    assert given["text"] == ("utf-8", TEXT)
    assert given["state"][2] != len(TEXT.encode())


@abandons_generators
def test_what_only_says_that_it_is_zipped(world: World, origin: Origin) -> None:
    assert world.same(lambda face: face.get(origin.url("/not-zipped")))[0] == "DecodingError"
    assert len(origin.take()) == 2


@pytest.mark.parametrize("encoding", ["latin-1", lambda content: "iso-8859-1"], ids=["name", "function"])
def test_default_encoding(world: World, origin: Origin, encoding: Any) -> None:
    assert world.same(lambda face: face.get(origin.url("/latin")).text, default_encoding=encoding) == TEXT


@pytest.mark.parametrize("read", ["bytes", "text", "lines", "raw"])
@pytest.mark.parametrize("path", ["/chunked", "/zipped", "/big", "/status/204", "/latin?charset"])
def test_iterating(world: World, origin: Origin, path: str, read: str) -> None:
    def scenario(face: Face) -> object:
        response, items = face.stream("GET", origin.url(path), read)
        joined = items if read == "lines" else type(items[0])().join(items) if items else items
        return joined, response.num_bytes_downloaded, response.is_closed, response.is_stream_consumed

    joined, *_ = world.same(scenario)
    assert path != "/big" or read != "bytes" or joined == BIG


def streamed(world: World, face: Face, url: str) -> Any:
    return face.send(face.client.build_request("GET", url), stream=True)


def test_what_is_open_says_so(world: World, origin: Origin) -> None:
    def scenario(face: Face) -> object:
        response = streamed(world, face, origin.url("/big"))
        before = response.is_closed, response.is_stream_consumed, hasattr(response, "_content")
        face.close_response(response)
        after = response.is_closed, response.is_stream_consumed
        return before, after, outcome(lambda: face.read(response), world.library)

    assert world.same(scenario) == ((False, False, False), (True, False), ("StreamClosed", None))


def test_reading_late(world: World, origin: Origin) -> None:
    def scenario(face: Face) -> object:
        response = streamed(world, face, origin.url("/chunked"))
        face.read(response)
        return told(response)

    world.same(scenario)


@abandons_generators
def test_leaving_early(world: World, origin: Origin) -> None:
    def first_chunk(client: Any) -> Any:
        with client.stream("GET", origin.url("/big")) as response:
            return len(next(response.iter_bytes(10)))

    async def first_chunk_async(client: Any) -> Any:
        async with client.stream("GET", origin.url("/big")) as response:
            chunks = response.aiter_bytes(10)
            found = len(await anext(chunks))
            await chunks.aclose()
            return found

    def scenario(face: Face) -> object:
        size = world.run(first_chunk_async if world.is_async else first_chunk, face.client)
        return size, told(face.get(origin.url()))

    assert world.same(scenario)[0] == 10
    with world.resilient_mesh() as mesh:
        face = world.ours(mesh=mesh)
        scenario(face)
        assert in_flight(mesh) == 0


def in_flight(mesh: Any) -> int:
    return sum(bound.in_flight for bound in [*mesh.snapshot.hosts.values(), *mesh.snapshot.services.values()])


def test_a_stream_that_breaks(world: World, origin: Origin) -> None:
    for path in ("/truncated", "/truncated-chunks"):
        assert world.same(lambda face, path=path: face.stream("GET", origin.url(path)))[0] == "RemoteProtocolError"


def test_pickling(world: World, origin: Origin) -> None:
    def scenario(face: Face) -> object:
        response = pickle.loads(pickle.dumps(face.get(origin.url("/zipped"))))
        return told(response), response.is_closed

    world.same(scenario)


def test_errors_of_status(world: World, origin: Origin) -> None:
    given = world.same(lambda face: face.get(origin.url("/status/404")).raise_for_status())
    assert given[0] == "HTTPStatusError"
