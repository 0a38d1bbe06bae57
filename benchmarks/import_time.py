"""The cost of `import resilient` as a ratio to importing its dependencies together.

    python benchmarks/import_time.py

Goal: at most 1.3. Public names are imported when they are first used, so a second figure tells
what all that an `AsyncClient` needs costs. Each import runs in a process of its own, in turn;
CPU time is counted. Measure an installed package: without compiled files Python compiles it.
"""

from __future__ import annotations

import statistics
import subprocess
import sys

DEPENDENCIES = "httpx, httpcore2, tenacity, pybreaker, opentelemetry.trace, opentelemetry.propagate, dns, anyio"
ROUNDS = 15


def cpu_seconds(modules: str) -> float:
    script = f"import time; start = time.process_time(); import {modules}; print(time.process_time() - start)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    for modules in ("resilient", "resilient.client"):
        ratios = [cpu_seconds(modules) / cpu_seconds(DEPENDENCIES) for _ in range(ROUNDS)]
        spread = f"{ROUNDS} pairs, {min(ratios):.2f} to {max(ratios):.2f}"
        print(f"import {modules} / import of the dependencies: median {statistics.median(ratios):.2f} ({spread})")


if __name__ == "__main__":
    main()
