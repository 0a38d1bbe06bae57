"""What the defaults do at scale, simulated: `python -m benchmarks.simulation [scenario ...]`.

Everything is in virtual time and seeded: two runs print the same figures, but for the seconds
that they took.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable
from itertools import product

from benchmarks.report import table
from resilient import Policy, Retry, RetryBudget
from resilient.testing import Behaviour, FakeEndpoint, Result, Simulation, fleet

Row = list[str]


def shares(result: Result, address: str, start: float, end: float, fair: float) -> tuple[float, float]:
    """The greatest and the mean share of an endpoint in any second, in proportion to a fair one."""
    hits: Counter[int] = Counter()
    for call in result.between(start, end).calls:
        hits[int(call.start)] += call.sent.count(address)
    counts = [hits[second] for second in range(int(start), int(end))]
    return max(counts) / fair, sum(counts) / len(counts) / fair


def herding() -> tuple[str, list[str], list[Row]]:
    """One endpoint fails, or is slow, from 5 s to 10 s: how do the clients return to it?"""
    rows = []
    for name, fault in (("fails", {"failure_ratio": 1.0}), ("20 times slower", {"latency": 0.2})):
        for clients, endpoints, rate in ((100, 10, 1000), (1000, 1000, 4000)):
            simulation = Simulation(Policy(), fleet(endpoints), clients=clients, seed=1)
            normal = {"failure_ratio": 0.0, "latency": 0.01}
            bad = simulation.endpoints[0].at(5, **fault).at(10, **normal)
            result = simulation.run(rate=rate, duration=50)
            fair = rate / endpoints
            peak, _ = shares(result, bad.address, 10, 50, fair)
            usual, _ = shares(result, simulation.endpoints[1].address, 10, 50, fair)
            rows.append(
                [
                    name,
                    f"{clients} x {endpoints}",
                    f"{shares(result, bad.address, 7, 10, fair)[1]:.2f}",
                    f"{peak:.2f}",
                    f"{usual:.2f}",
                    f"{shares(result, bad.address, 45, 50, fair)[1]:.2f}",
                    f"{100 * result.between(5, 10).success_ratio:.3f} %",
                ]
            )
    head = [
        "fault",
        "clients x endpoints",
        "its share 2 s later",
        "its greatest share afterwards",
        "that of another endpoint",
        "its share after 35 s",
        "success during the fault",
    ]
    return "A herd returns", head, rows


def storms() -> tuple[str, list[str], list[Row]]:
    """Nobody answers for five seconds. 40 requests a second can be served by each endpoint, 30 come."""
    rows = []
    for size, attempts_allowed in ((100, (2, 4)), (1000, (4,))):
        divided = RetryBudget(min_per_second=10 / size)
        budgets = (("default", RetryBudget()), (f"floor divided by {size}", divided), ("none", None))
        for (name, budget), attempts in product(budgets, attempts_allowed):
            endpoints = fleet(size, Behaviour(latency=0.1, workers=4))
            for endpoint in endpoints:
                endpoint.at(5, hangs=True).at(10, hangs=False)
            policy = Policy(attempt_timeout=0.5, outlier=None, retry=Retry(attempts=attempts, budget=budget))
            simulation = Simulation(policy, endpoints, clients=size, seed=1)
            result = simulation.run(rate=30 * size, duration=20, timeout=4.0)
            rows.append(
                [
                    f"{size} x {size}",
                    name,
                    str(attempts),
                    f"{result.between(5, 10).amplification:.2f}",
                    f"{result.between(15, 20).amplification:.2f}",
                    f"{100 * result.between(15, 20).success_ratio:.2f} %",
                ]
            )
    head = [
        "clients x endpoints",
        "retry budget",
        "attempts",
        "attempts per call in the fault",
        "5 s after it",
        "success 5 s after it",
    ]
    return "A storm ends, or does not", head, rows


def rolling_deploy() -> tuple[str, list[str], list[Row]]:
    """Each endpoint is replaced, a twentieth of them every second; discovery is late by a second."""
    rows = []
    faults = {"refuses": {"refuses": True}, "resets": {"resets": True}, "answers 503": {"failure_ratio": 1.0}}
    for size, rate, kinds in ((100, 1000, (True, False)), (1000, 4000, (True,))):
        for (name, fault), idempotent in product(faults.items(), kinds):
            old, new = fleet(size), [FakeEndpoint(f"10.1.{n >> 8}.{n & 255}:80") for n in range(size)]
            simulation = Simulation(Policy(), old, clients=size, seed=1)
            batch = size // 20
            for step in range(20):
                gone = batch * step
                for endpoint in old[gone : gone + batch]:
                    endpoint.at(5.0 + step, **fault)
                simulation.resolve(6.0 + step, [*old[gone + batch :], *new[: gone + batch]])
            result = simulation.run(rate=rate, duration=28, idempotent=idempotent)
            during = result.between(5, 26)
            rows.append(
                [
                    f"{size} x {size}",
                    name,
                    "idempotent" if idempotent else "not idempotent",
                    f"{100 * during.success_ratio:.3f} %",
                    f"{during.amplification:.3f}",
                    f"{1000 * during.percentile(0.99):.0f} ms",
                ]
            )
    head = [
        "clients x endpoints",
        "an endpoint that stops",
        "requests",
        "success",
        "attempts per call",
        "99th percentile",
    ]
    return "A rolling deploy", head, rows


SCENARIOS: dict[str, Callable[[], tuple[str, list[str], list[Row]]]] = {
    "herding": herding,
    "storms": storms,
    "deploy": rolling_deploy,
}


def main() -> None:
    for name in sys.argv[1:] or SCENARIOS:
        began = time.perf_counter()
        title, head, rows = SCENARIOS[name]()
        print(f"## {title}\n\n{table(head, rows)}\n")
        print(f"({name}: {time.perf_counter() - began:.0f} s)\n", file=sys.stderr)


if __name__ == "__main__":
    main()
