"""Fake endpoints under real clients: three worlds, the same calls."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio
import httpx
import pytest

import resilient
import resilient.httpx2
from resilient.testing import AsyncVirtualClock, Behaviour, FakeEndpoint, FakeTransport, VirtualClock, fleet

STEADY = Behaviour(latency=0.01, spread=0)


@dataclass
class Seen:
    """What came of a call: a status or an error, its body, the attempts, and when it had ended."""

    ends: str
    body: bytes = b""
    attempts: list[str] = field(default_factory=list)
    at: float = 0.0


def answers(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, json={"path": request.url.path})


BODY = answers(httpx.Request("GET", "http://orders/v1/42")).content


def seen(result: Any, now: float) -> Seen:
    is_error = isinstance(result, Exception)
    report = getattr(result, "report", None) if is_error else result.extensions["resilient"]
    attempts = [] if report is None else [f"{a.status or a.reason} {round(a.seconds, 6):g}" for a in report.attempts]
    ends = type(result).__name__ if is_error else str(result.status_code)
    return Seen(ends, b"" if is_error else result.content, attempts, round(now, 6))


class Threads:
    library = httpx
    Client: Any = resilient.Client

    def __init__(self, endpoints: Sequence[FakeEndpoint], policy: resilient.Policy, handler: Any = answers) -> None:
        self.clock = VirtualClock()
        self.mesh = made(endpoints, policy, self.clock)
        self.transport = FakeTransport(endpoints, self.clock, handler)

    def call(self, *, stream: bool = False, **options: Any) -> Seen:
        def main() -> Seen:
            request = client.build_request("GET", "http://orders/v1/42", **options)
            try:
                response = client.send(request, stream=stream)
                if stream:
                    try:
                        response.read()
                    finally:
                        response.close()
                return seen(response, self.clock())
            except self.library.HTTPError as error:
                return seen(error, self.clock())

        with self.mesh, self.Client(mesh=self.mesh, transport=self.transport) as client:
            return self.clock.run(main)[0]  # type: ignore[no-any-return]


class Tasks:
    library = httpx
    Client: Any = resilient.AsyncClient
    backend: Any = "asyncio"

    def __init__(self, endpoints: Sequence[FakeEndpoint], policy: resilient.Policy, handler: Any = answers) -> None:
        self.clock = AsyncVirtualClock()
        self.mesh = made(endpoints, policy, self.clock)
        self.transport = FakeTransport(endpoints, self.clock, handler)

    def call(self, *, stream: bool = False, **options: Any) -> Seen:
        async def main() -> Seen:
            async with self.Client(mesh=self.mesh, transport=self.transport) as client:
                request = client.build_request("GET", "http://orders/v1/42", **options)
                try:
                    response = await client.send(request, stream=stream)
                    if stream:
                        try:
                            await response.aread()
                        finally:
                            await response.aclose()
                    return seen(response, self.clock())
                except self.library.HTTPError as error:
                    return seen(error, self.clock())

        with self.mesh:
            return self.clock.run(main, backend=self.backend)


class Trio(Tasks):
    backend = "trio"


class Threads2(Threads):
    library = pytest.importorskip("httpx2")
    Client = resilient.httpx2.Client


class Tasks2(Tasks):
    library = pytest.importorskip("httpx2")
    Client = resilient.httpx2.AsyncClient


def made(endpoints: Sequence[FakeEndpoint], policy: resilient.Policy, clock: Callable[[], float]) -> resilient.Mesh:
    service = resilient.Service([each.endpoint for each in endpoints], policy)
    return resilient.Mesh({"orders": service}, clock=clock, seed=1)


worlds = pytest.mark.parametrize("world", [Threads, Tasks, Trio])
ONCE = resilient.Policy(retry=None)
PATIENT = resilient.Policy(retry=None, timeout=1.0)
SCENARIOS: dict[str, tuple[dict[str, Any], resilient.Policy, bool, Seen]] = {
    "well": ({}, ONCE, False, Seen("200", BODY, ["200 0.01"], 0.01)),
    "not found": ({"status": 404}, ONCE, False, Seen("404", b"", ["404 0.01"], 0.01)),
    "fails": ({"failure_ratio": 1.0}, ONCE, False, Seen("503", b"", ["503 0.01"], 0.01)),
    "refuses": ({"refuses": True}, ONCE, False, Seen("ConnectError", b"", ["connect-failure 0"], 0.0)),
    "resets": ({"resets": True}, ONCE, False, Seen("ReadError", b"", ["reset 0"], 0.0)),
    "hangs": ({"hangs": True}, ONCE, False, Seen("ReadTimeout", b"", ["timeout 5"], 5.0)),
    "hangs beyond the deadline": ({"hangs": True}, PATIENT, False, Seen("DeadlineExceeded", b"", ["timeout 1"], 1.0)),
    "hangs, and again": (
        {"hangs": True},
        resilient.Policy(timeout=1.0, attempt_timeout=0.3, retry=resilient.Retry(attempts=2, wait=lambda _: 0.1)),
        False,
        Seen("DeadlineExceeded", b"", ["timeout 0.3", "timeout 0.6"], 1.0),
    ),
    "breaks": ({"breaks": True}, ONCE, False, Seen("RemoteProtocolError", b"", ["reset 0.01"], 0.01)),
    "stalls": ({"stalls": True}, ONCE, False, Seen("ReadTimeout", b"", ["timeout 5.01"], 5.01)),
    "stalls beyond the deadline": ({"stalls": True}, PATIENT, False, Seen("DeadlineExceeded", b"", ["timeout 1"], 1.0)),
    "breaks while streamed": ({"breaks": True}, ONCE, True, Seen("RemoteProtocolError", b"", [], 0.01)),
    "stalls while streamed": ({"stalls": True}, PATIENT, True, Seen("DeadlineExceeded", b"", ["200 0.01"], 1.0)),
    "stalls while streamed, no deadline": ({"stalls": True}, ONCE, True, Seen("ReadTimeout", b"", [], 5.01)),
    "hedged": (
        {"latency": 0.4},
        resilient.Policy(hedge=resilient.Hedge(delay=0.1, max_extra_ratio=1.0)),
        False,
        Seen("200", BODY, ["200 0.4"], 0.4),
    ),
}


@worlds
@pytest.mark.parametrize("name", SCENARIOS)
def test_what_endpoints_do_is_what_callers_see(name: str, world: Any, no_leaks: None) -> None:
    behaviour, policy, stream, expected = SCENARIOS[name]
    endpoints = [each.at(0.0, **behaviour) for each in fleet(3, STEADY)]
    began = time.monotonic()
    assert world(endpoints, policy).call(stream=stream) == expected
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("world", [Threads2, Tasks2])
@pytest.mark.parametrize("name", ["fails", "refuses", "hangs", "breaks", "stalls while streamed"])
def test_the_same_for_httpx2(name: str, world: Any) -> None:
    behaviour, policy, stream, expected = SCENARIOS[name]
    endpoints = [each.at(0.0, **behaviour) for each in fleet(3, STEADY)]
    assert world(endpoints, policy).call(stream=stream) == expected


@worlds
def test_one_bad_endpoint_is_made_up_for_by_another(world: Any) -> None:
    good, bad = FakeEndpoint("10.0.0.1:80", STEADY), FakeEndpoint("[::1]:80", STEADY).at(0.0, refuses=True)
    service = world([bad, good], resilient.Policy())
    assert service.call().ends == "200"
    assert good.answered == 1
    assert bad.requests == 0


@worlds
def test_headers_routes_and_rate_limits_are_played(world: Any) -> None:
    [endpoint] = fleet(1, Behaviour(rate_limit=(5, 60.0), headers={"X-Version": "2"}))
    endpoint.at(0.0, route="GET /v1/*", failure_ratio=1.0, failure_status=500)
    headers: list[httpx.Headers] = []
    service = world([endpoint], ONCE)
    transport = service.transport
    for path in ("/v1/42", "/v2/42"):
        request = httpx.Request("GET", f"http://{endpoint.address}{path}")
        if world is Threads:
            response = transport.handle_request(request)
        else:
            response = service.clock.run(transport.handle_async_request, request, backend=world.backend)
        headers.append(response.headers)
        assert response.status_code == (500 if path == "/v1/42" else 200)
    assert [each["x-version"] for each in headers] == ["2", "2"]
    assert [each["ratelimit"].split(";")[1] for each in headers] == ["r=4", "r=3"]


@worlds
def test_where_no_endpoint_is_nobody_listens(world: Any) -> None:
    service = world([FakeEndpoint("10.0.0.1:80")], ONCE)
    service.transport.endpoints = [FakeEndpoint("10.0.0.2:80")]
    assert service.call().ends == "ConnectError"
    with pytest.raises(httpx.ConnectError, match=r"no fake endpoint orders:443; there are 10\.0\.0\.2:80"):
        plain(service.transport.endpoints).get("https://orders/")


def plain(endpoints: Sequence[FakeEndpoint]) -> httpx.Client:
    return httpx.Client(transport=FakeTransport(endpoints, VirtualClock()))


@worlds
@pytest.mark.parametrize(("fault", "reads"), [({"refuses": True}, 0), ({"resets": True}, 1)])
def test_a_body_goes_only_over_a_connection(world: Any, fault: dict[str, Any], reads: int) -> None:
    endpoints = [each.at(0.0, **fault) for each in fleet(1, STEADY)]
    asked: list[None] = []

    def parts() -> Any:
        asked.append(None)
        yield b"part"

    async def async_parts() -> Any:
        asked.append(None)
        yield b"part"

    world(endpoints, ONCE).call(content=parts() if world is Threads else async_parts())
    assert len(asked) == reads


def test_handlers_may_be_async_in_tasks_alone() -> None:
    async def later(request: httpx.Request) -> httpx.Response:
        await anyio.sleep(1)
        return httpx.Response(200, text="later")

    for world in (Tasks, Trio):
        assert world(fleet(1, STEADY), ONCE, later).call() == Seen("200", b"later", ["200 1.01"], 1.01)
    with pytest.raises(TypeError, match="the handler of FakeTransport is async"):
        Threads(fleet(1, STEADY), ONCE, later).call()


def test_the_wrong_clock_is_told() -> None:
    endpoints = fleet(1)
    with pytest.raises(TypeError, match="needs a VirtualClock"):
        httpx.Client(transport=FakeTransport(endpoints, AsyncVirtualClock())).get(f"http://{endpoints[0].address}/")

    async def call(clock: Any) -> None:
        async with httpx.AsyncClient(transport=FakeTransport(endpoints, clock)) as client:
            await client.get(f"http://{endpoints[0].address}/")

    with pytest.raises(TypeError, match="needs an AsyncVirtualClock"):
        anyio.run(call, VirtualClock())
    with pytest.raises(RuntimeError, match=r"begin it with AsyncVirtualClock\.run"):
        anyio.run(call, AsyncVirtualClock())


def test_who_would_wait_for_ever_is_told() -> None:
    endpoint = fleet(1)[0].at(0.0, hangs=True)
    with pytest.raises(RuntimeError, match="would hang for ever: give the call a timeout"):
        plain([endpoint]).get(f"http://{endpoint.address}/", timeout=None)


def test_a_seed_gives_the_same_latencies() -> None:
    def ends(seed: int) -> float:
        clock, endpoints = VirtualClock(), fleet(1)
        with httpx.Client(transport=FakeTransport(endpoints, clock, seed=seed)) as client:
            client.get(f"http://{endpoints[0].address}/")
        return clock()

    assert ends(1) == ends(1) != ends(2)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_in_tasks_the_caller_may_end_such_a_wait(backend: Any) -> None:
    endpoint = fleet(1)[0].at(0.0, hangs=True)
    clock = AsyncVirtualClock()

    async def call() -> None:
        async with httpx.AsyncClient(transport=FakeTransport([endpoint], clock), timeout=None) as client:
            with anyio.move_on_after(7):
                await client.get(f"http://{endpoint.address}/")

    clock.run(call, backend=backend)
    assert clock() == 7.0
