"""CPU that a client adds where there is no network: httpx.MockTransport below everything.

    python benchmarks/overhead.py [--requests 50] [--rounds 200]

The contenders take turns within each round, in an order that changes; the ratio to bare httpx
is taken within the round, and its median is shown.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib.util
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx

sys.path.append(str(Path(__file__).parents[1]))

import resilient
from benchmarks import report

URL = "http://orders.test/v1/42"
Spend = Callable[[int], float]
"""Makes so many requests; returns the seconds of CPU they took."""


def answer(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, content=b'{"answer": 4200}')


def transport() -> httpx.MockTransport:
    return httpx.MockTransport(answer)


def blocking(client: httpx.Client) -> Spend:
    def spend(requests: int) -> float:
        started = time.process_time()
        for _ in range(requests):
            client.get(URL)
        return time.process_time() - started

    return spend


def asynchronous(client: httpx.AsyncClient, runner: asyncio.Runner) -> Spend:
    async def spend(requests: int) -> float:
        started = time.process_time()
        for _ in range(requests):
            await client.get(URL)
        return time.process_time() - started

    return lambda requests: runner.run(spend(requests))


def sync_contenders() -> dict[str, Spend]:
    clients = {
        "httpx": httpx.Client(transport=transport()),
        "resilient": resilient.Client(transport=transport()),
    }
    if importlib.util.find_spec("httpx_retries"):
        from httpx_retries import RetryTransport

        clients["httpx-retries"] = httpx.Client(transport=RetryTransport(transport()))
    return {name: blocking(client) for name, client in clients.items()}


def async_contenders(runner: asyncio.Runner) -> dict[str, Spend]:
    clients = {
        "httpx": httpx.AsyncClient(transport=transport()),
        "resilient": resilient.AsyncClient(transport=transport()),
    }
    if importlib.util.find_spec("httpx_retries"):
        from httpx_retries import RetryTransport

        clients["httpx-retries"] = httpx.AsyncClient(transport=RetryTransport(transport()))
    return {name: asynchronous(client, runner) for name, client in clients.items()}


def measure(contenders: dict[str, Spend], requests: int, rounds: int) -> Iterator[tuple[str, float, float, float]]:
    """Of each: its name, the best µs a request, the median of the ratios, and their quartile range."""
    spent: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for spend in contenders.values():
        spend(requests)
    for number in range(rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            spent[name].append(contenders[name](requests) / requests * 1e6)
    for name in names:
        ratios = [ours / bare for ours, bare in zip(spent[name], spent["httpx"], strict=True)]
        low, median, high = statistics.quantiles(ratios, n=4)
        yield name, min(spent[name]), median, (high - low) / 2


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--requests", type=int, default=50, help="of each contender in each round")
    options.add_argument("--rounds", type=int, default=200)
    chosen = options.parse_args()
    before = report.machine()
    gc.freeze()  # what was imported is not to be searched again and again
    with asyncio.Runner() as runner:
        results = {
            "async": list(measure(async_contenders(runner), chosen.requests, chosen.rounds)),
            "sync": list(measure(sync_contenders(), chosen.requests, chosen.rounds)),
        }
    rows = [
        (f"{name}, {kind}", f"{best:.0f}", f"{ratio:.2f}", f"± {spread:.2f}")
        for kind, found in results.items()
        for name, best, ratio, spread in found
    ]
    head = ("MockTransport", "best µs a request", "ratio to httpx", "quartiles")
    report.publish("overhead", "Overhead without a network", before, report.table(head, rows))


if __name__ == "__main__":
    main()
