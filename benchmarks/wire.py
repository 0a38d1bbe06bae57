"""CPU per request of the wire, as a ratio to httpx.AsyncClient and httpx2.AsyncClient.

    python benchmarks/wire.py [--requests 300] [--rounds 7] [--uvloop]

A server in another process answers at once; the client's CPU time is counted. The contenders
take turns within each round; the median of the rounds is shown. "wire" is httpx.AsyncClient
over AsyncWire, "wire on anyio" the same over httpcore's own way to asyncio; "bare wire" sends
a prebuilt request without a client. What is installed matters: without the sniffio package,
as `pip install httpx` leaves it, httpx looks for it in vain at each step.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpcore2
import httpx
import httpx2

from resilient.balance.endpoint import Endpoint
from resilient.binding import HTTPX
from resilient.runtime.wire import AsyncWire, WireSettings, aio
from resilient.runtime.wire.async_link import CountedStream

IN_FLIGHT = (1, 10, 100)
ANSWER = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n{"answer": 4200'
Get = Callable[[], Awaitable[Any]]


class Answering(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(ANSWER * data.count(b"\r\n\r\n"))


async def serve() -> None:
    server = await asyncio.get_running_loop().create_server(Answering, "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


class WireTransport(httpx.AsyncBaseTransport):
    def __init__(self, port: int) -> None:
        self.wire = AsyncWire(Endpoint("127.0.0.1", port), WireSettings(), HTTPX)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await self.wire.send(request, resend=True)

    async def aclose(self) -> None:
        await self.wire.aclose()


async def connect_through_anyio(link, endpoint, timeout, local_address, socket_options):
    backend = httpcore2.AnyIOBackend()
    inner = await backend.connect_tcp(endpoint.host, endpoint.port, timeout, local_address, socket_options)
    stream = CountedStream(inner, link)
    link.connected(stream)
    return stream


async def cpu_per_request(get: Get, requests: int, in_flight: int) -> float:
    """Microseconds."""
    todo = iter(range(requests))

    async def worker() -> None:
        for _ in todo:
            await get()

    start = time.process_time()
    await asyncio.gather(*(worker() for _ in range(in_flight)))
    return (time.process_time() - start) / requests * 1e6


async def compare(port: int, requests: int, rounds: int) -> None:
    url = f"http://127.0.0.1:{port}/v1/42"
    ours, theirs = aio.connect, connect_through_anyio
    async with (
        httpx.AsyncClient() as plain,
        httpx2.AsyncClient() as second,
        httpx.AsyncClient(transport=WireTransport(port)) as wired,
        httpx.AsyncClient(transport=WireTransport(port)) as on_anyio,
    ):
        wire = wired._transport.wire
        prebuilt = wired.build_request("GET", url)

        async def bare() -> None:
            await (await wire.send(prebuilt, resend=True)).aread()

        contenders: dict[str, Get] = {
            "httpx": lambda: plain.get(url),
            "httpx2": lambda: second.get(url),
            "wire on anyio": lambda: on_anyio.get(url),
            "wire": lambda: wired.get(url),
            "bare wire": bare,
        }
        for in_flight in IN_FLIGHT:
            measured: dict[str, list[float]] = {name: [] for name in contenders}
            for turn in range(rounds + 1):
                for name, get in contenders.items():
                    aio.connect = theirs if name == "wire on anyio" else ours
                    spent = await cpu_per_request(get, requests, in_flight)
                    if turn:  # the first warms up
                        measured[name].append(spent)
            report(in_flight, {name: statistics.median(values) for name, values in measured.items()})


def report(in_flight: int, medians: dict[str, float]) -> None:
    for name, spent in medians.items():
        to_httpx, to_httpx2 = spent / medians["httpx"], spent / medians["httpx2"]
        print(f"{in_flight:>9}  {name:<14}{spent:>9.0f}{to_httpx:>10.2f}{to_httpx2:>10.2f}")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--requests", type=int, default=300, help="of each contender in each round")
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--uvloop", action="store_true", help="run the clients on uvloop")
    options.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.serve:
        asyncio.run(serve())
        return
    sniffio = "with" if importlib.util.find_spec("sniffio") else "without"
    print(f"Python {sys.version.split()[0]}, {sniffio} sniffio, {'uvloop' if chosen.uvloop else 'asyncio'}")
    print("in flight  contender     us/request  to httpx to httpx2")
    server = subprocess.Popen([sys.executable, __file__, "--serve"], stdout=subprocess.PIPE, text=True)
    try:
        port = int(server.stdout.readline())
        run = asyncio.run
        if chosen.uvloop:
            import uvloop

            run = uvloop.run
        run(compare(port, chosen.requests, chosen.rounds))
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
