"""Does anything grow? Mixed traffic, with faults and cancellations at random, for a long time.

    python benchmarks/soak.py --minutes 10 [--seed 1]

Threads, asyncio and trio share one mesh, over four servers that fail in every way and a port
where nobody listens. Calls are read, read in part, posted, cut by deadlines and cancelled.
What the process holds is measured before the clients are made, at rest after each tenth of the
time, and when the clients are closed. It fails, and says why, if memory grew by more than
`GROWTH` after the first tenth, if anything else did not come back to where it was, if a call
raised what is no error of httpx or ran far beyond its deadline, or if a POST arrived twice.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import gc
import itertools
import os
import random
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, aclosing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1]))

import anyio
import httpx
from anyio.from_thread import BlockingPortal, start_blocking_portal

import resilient
from benchmarks.children import Child

URL = "http://orders/v1"
GROWTH = 4.0
"""Megabytes: fragments of memory, and buffers that were larger by chance, come to about one."""
OVERTIME = 5.0
"""Seconds by which a call on a busy machine may outlast its deadline."""
THREADS = 6
TASKS = 12
POLICY = resilient.Policy(
    timeout=1.0,
    attempt_timeout=0.2,
    retry=resilient.Retry(attempts=3, wait=0.002),
    hedge=resilient.Hedge(),
    limit=resilient.Limit(max_in_flight=20, max_queue=10, queue_timeout=0.5),
    outlier=resilient.OutlierDetection(base_ejection_time=1.0),
)


@dataclass
class Held:
    """What the process holds at one moment."""

    rss_mb: float
    blocks: int
    """Of memory that Python has given out: unlike RSS it knows no fragments."""
    sockets: int
    threads: int
    tasks: int
    in_flight: int
    waiting: int

    def __str__(self) -> str:
        return (
            f"{self.rss_mb:8.1f} MB {self.blocks:8} blocks {self.sockets:5} sockets"
            f" {self.threads:4} threads {self.tasks:4} tasks {self.in_flight:4} in flight {self.waiting:4} waiting"
        )


class Traffic:
    """The clients, what they do, and what became of it."""

    def __init__(self, mesh: resilient.Mesh, stack: ExitStack, seed: int) -> None:
        self.mesh = mesh
        self.tally: Counter[str] = Counter()
        self.longest = 0.0
        self.faults: list[str] = []
        self._ids = itertools.count()
        self._seeds = random.Random(seed)
        self._client = stack.enter_context(resilient.Client(mesh=mesh, trust_env=False))
        self._portals = [stack.enter_context(start_blocking_portal(loop)) for loop in ("asyncio", "trio")]
        self._async_clients = [self._open(portal, stack) for portal in self._portals]

    def _open(self, portal: BlockingPortal, stack: ExitStack) -> resilient.AsyncClient:
        client = resilient.AsyncClient(mesh=self.mesh, trust_env=False)
        stack.callback(portal.call, client.aclose)
        return client

    def run(self, seconds: float) -> None:
        """All workers, for so long; all are at rest afterwards."""
        end = time.monotonic() + seconds
        with ThreadPoolExecutor(THREADS + len(self._portals)) as threads:
            work = [threads.submit(self._in_thread, self._new_rng(), end) for _ in range(THREADS)]
            for portal, client in zip(self._portals, self._async_clients, strict=True):
                work.append(threads.submit(portal.call, self._in_loop, client, end))
            for one in work:
                one.result()

    def _new_rng(self) -> random.Random:
        return random.Random(self._seeds.random())

    def _in_thread(self, rng: random.Random, end: float) -> None:
        while time.monotonic() < end:
            with self._watched(), resilient.deadline(rng.choice((0.02, 0.2, 5.0))):
                self._one(rng)

    def _one(self, rng: random.Random) -> None:
        kind = rng.random()
        if kind < 0.3:
            self._client.post(URL, content=self._body())
        elif kind < 0.5:
            with self._client.stream("GET", URL) as response:
                chunks = response.iter_bytes(1000)
                for _ in range(rng.randrange(3)):
                    next(chunks, b"")
        else:
            self._client.get(URL)

    async def _in_loop(self, client: resilient.AsyncClient, end: float) -> None:
        async with anyio.create_task_group() as tasks:
            for _ in range(TASKS):
                tasks.start_soon(self._in_task, client, self._new_rng(), end)

    async def _in_task(self, client: resilient.AsyncClient, rng: random.Random, end: float) -> None:
        while time.monotonic() < end:
            patience = rng.random() * 0.03 if rng.random() < 0.3 else 30.0
            limit = resilient.deadline(rng.choice((0.05, 5.0)))
            with self._watched(), anyio.move_on_after(patience) as scope, limit:
                await self._one_async(client, rng)
            self.tally["cancelled"] += scope.cancelled_caught

    async def _one_async(self, client: resilient.AsyncClient, rng: random.Random) -> None:
        kind = rng.random()
        if kind < 0.3:
            await client.post(URL, content=self._body())
        elif kind < 0.5:
            async with client.stream("GET", URL) as response, aclosing(response.aiter_bytes(1000)) as chunks:
                for _ in range(rng.randrange(3)):
                    await anext(chunks, b"")
        else:
            await client.get(URL)

    def _body(self) -> bytes:
        return b"%d" % next(self._ids)

    def _watched(self) -> _Watched:
        return _Watched(self)

    def tasks(self) -> int:
        """Tasks in both event loops."""
        return sum(portal.call(_task_count) for portal in self._portals)


class _Watched:
    """One call: counts how it ended, and how long it took."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic

    def __enter__(self) -> None:
        self._started = time.monotonic()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> bool:
        traffic = self._traffic
        traffic.longest = max(traffic.longest, time.monotonic() - self._started)
        traffic.tally["answered" if kind is None else kind.__name__] += 1
        if error is not None and not isinstance(error, httpx.HTTPError) and isinstance(error, Exception):
            traffic.faults.append(f"a call raised {error!r}")
            return True
        return isinstance(error, httpx.HTTPError)


async def _task_count() -> int:
    try:
        return len(asyncio.all_tasks())
    except RuntimeError:
        import trio

        return trio.lowlevel.current_statistics().tasks_living


def measure(mesh: resilient.Mesh | None = None, tasks: Callable[[], int] = lambda: 0) -> Held:
    """What is held now: garbage is collected, and what the allocator of C only keeps is returned."""
    gc.collect()
    with suppress(AttributeError, OSError):  # glibc has it
        ctypes.CDLL(None).malloc_trim(0)
    bound = mesh.snapshot.services["orders"] if mesh is not None else None
    return Held(
        rss_mb=int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6,
        blocks=sys.getallocatedblocks(),
        sockets=sum(_is_socket(one) for one in Path("/proc/self/fd").iterdir()),
        threads=threading.active_count(),
        tasks=tasks(),
        in_flight=bound.in_flight + bound.limit.in_flight if bound is not None and bound.limit is not None else 0,
        waiting=bound.limit.waiting if bound is not None and bound.limit is not None else 0,
    )


def _is_socket(descriptor: Path) -> bool:
    try:
        return str(descriptor.readlink()).startswith("socket:")
    except OSError:  # that of the listing
        return False


def soak(seconds: float, seed: int = 1) -> list[str]:
    """Run it, print what was measured, and return what was wrong."""
    with Child("benchmarks.moody", str(seed)) as servers, socket.socket() as refusing:
        refusing.bind(("127.0.0.1", 0))
        ports = [*servers.receive(), refusing.getsockname()[1]]
        before = measure()
        with ExitStack() as stack:
            service = resilient.Service([f"127.0.0.1:{port}" for port in ports], POLICY)
            mesh = stack.enter_context(resilient.Mesh({"orders": service}, seed=seed))
            traffic = Traffic(mesh, stack, seed)
            print(f"{'before':>7} {before}")
            tenths = [_tenth(number, traffic, seconds / 10) for number in range(1, 11)]
        closed = _at_rest()
        print(f"{'closed':>7} {closed}")
        delivered = servers.ask("deliveries")
    print(f"   calls {dict(traffic.tally.most_common())}")
    print(f"   longest {traffic.longest:.2f} s, delivered {delivered}")
    return [*traffic.faults, *_grown(before, tenths, closed), *_overdone(traffic, delivered)]


def _tenth(number: int, traffic: Traffic, seconds: float) -> Held:
    traffic.run(seconds)
    held = _at_rest(traffic.mesh, traffic.tasks)
    print(f"{number:5}/10 {held}", flush=True)
    return held


def _at_rest(mesh: resilient.Mesh | None = None, tasks: Callable[[], int] = lambda: 0) -> Held:
    """Measured when what ends by itself has ended: hedges in threads run to their timeouts."""
    give_up = time.monotonic() + 5.0
    held = measure(mesh, tasks)
    while time.monotonic() < give_up and (held.in_flight or _hedging()):
        time.sleep(0.05)
        held = measure(mesh, tasks)
    return held


def _hedging() -> bool:
    return any(thread.name == "resilient-hedge" for thread in threading.enumerate())


def _grown(before: Held, tenths: list[Held], closed: Held) -> list[str]:
    first, last = tenths[0], tenths[-1]
    grown = [name for name in ("threads", "tasks") if getattr(last, name) > getattr(first, name)]
    left = [name for name in ("sockets", "threads") if getattr(closed, name) > getattr(before, name)]
    taken = [held for held in tenths if held.in_flight or held.waiting]
    fat = [last] if last.rss_mb > first.rss_mb + GROWTH else []
    return [
        *(f"memory grew from {first.rss_mb:.1f} to {held.rss_mb:.1f} MB" for held in fat),
        *(f"{name} grew from {getattr(first, name)} to {getattr(last, name)}" for name in grown),
        *(f"{name}: {getattr(before, name)} at the start, {getattr(closed, name)} at the end" for name in left),
        *(f"at rest, {held.in_flight} are in flight and {held.waiting} wait" for held in taken),
    ]


def _overdone(traffic: Traffic, delivered: dict[str, Any]) -> list[str]:
    timeout = POLICY.timeout or 0.0
    late = [f"a call took {traffic.longest:.1f} s"] if traffic.longest > timeout + OVERTIME else []
    return [*late, *([f"{delivered['twice']} POSTs arrived twice"] if delivered["twice"] else [])]


def main() -> int:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    wrong = soak(options.minutes * 60, options.seed)
    print("\n".join(wrong) or "nothing grew")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
