"""Curves in SVG: values over a size that grows tenfold and tenfold again, both axes logarithmic."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

COLOURS = ("#12805c", "#7a5cc2", "#e8a33d", "#c2475c", "#3d7be8", "#9aa0a6")
_LEFT, _WIDTH, _TOP, _HEIGHT, _BOTTOM = 56, 420, 34, 200, 34
_FONT = 'font-family="sans-serif" font-size="10"'
Points = Sequence[tuple[float, float]]


def draw(curves: Mapping[str, Points], title: str, unit: str, path: Path) -> None:
    """Write a drawing of `curves`, which are points of size and value by name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(drawing(curves, title, unit))


def drawing(curves: Mapping[str, Points], title: str, unit: str) -> str:
    points = [point for curve in curves.values() for point in curve]
    x, y = _Axis([size for size, _ in points]), _Axis([value for _, value in points])
    width, height = _LEFT + _WIDTH + 230, _TOP + _HEIGHT + _BOTTOM
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" {_FONT}>',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        f'<text x="10" y="18" font-size="13" font-weight="bold">{escape(title)}</text>',
    ]
    for tick in x.ticks():
        place = _LEFT + x.place(tick) * _WIDTH
        lines.append(f'<path d="M{place:.1f} {_TOP}v{_HEIGHT}" stroke="#eee"/>')
        lines.append(f'<text x="{place:.1f}" y="{_TOP + _HEIGHT + 14}" text-anchor="middle">{tick:g}</text>')
    for tick in y.ticks():
        place = _TOP + (1 - y.place(tick)) * _HEIGHT
        lines.append(f'<path d="M{_LEFT} {place:.1f}h{_WIDTH}" stroke="#eee"/>')
        lines.append(f'<text x="{_LEFT - 6}" y="{place + 3:.1f}" text-anchor="end">{tick:g} {unit}</text>')
    for number, (name, curve) in enumerate(curves.items()):
        lines += _curve(name, [(x.place(size), y.place(value)) for size, value in curve], number)
    return "\n".join([*lines, "</svg>", ""])


class _Axis:
    """Decades around all values; at least one of them on each side of the least."""

    def __init__(self, values: Sequence[float]) -> None:
        self._low = math.floor(math.log10(min(values)) + 1e-9)
        self._high = max(self._low + 1, math.ceil(math.log10(max(values)) - 1e-9))

    def ticks(self) -> Iterator[float]:
        return (10.0**power for power in range(self._low, self._high + 1))

    def place(self, value: float) -> float:
        """From 0 to 1."""
        return (math.log10(value) - self._low) / (self._high - self._low)


def _curve(name: str, places: Points, number: int) -> Iterator[str]:
    colour = COLOURS[number % len(COLOURS)]
    corners = [(_LEFT + x * _WIDTH, _TOP + (1 - y) * _HEIGHT) for x, y in places]
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in corners)
    yield f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
    for x, y in corners:
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}"/>'
    row = _TOP + 14 * number
    yield f'<rect x="{_LEFT + _WIDTH + 14}" y="{row}" width="9" height="9" fill="{colour}"/>'
    yield f'<text x="{_LEFT + _WIDTH + 28}" y="{row + 8}">{escape(name)}</text>'
