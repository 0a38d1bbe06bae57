"""What ours does beyond httpx: a body that is not streamed is read within the attempt."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Any

import pytest
import tenacity

import resilient
from tests.compat.library import World, abandons_generators, failure, told
from tests.compat.origin import Origin, parsed
from tests.runtime.servers import Peer, Server, serving

QUICK = resilient.Policy(retry=resilient.Retry(wait=0))


def twice_truncated() -> Any:
    """A script that breaks the first two bodies."""
    count = 0

    async def script(peer: Peer) -> None:
        nonlocal count
        while True:
            await peer.request()
            count += 1
            if count <= 2:
                await peer.respond(b"abc", length=10)
                return
            await peer.respond(b"whole")

    return script


def url(server: Server) -> str:
    return f"http://{server.endpoint.address}/x"


def test_a_truncated_body_is_asked_for_again(world: World) -> None:
    with serving(twice_truncated()) as server:
        response = world.ours(policy=QUICK).get(url(server))
        assert response.content == b"whole"
        assert [attempt.reason for attempt in response.extensions["resilient"].attempts] == ["reset", "reset", ""]


@pytest.mark.parametrize("options", [{"stream": True}, {"method": "POST"}], ids=["streamed", "not idempotent"])
def test_but_not_what_was_streamed_or_may_not_be_repeated(world: World, options: dict[str, Any]) -> None:
    with serving(twice_truncated()) as server:
        face = world.ours(policy=QUICK)
        ask = face.stream if "stream" in options else face.request
        with pytest.raises(world.library.RemoteProtocolError) as caught:
            ask(options.get("method", "GET"), url(server))
        assert caught.value.request.method == options.get("method", "GET")
        assert len(server.requests) == 1


@pytest.mark.parametrize(("idempotent", "asked"), [(True, 3), (False, 1)])
def test_the_caller_may_say_that_a_request_can_be_repeated(world: World, idempotent: bool, asked: int) -> None:
    seen: list[str] = []
    face = world.ours(policy=QUICK, transport=world.mock(lambda request: refuse(world, request, seen)))
    face.request("POST", "http://orders/", extensions={"resilient": {"idempotent": idempotent}})
    assert seen == ["POST"] * asked


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"idempotent": "false"}, "[\"idempotent\"]: 'false' is not valid; expected True or False"),
        ({"idempotent": None}, '["idempotent"]: None is not valid; expected True or False'),
        ({"timeout": "1s"}, "[\"timeout\"]: '1s' is not valid; expected a number of seconds > 0"),
        ({"retry": False}, '["retry"]: False is not valid; expected one of `idempotent`, `timeout`'),
        (["idempotent"], ": ['idempotent'] is not valid; expected a dict"),
    ],
)
def test_what_the_caller_says_is_checked(world: World, options: Any, fault: str) -> None:
    seen: list[str] = []
    face = world.ours(policy=QUICK, transport=world.mock(lambda request: refuse(world, request, seen)))
    with pytest.raises(resilient.ConfigError) as caught:
        face.request("POST", "http://orders/", extensions={"resilient": options})
    assert str(caught.value).startswith(f'extensions["resilient"]{fault}')
    assert seen == []


def refuse(world: World, request: Any, seen: list[str]) -> Any:
    seen.append(request.method)
    return world.library.Response(503)


@pytest.mark.parametrize("path", ["/truncated", "/truncated-chunks"])
def test_one_that_stays_truncated_ends_as_in_httpx(world: World, origin: Origin, path: str) -> None:
    assert world.same(lambda face: face.get(origin.url(path))) == ("RemoteProtocolError", f"GET {origin.url(path)}")
    assert len(origin.take()) == 1 + 3


def test_what_is_retried_is_seen_once(world: World) -> None:
    """Hooks, cookies, history and the log are those of the last attempt."""
    calls: list[int] = []
    hooks = {"response": [world.function(lambda response: calls.append(response.status_code))]}
    with serving(twice_truncated()) as server:
        given = told(world.ours(policy=QUICK, event_hooks=hooks).get(url(server)))
    assert calls == [200]
    assert given["history"] == []


def test_the_last_answer_when_retries_run_out(world: World, origin: Origin) -> None:
    given = world.same(lambda face: told(face.get(origin.url("/status/503"))))
    assert given["body"] == b"this is 503"
    assert len(origin.take()) == 1 + 3


def test_a_generator_is_sent_again_while_it_fits(world: World) -> None:
    count = 0

    async def script(peer: Peer) -> None:
        nonlocal count
        while True:
            await peer.request()
            count += 1
            await peer.respond(status="503 No" if count < 3 else "200 OK")

    with serving(script) as server:
        face = world.ours(policy=QUICK)
        assert face.put(url(server), content=world.body([b"one", b"two"])).status_code == 200
        assert [parsed(request).body for request in server.requests] == [b"onetwo"] * 3


@pytest.mark.parametrize("is_ours", [False, True], ids=["by itself", "as a response of the library"])
def test_a_generator_that_broke_is_not_sent_as_if_it_were_whole(world: World, is_ours: bool) -> None:
    error = world.library.ReadError("gone") if is_ours else ConnectionError("gone")

    def rows() -> Iterator[bytes]:
        yield b"one"
        raise error

    async def rows_async() -> AsyncIterator[bytes]:
        yield b"one"
        raise error

    with serving() as server:
        face = world.ours(policy=QUICK)
        face.get(url(server))  # so that the wire has a connection that could be stale
        with pytest.raises(type(error), match="gone"):
            face.put(url(server), content=rows_async() if world.is_async else rows())
        assert [parsed(request).method for request in server.requests] == ["GET"]


def test_the_predicate_may_read_the_text_and_the_time_is_measured(world: World) -> None:
    async def script(peer: Peer) -> None:
        bodies = iter([b"pending", b"done"])
        while True:
            await peer.request()
            await peer.respond(next(bodies))

    is_pending = tenacity.retry_if_result(lambda response: response.text == "pending")
    policy = resilient.Policy(retry=resilient.Retry(wait=0, retry=is_pending))
    with serving(script) as server:
        response = world.ours(policy=policy).get(url(server))
        assert response.text == "done"
        assert response.elapsed.total_seconds() > 0


@pytest.mark.parametrize("kind", ["file", "multipart", "generator"])
def test_what_two_attempts_cannot_read_at_once_is_not_hedged(world: World, kind: str) -> None:
    if kind == "file" and world.is_async:
        with pytest.raises(RuntimeError, match="sync request"):  # as httpx's: no files for async clients
            world.ours().put("http://rows/", content=io.BytesIO(b"rows"))
        return
    content: dict[str, Any] = {
        "file": lambda: {"content": io.BytesIO(b"rows")},
        "multipart": lambda: {"files": {"rows": io.BytesIO(b"rows")}},
        "generator": lambda: {"content": world.body([b"ro", b"ws"])},
    }[kind]()

    async def script(peer: Peer) -> None:
        await peer.request()
        await asyncio.sleep(0.1)
        await peer.respond()

    policy = resilient.Policy(hedge=resilient.Hedge(delay=0.0, max_extra_ratio=1.0))
    with serving(script) as one, serving(script) as other:
        services = {"rows": resilient.Service([str(one.endpoint), str(other.endpoint)], policy)}
        with resilient.Mesh(services) as mesh:
            response = world.ours(mesh=mesh).put("http://rows/", **content)
        assert response.status_code == 200
        assert "hedged" not in response.extensions["resilient"].flags
        assert len(one.requests + other.requests) == 1


def test_resetting_ends_as_in_httpx(world: World, origin: Origin) -> None:
    assert world.same(lambda face: face.get(origin.url("/reset")))[0] in ("ReadError", "RemoteProtocolError")


def test_nobody_listens(world: World, unused_port: int) -> None:
    address = f"http://127.0.0.1:{unused_port}/"
    assert world.same(lambda face: face.get(address)) == ("ConnectError", f"GET {address}")
    face = world.ours()
    with pytest.raises(world.library.ConnectError) as caught:
        face.get(address)
    assert len(caught.value.report.attempts) == 3


def test_an_unknown_host(world: World) -> None:
    assert world.same(lambda face: face.get("http://nowhere.invalid/"))[0] == "ConnectError"


class Nowhere:
    """A resolver of a service that has no endpoint."""

    def endpoints(self) -> tuple[()]:
        return ()

    async def watch(self) -> Any:
        yield ()  # pragma: no cover


def test_errors_of_the_mesh_are_errors_of_the_library(world: World, origin: Origin) -> None:
    hasty = resilient.Policy(timeout=0.05, retry=None)
    cases: dict[type[resilient.MeshError], tuple[str, Any]] = {
        resilient.NoEndpoint: ("ConnectError", resilient.Mesh({"none": resilient.Service(Nowhere())})),
        resilient.UnknownService: ("ConnectError", resilient.Mesh(strict=True)),
        resilient.DeadlineExceeded: ("TimeoutException", resilient.Mesh(policy=hasty)),
    }
    for error, (name, mesh) in cases.items():
        host = "none" if error is resilient.NoEndpoint else origin.endpoint.address
        with mesh, pytest.raises(error) as caught:
            world.ours(mesh=mesh).get(f"http://{host}/stall")
        assert isinstance(caught.value, getattr(world.library, name))
        assert failure(caught.value, world.library)[0] == name
        assert caught.value.request.url.path == "/stall"


@abandons_generators
def test_nothing_stays_in_flight(world: World, origin: Origin) -> None:
    with resilient.Mesh() as mesh:
        face = world.ours(mesh=mesh)
        for path in ("/echo", "/truncated", "/status/503", "/status/204", "/not-zipped"):
            with suppress(world.library.RequestError):
                face.get(origin.url(path))
            with suppress(world.library.RequestError):
                face.stream("GET", origin.url(path))
        assert [bound.in_flight for bound in mesh.snapshot.hosts.values()] == [0]


def test_a_face_without_a_client_buffers_nothing(world: World, origin: Origin) -> None:
    transport = world.kind(world.resilient, "MeshTransport")(policy=QUICK)
    face = world.plain(transport=transport)
    assert told(face.get(origin.url("/chunked")))["body"] == b"one\ntwo\nthree\nfour"
    with pytest.raises(world.library.RemoteProtocolError):
        face.get(origin.url("/truncated"))
    assert len([seen for seen in origin.take() if seen.path == "/truncated"]) == 1
