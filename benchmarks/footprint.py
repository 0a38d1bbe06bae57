"""What a client of ours takes: memory, threads and descriptors, its import, and its first call.

    python benchmarks/footprint.py [--rounds 15] [--only idle,connected] [--instructions]

Memory is counted twice, in fresh processes: by how much the process grows (RSS, with what
allocators round up), and what Python has allocated (tracemalloc). Goals: 2 KB for an endpoint
that is known and has answered, 8 KB for one with a connection, 40 MB for 1000 services of ten
endpoints. What libraries load once is loaded before the counting begins. Needs loopback with
all its addresses, as Linux has it.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

sys.path.append(str(Path(__file__).parents[1]))

import httpx

from benchmarks import import_time, report
from benchmarks.children import ROOT, Child, stop_on_sigterm

OPTIONS = {
    "trust_env": False,
    "timeout": 60,
    "limits": httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=600),
}
Case = Callable[[int, int], AsyncIterator[None]]
"""Makes so many of something, yields, uses all of them, and yields again. The server's port comes second."""


async def endpoints(count: int, _: int) -> AsyncIterator[None]:
    client = in_memory({"orders": addresses(count)})
    yield
    for _ in range(2 * count):
        client.get("http://orders/v1/42")
    yield


async def services(count: int, _: int) -> AsyncIterator[None]:
    client = in_memory({f"s{n}": addresses(10) for n in range(count)})
    yield
    for n in range(10 * count):
        client.get(f"http://s{n % count}/v1/42")
    yield


async def hosts(count: int, _: int) -> AsyncIterator[None]:
    client = in_memory({})
    yield
    for n in range(count):
        client.get(f"http://host-{n}.test/v1/42")
    yield


async def paths(count: int, _: int) -> AsyncIterator[None]:
    """Of names, not numbers, and a third of them fail: so every one is a route of its own."""
    client = in_memory({"orders": addresses(10)})
    yield
    for n in range(3 * count):
        name = "".join(chr(97 + int(digit)) for digit in str(n % count))
        client.get(f"http://orders/{name}", headers={"fail": "1"} if n % 3 == 0 else None)
    yield


def in_memory(known: dict[str, list[str]]) -> Any:
    """A client of ours without a network, that calls the endpoints of a service in turn."""
    import resilient

    policy = resilient.Policy(retry=None, balancer=resilient.RoundRobin())
    mesh = resilient.Mesh({name: resilient.Service(found) for name, found in known.items()}, policy=policy)
    return resilient.Client(mesh=mesh, transport=httpx.MockTransport(_answer))


def _answer(request: httpx.Request) -> httpx.Response:
    return httpx.Response(503 if "fail" in request.headers else 200, content=b'{"answer": 4200}')


def addresses(count: int) -> list[str]:
    return [f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}:80" for n in range(count)]


def local(count: int, port: int) -> list[str]:
    """Addresses of loopback: the one server listens at all of them."""
    return [f"127.1.{n >> 8}.{n & 255}:{port}" for n in range(count)]


def mesh_of(found: list[str]) -> Any:
    import resilient

    policy = resilient.Policy(balancer=resilient.RoundRobin())
    return resilient.Mesh({"orders": resilient.Service(found)}, policy=policy)


async def connected(count: int, port: int, wire: str = "default") -> AsyncIterator[None]:
    import resilient

    client = resilient.AsyncClient(mesh=mesh_of(local(count, port)), wire=wire, **OPTIONS)
    yield
    for _ in range(2 * count):
        await client.get("http://orders/v1/42")
    yield


def connected_fast(count: int, port: int) -> AsyncIterator[None]:
    return connected(count, port, "fast")


async def connected_sync(count: int, port: int) -> AsyncIterator[None]:
    import resilient

    client = resilient.Client(mesh=mesh_of(local(count, port)), **OPTIONS)
    yield
    for _ in range(2 * count):
        client.get("http://orders/v1/42")
    yield


async def httpx_pools(count: int, port: int) -> AsyncIterator[None]:
    context = httpx.create_ssl_context()
    pools = [httpx.AsyncHTTPTransport(verify=context, limits=OPTIONS["limits"]) for _ in range(count)]
    yield
    for _ in range(2):
        for pool, address in zip(pools, local(count, port), strict=True):
            response = await pool.handle_async_request(httpx.Request("GET", f"http://{address}/v1/42"))
            await response.aread()
    yield


async def httpx_one_pool(count: int, port: int) -> AsyncIterator[None]:
    """Each host once: its pool looks at all idle connections at each request, so that twice would take minutes."""
    client = httpx.AsyncClient(**OPTIONS)
    yield
    for address in local(count, port):
        await client.get(f"http://{address}/v1/42")
    yield


class Figure(NamedTuple):
    """A case, how many it makes, how many of these the figures are for, and what to call them."""

    case: Case
    count: int
    each: int
    title: str


FIGURES = {
    "idle": Figure(endpoints, 10_000, 1, "an endpoint of a service with 10 000, all have answered"),
    "services": Figure(services, 1000, 1000, "1000 services with 10 endpoints each, all have answered"),
    "hosts": Figure(hosts, 1000, 1, "a host that is not configured, among 1000"),
    "many-hosts": Figure(hosts, 5000, 5000, "5000 hosts that are not configured"),
    "paths": Figure(paths, 1000, 1000, "1000 paths of a service with 10 endpoints"),
    "many-paths": Figure(paths, 5000, 5000, "5000 paths of a service with 10 endpoints"),
    "connected": Figure(connected, 500, 1, "an endpoint with a connection, among 500"),
    "fast": Figure(connected_fast, 500, 1, "the same, `wire=fast`"),
    "sync": Figure(connected_sync, 500, 1, "the same, sync client"),
    "httpx-pools": Figure(httpx_pools, 500, 1, "httpx: a transport with a connection for each of 500 hosts"),
    "httpx-one-pool": Figure(httpx_one_pool, 500, 1, "httpx: a connection to each of 500 hosts, one client"),
}


async def grow(figure: Figure, port: int, *, trace: bool) -> list[dict[str, int]]:
    """By what this process grows: when all is made, and when all has been used."""
    async for _ in figure.case(3, port):
        pass
    gc.collect()
    if trace:
        tracemalloc.start()
    before = size(trace=trace)
    sizes = []
    async for _ in figure.case(figure.count, port):
        gc.collect()
        sizes.append({name: value - before[name] for name, value in size(trace=trace).items()})
    return sizes


def size(*, trace: bool) -> dict[str, int]:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "bytes": tracemalloc.get_traced_memory()[0] if trace else pages * os.sysconf("SC_PAGE_SIZE"),
        "threads": threading.active_count(),
        "descriptors": len(list(Path("/proc/self/fd").iterdir())),
    }


def memory(names: Sequence[str]) -> Iterator[list[str]]:
    """A row for each figure."""
    with Child("benchmarks.answering", "0", "0.0.0.0") as server:
        port = server.receive()
        for name in names:
            figure = FIGURES[name]
            (made, used), (_, traced) = (fresh("--grow", name, str(port), mode) for mode in ("rss", "trace"))
            units = figure.count / figure.each
            kilobytes = [f"{found['bytes'] / units / 1000:.1f}" for found in (made, used, traced)]
            yield [figure.title, *kilobytes, str(used["threads"]), str(used["descriptors"])]
            print(f"{figure.title}: {', '.join(kilobytes)} KB", file=sys.stderr)


def fresh(*arguments: str) -> Any:
    """What this module finds out in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.footprint", *arguments]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def first_call(library: str, wire: str, url: str) -> dict[str, float]:
    """Milliseconds of CPU in which a client is made, in each call, and in the longest step of the loop."""
    module = importlib.import_module(library)
    options = {"wire": "fast"} if wire == "fast" else {}
    module.AsyncClient  # noqa: B018 - what a program imports is not part of its first call
    found: dict[str, float] = {}
    started = time.process_time()
    client = module.AsyncClient(trust_env=False, **options)
    found["made"] = time.process_time() - started

    steps = watched_steps()

    async def calls() -> None:
        for name in ("first", "second", "third"):
            await asyncio.sleep(0)  # what is awaited between two of them is in steps of its own
            steps.clear()
            before = time.process_time()
            response = await client.get(url)
            found[name] = time.process_time() - before
            await asyncio.sleep(0)
            found[f"held by the {name}"] = max(steps)
            response.raise_for_status()

    asyncio.run(calls())
    return {name: seconds * 1e3 for name, seconds in found.items()}


def watched_steps() -> list[float]:
    """Gets the CPU time of each step that an event loop of asyncio makes from now on."""
    steps: list[float] = [0.0]
    run = asyncio.Handle._run

    def timed(handle: asyncio.Handle) -> None:
        before = time.thread_time()
        run(handle)
        steps.append(time.thread_time() - before)

    asyncio.Handle._run = timed
    return steps


FIRST_CALLS = {
    "httpx": ("httpx", "default"),
    "resilient": ("resilient", "default"),
    "resilient, `wire=fast`": ("resilient", "fast"),
}


def first_calls(rounds: int) -> Iterator[list[str]]:
    """A row for each client: what is made, the first and a later call, each as a ratio to httpx."""
    fast = importlib.util.find_spec("httptools") is not None
    kinds = [name for name, (_, wire) in FIRST_CALLS.items() if wire == "default" or fast]
    with Child("benchmarks.answering", "0") as server:
        url = f"http://127.0.0.1:{server.receive()}/v1/42"
        found = [{name: fresh("--first", *FIRST_CALLS[name], url) for name in kinds} for _ in range(rounds)]
    for name in kinds:
        yield [name, *(_beside_httpx(found, name, measure) for measure in ("made", "first", "both", "held", "later"))]


def _beside_httpx(found: list[dict[str, dict[str, float]]], name: str, measure: str) -> str:
    ours, theirs = ([_measure(one[who], measure) for one in found] for who in (name, "httpx"))
    ratio = statistics.median(our / their for our, their in zip(ours, theirs, strict=True))
    return f"{min(ours):.1f} ms, {ratio:.2f}"


def _measure(one: dict[str, float], measure: str) -> float:
    if measure == "both":
        return one["made"] + one["first"]
    return one[{"held": "held by the first", "later": "third"}.get(measure, measure)]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--rounds", type=int, default=15, help="of fresh processes, for times")
    options.add_argument("--only", help=f"figures of memory, with commas: {', '.join(FIGURES)}")
    options.add_argument("--instructions", action="store_true", help="count those of imports, with valgrind")
    options.add_argument("--grow", nargs=3, help=argparse.SUPPRESS)
    options.add_argument("--first", nargs=3, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.grow:
        name, port, mode = chosen.grow
        print(json.dumps(asyncio.run(grow(FIGURES[name], int(port), trace=mode == "trace"))))
    elif chosen.first:
        print(json.dumps(first_call(*chosen.first)))
    else:
        measure(chosen)


def measure(chosen: argparse.Namespace) -> None:
    stop_on_sigterm()
    before = report.machine()
    names = chosen.only.split(",") if chosen.only else list(FIGURES)
    if importlib.util.find_spec("httptools") is None:
        names = [name for name in names if name != "fast"]
    head = ("KB", "made", "used", "of it Python's", "threads", "descriptors")
    parts = [
        "Memory",
        report.table(head, memory(names)),
        "A client made, and its first call, CPU and its ratio to httpx",
        report.table(("", "made", "first call", "both", "its longest step", "third call"), first_calls(chosen.rounds)),
        "Imports",
        report.table(import_time.HEAD, import_time.rows(chosen.rounds, chosen.instructions)),
    ]
    titled = [f"**{part}**" if part[0] != "|" else part for part in parts]
    report.publish("footprint", "Footprint", before, *titled)


if __name__ == "__main__":
    main()
