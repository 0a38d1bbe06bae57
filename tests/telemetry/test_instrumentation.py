"""With OpenTelemetry's instrumentation of httpx switched on too, each request has one span."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import pytest

import resilient
from tests.real.procs import missing
from tests.telemetry.conftest import Recorded

try:
    from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
except ImportError:
    HTTPXClientInstrumentor = None

pytestmark = pytest.mark.anyio
both = pytest.mark.parametrize("method", ["sync", "async"])


class Flaky(BaseHTTPRequestHandler):
    """Answers 503 to the first request of a path, 200 to the next; keeps the traceparents."""

    seen: dict[str, list[str]] = {}  # noqa: RUF012 - emptied by the fixture

    def do_GET(self) -> None:
        parents = self.seen.setdefault(self.path, [])
        parents.append(self.headers["traceparent"].split("-")[2])
        self.send_response(503 if len(parents) == 1 else 200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    Flaky.seen.clear()
    server = HTTPServer(("127.0.0.1", 0), Flaky)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def instrumentor() -> object:
    if HTTPXClientInstrumentor is None:
        missing("opentelemetry-instrumentation-httpx")
    return HTTPXClientInstrumentor()


@pytest.fixture
def everywhere(instrumentor, recorded: Recorded) -> Iterator[None]:
    instrumentor.instrument(tracer_provider=recorded.provider)
    yield
    instrumentor.uninstrument()


def mesh(address: str) -> resilient.Mesh:
    policy = resilient.Policy(retry=resilient.Retry(attempts=2, wait=0.0), breaker=None)
    return resilient.Mesh({"orders": resilient.Service([address], policy)})


def assert_each_attempt_has_one_span(recorded: Recorded, call_kind: str = "INTERNAL") -> None:
    assert recorded.kinds == [call_kind, "CLIENT", "CLIENT"]
    call, first, second = recorded.spans
    assert first.parent == second.parent == call.context
    assert [span.attributes.get("http.request.resend_count") for span in (first, second)] == [None, 1]
    assert {span.attributes["network.protocol.version"] for span in (first, second)} == {"1.0"}
    [parents] = Flaky.seen.values()
    assert parents == [f"{span.context.span_id:016x}" for span in (first, second)]


@both
@pytest.mark.parametrize("carried", [False, True], ids=["own wire", "transport of httpx"])
async def test_of_the_whole_library(
    method: str, carried: bool, address: str, everywhere: None, recorded: Recorded
) -> None:
    if method == "sync":
        transport = httpx.HTTPTransport() if carried else None
        with resilient.Client(mesh=mesh(address), transport=transport) as client:
            assert client.get("http://orders/v1").status_code == 200
    else:
        transport = httpx.AsyncHTTPTransport() if carried else None
        async with resilient.AsyncClient(mesh=mesh(address), transport=transport) as client:
            assert (await client.get("http://orders/v1")).status_code == 200
    assert_each_attempt_has_one_span(recorded)


@both
async def test_of_one_of_our_clients(method: str, address: str, instrumentor, recorded: Recorded) -> None:
    if method == "sync":
        with resilient.Client(mesh=mesh(address)) as client:
            instrumentor.instrument_client(client, tracer_provider=recorded.provider)
            assert client.get("http://orders/v1").status_code == 200
    else:
        async with resilient.AsyncClient(mesh=mesh(address)) as client:
            instrumentor.instrument_client(client, tracer_provider=recorded.provider)
            assert (await client.get("http://orders/v1")).status_code == 200
    assert_each_attempt_has_one_span(recorded)


@both
async def test_of_a_client_of_httpx_over_our_transport(
    method: str, address: str, instrumentor, recorded: Recorded, caplog: pytest.LogCaptureFixture
) -> None:
    if method == "sync":
        with httpx.Client(transport=resilient.MeshTransport(mesh(address))) as client:
            instrumentor.instrument_client(client, tracer_provider=recorded.provider)
            assert client.get("http://orders/v1").status_code == 200  # noqa: ASYNC212 - the sync half
    else:
        async with httpx.AsyncClient(transport=resilient.AsyncMeshTransport(mesh(address))) as client:
            instrumentor.instrument_client(client, tracer_provider=recorded.provider)
            assert (await client.get("http://orders/v1")).status_code == 200
    assert_each_attempt_has_one_span(recorded, call_kind="CLIENT")
    assert recorded.spans[0].attributes["resilient.attempts"] == 2
    assert caplog.records == []  # the SDK complains of a span that is ended twice


async def test_without_a_provider_of_the_process_theirs_still_traces(
    address: str, instrumentor, recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resilient.telemetry.tracing.tracing.provider", None)
    with resilient.Client(mesh=mesh(address)) as client:
        instrumentor.instrument_client(client, tracer_provider=recorded.provider)
        assert client.get("http://orders/v1").status_code == 200
    [span] = recorded.spans
    assert [*Flaky.seen.values()] == [[f"{span.context.span_id:016x}"] * 2]
