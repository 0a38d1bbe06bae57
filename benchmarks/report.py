"""Tables in Markdown, and what a reader must know of the machine."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
_PACKAGES = ("httpx", "httpcore", "httpcore2", "httpx2", "aiohttp", "anyio")


def machine() -> str:
    """One line: Python, packages, cores, and the load before the run."""
    versions = [f"{name} {version}" for name in _PACKAGES if (version := _version(name))]
    sniffio = "with" if importlib.util.find_spec("sniffio") else "without"
    cores = len(os.sched_getaffinity(0))
    return (
        f"Python {sys.version.split()[0]}, {', '.join(versions)}, {sniffio} sniffio; "
        f"{cores} cores, load {os.getloadavg()[0]:.1f} before the run."
    )


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first are numbers."""
    rule = ["---"] + ["---:"] * (len(head) - 1)
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, rule, *rows])


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of `values` that `share` of them do not exceed; infinite if there are none."""
    if not values:
        return float("inf")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def publish(name: str, title: str, before: str, *parts: str) -> None:
    """Print a result, and keep it as `results/NAME.md`. `before`: the machine before the run."""
    command = " ".join(["python", *sys.orig_argv[1:]])
    text = "\n\n".join([f"## {title}", *parts, f"`{command}`. {before}"]) + "\n"
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text(text)
    print(text)
