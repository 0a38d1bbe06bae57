"""The live view: one frame as lines of text. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from resilient.cli.demo.stats import Figures, Tally
from resilient.cli.demo.story import ENDPOINTS, TITLES, Fault, Story
from resilient.cli.demo.terminal import Style

_LABEL = 20
_NARROWEST, _WIDEST = 14, 50
"""Characters of a contender's column."""
_ROOMY = 24
"""From this width on, columns use whole sentences."""
_FULL_BAR = 0.25
"""The share that fills a bar: with ten endpoints, a tenth is usual."""


def milliseconds(seconds: float | None) -> str:
    """A latency, for display."""
    return "-" if seconds is None else f"{seconds * 1000:.0f} ms"


def percent(ratio: float | None, digits: int = 1) -> str:
    """A ratio, for display; 100 % and 0 % stand only for all and for none."""
    if ratio is None:
        return "-"
    rounded = round(ratio * 100, digits)
    smallest = 10**-digits
    if rounded == 0 < ratio:
        return f"<{smallest:.{digits}f} %"
    if rounded == 100 and ratio < 1:
        return f">{100 - smallest:.{digits}f} %"
    return f"{rounded:.{digits}f} %"


def frame(story: Story, at: float, tallies: Mapping[str, Tally], style: Style, width: int) -> list[str]:
    """The view at a time, for a terminal of `width` columns."""
    column = min(_WIDEST, max(_NARROWEST, (width - _LABEL) // 2))
    return [
        *_heading(story, at, style, width),
        "",
        _row("", [style.paint(TITLES[name].ljust(column), "bold") for name in tallies]),
        *_figures(tallies, style, column),
        "",
        *_endpoints(story, at, tallies, style, column),
    ]


def _heading(story: Story, at: float, style: Style, width: int) -> list[str]:
    clock = f"{min(at, story.duration):5.1f} of {story.duration:g} s "
    room = max(0, width - len(clock) - len("resilient demo  "))
    news = story.news(at)
    look = "green" if all(story.fault(number, at) is Fault.NONE for number in range(ENDPOINTS)) else "yellow"
    return [
        f"{style.paint('resilient demo', 'bold')}  {clock}{style.bar(at / story.duration, min(room, 40))}",
        style.paint(
            f"{story.rate:g} requests/s to {ENDPOINTS} endpoints, the same for both; deadline {story.deadline:g} s",
            "dim",
        ),
        f"now: {style.paint(news, look, 'bold')}",
    ]


def _row(label: str, cells: list[str]) -> str:
    return label.ljust(_LABEL) + "".join(cells).rstrip()


def _figures(tallies: Mapping[str, Tally], style: Style, column: int) -> list[str]:
    recent = [tally.recent() for tally in tallies.values()]
    window = f"{next(iter(tallies.values())).window:g} s"

    def row(label: str, texts: list[str], looks: list[str] | None = None) -> str:
        cells = [text.ljust(column) for text in texts]
        if looks is not None:
            cells = [style.paint(cell, look) for cell, look in zip(cells, looks, strict=True)]
        return _row(label, cells)

    return [
        row(f"success, last {window}", [percent(f.success_ratio) for f in recent], [_health(f) for f in recent]),
        row("success so far", [percent(tally.total().success_ratio) for tally in tallies.values()]),
        row(f"p50, last {window}", [milliseconds(f.p50) for f in recent]),
        row(f"p99, last {window}", [milliseconds(f.p99) for f in recent]),
        row("retries so far", [_retries(tally) for tally in tallies.values()]),
        row("breaker", [(tally.latest.breaker or "").upper() or "none" for tally in tallies.values()]),
    ]


def _health(figures: Figures) -> str:
    ratio = figures.success_ratio
    if ratio is None:
        return "dim"
    return "green" if ratio >= 0.999 else "yellow" if ratio >= 0.99 else "red"


def _retries(tally: Tally) -> str:
    requests = len(tally.records)
    return f"{tally.retries} ({percent(tally.retries / requests)})" if tally.retries else "0"


def _endpoints(story: Story, at: float, tallies: Mapping[str, Tally], style: Style, column: int) -> list[str]:
    shares = [tally.recent_shares() for tally in tallies.values()]
    title = "share of the requests" if column >= _ROOMY else "share"
    lines = [_row("endpoint", [style.paint(title.ljust(column), "dim") for _ in tallies])]
    for number in range(ENDPOINTS):
        fault = story.fault(number, at)
        label = f"{number + 1:2} {fault}".ljust(_LABEL)
        cells = [
            _share(share[number], tally.latest.ejected[number], fault, style, column)
            for share, tally in zip(shares, tallies.values(), strict=True)
        ]
        lines.append(_row(style.paint(label, _COLOURS[fault]) if fault is not Fault.NONE else label, cells))
    return lines


_COLOURS = {
    Fault.NONE: "green",
    Fault.SLOW: "yellow",
    Fault.FAILING: "red",
    Fault.HANGING: "red",
    Fault.REFUSING: "red",
}


def _share(share: float, ejected: float | None, fault: Fault, style: Style, column: int) -> str:
    """A share as a number and a bar, in the colour of the fault that the requests run into."""
    text = f"{share * 100:3.0f} % "
    if ejected is not None:
        note = f"ejected, {ejected:.1f} s" if column >= _ROOMY else "ejected"
        return text + style.paint(note.ljust(column - len(text)), "dim")
    bar = style.bar(share / _FULL_BAR, column - len(text) - 2)
    return text + style.paint(bar.ljust(column - len(text)), _COLOURS[fault])
