"""Event hooks, logging and trace."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from tests.compat.library import Face, World, told
from tests.compat.origin import Origin


@pytest.mark.parametrize("path", ["/echo", "/redirect/302?to=/echo", "/status/404"])
def test_are_called_once_for_each_leg(world: World, origin: Origin, path: str) -> None:
    calls: list[Any] = []

    def on_request(request: Any) -> None:
        request.headers["x-hook"] = "was here"
        calls.append(("request", request.method, str(request.url), "timeout" in request.extensions))

    def on_response(response: Any) -> None:
        state = response.is_closed, response.is_stream_consumed
        calls.append(("response", response.status_code, str(response.request.url), *state))

    hooks = {"request": [world.function(on_request)], "response": [world.function(on_response)]}

    def scenario(face: Face) -> object:
        calls.clear()
        return told(face.get(origin.url(path), follow_redirects=True)), list(calls)

    world.same(scenario, event_hooks=hooks)


def test_may_read_the_response(world: World, origin: Origin) -> None:
    bodies = []

    def read(response: Any) -> None:
        bodies.append(response.read())

    async def read_async(response: Any) -> None:
        bodies.append(await response.aread())

    hooks = {"response": [read_async if world.is_async else read]}
    world.same(lambda face: told(face.get(origin.url("/chunked"))), event_hooks=hooks)
    world.same(lambda face: face.stream("GET", origin.url("/chunked"))[1], event_hooks=hooks)
    assert bodies == [b"one\ntwo\nthree\nfour"] * 4


@pytest.mark.parametrize("when", ["request", "response"])
def test_may_raise(world: World, origin: Origin, when: str) -> None:
    def refuse(_: Any) -> None:
        raise LookupError("no")

    hooks = {when: [world.function(refuse)]}
    assert world.same(lambda face: face.get(origin.url()), event_hooks=hooks)[0] == "LookupError"
    hooks = {"response": [world.function(lambda response: response.raise_for_status())]}
    assert world.same(lambda face: face.get(origin.url("/status/404")), event_hooks=hooks)[0] == "HTTPStatusError"


def test_the_library_logs_each_leg_once(world: World, origin: Origin, caplog: pytest.LogCaptureFixture) -> None:
    def scenario(face: Face) -> object:
        caplog.clear()
        face.get(origin.url("/redirect/302?to=/status/503"), follow_redirects=True)
        return [record.getMessage() for record in caplog.records if record.name == world.library.__name__]

    with caplog.at_level(logging.INFO):
        assert len(world.same(scenario)) == 2


def test_trace(world: World, origin: Origin) -> None:
    def scenario(face: Face) -> object:
        events: list[str] = []
        trace = world.function(lambda name, info: events.append(name))
        face.get(origin.url(), extensions={"trace": trace})
        return [name for name in events if not name.endswith("connect_tcp.retry")]

    assert "http11.send_request_headers.started" in world.same(scenario)


def test_extensions_of_the_response(world: World, origin: Origin) -> None:
    def scenario(face: Face) -> object:
        extensions = face.get(origin.url()).extensions
        return {name: extensions[name] for name in ("http_version", "reason_phrase")}, "network_stream" in extensions

    assert world.same(scenario) == ({"http_version": b"HTTP/1.1", "reason_phrase": b"OK"}, True)
