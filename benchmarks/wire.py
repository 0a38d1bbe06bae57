"""CPU per request of the wire, as a ratio to httpx.AsyncClient.

    python benchmarks/wire.py [--requests 300] [--rounds 7] [--in-flight 1 10 100 500]
        [--uvloop | --http2 | --threads]

A server in another process answers at once with 200 bytes; the client's CPU time is counted.
The contenders take turns within each round; the least of each is shown, since other work on
the machine only adds. "resilient" is the client with all that a call passes through, "wire" is
httpx.AsyncClient over AsyncWire, "bare wire" sends a prebuilt request without a client; each
with both engines. What is installed matters: without the sniffio package, as
`pip install httpx` leaves it, httpx looks for it in vain at each step. `--http2` compares
HTTP/2 on one connection; `--threads` the sync clients, a thread for each request in flight.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack
from typing import Any

import httpx

import resilient
from resilient.balance.endpoint import Endpoint
from resilient.binding import HTTPX
from resilient.runtime.wire import AsyncWire, WireSettings

BODY = b'{"answer": "%s"}' % (b"x" * 186)
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY
Get = Callable[[], Awaitable[Any]]


class Answering(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(ANSWER * data.count(b"\r\n\r\n"))


class AnsweringH2(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        import h2.config
        import h2.connection
        import h2.settings

        self.transport = transport
        self.state = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        most = {h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: 1000}
        self.state.local_settings = h2.settings.Settings(client=False, initial_values=most)
        self.state.initiate_connection()
        transport.write(self.state.data_to_send())

    def data_received(self, data: bytes) -> None:
        for event in self.state.receive_data(data):
            if type(event).__name__ == "StreamEnded":
                self.state.send_headers(event.stream_id, [(":status", "200")])
                self.state.send_data(event.stream_id, BODY, end_stream=True)
        self.transport.write(self.state.data_to_send())


async def serve(protocol: type[asyncio.Protocol]) -> None:
    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


class WireTransport(httpx.AsyncBaseTransport):
    def __init__(self, wire: AsyncWire) -> None:
        self.wire = wire

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await self.wire.send(request, resend=True)

    async def aclose(self) -> None:
        await self.wire.aclose()


async def cpu_per_request(get: Get, requests: int, in_flight: int) -> float:
    """Microseconds."""
    todo = iter(range(requests))

    async def worker() -> None:
        for _ in todo:
            await get()

    start = time.process_time()
    await asyncio.gather(*(worker() for _ in range(in_flight)))
    return (time.process_time() - start) / requests * 1e6


def have(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


class Contenders:
    """By name; each asks for the same URL."""

    def __init__(self, url: str, stack: AsyncExitStack) -> None:
        self.url = url
        self.stack = stack
        self.by_name: dict[str, Get] = {}

    async def client(self, name: str, client: Any) -> None:
        await self.stack.enter_async_context(client)
        self.by_name[name] = lambda: client.get(self.url)

    async def wire(self, engine: str, settings: WireSettings) -> None:
        url = httpx.URL(self.url)
        wire = AsyncWire(Endpoint(url.host, url.port), settings, HTTPX)
        client = httpx.AsyncClient(transport=WireTransport(wire))
        await self.client(f"wire, {engine}", client)
        prebuilt = client.build_request("GET", self.url)

        async def bare() -> None:
            await (await wire.send(prebuilt, resend=True)).aread()

        self.by_name[f"bare wire, {engine}"] = bare

    async def aiohttp(self) -> None:
        import aiohttp

        session = await self.stack.enter_async_context(aiohttp.ClientSession())

        async def get() -> None:
            async with session.get(self.url) as response:
                await response.read()

        self.by_name["aiohttp"] = get


async def others(contenders: Contenders) -> None:
    await contenders.client("httpx", httpx.AsyncClient(timeout=None))  # its pool gives up at 500
    if have("httpx2"):
        import httpx2

        await contenders.client("httpx2", httpx2.AsyncClient(timeout=None))
    if have("niquests"):
        import niquests

        await contenders.client("niquests", niquests.AsyncSession())
    if have("httpx_aiohttp"):
        import httpx_aiohttp

        await contenders.client("httpx-aiohttp", httpx_aiohttp.HttpxAiohttpClient())
    if have("aiohttp"):
        await contenders.aiohttp()


async def http1(contenders: Contenders) -> None:
    await others(contenders)
    for engine in ("default", "fast"):
        await contenders.client(f"resilient, {engine}", resilient.AsyncClient(wire=engine))
        await contenders.wire(engine, WireSettings(engine=engine))


async def http2(contenders: Contenders) -> None:
    await contenders.client("httpx", httpx.AsyncClient(http1=False, http2=True))
    await contenders.client("resilient", resilient.AsyncClient(http1=False, http2=True))
    await contenders.wire("http2", WireSettings(http1=False, http2=True))


def threaded(port: int, chosen: argparse.Namespace) -> None:
    url = f"http://127.0.0.1:{port}/v1/42"
    many = httpx.Limits(max_connections=100, max_keepalive_connections=100)
    with ExitStack() as stack:
        clients = {
            "httpx": httpx.Client(timeout=None),
            "httpx, 100 kept": httpx.Client(timeout=None, limits=many),
            "resilient, default": resilient.Client(),
            "resilient, fast": resilient.Client(wire="fast"),
        }
        contenders = {name: stack.enter_context(client) for name, client in clients.items()}
        for in_flight in chosen.in_flight:
            threads = stack.enter_context(ThreadPoolExecutor(in_flight))
            measured: dict[str, list[float]] = {name: [] for name in contenders}
            for turn in range(chosen.rounds + 1):
                for name, client in contenders.items():
                    requests = max(chosen.requests, 2 * in_flight)
                    start = time.process_time()
                    list(threads.map(client.get, [url] * requests))
                    if turn:  # the first warms up
                        measured[name].append((time.process_time() - start) / requests * 1e6)
            report(in_flight, measured)


async def compare(port: int, chosen: argparse.Namespace) -> None:
    async with AsyncExitStack() as stack:
        contenders = Contenders(f"http://127.0.0.1:{port}/v1/42", stack)
        await (http2 if chosen.http2 else http1)(contenders)
        for in_flight in chosen.in_flight:
            measured: dict[str, list[float]] = {name: [] for name in contenders.by_name}
            for turn in range(chosen.rounds + 1):
                for name, get in contenders.by_name.items():
                    requests = max(chosen.requests, in_flight)
                    spent = await cpu_per_request(get, requests, in_flight)
                    if turn:  # the first warms up
                        measured[name].append(spent)
            report(in_flight, measured)


def report(in_flight: int, measured: dict[str, list[float]]) -> None:
    least = {name: min(values) for name, values in measured.items()}
    for name, spent in least.items():
        print(f"{in_flight:>9}  {name:<20}{spent:>9.0f}{spent / least['httpx']:>10.3f}", flush=True)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--requests", type=int, default=300, help="of each contender in each round")
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--in-flight", type=int, nargs="+", default=[1, 10, 100, 500])
    options.add_argument("--uvloop", action="store_true", help="run the clients on uvloop")
    options.add_argument("--http2", action="store_true", help="HTTP/2 with prior knowledge")
    options.add_argument("--threads", action="store_true", help="the sync clients")
    options.add_argument("--serve", choices=["h1", "h2"], help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.serve:
        asyncio.run(serve(AnsweringH2 if chosen.serve == "h2" else Answering))
        return
    loop = "uvloop" if chosen.uvloop else "asyncio"
    print(f"Python {sys.version.split()[0]}, {'with' if have('sniffio') else 'without'} sniffio, {loop}")
    print("in flight  contender           us/request  to httpx")
    command = [sys.executable, __file__, "--serve", "h2" if chosen.http2 else "h1"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        port = int(server.stdout.readline())
        if chosen.threads:
            threaded(port, chosen)
            return
        run = asyncio.run
        if chosen.uvloop:
            import uvloop

            run = uvloop.run
        run(compare(port, chosen))
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
