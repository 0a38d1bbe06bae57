"""What a client sends: URLs, parameters, headers, bodies."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from tests.compat.library import ONLY_HTTPX2, Face, World, told
from tests.compat.origin import Origin


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"])
def test_methods(world: World, origin: Origin, method: str) -> None:
    given = world.same(lambda face: told(face.request(method, origin.url())))
    assert given["status"] == (200, "OK", "HTTP/1.1")
    plain, ours = origin.take()
    assert ours == plain


def test_head(world: World, origin: Origin) -> None:
    given = world.same(lambda face: told(face.head(origin.url("/status/404"))))
    assert given["status"][0] == 404
    assert given["body"] == b""


@pytest.mark.parametrize("base", ["", "/echo", "/echo/deep/"])
@pytest.mark.parametrize("url", ["", "x", "/x", "../x", "?a=1", "x?a=1#f"])
def test_base_url(world: World, origin: Origin, base: str, url: str) -> None:
    if not base:
        url = f"/echo{url}" if url.startswith("?") else f"/echo/{url}"
    world.same(lambda face: told(face.get(url)), base_url=origin.url(base))
    plain, ours = origin.take()
    assert ours == plain


def test_an_absolute_url_beats_the_base(world: World, origin: Origin) -> None:
    world.same(lambda face: told(face.get(origin.url("/echo/absolute"))), base_url="http://nowhere.invalid/x")


CLIENT = {"params": {"a": "1", "b": "2"}, "headers": {"X-Client": "c", "User-Agent": "me"}, "cookies": {"c": "1"}}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"params": {"b": "3", "c": ["4", "5"]}},
        {"headers": {"x-client": "request", "accept": "text/plain"}},
        {"headers": [("x-twice", "1"), ("x-twice", "2")]},
        {"headers": {"host": "elsewhere"}},
        {"extensions": {"target": b"/echo/raw//path?x"}},
    ],
    ids=["client's", "params", "headers", "twice", "host", "target"],
)
def test_what_is_merged(world: World, origin: Origin, options: dict[str, object]) -> None:
    world.same(lambda face: told(face.get(origin.url(), **options)), **CLIENT)
    plain, ours = origin.take()
    assert ours == plain


@pytest.mark.filterwarnings("ignore:Setting per-request cookies:DeprecationWarning")
def test_cookies_of_one_request(world: World, origin: Origin) -> None:
    world.same(lambda face: told(face.get(origin.url(), cookies={"d": "2"})), **CLIENT)
    plain, ours = origin.take()
    assert ours.header("cookie") == "c=1; d=2" == plain.header("cookie")


@pytest.mark.parametrize(
    "options",
    [
        {"content": b"bytes"},
        {"content": "text \u20ac"},
        {"content": b""},
        {"json": {"a": [1, None]}},
        {"data": {"a": "1", "b": ["2", "3"]}},
        {"data": {"a": "1"}, "files": {"f": ("name.txt", b"file", "text/plain")}},
    ],
    ids=["bytes", "str", "empty", "json", "form", "multipart"],
)
def test_bodies(world: World, origin: Origin, options: dict[str, object]) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=edge"} if "files" in options else {}
    world.same(lambda face: told(face.post(origin.url(), headers=headers, **options)))
    plain, ours = origin.take()
    assert ours == plain
    assert ours.header("content-length") == str(len(ours.body))


@pytest.mark.parametrize("length", [None, "6"])
def test_a_generator_is_sent_in_chunks_unless_its_length_is_given(
    world: World, origin: Origin, length: str | None
) -> None:
    headers = {} if length is None else {"Content-Length": length}

    def scenario(face: Face) -> object:
        return told(face.post(origin.url(), content=world.body([b"one", b"two"]), headers=headers))

    world.same(scenario)
    plain, ours = origin.take()
    assert ours == plain
    assert ours.body == b"onetwo"
    assert ours.header("transfer-encoding") == ("chunked" if length is None else None)


def test_a_file(world: World, origin: Origin, tmp_path: Path) -> None:
    path = tmp_path / "body"
    path.write_bytes(b"of a file")

    def scenario(face: Face) -> object:
        with path.open("rb") as file:
            return told(face.post(origin.url(), content=file))

    world.same(scenario)
    if not world.is_async:
        plain, ours = origin.take()
        assert ours == plain
        assert ours.header("content-length") == "9"


def test_a_file_within_a_form(world: World, origin: Origin) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=edge"}
    world.same(lambda face: told(face.post(origin.url(), files={"f": io.BytesIO(b"in memory")}, headers=headers)))
    plain, ours = origin.take()
    assert ours == plain


def test_a_body_of_the_wrong_kind_is_refused_alike(world: World, origin: Origin) -> None:
    async def asynchronous():
        yield b"x"  # pragma: no cover

    content = (part for part in [b"x"]) if world.is_async else asynchronous()
    assert world.same(lambda face: face.post(origin.url(), content=content))[0] == "RuntimeError"


def test_build_and_send(world: World, origin: Origin) -> None:
    def scenario(face: Face) -> object:
        request = face.client.build_request("POST", origin.url(), json=[1], params={"q": "1"})
        first, again = face.send(request), face.send(request)
        assert first.request is again.request is request
        return told(first), told(again)

    world.same(scenario, headers={"x": "y"})


def test_a_request_of_the_users_is_sent_as_it_is(world: World, origin: Origin) -> None:
    def scenario(face: Face) -> object:
        return told(face.send(world.library.Request("GET", origin.url(), headers={"only": "this"})))

    world.same(scenario, headers={"x": "y"}, params={"no": "no"})
    plain, ours = origin.take()
    assert ours == plain


def test_the_body_can_be_looked_at_afterwards(world: World, origin: Origin) -> None:
    assert world.same(lambda face: face.post(origin.url(), json=[1]).request.content) in (b"[1]", b"[1]")


@pytest.mark.parametrize("url", ["ftp://x/y", "/relative", "//host/path", "http://", "http://x:y/", "\x00"])
def test_urls_that_cannot_be_sent(world: World, url: str) -> None:
    assert world.same(lambda face: face.get(url))[0] in ("UnsupportedProtocol", "InvalidURL")


def test_unicode_hosts(world: World, origin: Origin) -> None:
    transport = lambda: world.mock(lambda request: world.library.Response(200, content=request.headers["host"]))
    assert world.same(lambda face: face.get("http://bücher.example/ä?ö=ü").text, transport=transport()) == (
        "xn--bcher-kva.example"
    )


@ONLY_HTTPX2
def test_query_of_httpx2(world: World, origin: Origin) -> None:
    world.same(lambda face: told(face.query(origin.url(), content=b"select")))
    plain, ours = origin.take()
    assert ours == plain
