"""How many requests reach endpoints that fail 90 % of them, for each call that is made.

    python benchmarks/storm.py [--rate 200] [--seconds 8]

First in the simulator, with default policy and many calls; then with real servers, where a
loop of three attempts around aiohttp shows what a retry budget is for.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))

import resilient
from benchmarks import report
from benchmarks.children import stop_on_sigterm
from benchmarks.faults import measure
from benchmarks.faults.scenarios import SCENARIOS
from resilient.testing import Behaviour, FakeEndpoint, Simulation

FAILING = 0.9
CONTENDERS = ("resilient", "aiohttp, 3 attempts")


def simulated(rate: float, seconds: float, endpoints: int = 10) -> float:
    """Requests that arrive for each call."""
    fleet = [FakeEndpoint(f"10.0.0.{number}:80", Behaviour(failure_ratio=FAILING)) for number in range(endpoints)]
    simulation = Simulation(resilient.Policy(), fleet, seed=1)
    calls = simulation.run(rate=rate, duration=seconds).calls
    return sum(endpoint.requests for endpoint in fleet) / len(calls)


def real(rate: float, seconds: float, repeat: int) -> Iterator[tuple[str, float]]:
    scenario = SCENARIOS["storm"](rate, seconds)
    for contender in CONTENDERS:
        runs = [measure.run(scenario, contender, seed) for seed in range(repeat)]
        yield contender, measure.median(runs).amplification


def rows(rates: Sequence[float], chosen: argparse.Namespace) -> Iterator[tuple[str, str]]:
    for rate in rates:
        yield f"simulated, {rate:g} calls a second", f"{simulated(rate, 30):.2f}"
    for contender, amplification in real(chosen.rate, chosen.seconds, chosen.repeat):
        yield f"{contender}, {chosen.rate:g} calls a second", f"{amplification:.2f}"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--rate", type=float, default=200.0)
    options.add_argument("--seconds", type=float, default=8.0)
    options.add_argument("--repeat", type=int, default=3)
    chosen = options.parse_args()
    stop_on_sigterm()
    before = report.machine()
    found = report.table(("", "requests for each call"), list(rows((200, 1000, 5000), chosen)))
    report.publish("storm", "Endpoints that fail 90 %", before, found)


if __name__ == "__main__":
    main()
