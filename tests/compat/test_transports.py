"""`transport=` and `mounts=`: what carries the attempts."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import anyio
import httpx
import httpx_aiohttp
import httpx_aiohttp.httpx2
import pytest

import resilient
from tests.compat.library import Face, Fresh, World, abandons_generators, told, trusting
from tests.compat.origin import Origin
from tests.runtime.servers import Peer, serving

QUICK = resilient.Policy(retry=resilient.Retry(wait=0))


def echo(world: World) -> Callable[[Any], Any]:
    def handler(request: Any) -> Any:
        seen = [request.method, str(request.url), request.headers.multi_items(), request.content.decode()]
        return world.library.Response(200, json=seen)

    return handler


@pytest.mark.parametrize("url", ["http://host/path?q", "https://[::1]:8443/", "http://b\u00fccher.example/", "x://y/z"])
def test_mock_transport(world: World, url: str) -> None:
    transport = world.mock(echo(world))
    given = world.same(lambda face: told(face.post(url, json=[1])), transport=transport)
    assert json.loads(given["body"])[1] == given["url"]


@pytest.mark.parametrize("url", ["file:///etc/motd", "/relative"])
def test_mock_transport_without_a_host(world: World, url: str) -> None:
    """httpx sends these and then breaks over their cookies; ours come back."""
    assert world.ours(transport=world.mock(echo(world))).get(url).json()[0] == "GET"


@pytest.mark.parametrize("read", ["bytes", "text", "lines", "raw"])
def test_responses_of_a_mock(world: World, read: str) -> None:
    library = world.library
    constant = library.Response(200, text="the same object again")
    bodies = {
        "bytes": lambda: library.Response(200, content=b"bytes", headers={"x": "y"}),
        "html": lambda: library.Response(404, html="<p>"),
        "once": lambda: library.Response(200, content=world.body([b"one", b"two"])),
        "stream": lambda: library.Response(200, stream=world.stream([b"one", b"two"])),
        "none": lambda: library.Response(204),
        "constant": lambda: constant,
    }
    transport = world.mock(lambda request: bodies[request.url.path[1:]]())
    with resilient.Mesh() as mesh:
        for name in bodies:
            world.same(lambda face, name=name: told(face.get(f"http://x/{name}")), transport=transport)
            world.same(lambda face, name=name: face.stream("GET", f"http://x/{name}", read)[1], transport=transport)
            face = world.ours(transport=transport, mesh=mesh)
            for _ in range(2):
                face.get(f"http://x/{name}")
                with suppress(world.library.StreamConsumed):
                    face.stream("GET", f"http://x/{name}", read)
        assert mesh.status()["x"]["endpoints"][0]["in_flight"] == 0


def test_errors_of_a_mock(world: World) -> None:
    library = world.library
    for error in (
        library.ConnectError("no"),
        library.ReadTimeout("late"),
        LookupError("a bug"),
        library.HTTPError("x"),
    ):

        def handler(request: Any, error: Exception = error) -> Any:
            raise error

        world.same(lambda face: face.get("http://x/"), transport=world.mock(handler))


def test_retries_are_visible_to_the_mock(world: World) -> None:
    answers = iter([503, 502, 200])
    transport = world.mock(lambda request: world.library.Response(next(answers)))
    assert world.ours(transport=transport, policy=QUICK).get("http://x/").status_code == 200


def reader(world: World) -> Any:
    """A transport that reads each response before it hands it on, as those that log or cache do."""
    base = world.kind(world.library, "HTTPTransport")

    class Sync(base):  # type: ignore[misc,valid-type]
        def handle_request(self, request: Any) -> Any:
            response = super().handle_request(request)
            response.read()
            return response

    class Async(base):  # type: ignore[misc,valid-type]
        async def handle_async_request(self, request: Any) -> Any:
            response = await super().handle_async_request(request)
            await response.aread()
            return response

    return (Async if world.is_async else Sync)(verify=trusting(world.library))


def test_a_transport_that_reads(world: World, origin: Origin) -> None:
    with resilient.Mesh() as mesh:
        for path in ("/chunked", "/zipped", "/status/404"):
            world.same(lambda face, path=path: told(face.get(origin.url(path))), transport=Fresh(reader, world))
            world.same(lambda face, path=path: face.stream("GET", origin.url(path))[1], transport=Fresh(reader, world))
            face = world.ours(transport=reader(world), mesh=mesh)
            face.get(origin.url(path))
            face.stream("GET", origin.url(path))
        assert [bound.in_flight for bound in mesh.snapshot.hosts.values()] == [0]


def test_a_transport_that_dials(world: World, origin: Origin) -> None:
    kind = world.kind(world.library, "HTTPTransport")
    world.same(lambda face: told(face.get(origin.url())), transport=Fresh(kind))
    plain, ours = origin.take()
    assert ours == plain


@pytest.mark.parametrize("name", ["orders", "127.0.0.1", "bücher.example"])
def test_it_is_sent_to_the_endpoints_of_services(world: World, origin: Origin, name: str) -> None:
    host = {"bücher.example": "xn--bcher-kva.example"}.get(name, name)
    with resilient.Mesh({host: resilient.Service([origin.endpoint.address])}) as mesh:
        face = world.ours(mesh=mesh, transport=world.kind(world.library, "HTTPTransport")())
        response = face.post(f"http://{name}/echo", json=[1])
    assert response.json()["body"] == "[1]"
    assert str(response.url) == f"http://{host}/echo"
    assert origin.take()[0].header("host") == host


def test_a_transport_sees_the_content_of_what_is_sent_to_services(world: World) -> None:
    with resilient.Mesh({"orders": resilient.Service(["10.0.0.1:80"])}) as mesh:
        for transport in (world.mock(echo(world)), Contents.of(world)):
            face = world.ours(mesh=mesh, transport=transport)
            assert face.post("http://orders/", content=b"body").status_code == 200


class Contents:
    @staticmethod
    def of(world: World) -> Any:
        class Sync(world.kind(world.library, "BaseTransport")):  # type: ignore[misc]
            def handle_request(self, request: Any) -> Any:
                assert request.content == b"body"
                return world.library.Response(200)

            async def handle_async_request(self, request: Any) -> Any:
                return self.handle_request(request)

        return Sync()


def test_wsgi(world: World) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain"), ("X-Host", environ["HTTP_HOST"])])
        return [environ["REQUEST_METHOD"].encode(), environ["wsgi.input"].read()]

    if not world.is_async:
        transport = world.library.WSGITransport(app=app)
        assert (
            world.same(lambda face: told(face.post("http://app/x", content=b"in")), transport=transport)["body"]
            == b"POSTin"
        )


async def app(scope: Any, receive: Any, send: Any) -> None:
    """A tiny ASGI application."""
    if scope["path"] == "/broken":
        raise LookupError("a bug")
    message = await receive()
    headers = [(b"content-type", b"text/plain"), (b"set-cookie", b"a=1")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": scope["method"].encode(), "more_body": True})
    await send({"type": "http.response.body", "body": message["body"]})


@abandons_generators
@pytest.mark.parametrize("path", ["/x", "/broken"])
def test_asgi(world: World, path: str) -> None:
    if world.is_async:
        transport = world.library.ASGITransport(app=app)
        given = world.same(
            lambda face: told(face.post(path, content=b"in")), transport=transport, base_url="http://app"
        )
        assert given == ("LookupError", None) if path == "/broken" else given["body"] == b"POSTin"


@pytest.mark.parametrize("path", ["/echo", "/zipped", "/big", "/chunked"])
def test_aiohttp(world: World, origin: Origin, path: str) -> None:
    if world.flavour == "asyncio":
        module = httpx_aiohttp if world.library is httpx else httpx_aiohttp.httpx2
        world.same(lambda face: told(face.post(origin.url(path), json=[1])), transport=Fresh(module.AiohttpTransport))
        plain, ours = origin.take()
        assert ours == plain
        with resilient.Mesh({"orders": resilient.Service([origin.endpoint.address])}) as mesh:
            face = world.ours(mesh=mesh, transport=module.AiohttpTransport())
            assert face.post(f"http://orders{path}", json=[1]).status_code == 200
        assert origin.take()[0].body == b"[1]"


def test_mounts(world: World, origin: Origin) -> None:
    kind = world.library.Response

    def named(name: str) -> Any:
        return world.mock(lambda request: kind(200, content=f"{name} {request.url}".encode()))

    mounts = {
        "http://one": named("one"),
        "all://*.two": named("two"),
        "https://": named("https"),
        "x://": named("x"),
        "all://three:8000": named("three"),
        "http://127.0.0.1": None,
    }
    urls = ["http://one/", "http://x.two/", "https://one/", "x://y/", "http://three:8000/", origin.url("/status/201")]

    def scenario(face: Face) -> list[str]:
        return [face.get(url).text for url in urls]

    given = world.same(scenario, mounts=mounts, transport=named("other"))
    assert [text.split(" ")[0] for text in given] == ["one", "two", "https", "x", "three", "other"]
    assert world.same(scenario, mounts=mounts)[-1] == "this is 201"


def test_a_mount_is_carried_with_the_policy(world: World) -> None:
    answers = iter([503, 200])
    mounts = {"http://x": world.mock(lambda request: world.library.Response(next(answers)))}
    assert world.ours(mounts=mounts, policy=QUICK).get("http://x/").status_code == 200


def test_a_transport_of_ours_is_taken_as_it_is(world: World) -> None:
    with resilient.Mesh() as mesh:
        transport = world.kind(world.resilient, "MeshTransport")(mesh, transport=world.mock(echo(world)))
        assert world.ours(transport=transport).get("http://x/").status_code == 200
        assert list(mesh.status()) == ["x"]


def test_a_service_in_memory_needs_no_resolution(world: World) -> None:
    """Tests without a network: what would have to be looked up is not."""
    services = {
        "orders": resilient.Service("dns:///orders.invalid:8080", policy=QUICK),
        "stock": resilient.Service(["10.0.0.1:80", "10.0.0.2:80"]),
    }
    seen: list[Any] = []

    def handler(request: Any) -> Any:
        seen.append((request.url.host, request.extensions.get("resilient.endpoint")))
        return world.library.Response(503 if len(seen) == 1 else 200)

    with resilient.Mesh(services, strict=True) as mesh:
        face = world.ours(mesh=mesh, transport=world.mock(handler))
        assert face.get("http://orders/").status_code == 200
        assert face.get("http://stock/").status_code == 200
        with pytest.raises(resilient.UnknownService):
            face.get("http://elsewhere/")
    assert seen[:2] == [("orders", None)] * 2
    assert seen[2][1] in ("10.0.0.1:80", "10.0.0.2:80")


async def answer_slowly(peer: Peer) -> None:
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
    await anyio.sleep(0.3)
    await peer.send(b"done")


def test_a_streamed_body_may_take_longer_than_the_attempt(world: World) -> None:
    """`attempt_timeout` ends with the headers of a streamed response, also for a transport of the user's."""
    policy = resilient.Policy(attempt_timeout=0.15, retry=None)
    with serving(answer_slowly) as server:
        transport = world.kind(world.library, "HTTPTransport")()
        face = world.ours(transport=transport, policy=policy)
        response = face.send(face.client.build_request("GET", f"http://{server.endpoint}/"), stream=True)
        assert face.read(response) == b"done"
        face.close_response(response)
