"""The spans of one call and of its attempts."""

from __future__ import annotations

from collections.abc import Iterator
from contextvars import Token
from itertools import count
from types import TracebackType
from typing import Any, Self

from opentelemetry import context as otel
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer

from resilient.balance.endpoint import Endpoint
from resilient.core.report import CallReport
from resilient.telemetry import semconv, suppression
from resilient.telemetry.propagation import headers_of, with_headers

SENDS = "resilient.sends"
"""The key of a request's extensions under which its sends are counted.

httpx passes the extensions on to the requests that it makes for redirects and authentication
challenges, so the count continues over all of one `client.send()`.
"""


class CallSpan:
    """A call with spans."""

    __slots__ = ("_attempts", "_attributes", "_context", "_name", "_owns_span", "_report", "_sends", "_span", "_tracer")

    def __init__(self, tracer: Tracer, request: Any, report: CallReport, surroundings: Context) -> None:
        self._tracer = tracer
        self._attributes = semconv.request_attributes(request)
        self._name = semconv.span_name(request.method)
        self._report = report
        self._sends = _sends(request)
        self._attempts = 0
        outer = trace.get_current_span(surroundings)
        self._owns_span = not suppression.is_of_httpx_instrumentation(outer)
        self._span = self._start(surroundings) if self._owns_span else outer
        self._context = trace.set_span_in_context(self._span, surroundings)

    def _start(self, surroundings: Context) -> Span:
        service = self._report.service
        attributes = {**self._attributes, "resilient.service": service}
        return self._tracer.start_span(f"{self._name} {service}", surroundings, SpanKind.INTERNAL, attributes)

    def attempt(self, endpoint: Endpoint, *, hedge: bool = False, suppress: bool = False) -> AttemptSpan:
        """Begin an attempt."""
        self._attempts += 1
        attributes = {**self._attributes, **semconv.endpoint_attributes(endpoint)}
        resends = next(self._sends)
        if resends:
            attributes[semconv.RESEND_COUNT] = resends
        if hedge:
            attributes["resilient.hedge"] = True
        span = self._tracer.start_span(self._name, self._context, SpanKind.CLIENT, attributes)
        return AttemptSpan(span, suppression.suppress(self._context, suppress))

    def responded(self, response: Any) -> None:
        """Note the response that the caller gets."""
        if self._owns_span:
            self._span.set_attribute(semconv.STATUS_CODE, response.status_code)
            _judge(self._span, response.status_code)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        self._span.set_attribute("resilient.attempts", self._attempts)
        if self._report.flags:
            self._span.set_attribute("resilient.flags", tuple(self._report.flags))
        if self._owns_span:
            _fail(self._span, error)
            self._span.end()


class AttemptSpan:
    """An attempt with a span, which is the current one while the attempt is under way."""

    __slots__ = ("_context", "_span", "_token")

    def __init__(self, span: Span, context: Context) -> None:
        self._span = span
        self._context = trace.set_span_in_context(span, context)
        self._token: Token[Context] | None = None

    def request(self, request: Any) -> Any:
        """A copy of the request with the headers of this attempt."""
        return with_headers(request, headers_of(self._context))

    def responded(self, response: Any) -> None:
        """Note the response of the endpoint."""
        if self._span.is_recording():
            self._span.set_attributes(semconv.response_attributes(response))
            _judge(self._span, response.status_code)

    def __enter__(self) -> Self:
        self._token = otel.attach(self._context)
        return self

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        # An abandoned coroutine is closed by whatever garbage-collects it, in a context where
        # the token means nothing; its own context ends with it.
        if self._token is not None and not isinstance(error, GeneratorExit):
            otel.detach(self._token)
        _fail(self._span, error)
        self._span.end()


def _judge(span: Span, status: int) -> None:
    """Mark the span as an error if its status code is one; the code says it all, so no description."""
    if semconv.is_error(status):
        span.set_attribute(semconv.ERROR_TYPE, str(status))
        span.set_status(Status(StatusCode.ERROR))


def _fail(span: Span, error: BaseException | None) -> None:
    """Mark the span as an error if an exception ended it.

    Cancellation is the caller's decision and marks nothing. The exception is not recorded as
    an event: its traceback shows the inside of this package.
    """
    if isinstance(error, Exception):
        span.set_attribute(semconv.ERROR_TYPE, semconv.error_type(error))
        span.set_status(Status(StatusCode.ERROR, str(error)))


def _sends(request: Any) -> Iterator[int]:
    """Yields 0 for the first send, then the ordinals of resends."""
    sends: Iterator[int] | None = request.extensions.get(SENDS)
    if sends is None:
        sends = count()
        # A dict of its own: the one that is there may be shared between requests.
        request.extensions = {**request.extensions, SENDS: sends}
    return sends
