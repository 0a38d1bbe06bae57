"""400 calls a second over ten endpoints: bare httpx with one pool, and ours.

    python benchmarks/open_loop.py [--rate 400] [--seconds 6] [--repeat 3]

Calls arrive whether the earlier ones have ended or not, as they do at a service. A client
that needs more CPU than there is falls behind, more is in flight, each request costs it more,
and it falls behind further: "answered" is what was answered within a second.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))

from benchmarks import report
from benchmarks.children import stop_on_sigterm
from benchmarks.faults import measure
from benchmarks.faults.measure import Measured
from benchmarks.faults.scenarios import SCENARIOS

CONTENDERS = ("httpx", "resilient")


def measured(rate: float, seconds: float, repeat: int) -> list[Measured]:
    """Of each contender the run with the median success; they take turns."""
    scenario = SCENARIOS["healthy"](rate, seconds)
    runs: dict[str, list[Measured]] = {contender: [] for contender in CONTENDERS}
    for seed in range(repeat):
        for contender in CONTENDERS:
            runs[contender].append(measure.run(scenario, contender, seed))
            print(runs[contender][-1], file=sys.stderr)
    return [measure.median(found) for found in runs.values()]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--rate", type=float, default=400.0)
    options.add_argument("--seconds", type=float, default=6.0)
    options.add_argument("--repeat", type=int, default=3)
    chosen = options.parse_args()
    stop_on_sigterm()
    before = report.machine()
    rows = [
        (one.contender, f"{one.success:.1%}", f"{one.p50:.0f}", f"{one.p99:.0f}", f"{one.cpu:.2f}")
        for one in measured(chosen.rate, chosen.seconds, chosen.repeat)
    ]
    head = (f"{chosen.rate:g} calls a second", "answered", "p50 ms", "p99 ms", "CPU ms a call")
    report.publish("open-loop", "Open loop", before, report.table(head, rows))


if __name__ == "__main__":
    main()
