"""Bars in SVG: one drawing for each measure, one group for each scenario, one bar for each contender."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from benchmarks.faults.measure import Measured
from benchmarks.faults.scenarios import Scenario

Result = Sequence[tuple[Scenario, Sequence[Measured]]]

COLOURS = {
    "httpx": "#9aa0a6",
    "httpx, HAProxy": "#e8a33d",
    "httpx, Envoy": "#7a5cc2",
    "aiohttp, Envoy": "#b79be6",
    "resilient": "#12805c",
}
_LEFT, _WIDTH, _RIGHT, _TOP = 230, 480, 70, 46
_BAR, _GAP = 11, 12
_FONT = 'font-family="sans-serif" font-size="10"'


@dataclass(frozen=True)
class Axis:
    """How a measure is drawn. `factor`: from the number to its unit; `log`: of `low` to `high`."""

    field: str
    title: str
    unit: str
    low: float
    high: float
    factor: float = 1.0
    log: bool = False
    digits: int = 0

    def place(self, value: float) -> float:
        """From 0 to 1; what is outside lies on the edge."""
        value = min(max(value, self.low), self.high)
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def label(self, value: float) -> str:
        return f"{value:.{self.digits}f}{self.unit}"


AXES = (
    Axis("success", "Answered well within the deadline", " %", 0, 100, factor=100, digits=1),
    Axis("p50", "Median", " ms", 5, 2000, log=True),
    Axis("p99", "99th percentile", " ms", 5, 2000, log=True),
    Axis("p999", "99.9th percentile", " ms", 5, 2000, log=True),
    Axis("amplification", "Requests sent for each call", "", 0, 2, digits=2),
    Axis("bad_share", "Share of the bad endpoint, from two seconds on", " %", 0, 12, factor=100, digits=1),
    Axis("goodput", "Good answers a second", "", 0, 220),
)


def draw(results: Result, directory: Path) -> None:
    """Write one `faults-MEASURE.svg` for each measure."""
    directory.mkdir(parents=True, exist_ok=True)
    for axis in AXES:
        (directory / f"faults-{axis.field}.svg").write_text(drawing(axis, results))


def drawing(axis: Axis, results: Result) -> str:
    groups = [(scenario.title, bars) for scenario, found in results if (bars := _bars(axis, found))]
    height = _TOP + sum(len(bars) * _BAR + _GAP for _, bars in groups) + 30
    width = _LEFT + _WIDTH + _RIGHT
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" {_FONT}>',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        f'<text x="10" y="18" font-size="13" font-weight="bold">{escape(axis.title)}</text>',
        *_legend([contender for contender, _ in groups[0][1]] if groups else []),
    ]
    y = _TOP
    for title, bars in groups:
        lines += _group(axis, title, bars, y)
        y += len(bars) * _BAR + _GAP
    return "\n".join([*lines, *_note(axis, y), "</svg>", ""])


def _bars(axis: Axis, found: Sequence[Measured]) -> list[tuple[str, float]]:
    values = [(one.contender, getattr(one, axis.field)) for one in found]
    return [(contender, value * axis.factor) for contender, value in values if value is not None]


def _legend(names: Sequence[str]) -> Iterator[str]:
    x = 10
    for name in names:
        yield f'<rect x="{x}" y="27" width="9" height="9" fill="{COLOURS.get(name, "#333")}"/>'
        yield f'<text x="{x + 13}" y="35">{escape(name)}</text>'
        x += 13 + 6 * len(name) + 22


def _group(axis: Axis, title: str, bars: Sequence[tuple[str, float]], y: float) -> Iterator[str]:
    yield f'<text x="{_LEFT - 8}" y="{y + len(bars) * _BAR / 2 + 3}" text-anchor="end">{escape(title)}</text>'
    for contender, value in bars:
        length = max(1.0, axis.place(value) * _WIDTH)
        fill = COLOURS.get(contender, "#333")
        yield f'<rect x="{_LEFT}" y="{y}" width="{length:.1f}" height="{_BAR - 2}" fill="{fill}"/>'
        yield f'<text x="{_LEFT + length + 4:.1f}" y="{y + _BAR - 3}" font-size="9">{axis.label(value)}</text>'
        y += _BAR


def _note(axis: Axis, y: float) -> Iterator[str]:
    if axis.log:
        scale = f"logarithmic, {axis.label(axis.low)} to {axis.label(axis.high)}"
        yield f'<text x="{_LEFT}" y="{y + 14}" fill="#666">{scale}</text>'
