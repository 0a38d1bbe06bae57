"""What a response is after it has been read: in all that is in it, as the library leaves it."""

from __future__ import annotations

import pickle
import time
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from resilient import responses
from resilient.binding import bind
from resilient.exchange import OPTIONS
from resilient.runtime.carried import BUFFER
from resilient.runtime.streams import streams
from resilient.telemetry.spans import SENDS
from tests.compat.library import LIBRARIES, Face, World, abandons_generators, outcome, told
from tests.compat.origin import Origin

OURS = (OPTIONS, BUFFER, SENDS)
"""Extensions that only our clients leave."""
PATHS = [
    "/echo",
    "/status/200",
    "/status/204",
    "/status/304",
    "/status/404",
    "/status/503",
    "/zipped",
    "/not-zipped",
    "/latin",
    "/latin/charset",
    "/chunked",
    "/big",
    "/hint",
    "/cookie?set=a=1",
    "/truncated",
    "/truncated-chunks",
    "/reset",
    "/loop",
    "/redirect/301?to=/echo",
    "/redirect/303?to=/status/204",
    "/redirect/307?to=/zipped",
    "/redirect/308?to=/redirect/302?to=/chunked",
    "/redirect/302?to=http://[bad",
]


def anatomy(value: Any) -> Any:
    """All that there is in a response or a request, as plain data, but for what differs between two calls."""
    kind = type(value).__name__
    if isinstance(value, dict):
        return {key: anatomy(item) for key, item in value.items() if key not in OURS}
    if isinstance(value, list):
        return [anatomy(item) for item in value]
    if kind == "Headers":
        return [item for item in value.raw if item[0].lower() != b"date"], value.encoding
    if callable(getattr(value, "get_extra_info", None)):
        return "the connection"
    if kind in ("Response", "Request"):
        return anatomy(vars(value))
    if kind.startswith("Bound"):
        # A body of ours is in it; the time that has elapsed is in it with httpx2.
        return (
            kind,
            sorted(vars(value)),
            type(getattr(value, "elapsed", None)),
            getattr(value, "_response", None) is None,
        )
    if isinstance(value, timedelta) or kind.endswith(("Stream", "Decoder")):
        return kind, dict(vars(value)) if kind == "IdentityDecoder" else None
    return str(value) if kind == "URL" else value


def shown(face: Face, response: Any) -> dict[str, Any]:
    """The same, and what is there to be asked for."""
    inside = anatomy(response)
    again = pickle.loads(pickle.dumps(response))
    library = face.world.library
    read = "aiter_" if face.world.is_async else "iter_"
    iterate = _all_async if face.world.is_async else _all
    return {
        "inside": inside,
        "elapsed": response.elapsed > timedelta(0),
        "state": (response.is_closed, response.is_stream_consumed, response.num_bytes_downloaded),
        "text": (response.charset_encoding, response.encoding, response.text),
        "again": (face.read(response), face.read(response) is response.content),
        **{
            name: outcome(lambda name=name: face.world.run(iterate, getattr(response, read + name)), library)
            for name in ("bytes", "text", "lines", "raw")
        },
        "closed": outcome(lambda: face.close_response(response), library),
        "error": outcome(lambda: response.raise_for_status() is response, library),
        "pickled": anatomy(vars(again)),
        "elapsed of pickled": outcome(lambda: again.elapsed > timedelta(0), library),
    }


def _all(iterate: Any) -> Any:
    return list(iterate(200)) if iterate.__name__ != "iter_lines" else list(iterate())


async def _all_async(iterate: Any) -> Any:
    return [item async for item in (iterate(200) if iterate.__name__ != "aiter_lines" else iterate())]


@abandons_generators
@pytest.mark.parametrize("path", PATHS)
def test_after_reading(world: World, origin: Origin, path: str) -> None:
    for follow in (False, True):
        world.same(lambda face: shown(face, face.get(origin.url(path))), follow_redirects=follow, max_redirects=3)


@pytest.mark.parametrize("path", ["/echo", "/status/204", "/chunked", "/latin"])
def test_nothing_is_iterated(world: World, origin: Origin, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("iter_raw", "aiter_raw", "iter_bytes", "aiter_bytes"):
        monkeypatch.delattr(world.library.Response, name)
    assert world.ours().get(origin.url(path)).is_closed


@pytest.mark.parametrize("method", ["HEAD", "POST", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("path", ["/echo", "/status/404", "/status/204", "/zipped"])
def test_of_other_methods(world: World, origin: Origin, method: str, path: str) -> None:
    world.same(lambda face: shown(face, face.request(method, origin.url(path))))


@pytest.mark.parametrize("path", ["/echo", "/chunked", "/redirect/302?to=/echo"])
def test_with_an_encoding_by_default(world: World, origin: Origin, path: str) -> None:
    options = {"default_encoding": lambda content: "latin-1" if content else "ascii", "follow_redirects": True}
    world.same(lambda face: shown(face, face.get(origin.url(path))), **options)


@pytest.mark.parametrize("path", ["/echo", "/status/204", "/zipped"])
def test_not_if_it_is_streamed(world: World, origin: Origin, path: str) -> None:
    def scenario(face: Face) -> object:
        response = face.send(face.client.build_request("GET", origin.url(path)), stream=True)
        before = anatomy(response), outcome(lambda: response.elapsed, world.library)
        face.read(response)
        return before, shown(face, response)

    world.same(scenario)


def test_hooks_find_it_unread(world: World, origin: Origin) -> None:
    seen: list[Any] = []

    def look(response: Any) -> None:
        seen.append((anatomy(response), outcome(lambda: response.content, world.library)))

    def scenario(face: Face) -> object:
        seen.clear()
        return shown(face, face.get(origin.url("/redirect/302?to=/echo"), follow_redirects=True)), list(seen)

    world.same(scenario, event_hooks={"response": [world.function(look)]})
    assert len(seen) == 2


@abandons_generators
def test_hooks_that_change_it(world: World, origin: Origin) -> None:
    def content(response: Any) -> None:
        response._content = b"mine"

    def stream(response: Any) -> None:
        response.stream = world.stream([b"mine"])

    def wrapped(response: Any) -> None:
        inner = response.stream
        response.stream = world.stream([b"mine"])
        response.stream._stream = inner

    def encoded(response: Any) -> None:
        response.headers["Content-Encoding"] = "gzip"

    for change in (content, stream, wrapped, encoded):
        hooks = {"response": [world.function(change)]}
        world.same(lambda face: told(face.get(origin.url())), event_hooks=hooks)

    def close(response: Any) -> None:
        response.close()

    async def close_async(response: Any) -> None:
        await response.aclose()

    hooks = {"response": [close_async if world.is_async else close]}
    assert world.same(lambda face: face.get(origin.url()), event_hooks=hooks)[0] == "StreamClosed"


def test_auth_finds_it_unread(world: World, origin: Origin) -> None:
    seen: list[Any] = []

    class Looking(world.library.Auth):  # type: ignore[misc]
        def auth_flow(self, request: Any) -> Any:
            response = yield request
            seen.append((anatomy(response), outcome(lambda: response.content, world.library)))

    def scenario(face: Face) -> object:
        seen.clear()
        return shown(face, face.get(origin.url())), list(seen)

    world.same(scenario, auth=Looking())
    assert len(seen) == 1
    world.same(lambda face: shown(face, face.get(origin.url(), auth=world.library.Auth())))
    world.same(lambda face: shown(face, face.get(origin.url("/basic"), auth=("user", "secret"))))


def test_a_transport_around_ours_may_change_the_body(world: World, origin: Origin) -> None:
    """The request says that the body is read at once, and ours below has it in memory."""
    base = world.kind(world.library, "BaseTransport")
    inner = world.kind(world.resilient, "MeshTransport")()

    class Deciphering(base):  # type: ignore[misc, valid-type]
        def handle_request(self, request: Any) -> Any:
            response = inner.handle_request(request)
            response.stream = world.stream([part.upper() for part in response.stream])
            return response

        async def handle_async_request(self, request: Any) -> Any:
            response = await inner.handle_async_request(request)
            response.stream = world.stream([part.upper() async for part in response.stream])
            return response

    face = world.ours(transport=Deciphering())
    assert face.get(origin.url("/status/404")).content == b"THIS IS 404"
    world.run(inner.aclose if world.is_async else inner.close)


def test_the_time_that_has_elapsed(world: World, origin: Origin) -> None:
    face = world.ours()
    face.get(origin.url())
    before = time.perf_counter()
    elapsed = face.get(origin.url("/chunked")).elapsed.total_seconds()
    assert 0.01 <= elapsed <= time.perf_counter() - before


@pytest.mark.parametrize("library", LIBRARIES)
def test_both_libraries_read_as_we_know_it(library: str) -> None:
    plain, _ = LIBRARIES[library]
    assert responses._identity(bind(plain)) is not None
    assert len(bind(plain).bound_streams) == 2


def test_not_in_a_library_that_reads_otherwise(world: World) -> None:
    class Response(world.library.Response):  # type: ignore[misc, name-defined]
        def read(self) -> bytes:
            self._read_by = "another version"
            return bytes(super().read())

    known = bind(world.library)
    for binding in (known, replace(known, Response=Response)):
        response = known.Response(200, stream=known.bound_streams[0].__new__(known.bound_streams[0]))
        response.stream._stream = streams(binding).Loaded([b"x"])
        request = known.Request("GET", "http://orders.test", extensions={BUFFER: True})
        assert responses.taking(binding)(request, response) is (binding is known)
