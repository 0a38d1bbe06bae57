"""The story: which endpoint is broken, how, and when. Pure; everybody reads the same one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

ENDPOINTS = 10
STEPS = 20
"""Faults begin and end at multiples of a twentieth of the duration."""

TITLES = {"httpx": "plain httpx", "resilient": "resilient"}
"""The contenders: their names in the JSON document, and what users are shown."""


class Fault(StrEnum):
    """What can be wrong with an endpoint."""

    NONE = "healthy"
    SLOW = "slow"
    FAILING = "failing"
    HANGING = "hanging"
    REFUSING = "refusing"

    @property
    def meaning(self) -> str:
        """What a caller sees, in a few words."""
        return _MEANINGS[self]


SLOWDOWN = 20
_MEANINGS = {
    Fault.NONE: "answers in about 8 ms",
    Fault.SLOW: f"is {SLOWDOWN} times slower",
    Fault.FAILING: "answers 503 at once",
    Fault.HANGING: "accepts requests and never answers",
    Fault.REFUSING: "refuses connections",
}


@dataclass(frozen=True, slots=True)
class Chapter:
    """One endpoint being broken from `start` until `end`, in steps of the story.

    `endpoint` counts from 0; `number` is what users are shown.
    """

    endpoint: int
    fault: Fault
    start: int
    end: int

    @property
    def number(self) -> int:
        """The endpoint's number, from 1."""
        return self.endpoint + 1


CHAPTERS = (
    Chapter(2, Fault.SLOW, 3, 16),
    Chapter(4, Fault.FAILING, 6, 16),
    Chapter(6, Fault.HANGING, 9, 16),
    Chapter(8, Fault.REFUSING, 12, 16),
)
"""One more endpoint breaks every 15 % of the time, each in a worse way; all recover at 80 %."""


@dataclass(frozen=True, slots=True)
class Change:
    """An endpoint changes its behaviour at a time, in seconds from the start."""

    at: float
    endpoint: int
    fault: Fault

    def __str__(self) -> str:
        number = self.endpoint + 1
        if self.fault is Fault.NONE:
            return f"endpoint {number} recovers"
        return f"endpoint {number} {self.fault.meaning}"


@dataclass(frozen=True, slots=True)
class Story:
    """The chapters over a `duration` in seconds, and what makes the traffic the same for all.

    `rate`: requests per second that arrive. `deadline`: seconds a caller waits.
    """

    duration: float
    seed: int
    rate: float = 80.0
    deadline: float = 1.0
    chapters: tuple[Chapter, ...] = CHAPTERS

    def time(self, step: int) -> float:
        """Seconds from the start to a step."""
        return step * self.duration / STEPS

    def changes(self) -> list[Change]:
        """Every beginning and end of a fault, in order of time."""
        begins = [Change(self.time(c.start), c.endpoint, c.fault) for c in self.chapters]
        ends = [Change(self.time(c.end), c.endpoint, Fault.NONE) for c in self.chapters]
        return sorted(begins + ends, key=lambda change: change.at)

    def fault(self, endpoint: int, at: float) -> Fault:
        """What is wrong with an endpoint at a time."""
        for chapter in self.chapters:
            if chapter.endpoint == endpoint and self.time(chapter.start) <= at < self.time(chapter.end):
                return chapter.fault
        return Fault.NONE

    def news(self, at: float) -> str:
        """The latest change in one sentence; simultaneous ends of faults are one event."""
        past = [change for change in self.changes() if change.at <= at]
        if not past:
            return "all endpoints are healthy"
        if past[-1].fault is Fault.NONE:
            return "all endpoints have recovered"
        return str(past[-1])

    def ticks(self) -> list[float]:
        """When contenders report: about every 0.1 s, and exactly at every step."""
        each = max(1, round(self.duration / STEPS / 0.1))
        return [i * self.duration / (STEPS * each) for i in range(1, STEPS * each + 1)]

    def to_json(self) -> dict[str, Any]:
        """What a child process needs in order to build the same story."""
        return {"duration": self.duration, "seed": self.seed, "rate": self.rate, "deadline": self.deadline}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        return cls(**data)
