"""What growth costs: a request among more endpoints, services and others in flight; a change.

    python benchmarks/scale.py [--rounds 9] [--only endpoints,services,in-flight,changes]

Endpoints and services are those of clients without a network (httpx.MockTransport), since only
the journey could depend on their number; all sizes take turns within a round in one process,
and the ratio to the smallest one is taken within it. Requests in flight are real ones on
loopback, answered after 5 ms, each number in a process of its own. Wanted: flat curves, or an
explanation.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import httpx

sys.path.append(str(Path(__file__).parents[1]))

import resilient
from benchmarks import curves, report
from benchmarks.children import ROOT, Child, orders, reply, stop_on_sigterm
from benchmarks.footprint import addresses, in_memory, local
from benchmarks.loopback import spend
from resilient.balance.endpoint import Endpoint
from resilient.core.bound import Bound
from resilient.core.classify import HttpClassifier

SIZES = (10, 100, 1000, 10_000)
SERVICES = (1, 10, 100, 1000)
IN_FLIGHT = (1, 10, 100, 1000, 5000)
REQUESTS = 400
BALANCERS = {
    "PeakEwma": resilient.PeakEwma(),
    "RoundRobin": resilient.RoundRobin(),
    "LeastRequest": resilient.LeastRequest(),
}
CONSISTENT = {"RingHash": resilient.RingHash(), "Maglev": resilient.Maglev()}
Curves = dict[str, list[tuple[float, float]]]
"""Points of a size and a value, by name."""


def client_of(count: int, balancer: Any) -> Callable[[int], float]:
    """Spends so many requests on one service with `count` endpoints; returns µs for each."""
    mesh = resilient.Mesh(
        {"orders": resilient.Service(addresses(count))}, policy=resilient.Policy(balancer=balancer), seed=1
    )
    client = resilient.Client(mesh=mesh, transport=httpx.MockTransport(_answer))
    return _spending(client, ["http://orders/v1/42"])


def client_of_services(count: int) -> Callable[[int], float]:
    """The same on `count` services with ten endpoints each, in turn."""
    return _spending(in_memory({f"s{n}": addresses(10) for n in range(count)}), [f"http://s{n}/" for n in range(count)])


def _answer(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, content=b'{"answer": 4200}')


def _spending(client: httpx.Client, urls: Sequence[str]) -> Callable[[int], float]:
    calls = [urls[Random(n).randrange(len(urls))] for n in range(REQUESTS)]

    def microseconds(requests: int) -> float:
        started = time.process_time()
        for url in calls[:requests]:
            client.get(url)
        return (time.process_time() - started) / requests * 1e6

    return microseconds


def compare(contenders: Mapping[int, Callable[[int], float]], rounds: int) -> Iterator[tuple[int, float, float]]:
    """Of each size: itself, the best µs a request, and the median of the ratios to the smallest."""
    sizes = list(contenders)
    spent: dict[int, list[float]] = {size: [] for size in sizes}
    for contender in contenders.values():
        contender(REQUESTS)
    gc.collect()
    gc.freeze()  # a collection that looks at 10 000 endpoints would fall on whoever has the turn
    for number in range(rounds):
        turn = number % len(sizes)
        for size in sizes[turn:] + sizes[:turn]:
            spent[size].append(contenders[size](REQUESTS))
    gc.unfreeze()
    for size in sizes:
        ratios = [one / least for one, least in zip(spent[size], spent[sizes[0]], strict=True)]
        yield size, min(spent[size]), statistics.median(ratios)


def endpoints(rounds: int) -> tuple[str, Curves]:
    """Requests among more endpoints."""
    found: Curves = {}
    rows = []
    for name, balancer in BALANCERS.items():
        results = list(compare({size: client_of(size, balancer) for size in SIZES}, rounds))
        found[name] = [(size, ratio) for size, _, ratio in results]
        rows.append([name, *(f"{best:.0f} µs, {ratio:.2f}" for _, best, ratio in results)])
    return report.table(("endpoints", *map(_grouped, SIZES)), rows), found


def services(rounds: int) -> tuple[str, Curves]:
    """Requests among more services."""
    results = list(compare({count: client_of_services(count) for count in SERVICES}, rounds))
    row = ["services with ten endpoints each", *(f"{best:.0f} µs, {ratio:.2f}" for _, best, ratio in results)]
    found = {"services": [(count, ratio) for count, _, ratio in results]}
    return report.table(("services", *map(_grouped, SERVICES)), [row]), found


def changes(rounds: int) -> tuple[str, Curves]:
    """A changed endpoint, and an ejection, among more endpoints; drawn are the ejections."""
    found: Curves = {}
    rows = []
    for name, balancer in {**BALANCERS, **CONSISTENT}.items():
        for what, change in (("one endpoint changed", changed), ("one ejected", ejected)):
            points = [(size, min(change(size, balancer, turn) for turn in range(rounds))) for size in SIZES]
            rows.append([f"{name}, {what}", *(f"{milliseconds:.2f}" for _, milliseconds in points)])
        found[name] = points
    return report.table(("ms of CPU, endpoints", *map(_grouped, SIZES)), rows), found


def bound_of(size: int, balancer: Any) -> tuple[Bound, list[Endpoint]]:
    known = [Endpoint(address.partition(":")[0], 80) for address in addresses(size)]
    bound = Bound("orders", resilient.Policy(balancer=balancer), Random(1), HttpClassifier(time.time))
    bound.update(known, 0.0)
    return bound, known


def changed(size: int, balancer: Any, turn: int) -> float:
    """Milliseconds in which the news of one other endpoint is taken over: another one each turn."""
    bound, known = bound_of(size, balancer)
    known[size // 2] = Endpoint(f"10.255.{size >> 8}.{turn}", 80)
    started = time.process_time()
    bound.update(known, 1.0)
    return (time.process_time() - started) * 1e3


def ejected(size: int, balancer: Any, turn: int) -> float:
    """Milliseconds in which an endpoint is taken out: by the result that does it, so in its caller's event loop."""
    bound, _ = bound_of(size, balancer)
    bound.members[turn % size].ejected_until = 30.0
    started = time.process_time()
    bound.rebuild(1.0)
    return (time.process_time() - started) * 1e3


POOLS = {"50 endpoints, 100 connections each": 50, "one endpoint, 100 connections": 1}


def in_flight(rounds: int) -> tuple[str, Curves]:
    """Requests over real connections."""
    found: Curves = {}
    rows = []
    for title, endpoint_count in POOLS.items():
        best = [in_flight_of(level, endpoint_count, min(rounds, 3)) for level in IN_FLIGHT]
        found[title] = [(level, one / best[0]) for level, one in zip(IN_FLIGHT, best, strict=True)]
        rows.append([title, *(f"{one:.0f} µs, {one / best[0]:.2f}" for one in best)])
    return report.table(("in flight", *map(_grouped, IN_FLIGHT)), rows), found


def in_flight_of(level: int, endpoint_count: int, rounds: int) -> float:
    """The best µs of CPU for each request."""
    with Child("benchmarks.answering", "0.005", "0.0.0.0") as server:
        port = str(server.receive())
        with Child("benchmarks.scale", "--contender", port, str(endpoint_count)) as contender:
            requests = max(400, 2 * level)
            best = min(contender.ask({"in_flight": level, "requests": requests}) for _ in range(rounds))
    print(f"{level} in flight, {endpoint_count} endpoints: {best:.0f} µs", file=sys.stderr)
    return best


async def be_contender(port: int, endpoint_count: int) -> None:
    allow_descriptors()
    mesh = resilient.Mesh({"orders": resilient.Service(local(endpoint_count, port))})
    client = resilient.AsyncClient(mesh=mesh, trust_env=False, timeout=120)

    def get() -> Any:
        return client.get("http://orders/v1/42")

    ramp = [250, 500, 1000, 2000, 4000]  # connections are opened by and by: a server's backlog is finite
    while order := orders():
        while ramp and ramp[0] < order["in_flight"]:
            few = ramp.pop(0)
            await spend(get, few, few)
        await spend(get, order["in_flight"], order["in_flight"])
        before = time.process_time()
        await spend(get, order["requests"], order["in_flight"])
        reply((time.process_time() - before) / order["requests"] * 1e6)


def allow_descriptors() -> None:
    """As many open connections as the system lets this user have."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _grouped(number: int) -> str:
    return f"{number:,}".replace(",", " ")


PARTS = {
    "endpoints": (endpoints, "A request among more endpoints: best µs, and the ratio to ten", "times"),
    "services": (services, "A request among more services: best µs, and the ratio to one", "times"),
    "in-flight": (in_flight, "A request with more in flight: best µs, and the ratio to one", "times"),
    "changes": (changes, "A change of the set: ms in which it is taken over", "ms"),
}
DRAWN = {
    "endpoints": "CPU of a request among more endpoints, relative to ten",
    "services": "CPU of a request among more services, relative to one",
    "in-flight": "CPU of a request with more in flight, relative to one",
    "changes": "An endpoint is ejected: CPU of the change, by the number of endpoints",
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--rounds", type=int, default=9)
    options.add_argument("--only", default=",".join(PARTS), help="parts, with commas")
    options.add_argument("--contender", nargs=2, type=int, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.contender:
        asyncio.run(be_contender(*chosen.contender))
        return
    allow_descriptors()
    stop_on_sigterm()
    before = report.machine()
    texts = []
    for name in chosen.only.split(","):
        measure, title, unit = PARTS[name]
        table, found = measure(chosen.rounds)
        curves.draw(found, DRAWN[name], unit, ROOT / "docs" / "plots" / f"scale-{name}.svg")
        texts += [f"**{title}**", table]
    report.publish("scale", "Scale", before, *texts)


if __name__ == "__main__":
    main()
