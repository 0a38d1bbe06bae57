"""The cost of `import resilient`, and of a client and its first call, beside what they stand on.

    python benchmarks/import_time.py [--rounds 15] [--instructions]

Goal: `import resilient` at most 1.2 times its dependencies. Public names are imported when they
are first used, so the other figures tell what a client and its first call cost, httpx's beside
ours. Each runs in a process of its own, in turn; CPU time and the modules loaded are counted,
and the ratio is taken within a round. `--instructions` counts those, too, with valgrind: they
are the same on a busy machine, and take four minutes. What is installed is measured, and not the
source tree: without compiled files, Python compiles it each time.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))

from benchmarks import report
from benchmarks.children import Child

DEPENDENCIES = "httpx, httpcore2, tenacity, pybreaker, opentelemetry.trace, opentelemetry.propagate, dns, anyio"
CALL = """
import asyncio, {library}
async def call():
    async with {library}.AsyncClient(trust_env=False) as client:
        await client.get("{url}")
asyncio.run(call())
"""
NOTHING = "nothing"
PROGRAMS = {
    NOTHING: "",
    "import the dependencies": f"import {DEPENDENCIES}",
    "import resilient": "import resilient",
    "httpx: AsyncClient": "import httpx; httpx.AsyncClient(trust_env=False)",
    "resilient: AsyncClient": "import resilient; resilient.AsyncClient(trust_env=False)",
    "httpx: AsyncClient and a call": CALL.replace("{library}", "httpx"),
    "resilient: AsyncClient and a call": CALL.replace("{library}", "resilient"),
}
BESIDE = {
    "import resilient": "import the dependencies",
    "resilient: AsyncClient": "httpx: AsyncClient",
    "resilient: AsyncClient and a call": "httpx: AsyncClient and a call",
}
_COUNTED = """
import sys, time
before, start = len(sys.modules), time.process_time()
{program}
found = [time.process_time() - start, len(sys.modules) - before]
import json
print(json.dumps(found))
"""
HEAD = ("in fresh interpreters", "best ms of CPU", "ratio to the line above", "modules", "M instructions", "ratio")


def cost(program: str) -> tuple[float, int]:
    """Seconds of CPU that a program takes in a fresh interpreter, and the modules that it loads."""
    script = _COUNTED.format(program=program)
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True)
    seconds, modules = json.loads(done.stdout)
    return seconds, modules


def instructions(program: str) -> float:
    """Millions of instructions of an interpreter that runs a program."""
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", sys.executable, "-P", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(re.search(r"Collected : (\d+)", done.stderr)[1]) / 1e6


def rows(rounds: int, count: bool) -> Iterator[list[str]]:
    """A row for each program, httpx's before ours. `count`: its instructions, too."""
    with Child("benchmarks.answering", "0") as server:
        url = f"http://127.0.0.1:{server.receive()}/v1/42"
        programs = {name: program.replace("{url}", url) for name, program in PROGRAMS.items()}
        costs: dict[str, list[tuple[float, int]]] = {name: [] for name in programs}
        for _ in range(rounds):
            for name, program in programs.items():
                costs[name].append(cost(program))
        counts = {name: instructions(program) for name, program in programs.items()} if count else {}
    for name in list(PROGRAMS)[1:]:
        yield [name, *_time(costs[name], costs.get(BESIDE.get(name))), str(costs[name][0][1]), *_counted(name, counts)]


def _time(ours: list[tuple[float, int]], theirs: list[tuple[float, int]] | None) -> list[str]:
    best = f"{min(seconds for seconds, _ in ours) * 1e3:.0f}"
    if theirs is None:
        return [best, ""]
    return [best, f"{statistics.median(our[0] / their[0] for our, their in zip(ours, theirs, strict=True)):.2f}"]


def _counted(name: str, counts: dict[str, float]) -> list[str]:
    if not counts:
        return ["", ""]
    # Of what starts an interpreter neither side can do anything.
    own = {name: count - counts[NOTHING] for name, count in counts.items()}
    return [f"{own[name]:.0f}", f"{own[name] / own[BESIDE[name]]:.2f}" if name in BESIDE else ""]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--rounds", type=int, default=15)
    options.add_argument("--instructions", action="store_true", help="count them with valgrind")
    chosen = options.parse_args()
    print(report.table(HEAD, rows(chosen.rounds, chosen.instructions)))


if __name__ == "__main__":
    main()
