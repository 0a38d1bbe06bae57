"""Silencing OpenTelemetry's instrumentation of httpx where our own spans say the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import context as otel
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind

# Agreed between instrumentations, though OpenTelemetry has not made them public yet.
_HTTP: str = getattr(otel, "_SUPPRESS_HTTP_INSTRUMENTATION_KEY", "suppress_http_instrumentation")
_ALL: tuple[str, ...] = (
    getattr(otel, "_SUPPRESS_INSTRUMENTATION_KEY", "suppress_instrumentation"),
    "suppress_instrumentation",
)
_BY_US = "resilient"
"""The value of `_HTTP` where we set it: it does not silence our own calls."""

_HTTPX_INSTRUMENTATION = "opentelemetry.instrumentation.httpx"


def is_suppressed(context: Context) -> bool:
    """True if somebody asked for silence, as exporters do for their own requests."""
    if any(context.get(key) for key in _ALL):
        return True
    return bool(context.get(_HTTP)) and context[_HTTP] != _BY_US


def suppress(context: Context, wanted: bool) -> Context:
    """The context in which instrumentations of HTTP clients are silent, or no longer so."""
    if wanted or context.get(_HTTP):
        return otel.set_value(_HTTP, _BY_US if wanted else None, context)
    return context


@contextmanager
def suppressing() -> Iterator[None]:
    """Silence instrumentations of HTTP clients within the block."""
    token = otel.attach(suppress(otel.get_current(), wanted=True))
    try:
        yield
    finally:
        otel.detach(token)


def is_of_httpx_instrumentation(span: Span) -> bool:
    """True for a span that OpenTelemetry's instrumentation of httpx made."""
    scope = getattr(span, "instrumentation_scope", None)
    return getattr(span, "kind", None) is SpanKind.CLIENT and getattr(scope, "name", "") == _HTTPX_INSTRUMENTATION
