"""Spans and propagation: an INTERNAL span for the call, a CLIENT span for each attempt.

    GET orders                    INTERNAL
      GET                         CLIENT    503
      GET                         CLIENT    200, http.request.resend_count=1

Each attempt carries its own `traceparent`, written by the propagator that is configured for
the process (`OTEL_PROPAGATORS`), and the baggage. Without an SDK there are no spans, and the
context of the surrounding code is passed on as it is.

The span of an attempt ends when the attempt does: when the body has been read, if it is read
at once, and at the headers of a streamed response. The conventions ask for this, since a span
must not wait for somebody to close a response; the errors of a streamed body are its reader's.

OpenTelemetry's instrumentation of httpx would make a second span for the same request. Below
us (an httpx `transport=`) it is silenced during our attempts, and so it is above our clients
(`instrument_client`). Above our transport in an httpx client, its span cannot be prevented; it
then takes the place of the INTERNAL span.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Any, Protocol, Self

from opentelemetry import context as otel
from opentelemetry import trace
from opentelemetry.trace import NoOpTracer, ProxyTracer, Tracer, TracerProvider

from resilient._version import __version__
from resilient.balance.endpoint import Endpoint
from resilient.core.report import CallReport
from resilient.telemetry import semconv
from resilient.telemetry.propagation import PassedOn, headers_of
from resilient.telemetry.spans import CallSpan
from resilient.telemetry.suppression import is_suppressed, suppressing

_NOT_LOOKED_AT: Any = object()
_NOTHING = nullcontext()


class Trace(Protocol):
    """A call or an attempt while it is under way, as a context manager."""

    def responded(self, response: Any) -> None:
        """Note the response; without one, and without an exception, it was given up."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None: ...


class AttemptTrace(Trace, Protocol):
    """One attempt; enter it in the task that sends, outside the attempt's timeout."""

    def request(self, request: Any) -> Any:
        """A copy of the request with the headers of this attempt."""


class CallTrace(Trace, Protocol):
    """One call."""

    def attempt(self, endpoint: Endpoint, *, hedge: bool = False, suppress: bool = False) -> AttemptTrace:
        """Begin an attempt. `suppress`: what carries it may be instrumented, and has to be silenced."""


class Tracing:
    """Starts the traces of calls. `provider`: used instead of the process's own TracerProvider."""

    def __init__(self, provider: TracerProvider | None = None) -> None:
        self.provider = provider
        self._seen: TracerProvider | None = _NOT_LOOKED_AT
        self._tracer: Tracer | None = None

    def start_call(self, request: Any, report: CallReport) -> CallTrace | None:
        """The trace of a call, for the request as the client made it.

        None if there is nothing to do, which takes half a µs to find out.
        """
        tracer = self._look()
        surroundings = otel.get_current()
        if tracer is None and not surroundings:
            return None
        if is_suppressed(surroundings):
            return None
        if tracer is None:
            headers = headers_of(surroundings)
            return PassedOn(headers) if headers else None
        return CallSpan(tracer, request, report, surroundings)

    def _look(self) -> Tracer | None:
        """The tracer, or None without an SDK; a provider may be set at any time."""
        provider = self.provider or _global_provider()
        if provider is not self._seen:
            found = (provider or trace.get_tracer_provider()).get_tracer(
                "resilient", __version__, schema_url=semconv.SCHEMA_URL
            )
            self._tracer = None if isinstance(found, (NoOpTracer, ProxyTracer)) else found
            self._seen = provider
        return self._tracer

    def instead_of_instrumentation(self, client: Any) -> AbstractContextManager[None]:
        """Keep the spans of `instrument_client(client)` away from a call that will have ours."""
        if not getattr(client, "_is_instrumented_by_opentelemetry", False):
            return _NOTHING
        if self._look() is None or is_suppressed(otel.get_current()):
            return _NOTHING
        return suppressing()


def _find_global_provider() -> Callable[[], TracerProvider | None]:
    if not hasattr(trace, "_TRACER_PROVIDER"):
        return trace.get_tracer_provider
    # get_tracer_provider() reads os.environ each time while nothing is set: 2 µs of each call.
    return lambda: trace._TRACER_PROVIDER  # noqa: SLF001


_global_provider = _find_global_provider()

tracing = Tracing()
"""What every transport uses."""
