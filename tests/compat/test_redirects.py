"""Redirects: methods, bodies, headers, histories, limits; also to another host."""

from __future__ import annotations

import io
from urllib.parse import quote

import pytest

from tests.compat.library import Face, World, told
from tests.compat.origin import Origin


@pytest.mark.parametrize("follow", [False, True])
@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
def test_methods_and_bodies(world: World, origin: Origin, method: str, code: int, follow: bool) -> None:
    content = b"payload" if method == "POST" else None
    url = origin.url(f"/redirect/{code}?to=/echo")
    world.same(lambda face: told(face.request(method, url, content=content, follow_redirects=follow)))
    log = origin.take()
    assert log[: len(log) // 2] == log[len(log) // 2 :]
    assert len(log) == 2 + 2 * follow


def test_the_client_may_follow_by_default(world: World, origin: Origin) -> None:
    given = world.same(lambda face: told(face.get(origin.url("/redirect/302?to=/echo"))), follow_redirects=True)
    assert [status for status, _, _ in given["history"]] == [302]


def test_the_next_request_can_be_sent(world: World, origin: Origin) -> None:
    def scenario(face: Face) -> object:
        first = face.get(origin.url("/redirect/302?to=/echo"))
        return told(face.send(first.next_request))

    world.same(scenario)


def test_to_another_host_without_the_authorization(world: World, origin: Origin) -> None:
    with Origin(host="127.0.0.2") as other:
        url = origin.url(f"/redirect/302?to={quote(other.url())}")
        world.same(lambda face: told(face.get(url, follow_redirects=True)), auth=("user", "secret"))
        assert all(seen.header("authorization") for seen in origin.take())
        plain, ours = other.take()
    assert ours == plain
    assert ours.header("authorization") is None
    assert ours.header("host") == f"127.0.0.2:{other.endpoint.port}"


def test_too_many(world: World, origin: Origin) -> None:
    given = world.same(lambda face: face.get(origin.url("/loop")), max_redirects=3, follow_redirects=True)
    assert given[0] == "TooManyRedirects"
    assert len(origin.take()) == 8


@pytest.mark.parametrize("code", [302, 307])
def test_a_generator_cannot_be_sent_twice(world: World, origin: Origin, code: int) -> None:
    def scenario(face: Face) -> object:
        url = origin.url(f"/redirect/{code}?to=/echo")
        return told(face.post(url, content=world.body([b"once"]), follow_redirects=True))

    given = world.same(scenario)
    assert given[0] == "StreamConsumed" if code == 307 else given["status"][0] == 200


def test_a_form_with_a_file_can(world: World, origin: Origin) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=edge"}

    def scenario(face: Face) -> object:
        url = origin.url("/redirect/307?to=/echo")
        return told(face.post(url, files={"f": io.BytesIO(b"again")}, headers=headers, follow_redirects=True))

    assert b"again" in world.same(scenario)["body"]


@pytest.mark.parametrize("to", ["http://[", "https:///echo", "ftp://x"])
def test_bad_locations(world: World, origin: Origin, to: str) -> None:
    url = origin.url(f"/redirect/302?to={quote(to)}")
    world.same(lambda face: told(face.get(url, follow_redirects=True)))
    world.same(lambda face: told(face.get(url)))


def test_while_streaming(world: World, origin: Origin) -> None:
    def scenario(face: Face) -> object:
        response, chunks = face.stream("GET", origin.url("/redirect/302?to=/chunked"), follow_redirects=True)
        return b"".join(chunks), [past.status_code for past in response.history], response.is_closed

    assert world.same(scenario) == (b"one\ntwo\nthree\nfour", [302], True)


def test_cookies_are_those_of_the_client(world: World, origin: Origin) -> None:
    def scenario(face: Face) -> object:
        face.get(origin.url("/cookie?set=a%3D1"))
        return told(face.get(origin.url("/redirect/302?to=/cookie%3Fset=b%3D2"), follow_redirects=True)), dict(
            face.cookies
        )

    _, cookies = world.same(scenario)
    assert cookies == {"a": "1", "b": "2", "second": "2"}
