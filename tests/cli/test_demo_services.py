"""The demo's services, over real sockets."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from random import Random

import pytest

from resilient.cli.demo.http1 import BadRequest, parse_head
from resilient.cli.demo.services import HOST, Service
from resilient.cli.demo.story import Fault

GET = b"GET / HTTP/1.1\r\nhost: orders\r\n\r\n"


@asynccontextmanager
async def running():
    service = Service(Random(1))
    await service.start()
    try:
        yield service
    finally:
        service.close()
        await asyncio.sleep(0)  # the loop closes aborted connections in its next round


@asynccontextmanager
async def connected(service):
    reader, writer = await asyncio.open_connection(HOST, service.port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def exchange(service, *parts):
    """Send the parts one by one, and return all that comes until the peer closes."""
    async with connected(service) as (reader, writer), asyncio.timeout(10):
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0)
        return await reader.read()


def run(scenario):
    async def main():
        async with running() as service:
            return await scenario(service)

    return asyncio.run(main())


LAST = b"GET / HTTP/1.1\r\nhost: orders\r\nConnection: close\r\n\r\n"


def test_requests_are_answered_one_after_the_other_on_one_connection():
    answers = run(lambda service: exchange(service, GET + GET, LAST))
    assert answers.count(b"HTTP/1.1 200 OK\r\n") == 3
    assert answers.count(b"connection: close") == 1


def test_a_request_may_arrive_in_pieces_and_its_body_is_not_a_request():
    post = b"POST / HTTP/1.1\r\nhost: orders\r\ncontent-length: 18\r\n\r\nGET / HTTP/1.1\r\n\r\n"
    answers = run(lambda service: exchange(service, *(bytes([byte]) for byte in post), LAST))
    assert answers.count(b"HTTP/1.1 200 OK\r\n") == 2


def test_a_head_request_has_no_body():
    answers = run(lambda service: exchange(service, LAST.replace(b"GET", b"HEAD")))
    assert answers.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\n\r\n", 505),
        (b"GET / HTTP/1.1\r\nhost : x\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\ncontent-length: 99999999\r\n\r\n", 413),
        (b"GET / HTTP/1.1\r\nx: " + b"y" * 20_000, 431),
    ],
)
def test_what_cannot_be_served_is_refused_and_the_connection_closed(request_, status):
    answers = run(lambda service: exchange(service, request_))
    assert answers.startswith(b"HTTP/1.1 %d " % status)
    assert answers.count(b"HTTP/1.1") == 1


def test_keep_alive_by_version():
    assert parse_head(b"GET / HTTP/1.1").keep_alive
    assert not parse_head(b"GET / HTTP/1.0").keep_alive
    assert parse_head(b"GET / HTTP/1.0\r\nConnection: Keep-Alive").keep_alive
    with pytest.raises(BadRequest):
        parse_head(b"GET  / HTTP/1.1")


def test_a_failing_endpoint_answers_503():
    async def scenario(service):
        await service.become(Fault.FAILING)
        return await exchange(service, LAST)

    assert run(scenario).startswith(b"HTTP/1.1 503 Service Unavailable\r\n")


def test_a_refusing_endpoint_drops_its_connections_and_refuses_new_ones_until_it_recovers():
    async def scenario(service):
        async with connected(service) as (reader, writer):
            writer.write(GET)
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
            await service.become(Fault.REFUSING)
            await reader.read()  # to the end: the connection is gone
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(HOST, service.port)
        await service.become(Fault.NONE)
        return await exchange(service, LAST)

    assert run(scenario).startswith(b"HTTP/1.1 200")


def test_a_hanging_endpoint_accepts_and_never_answers():
    async def scenario(service):
        asked = asyncio.Event()
        reply = service._reply

        def watched():
            asked.set()
            return reply()

        service._reply = watched
        await service.become(Fault.HANGING)
        async with connected(service) as (reader, writer):
            writer.write(GET)
            await asked.wait()
            await service.become(Fault.REFUSING)  # which ends the connection
            return await reader.read()

    assert run(scenario) == b""
