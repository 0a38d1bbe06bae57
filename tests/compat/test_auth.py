"""Authentication flows, and cookies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.compat.library import Face, Fresh, World, told
from tests.compat.origin import Origin


def test_basic(world: World, origin: Origin) -> None:
    assert world.same(lambda face: told(face.get(origin.url("/basic"))), auth=("user", "secret"))["body"] == b"in"
    assert world.same(lambda face: told(face.get(origin.url("/basic"), auth=("user", "wrong"))))["body"] == b"out"
    in_url = origin.url("/basic").replace("://", "://user:secret@")
    assert world.same(lambda face: told(face.get(in_url)))["body"] == b"in"
    assert world.same(lambda face: told(face.get(in_url, auth=None)), auth=("user", "secret"))["body"] == b"in"


def test_digest(world: World, origin: Origin) -> None:
    def scenario(face: Face) -> object:
        response = face.get(origin.url("/digest"), auth=world.library.DigestAuth("user", "secret"))
        return response.content, [past.status_code for past in response.history]

    assert world.same(scenario) == (b"in", [401])


def test_a_function(world: World, origin: Origin) -> None:
    def sign(request: Any) -> Any:
        request.headers["x-signed"] = request.method
        return request

    assert world.same(lambda face: face.get(origin.url(), auth=sign).json()["headers"])[-1] == ["x-signed", "GET"]


def flow_class(library: Any, token_url: str, *, streams: bool = False) -> Any:
    class Flow(library.Auth):
        requires_request_body = not streams
        requires_response_body = True

        def auth_flow(self, request: Any) -> Any:
            response = yield library.Request("GET", token_url)
            request.headers["x-token"] = str(len(response.content))
            if self.requires_request_body:
                request.headers["x-size"] = str(len(request.content))
            response = yield request
            request.headers["x-again"] = str(len(response.text))
            yield request

    return Flow


@pytest.mark.parametrize("content", [b"abc", None])
def test_a_flow_with_requests_of_its_own(world: World, origin: Origin, content: bytes | None) -> None:
    flow = flow_class(world.library, origin.url("/status/418"))
    given = world.same(lambda face: told(face.post(origin.url(), content=content)), auth=Fresh(flow))
    assert [status for status, _, _ in given["history"]] == [418, 200]
    log = origin.take()
    assert log[:3] == log[3:]


def test_a_flow_reads_a_body_that_can_be_read_once(world: World, origin: Origin) -> None:
    flow = flow_class(world.library, origin.url("/status/418"))
    given = world.same(lambda face: told(face.post(origin.url(), content=world.body([b"ab", b"c"]))), auth=Fresh(flow))
    assert b'["x-size", "3"]' in given["body"]


def test_a_flow_around_a_streamed_response(world: World, origin: Origin) -> None:
    flow = flow_class(world.library, origin.url("/status/418"))

    def scenario(face: Face) -> object:
        response, chunks = face.stream("GET", origin.url("/chunked"))
        return b"".join(chunks), len(response.history)

    assert world.same(scenario, auth=Fresh(flow)) == (b"one\ntwo\nthree\nfour", 2)


def test_a_flow_that_breaks(world: World, origin: Origin) -> None:
    def broken(request: Any) -> Any:
        raise LookupError("no key")

    assert world.same(lambda face: face.get(origin.url(), auth=broken))[0] == "LookupError"


def test_netrc(world: World, origin: Origin, tmp_path: Path) -> None:
    path = tmp_path / "netrc"
    path.write_text(f"machine {origin.endpoint.host} login user password secret\n")
    auth = world.library.NetRCAuth(str(path))
    assert world.same(lambda face: told(face.get(origin.url("/basic"))), auth=auth)["body"] == b"in"


def test_cookies_persist(world: World, origin: Origin) -> None:
    def scenario(face: Face) -> object:
        first = face.get(origin.url("/cookie?set=session%3Dabc"))
        second = face.get(origin.url("/cookie?set=session%3Ddef"))
        return first.content, second.content, dict(first.cookies), dict(face.cookies)

    first, second, _, kept = world.same(scenario, cookies={"mine": "1"})
    assert first == b"mine=1"
    assert set(second.split(b"; ")) == {b"mine=1", b"session=abc", b"second=2"}
    assert kept["session"] == "def"


def test_auth_that_does_nothing_is_not_asked(world: World, origin: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    class Derived(world.library.Auth):  # type: ignore[misc]
        pass

    def auth_flow(self: Any, request: Any) -> Any:
        raise LookupError(type(self).__name__)

    monkeypatch.setattr(world.library.Auth, "auth_flow", auth_flow)
    face = world.ours()
    assert face.get(origin.url()).status_code == 200
    assert face.get(origin.url(), auth=world.library.Auth()).status_code == 200
    with pytest.raises(LookupError, match="Derived"):
        face.get(origin.url(), auth=Derived())
