"""The traces by themselves, without a transport."""

from __future__ import annotations

import asyncio
import contextvars
import subprocess
import sys

import httpx
import pytest
from opentelemetry import baggage, context, propagate, trace
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.sdk.trace import TracerProvider, sampling
from opentelemetry.trace import NonRecordingSpan, NoOpTracerProvider, SpanContext, StatusCode, TraceFlags

from resilient.balance.endpoint import Endpoint
from resilient.core.report import CallReport
from resilient.telemetry.tracing import CallTrace, Tracing
from tests.telemetry.conftest import Recorded

TRACE_ID, SPAN_ID = 0x0AF7651916CD43DD8448EB211C80319C, 0x00F067AA0BA902B7
ENDPOINT = Endpoint("10.0.0.1", 8080)
REMOTE = f"00-{TRACE_ID:032x}-{SPAN_ID:016x}-01"


def request(**options: object) -> httpx.Request:
    return httpx.Request("GET", "http://orders/v1", **options)


def start(provider: object, message: httpx.Request | None = None, report: CallReport | None = None) -> CallTrace:
    call = Tracing(provider).start_call(message or request(), report or CallReport("orders"))
    assert call is not None
    return call


@pytest.fixture
def remote_parent():
    """As an inbound request leaves it: a span of another process, and baggage."""
    remote = NonRecordingSpan(SpanContext(TRACE_ID, SPAN_ID, is_remote=True, trace_flags=TraceFlags(1)))
    token = context.attach(baggage.set_baggage("tenant", "blue", trace.set_span_in_context(remote)))
    yield
    context.detach(token)


@pytest.mark.parametrize("provider", [None, NoOpTracerProvider()], ids=["none", "no-op"])
def test_without_an_sdk_and_surroundings_there_is_nothing_to_do(provider: object) -> None:
    assert Tracing(provider).start_call(request(), CallReport("orders")) is None


def test_an_sdk_that_is_disabled_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert Tracing(TracerProvider(shutdown_on_exit=False)).start_call(request(), CallReport("orders")) is None


LATE = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
import httpx
from resilient.core.report import CallReport
from resilient.telemetry.tracing import tracing
start = lambda: tracing.start_call(httpx.Request("GET", "http://orders/"), CallReport("orders"))
assert start() is None
trace.set_tracer_provider(TracerProvider())
assert start() is not None
"""

BY_NAME = """
from opentelemetry import trace
import httpx
from resilient.core.report import CallReport
from resilient.telemetry.tracing import tracing
assert tracing.start_call(httpx.Request("GET", "http://orders/"), CallReport("orders")) is not None
"""


@pytest.mark.parametrize(
    ("script", "variables"), [(LATE, {}), (BY_NAME, {"OTEL_PYTHON_TRACER_PROVIDER": "sdk_tracer_provider"})]
)
def test_the_provider_of_the_process_is_found_whenever_it_comes(
    script: str, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_without_an_sdk_the_surroundings_are_passed_on(remote_parent: None) -> None:
    call = start(NoOpTracerProvider())
    with call, call.attempt(ENDPOINT) as attempt:
        sent = attempt.request(request())
        attempt.responded(httpx.Response(200))
    assert (sent.headers["traceparent"], sent.headers["baggage"]) == (REMOTE, "tenant=blue")


def test_surroundings_with_nothing_to_pass_on_are_nothing_to_do() -> None:
    token = context.attach(context.set_value("mine", 1))
    try:
        assert Tracing(NoOpTracerProvider()).start_call(request(), CallReport("orders")) is None
    finally:
        context.detach(token)


def test_a_call_with_two_attempts(recorded: Recorded, remote_parent: None) -> None:
    report = CallReport("orders")
    call = start(recorded.provider, report=report)
    sent = []
    with call:
        for number, status in ((1, 503), (2, 200)):
            with call.attempt(Endpoint(f"10.0.0.{number}", 80)) as attempt:
                sent.append(attempt.request(request(headers={"TraceParent": "mine"})))
                attempt.responded(httpx.Response(status, extensions={"http_version": b"HTTP/2"}))
        report.flags.append("resolved")
        call.responded(httpx.Response(200))

    whole, first, second = recorded.spans
    assert (whole.name, whole.kind.name, whole.parent.span_id) == ("GET orders", "INTERNAL", SPAN_ID)
    assert whole.attributes == {
        "http.request.method": "GET",
        "server.address": "orders",
        "server.port": 80,
        "url.full": "http://orders/v1",
        "resilient.service": "orders",
        "resilient.attempts": 2,
        "resilient.flags": ("resolved",),
        "http.response.status_code": 200,
    }
    assert (first.name, first.kind.name, first.parent) == ("GET", "CLIENT", whole.context)
    assert first.attributes == {
        "http.request.method": "GET",
        "server.address": "orders",
        "server.port": 80,
        "url.full": "http://orders/v1",
        "network.peer.address": "10.0.0.1",
        "network.peer.port": 80,
        "network.protocol.version": "2",
        "http.response.status_code": 503,
        "error.type": "503",
        "resilient.endpoint": "10.0.0.1:80",
    }
    assert (first.status.status_code, first.status.description) == (StatusCode.ERROR, None)
    assert second.attributes["http.request.resend_count"] == 1
    assert "error.type" not in second.attributes
    assert second.status.status_code is whole.status.status_code is StatusCode.UNSET
    for span, message in zip((first, second), sent, strict=True):
        assert message.headers.get_list("traceparent") == [f"00-{TRACE_ID:032x}-{span.context.span_id:016x}-01"]
        assert message.headers["baggage"] == "tenant=blue"


@pytest.mark.parametrize("status", [404, 500])
def test_the_call_ends_like_its_response(status: int, recorded: Recorded) -> None:
    call = start(recorded.provider)
    with call:
        call.responded(httpx.Response(status))
    [span] = recorded.spans
    assert span.attributes["error.type"] == str(status)
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, None)


def test_an_exception_marks_attempt_and_call(recorded: Recorded) -> None:
    call = start(recorded.provider)
    with pytest.raises(httpx.ConnectError), call, call.attempt(ENDPOINT):
        raise httpx.ConnectError("refused")
    for span in recorded.spans:
        assert span.attributes["error.type"] == "httpx.ConnectError"
        assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "refused")
        assert span.events == ()


def test_cancellation_is_no_error(recorded: Recorded) -> None:
    call = start(recorded.provider)
    with pytest.raises(asyncio.CancelledError), call, call.attempt(ENDPOINT):
        raise asyncio.CancelledError
    assert recorded.kinds == ["INTERNAL", "CLIENT"]
    for span in recorded.spans:
        assert span.status.status_code is StatusCode.UNSET
        assert "error.type" not in span.attributes


def test_the_attempt_is_current_and_nothing_else_is(recorded: Recorded) -> None:
    before = context.get_current()
    call = start(recorded.provider)
    with call:
        assert context.get_current() is before
        with call.attempt(ENDPOINT):
            current = trace.get_current_span()
        assert context.get_current() is before
    assert current.get_span_context() == recorded.of_kind("CLIENT")[0].context


def test_an_attempt_that_is_thrown_away_is_ended_without_complaint(
    recorded: Recorded, caplog: pytest.LogCaptureFixture
) -> None:
    call = start(recorded.provider)

    async def attempt() -> None:
        with call, call.attempt(ENDPOINT):
            await asyncio.sleep(0)

    coroutine = attempt()
    # Begun in one context and closed in another, as when an event loop is abandoned.
    context_of_its_own = contextvars.copy_context()
    context_of_its_own.run(coroutine.send, None)
    coroutine.close()
    assert recorded.kinds == ["INTERNAL", "CLIENT"]
    assert caplog.records == []


def test_the_count_goes_on_over_redirects_and_challenges(recorded: Recorded) -> None:
    first = request()
    redirect = httpx.Request("GET", "http://orders/v2", extensions=first.extensions)
    for message in (first, first):
        call = start(recorded.provider, message)
        with call, call.attempt(ENDPOINT):
            pass
    redirect = httpx.Request("GET", "http://orders/v2", extensions=first.extensions)
    call = start(recorded.provider, redirect)
    with call, call.attempt(ENDPOINT):
        pass
    counts = [span.attributes.get("http.request.resend_count") for span in recorded.of_kind("CLIENT")]
    assert counts == [None, 1, 2]


def test_requests_with_the_same_extensions_are_counted_apart(recorded: Recorded) -> None:
    shared = {"timeout": {}}
    for _ in range(2):
        message = request()
        message.extensions = shared
        call = start(recorded.provider, message)
        with call, call.attempt(ENDPOINT):
            pass
    assert [span.attributes.get("http.request.resend_count") for span in recorded.of_kind("CLIENT")] == [None, None]
    assert shared == {"timeout": {}}


def test_the_request_of_an_attempt_is_a_copy(recorded: Recorded) -> None:
    original = request(content=b"body", headers={"x": "1"})
    call = start(recorded.provider, original)
    with call, call.attempt(ENDPOINT) as attempt:
        sent = attempt.request(original)
    assert "traceparent" not in original.headers
    assert (sent.method, sent.url, sent.content, sent.stream) == (
        original.method,
        original.url,
        b"body",
        original.stream,
    )


def test_what_is_not_sampled_is_still_propagated(recorded: Recorded) -> None:
    provider = TracerProvider(sampler=sampling.ALWAYS_OFF, shutdown_on_exit=False)
    call = start(provider)
    with call, call.attempt(ENDPOINT) as attempt:
        sent = attempt.request(request())
        attempt.responded(httpx.Response(200))
    flags = int(sent.headers["traceparent"].rpartition("-")[2], 16)
    assert not flags & TraceFlags.SAMPLED


class Shouting(TextMapPropagator):
    fields = frozenset({"x-trace"})

    def extract(self, carrier, context=None, getter=None):
        return context

    def inject(self, carrier, context=None, setter=None):
        setter.set(carrier, "x-trace", f"{trace.get_current_span(context).get_span_context().span_id:x}")


def test_the_propagator_of_the_process_is_used(recorded: Recorded) -> None:
    before = propagate.get_global_textmap()
    propagate.set_global_textmap(Shouting())
    try:
        call = start(recorded.provider)
        with call, call.attempt(ENDPOINT) as attempt:
            sent = attempt.request(request())
    finally:
        propagate.set_global_textmap(before)
    assert sent.headers["x-trace"] == f"{recorded.of_kind('CLIENT')[0].context.span_id:x}"
    assert "traceparent" not in sent.headers


@pytest.mark.parametrize(
    "key",
    [context._SUPPRESS_INSTRUMENTATION_KEY, context._SUPPRESS_HTTP_INSTRUMENTATION_KEY, "suppress_instrumentation"],
)
def test_who_asks_for_silence_gets_it(key: str, recorded: Recorded) -> None:
    token = context.attach(context.set_value(key, True))
    try:
        assert Tracing(recorded.provider).start_call(request(), CallReport("orders")) is None
    finally:
        context.detach(token)


def test_instrumentations_below_are_silenced_but_not_calls_of_ours(recorded: Recorded) -> None:
    call = start(recorded.provider)
    with call, call.attempt(ENDPOINT, suppress=True):
        assert context.get_value(context._SUPPRESS_HTTP_INSTRUMENTATION_KEY)
        nested = start(recorded.provider)
        with nested, nested.attempt(ENDPOINT):
            assert not context.get_value(context._SUPPRESS_HTTP_INSTRUMENTATION_KEY)
    assert recorded.kinds == ["INTERNAL", "CLIENT", "INTERNAL", "CLIENT"]
