"""What `build_request` gives: in every attribute what the library's gives, also the second time."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from resilient import requests
from tests.compat.library import WORLDS, World, outcome

URL = "http://orders.test/v1/42"

# Nothing waits, so that trio is as asyncio.
KINDS = [world for world in WORLDS if world[1] != "trio"]
pytestmark = pytest.mark.parametrize("world", KINDS, indirect=True, ids="-".join)


def anatomy(request: Any) -> dict[str, Any]:
    """All that there is in a request."""
    values = vars(request)
    return {
        **values,
        "url": (str(values["url"]), vars(values["url"])),
        "headers": (values["headers"].raw, vars(values["headers"])),
        "stream": (type(values["stream"]), vars(values["stream"])),
        "public": (request.content, repr(request), request.url.userinfo, request.headers.encoding),
        "pickled": sorted(vars(pickle.loads(pickle.dumps(request)))),
    }


def built(client: Any, method: Any, url: Any, **options: Any) -> Any:
    return anatomy(client.build_request(method, url, **options))


def both(world: World, **options: Any) -> tuple[Any, Any]:
    return world.plain(**options).client, world.ours(**options).client


METHODS = ["GET", "get", "HEAD", "DELETE", "OPTIONS", "POST", "PUT", "PATCH", "QUERY", "PROPFIND", "TRACE", "CONNECT"]
URLS = [
    URL,
    "",
    "/v1/42",
    "v1?a=1",
    "//orders.test/v1",
    "http://orders.test",
    "HTTP://ORDERS.test:80/A B?q=ä#f",
    "https://orders.test:8443/?a=1&a=2",
    "https://user:secret@orders.test/",
    "http://orders.test/@at",
    "http://[::1]:8080/",
    "http://bücher.test/",
    "http:///v1",
    "http:/v1",
    "file:///etc/motd",
    "ws://orders.test/socket",
    "http://orders.test/" + 600 * "x",
]


@pytest.mark.parametrize("base", ["", "https://base.test/api?x=1"])
@pytest.mark.parametrize("url", URLS, ids=lambda url: url[:40] or "empty")
def test_of_any_method_and_url(world: World, url: str, base: str) -> None:
    plain, ours = both(world, base_url=base)
    for method in METHODS * 2:
        expected = built(plain, method, url)
        assert built(ours, method, url) == expected
        assert built(ours, method, world.library.URL(url)) == expected


@pytest.mark.parametrize(
    "url",
    ["http://[bad", "http://x:port/", "http://\x00/", 70_000 * "x", None, 7, b"http://bytes"],
    ids=lambda u: repr(u)[:20],
)
def test_of_what_is_no_url(world: World, url: Any) -> None:
    plain, ours = both(world)
    for _ in range(2):
        expected, given = (outcome(lambda c=c: built(c, "GET", url), world.library) for c in (plain, ours))
        assert given == expected


@pytest.mark.parametrize("method", [b"GET", None, ["GET"]], ids=repr)
def test_of_what_is_no_method(world: World, method: Any) -> None:
    plain, ours = both(world)
    expected, given = (outcome(lambda c=c: built(c, method, URL), world.library) for c in (plain, ours))
    assert given == expected


OPTIONS: list[dict[str, Any]] = [
    {"params": {}},
    {"params": {"b": "2"}},
    {"params": ""},
    {"headers": {}},
    {"headers": {"X-One": "1", "accept": "text/plain"}},
    {"headers": [("x-twice", "1"), ("x-twice", "2")]},
    {"headers": {"Host": "elsewhere"}},
    {"cookies": {}},
    {"cookies": {"c": "1"}},
    {"content": b""},
    {"content": b"bytes"},
    {"data": {}},
    {"data": {"a": "1"}},
    {"json": {"a": 1}},
    {"json": 0},
    {"files": {}},
    {"timeout": None},
    {"timeout": 3},
    {"timeout": "soon"},
    {"extensions": {}},
    {"extensions": {"timeout": {"read": 1.0}}},
    {"extensions": {"target": b"/raw", "resilient": {"timeout": 1.5}}},
    {"extensions": [("target", b"/raw")]},
    {"timeuot": 1},
]


@pytest.mark.parametrize("options", OPTIONS, ids=repr)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_of_arguments(world: World, method: str, options: dict[str, Any]) -> None:
    plain, ours = both(world)
    for url in (URL, f"{URL}?a=1"):
        expected, given = (
            outcome(lambda c=c, u=url: built(c, method, u, **options), world.library) for c in (plain, ours)
        )
        assert given == expected


CLIENTS: list[dict[str, Any]] = [
    {"headers": {"X-Client": "c", "User-Agent": "me"}},
    {"headers": [("X-Twice", "1"), ("x-twice", "2")]},
    {"headers": {"X-Bytes": b"\xff\xfe"}},
    {"headers": {"Authorization": "Bearer secret"}},
    {"headers": {"host": "elsewhere"}},
    {"headers": {"Content-Length": "3"}},
    {"headers": {"transfer-encoding": "chunked"}},
    {"params": {"p": "1"}},
    {"cookies": {"c": "1"}},
    {"timeout": 7},
    {"timeout": None},
]


@pytest.mark.parametrize("options", CLIENTS, ids=repr)
def test_of_what_clients_have(world: World, options: dict[str, Any]) -> None:
    plain, ours = both(world, **options)
    for method in ("GET", "DELETE", "POST") * 2:
        assert built(ours, method, URL) == built(plain, method, URL)
    assert vars(ours.headers) == vars(plain.headers)


def test_what_changes_in_between(world: World) -> None:
    def change(client: Any) -> list[Any]:
        found = [built(client, "GET", URL)]
        changes = [
            lambda: client.headers.__setitem__("x-new", "ä"),  # would be refused if the encoding had been decided
            lambda: client.headers.update({"X-New": "1"}),
            lambda: client.headers.pop("x-new"),
            lambda: client.headers.update({"Host": "elsewhere"}),
            lambda: client.headers.__delitem__("host"),
            lambda: setattr(client, "headers", {"Accept": "text/plain"}),
            lambda: client.params.set("a", "1"),
            lambda: setattr(client, "params", {"a": "1"}),
            lambda: setattr(client, "params", None),
            lambda: client.cookies.set("c", "1"),
            lambda: client.cookies.clear(),
            lambda: setattr(client, "timeout", 3),
            lambda: setattr(client, "base_url", "http://base.test"),
        ]
        for step in changes:
            step()
            found.append(built(client, "GET", URL))
        return found

    plain, ours = map(change, both(world))
    assert ours == plain


def test_requests_share_nothing_that_changes(world: World) -> None:
    ours = world.ours().client
    first = ours.build_request("GET", URL)
    expected = anatomy(ours.build_request("GET", URL))
    first.headers["X-First"] = "1"
    first.headers.encoding = "utf-16"
    first.extensions["timeout"]["read"] = 0
    first.extensions["mine"] = True
    first.url = first.url.copy_with(host="elsewhere")
    assert anatomy(ours.build_request("GET", URL)) == expected
    assert built(ours, "GET", "http://another.test/")["headers"][0][0] == (b"Host", b"another.test")


def test_what_is_kept_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "_KEPT", 3)
    plain, ours = both(world)
    for number in [*range(8), 0]:
        url = f"http://host-{number}.test/"
        assert built(ours, "GET", url) == built(plain, "GET", url)
    _, known = ours._known_headers._known
    assert 1 <= len(known) <= 3


def test_passwords_are_not_kept(world: World) -> None:
    find = requests._urls(world.resilient.Client._binding)
    before = find.cache_info()
    world.ours().client.build_request("GET", "http://user:secret@orders.test/never-seen-before")
    assert find.cache_info() == before


def test_a_build_request_in_between(world: World) -> None:
    plain = world.kind(world.library, "Client")

    class Signing(plain):  # type: ignore[misc, valid-type]
        def build_request(self, method: str, url: Any, **options: Any) -> Any:
            request = super().build_request(method, url.lower(), **options)  # it is the text that was given
            request.headers["X-Signed"] = "yes"
            return request

    class Both(world.kind(world.resilient, "Client"), Signing):  # type: ignore[misc]
        pass

    assert Both().build_request("GET", URL).headers["x-signed"] == "yes"


def test_of_threads(world: World) -> None:
    plain, ours = both(world)
    hosts = [f"http://host-{number}.test/" for number in range(20)]
    expected = {host: built(plain, "GET", host) for host in hosts}

    def build(turn: int) -> bool:
        host = hosts[turn % 20]
        return bool(built(ours, "GET", host) == expected[host])

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(build, range(2000)))
