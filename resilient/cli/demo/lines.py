"""The view without a terminal: a plain line now and then. Pure, except for the stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TextIO

from resilient.cli.demo.screen import milliseconds, percent
from resilient.cli.demo.stats import Tally
from resilient.cli.demo.story import TITLES, Story


class Lines:
    """Writes a line for each change of the story, and the figures ten times."""

    def __init__(self, story: Story, stream: TextIO) -> None:
        self._story = story
        self._stream = stream
        self._news = ""
        self._next = story.duration / 10

    def update(self, at: float, tallies: Mapping[str, Tally]) -> None:
        """Write what has become due."""
        news = self._story.news(at)
        if news != self._news:
            self._news = news
            self._write(at, f"-- {news}")
        if at >= self._next - 1e-6 and at <= self._story.duration:
            self._next += self._story.duration / 10
            self._write(at, " | ".join(figures_line(TITLES[name], tally) for name, tally in tallies.items()))

    def _write(self, at: float, text: str) -> None:
        print(f"{at:5.1f} s  {text}", file=self._stream, flush=True)


def figures_line(title: str, tally: Tally) -> str:
    """The recent figures of a contender in one line."""
    recent = tally.recent()
    parts = [
        f"{title}: success {percent(recent.success_ratio)}",
        f"p50 {milliseconds(recent.p50)}",
        f"p99 {milliseconds(recent.p99)}",
    ]
    if tally.latest.breaker is not None:
        parts += [f"retries {tally.retries}", f"breaker {tally.latest.breaker.upper()}"]
    ejected = [str(number + 1) for number, left in enumerate(tally.latest.ejected) if left is not None]
    if ejected:
        parts.append(f"ejected {' '.join(ejected)}")
    return ", ".join(parts)
