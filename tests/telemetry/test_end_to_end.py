"""Traces and logs as users get them: through the clients."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from importlib.util import find_spec

import anyio
import anyio.lowlevel
import httpx
import pytest
from opentelemetry import context, trace

import resilient
from tests.real.procs import missing
from tests.telemetry.conftest import Recorded

ADDRESSES = ["10.0.0.1:80", "10.0.0.2:80"]


def mesh(**options: object) -> resilient.Mesh:
    policy = resilient.Policy(
        **{
            "retry": resilient.Retry(attempts=3, wait=0.0),
            "balancer": resilient.RoundRobin(),
            "breaker": None,
            **options,
        }
    )
    return resilient.Mesh({"orders": resilient.Service(ADDRESSES, policy)}, seed=1)


class Script:
    """A handler that answers with one status after the other and keeps what it was asked."""

    def __init__(self, *statuses: int | Exception) -> None:
        self._statuses = list(statuses)
        self.requests: list[httpx.Request] = []
        self.current: list[trace.SpanContext] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        self.current.append(trace.get_current_span().get_span_context())
        status = self._statuses.pop(0)
        if isinstance(status, Exception):
            raise status
        headers = {"location": "/elsewhere"} if status == 302 else {}
        return httpx.Response(status, headers=headers, text="body")

    @property
    def parents(self) -> list[str]:
        return [request.headers["traceparent"].split("-")[2] for request in self.requests]


@dataclass(frozen=True)
class Nowhere:
    """A resolver of a service that has no endpoint at present."""

    def endpoints(self) -> tuple[resilient.Endpoint, ...]:
        return ()

    async def watch(self) -> AsyncIterator[tuple[resilient.Endpoint, ...]]:
        yield ()


async def ask(
    method: str, script: Script, url: str, *, mesh: resilient.Mesh | None = None, **options: object
) -> httpx.Response:
    """The same request, of the sync or of the async client."""
    settings = {"mesh": mesh or globals()["mesh"](), "transport": httpx.MockTransport(script), "follow_redirects": True}
    if method == "sync":
        with resilient.Client(**settings) as client:
            return client.get(url, **options)
    async with resilient.AsyncClient(**settings) as client:
        return await client.get(url, **options)


both = pytest.mark.parametrize("method", ["sync", "async"])
pytestmark = pytest.mark.anyio


@both
async def test_a_retry_is_one_call_and_two_attempts(method: str, recorded: Recorded) -> None:
    script = Script(503, 200)
    before = context.get_current()
    response = await ask(method, script, "http://orders/v1")
    assert context.get_current() is before

    call, first, second = recorded.spans
    assert (call.name, call.kind.name) == ("GET orders", "INTERNAL")
    assert recorded.kinds == ["INTERNAL", "CLIENT", "CLIENT"]
    assert first.parent == second.parent == call.context
    assert {span.attributes["network.peer.address"] for span in (first, second)} == {"10.0.0.1", "10.0.0.2"}
    assert [span.attributes["server.address"] for span in (first, second)] == ["orders", "orders"]
    assert [span.attributes.get("http.request.resend_count") for span in (first, second)] == [None, 1]
    assert script.parents == [f"{span.context.span_id:016x}" for span in (first, second)]
    assert script.current == [first.context, second.context]
    assert call.attributes["resilient.attempts"] == len(response.extensions["resilient"].attempts) == 2
    assert "traceparent" not in response.request.headers


def test_on_httpx2_too(recorded: Recorded) -> None:
    if find_spec("httpx2") is None:
        missing("httpx2")
    import httpx2

    from resilient.httpx2 import Client

    parents: list[str] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        parents.append(request.headers["traceparent"].split("-")[2])
        return httpx2.Response(503 if len(parents) == 1 else 200)

    with Client(mesh=mesh(), transport=httpx2.MockTransport(handler)) as client:
        client.get("http://orders/v1")
    assert recorded.kinds == ["INTERNAL", "CLIENT", "CLIENT"]
    assert parents == [f"{span.context.span_id:016x}" for span in recorded.of_kind("CLIENT")]


@both
async def test_resends_are_counted_over_redirects(method: str, recorded: Recorded) -> None:
    script = Script(503, 302, 503, 200)
    await ask(method, script, "http://orders/v1")
    assert recorded.kinds == ["INTERNAL", "CLIENT", "CLIENT"] * 2
    assert [span.attributes.get("http.request.resend_count") for span in recorded.of_kind("CLIENT")] == [None, 1, 2, 3]


@both
async def test_resends_are_counted_over_challenges(method: str, recorded: Recorded) -> None:
    class TwoLegs(httpx.Auth):
        def auth_flow(self, request):
            yield request
            request.headers["authorization"] = "now"
            yield request

    await ask(method, Script(401, 200), "http://orders/v1", auth=TwoLegs())
    assert [span.attributes.get("http.request.resend_count") for span in recorded.of_kind("CLIENT")] == [None, 1]


def test_a_request_that_the_user_sends_again_is_sent_anew(recorded: Recorded) -> None:
    with resilient.Client(mesh=mesh(), transport=httpx.MockTransport(Script(200, 200))) as client:
        request = client.build_request("GET", "http://orders/v1")
        for _ in range(2):
            client.send(request)
    assert [span.attributes.get("http.request.resend_count") for span in recorded.of_kind("CLIENT")] == [None, None]


@both
async def test_an_error_is_the_attempts_and_the_calls(method: str, recorded: Recorded) -> None:
    script = Script(*[httpx.ConnectError("refused")] * 3)
    with pytest.raises(httpx.ConnectError):
        await ask(method, script, "http://orders/v1")
    assert recorded.kinds == ["INTERNAL", "CLIENT", "CLIENT", "CLIENT"]
    assert {span.attributes["error.type"] for span in recorded.spans} == {"httpx.ConnectError"}
    assert recorded.spans[0].attributes["resilient.flags"] == ("retry-limit",)


@both
async def test_a_refused_call_has_no_attempt(method: str, recorded: Recorded) -> None:
    nobody = resilient.Mesh({"orders": resilient.Service(Nowhere())})
    with pytest.raises(resilient.NoEndpoint):
        await ask(method, Script(), "http://orders/v1", mesh=nobody)
    [call] = recorded.spans
    assert (call.attributes["error.type"], call.attributes["resilient.attempts"]) == ("resilient.errors.NoEndpoint", 0)


async def test_a_timeout_of_ours_is_an_error_and_a_cancellation_is_none(recorded: Recorded) -> None:
    async def hang(_: httpx.Request) -> httpx.Response:
        await anyio.sleep_forever()
        raise AssertionError

    async with resilient.AsyncClient(
        mesh=mesh(retry=None, attempt_timeout=0.01), transport=httpx.MockTransport(hang)
    ) as client:
        with pytest.raises(httpx.ReadTimeout):
            await client.get("http://orders/v1")
    assert [span.attributes["error.type"] for span in recorded.spans] == ["httpx.ReadTimeout", "TimeoutError"]

    before = context.get_current()
    async with resilient.AsyncClient(mesh=mesh(), transport=httpx.MockTransport(hang)) as client:
        with anyio.move_on_after(0.01):
            await client.get("http://orders/v1")
    assert context.get_current() is before
    cancelled = recorded.spans[2:]
    assert [span.kind.name for span in cancelled] == ["INTERNAL", "CLIENT"]
    assert [span.attributes.get("error.type") for span in cancelled] == [None, None]


@both
async def test_the_span_of_a_streamed_response_ends_at_its_headers(method: str, recorded: Recorded) -> None:
    settings = {"mesh": mesh(), "transport": httpx.MockTransport(Script(200))}
    if method == "sync":
        with resilient.Client(**settings) as client, client.stream("GET", "http://orders/v1") as response:
            assert recorded.kinds == ["INTERNAL", "CLIENT"]
            response.read()
    else:
        async with resilient.AsyncClient(**settings) as client, client.stream("GET", "http://orders/v1") as response:
            assert recorded.kinds == ["INTERNAL", "CLIENT"]
            await response.aread()


async def test_calls_side_by_side_are_children_of_their_own_parents(recorded: Recorded) -> None:
    tracer = recorded.provider.get_tracer("test")

    async def handler(_: httpx.Request) -> httpx.Response:
        await anyio.lowlevel.checkpoint()
        return httpx.Response(200)

    async with resilient.AsyncClient(mesh=mesh(), transport=httpx.MockTransport(handler)) as client:

        async def work(name: str) -> None:
            with tracer.start_as_current_span(name) as span:
                await client.get("http://orders/v1")
                assert trace.get_current_span() is span

        async with anyio.create_task_group() as group:
            for name in ("a", "b", "c"):
                group.start_soon(work, name)
    by_id = {span.context.span_id: span for span in recorded.spans}
    calls = [span for span in recorded.spans if span.name == "GET orders"]
    assert sorted(by_id[call.parent.span_id].name for call in calls) == ["a", "b", "c"]
    assert len(recorded.of_kind("CLIENT")) == 3


@both
async def test_a_call_is_one_line_for_those_who_ask(method: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "resilient.call")
    await ask(method, Script(503, 200), "http://me:secret@orders/v1")
    [line] = [record.getMessage() for record in caplog.records if record.name == "resilient.call"]
    assert line.startswith("GET http://REDACTED:REDACTED@orders/v1 -> 200 (orders: 10.0.0.")
    assert " 503 in " in line


@both
async def test_the_line_of_a_failure_says_why(method: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "resilient.call")
    with pytest.raises(httpx.ConnectError):
        await ask(method, Script(httpx.ConnectError("refused")), "http://orders/v1", mesh=mesh(retry=None))
    [line] = [record.getMessage() for record in caplog.records if record.name == "resilient.call"]
    assert line.startswith("GET http://orders/v1 -> connect-failure (orders: 10.0.0.")


async def test_nothing_is_logged_unasked(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    await ask("sync", Script(503, 200), "http://orders/v1")
    assert [record for record in caplog.records if record.name.startswith("resilient")] == []
