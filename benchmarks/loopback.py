"""CPU a request takes over real connections on loopback, as a ratio to bare httpx.

    python benchmarks/loopback.py [--rounds 7] [--only httpx,resilient] [--in-flight 1,10] [--delay 0.005]

A server in a process of its own answers after 5 ms, as a service does: what is called in flight
is so, and the client sleeps between. Each contender has a process of its own,
which counts its CPU; of a sidecar, the proxy's CPU counts too. They take turns within each
round, the others asleep; the ratio to bare httpx is taken within the round, and its median
shown. What counts is between the first requests, which open connections, and the last ones.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import importlib.util
import statistics
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1]))

from benchmarks import proxies, report
from benchmarks.children import Child, cpu_seconds, orders, reply, stop_on_sigterm

Get = Callable[[], Awaitable[Any]]
IN_FLIGHT = (1, 10, 100, 500)
THREADS = (1, 100)


def httpx_client(url: str) -> Get:
    import httpx

    client = httpx.AsyncClient(trust_env=False, timeout=120)
    return lambda: client.get(url)


def resilient_client(url: str) -> Get:
    import resilient

    client = resilient.AsyncClient(trust_env=False, timeout=120)
    return lambda: client.get(url)


def fast_client(url: str) -> Get:
    import resilient

    client = resilient.AsyncClient(trust_env=False, timeout=120, wire="fast")
    return lambda: client.get(url)


def httpx2_client(url: str) -> Get:
    import httpx2

    client = httpx2.AsyncClient(trust_env=False, timeout=120)
    return lambda: client.get(url)


def httpx_over_aiohttp(url: str) -> Get:
    import httpx_aiohttp

    client = httpx_aiohttp.HttpxAiohttpClient(trust_env=False, timeout=120)
    return lambda: client.get(url)


def aiohttp_client(url: str) -> Get:
    import aiohttp

    session = aiohttp.ClientSession()

    async def get() -> bytes:
        async with session.get(url) as response:
            return await response.read()

    return get


def niquests_client(url: str) -> Get:
    import niquests

    session = niquests.AsyncSession(disable_http2=True, disable_http3=True, pool_maxsize=500)
    return lambda: session.get(url)


ASYNC: dict[str, Callable[[str], Get]] = {
    "httpx": httpx_client,
    "resilient": resilient_client,
    "resilient, fast": fast_client,
    "httpx2": httpx2_client,
    "httpx over aiohttp": httpx_over_aiohttp,
    "aiohttp": aiohttp_client,
    "niquests": niquests_client,
    "httpx, Envoy": httpx_client,
}
SYNC = ("httpx", "resilient", "resilient, fast", "httpx2")
_NEEDS = {
    "resilient, fast": "httptools",
    "httpx2": "httpx2",
    "httpx over aiohttp": "httpx_aiohttp",
    "aiohttp": "aiohttp",
    "niquests": "niquests",
    "httpx, Envoy": "envoy",
}


def sync_client(name: str, url: str) -> Callable[[], Any]:
    library, _, fast = name.partition(", ")
    wire = {"wire": "fast"} if fast else {}
    client = importlib.import_module(library).Client(trust_env=False, timeout=120, **wire)
    return lambda: client.get(url)


class Meter:
    """Counts what is done, and the CPU between two moments at which as many are in flight as may be.

    The first requests, which open connections, do not count, nor do the last ones, which find less
    and less beside them: where a pool's cost grows with its queue, that would be half of a short run.
    """

    def __init__(self, requests: int, in_flight: int) -> None:
        self._first, self._last = in_flight, in_flight + requests
        self._lock = threading.Lock()
        self.done = 0
        self.cpu = self.wall = 0.0

    def goes_on(self) -> bool:
        """Count one more; False once there are enough."""
        with self._lock:
            self.done += 1
            if self.done == self._first:
                self.cpu, self.wall = -time.process_time(), -time.perf_counter()
            elif self.done == self._last:
                self.cpu += time.process_time()
                self.wall += time.perf_counter()
            return self.done < self._last

    def found(self) -> dict[str, float]:
        return {"cpu": self.cpu, "wall": self.wall, "done": self.done}


async def spend(get: Get, requests: int, in_flight: int) -> dict[str, float]:
    meter = Meter(requests, in_flight)

    async def worker() -> None:
        await get()
        while meter.goes_on():
            await get()

    await asyncio.gather(*(worker() for _ in range(in_flight)))
    return meter.found()


def spend_in_threads(get: Callable[[], Any], requests: int, threads: int) -> dict[str, float]:
    meter = Meter(requests, threads)

    def worker() -> None:
        get()
        while meter.goes_on():
            get()

    workers = [threading.Thread(target=worker) for _ in range(threads)]
    for thread in workers:
        thread.start()
    for thread in workers:
        thread.join()
    return meter.found()


async def be_async_contender(name: str, url: str) -> None:
    get = ASYNC[name](url)
    while order := orders():
        reply(await spend(get, order["requests"], order["in_flight"]))


def be_sync_contender(name: str, url: str) -> None:
    get = sync_client(name, url)
    while order := orders():
        reply(spend_in_threads(get, order["requests"], order["in_flight"]))


class Contender:
    """A contender's process, and its proxy's if it has one."""

    def __init__(self, stack: ExitStack, kind: str, name: str, port: int) -> None:
        self._proxy = stack.enter_context(proxies.envoy([port])) if "Envoy" in name else None
        url = f"http://127.0.0.1:{self._proxy.port if self._proxy else port}/v1/42"
        self._child = stack.enter_context(Child("benchmarks.loopback", f"--{kind}", name, url))

    def spend(self, requests: int, in_flight: int) -> float:
        """Microseconds of CPU for each request."""
        before = self._proxy_seconds()
        found = self._child.ask({"requests": requests, "in_flight": in_flight})
        # The proxy's clock runs through the requests that do not count, too.
        return (found["cpu"] / requests + (self._proxy_seconds() - before) / found["done"]) * 1e6

    def _proxy_seconds(self) -> float:
        return cpu_seconds(self._proxy.pid) if self._proxy else 0.0


def compare(
    kind: str, names: Sequence[str], concurrency: Sequence[int], rounds: int, delay: str
) -> Iterator[list[str]]:
    """A row for each level of concurrency and contender."""
    with ExitStack() as stack:
        server = stack.enter_context(Child("benchmarks.answering", delay))
        port = server.receive()
        contenders = {name: Contender(stack, kind, name, port) for name in names}
        for in_flight in concurrency:
            requests = max(300, in_flight)
            spent: dict[str, list[float]] = {name: [] for name in names}
            for number in range(rounds if in_flight < 500 else min(rounds, 3)):
                turn = number % len(names)
                for name in [*names[turn:], *names[:turn]]:
                    spent[name].append(contenders[name].spend(requests, in_flight))
            yield from _rows(f"{in_flight} {'in flight' if kind == 'async' else 'threads'}", spent)


def _rows(label: str, spent: dict[str, list[float]]) -> Iterator[list[str]]:
    for name, microseconds in spent.items():
        ratios = [ours / bare for ours, bare in zip(microseconds, spent["httpx"], strict=True)]
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        yield [f"{name}, {label}", f"{min(microseconds):.0f}", f"{statistics.median(ratios):.2f}", spread]
        print(f"{name}, {label}: {statistics.median(ratios):.2f}", file=sys.stderr)


def installed(names: Sequence[str]) -> list[str]:
    return [name for name in names if name not in _NEEDS or importlib.util.find_spec(_NEEDS[name])]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--only", help="contenders, as 'resilient,resilient fast'; bare httpx is always there")
    options.add_argument("--in-flight", help="levels of concurrency, with commas")
    options.add_argument("--delay", default="0.005", help="seconds in which the server answers")
    options.add_argument("--async", nargs=2, help=argparse.SUPPRESS, dest="be_async")
    options.add_argument("--sync", nargs=2, help=argparse.SUPPRESS, dest="be_sync")
    chosen = options.parse_args()
    if chosen.be_async:
        asyncio.run(be_async_contender(*chosen.be_async))
    elif chosen.be_sync:
        be_sync_contender(*chosen.be_sync)
    else:
        measure(chosen)


def measure(chosen: argparse.Namespace) -> None:
    only = {"httpx", *chosen.only.split(",")} if chosen.only else None
    wanted = [int(level) for level in chosen.in_flight.split(",")] if chosen.in_flight else None
    stop_on_sigterm()
    before = report.machine()
    found = []
    for kind, names, levels in (("async", tuple(ASYNC), IN_FLIGHT), ("sync", SYNC, THREADS)):
        who = [name for name in installed(names) if only is None or name.replace(", ", " ") in only]
        concurrency = [level for level in levels if wanted is None or level in wanted]
        rows = compare(kind, who, concurrency, chosen.rounds, chosen.delay)
        found += [[f"{kind}: {row[0]}", *row[1:]] for row in rows]
    head = ("real connections", "best µs a request", "ratio to httpx", "least to most")
    report.publish("loopback", "CPU of a request on loopback", before, report.table(head, found))


if __name__ == "__main__":
    main()
