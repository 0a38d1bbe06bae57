"""Request bodies: what the caller's own code raises in them is nobody else's fault."""

from __future__ import annotations

import io

import anyio
import httpx
import pytest

import resilient
from resilient import AsyncReplayableBody, Mesh, Policy, ReplayableBody, Retry, Service
from resilient.binding import HTTPX
from resilient.core.outcome import Kind
from resilient.runtime.body import RepeatedBody, always_replayable
from tests.runtime.servers import serving


def chunks(error):
    yield b"some"
    raise error


async def async_chunks(error):
    yield b"some"
    raise error


class BrokenFile(io.BytesIO):
    def __init__(self, error):
        super().__init__(b"content")
        self.error = error

    def read(self, size=-1):
        raise self.error


def body(kind, error, loop=None):
    """What httpx is to be given as a body that raises `error`."""
    if kind == "form":
        return {"files": {"file": BrokenFile(error)}}
    if kind == "generator":
        return {"content": async_chunks(error) if loop else chunks(error)}
    if loop:
        return {"content": AsyncReplayableBody(lambda: async_chunks(error))}
    return {"content": ReplayableBody(lambda: chunks(error))}


def send(server, policy, options, loop=None, is_carried=False):
    """POST once, after a GET has left a connection; the error, and what was counted."""
    service = Service([str(server.endpoint)], policy)
    if loop is None:
        transport = httpx.HTTPTransport() if is_carried else None
        with Mesh({"orders": service}) as mesh, resilient.Client(mesh=mesh, transport=transport) as client:
            client.get("http://orders/")
            with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever it is, it is looked at
                client.put("http://orders/", **options)
            return caught.value, mesh.status()["orders"]["endpoints"][0]

    async def main():
        transport = httpx.AsyncHTTPTransport() if is_carried else None
        with Mesh({"orders": service}) as mesh:
            async with resilient.AsyncClient(mesh=mesh, transport=transport) as client:
                await client.get("http://orders/")
                with pytest.raises(Exception) as caught:  # noqa: PT011
                    await client.put("http://orders/", **options)
            return caught.value, mesh.status()["orders"]["endpoints"][0]

    return anyio.run(main, backend=loop)


@pytest.mark.parametrize("is_carried", [False, True], ids=["our wire", "a transport"])
@pytest.mark.parametrize("loop", [None, "asyncio", "trio"], ids=["threads", "asyncio", "trio"])
@pytest.mark.parametrize("policy", [Policy(), Policy(retry=None)], ids=["retries", "no retries"])
@pytest.mark.parametrize("kind", ["generator", "factory", "form"])
@pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")  # trio's, of httpx's own iterators
def test_what_a_body_raises_is_the_callers_own(kind, policy, loop, is_carried) -> None:
    error = httpx.ReadError("of another peer")
    with serving() as server:
        raised, endpoint = send(server, policy, body(kind, error, loop), loop, is_carried)
    assert raised is error
    assert [(attempt.outcome, attempt.reason) for attempt in raised.report.attempts] == [(Kind.IGNORED, "local")]
    assert endpoint["failures"] == 0


@pytest.mark.parametrize("error", [TimeoutError("nfs"), OSError(5, "input/output error")], ids=repr)
def test_also_where_it_could_be_taken_for_a_timeout(error) -> None:
    with serving() as server:
        raised, endpoint = send(server, Policy(), body("form", error))
    assert raised is error
    assert endpoint["failures"] == 0
    assert [(attempt.outcome, attempt.reason) for attempt in raised.report.attempts] == [(Kind.IGNORED, "local")]


def test_a_file_that_broke_is_not_read_again() -> None:
    request = httpx.Request("POST", "http://orders/", content=BrokenFile(OSError(5, "broken")))
    repeated = RepeatedBody(request.stream, 100)
    assert repeated.replayable()
    with pytest.raises(OSError, match="broken"):
        list(repeated)
    assert not repeated.replayable()


def test_a_file_is_read_from_where_it_was() -> None:
    file = io.BytesIO(b"head body")
    file.seek(5)
    repeated = RepeatedBody(httpx.Request("POST", "http://orders/", content=file).stream, 0)
    assert [b"".join(repeated), b"".join(repeated)] == [b"body", b"body"]


@pytest.mark.anyio
async def test_an_asynchronous_file_is_kept_as_any_iterator(tmp_path) -> None:
    path = anyio.Path(tmp_path / "rows")
    await path.write_bytes(b"one\ntwo\n")
    async with await path.open("rb") as file:
        repeated = RepeatedBody(httpx.Request("POST", "http://orders/", content=file).stream, 100)
        for _ in range(2):
            assert [chunk async for chunk in repeated] == [b"one\n", b"two\n"]
            assert repeated.replayable()


def test_a_form_with_a_file_begins_anew_by_itself_but_not_for_two_at_once() -> None:
    stream = httpx.Request("POST", "http://orders/", files={"file": io.BytesIO(b"content")}).stream
    assert not always_replayable(stream, HTTPX)
    repeated = RepeatedBody(stream, 0)
    assert b"".join(repeated) == b"".join(repeated)
    assert repeated.replayable()
    assert always_replayable(httpx.Request("POST", "http://orders/", files={"file": b"content"}).stream, HTTPX)


def test_a_retry_predicate_is_not_asked_about_it() -> None:
    asked = []
    retry = Retry(attempts=3, idempotent=True, retry=lambda state: state.outcome.failed and not asked.append(state))
    with serving() as server:
        raised, _ = send(server, Policy(retry=retry), body("factory", httpx.ReadError("of another peer")))
    assert len(raised.report.attempts) == 1
    assert not asked


async def rows():
    yield b"one"
    yield b"two"


@pytest.mark.anyio
@pytest.mark.parametrize("factory", [rows, lambda: [b"one", b"two"]], ids=["async", "sync"])
async def test_a_body_of_an_async_client_that_is_made_anew(factory) -> None:
    bodies = []

    async def answer(request):
        bodies.append(await request.aread())
        return httpx.Response(503 if len(bodies) == 1 else 200)

    async with resilient.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        response = await client.put("http://orders/", content=AsyncReplayableBody(factory))
    assert response.status_code == 200
    assert bodies == [b"onetwo"] * 2
