"""Spans in memory: of a provider that the transports are given instead of the process's own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from resilient.telemetry.tracing import tracing


class Recorded:
    """A provider, and the spans that ended, in the order in which they began."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    @property
    def spans(self) -> list[ReadableSpan]:
        return sorted(self._exporter.get_finished_spans(), key=lambda span: span.start_time)

    @property
    def kinds(self) -> list[str]:
        return [span.kind.name for span in self.spans]

    def of_kind(self, kind: str) -> list[ReadableSpan]:
        return [span for span in self.spans if span.kind.name == kind]


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorded]:
    recorded = Recorded()
    monkeypatch.setattr(tracing, "provider", recorded.provider)
    yield recorded
    recorded.provider.shutdown()
