"""What is counted for one contender, and what follows from it. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from resilient.cli.demo.story import ENDPOINTS, Chapter, Story

_ROUNDING = 1e-6  # seconds; the times of ticks and of steps are computed differently


class Record(NamedTuple):
    """One request that has ended; `seconds` count from `intended`, when it should have begun.

    `cause`: "" for a success, else a status or the name of an exception.
    """

    intended: float
    seconds: float
    cause: str
    attempts: int

    @property
    def ended(self) -> float:
        """Seconds from the start to the end of the request."""
        return self.intended + self.seconds


class Sample(NamedTuple):
    """A report: its time, the attempts sent to each endpoint so far, and who is ejected."""

    at: float
    sent: list[int]
    ejected: list[float | None]
    breaker: str | None


@dataclass(frozen=True, slots=True)
class Figures:
    """Success and latency of some requests; the latter None if there was no request."""

    requests: int
    succeeded: int
    p50: float | None
    p99: float | None
    worst: float | None

    @property
    def success_ratio(self) -> float | None:
        """The share of requests that succeeded."""
        return self.succeeded / self.requests if self.requests else None


def percentile(ordered: Sequence[float], percent: int) -> float | None:
    """The nearest-rank percentile of ascending values: one that occurred, never interpolated."""
    if not ordered:
        return None
    rank = -(-percent * len(ordered) // 100)  # rounded up, in whole numbers
    return ordered[max(0, rank - 1)]


def figures(records: Sequence[Record]) -> Figures:
    """The figures of `records`. A failure's latency counts: the caller has waited for it."""
    ordered = sorted(record.seconds for record in records)
    return Figures(
        requests=len(records),
        succeeded=sum(not record.cause for record in records),
        p50=percentile(ordered, 50),
        p99=percentile(ordered, 99),
        worst=ordered[-1] if ordered else None,
    )


class Exposure(NamedTuple):
    """The attempts that went to a broken endpoint while it was broken, and their share."""

    chapter: Chapter
    attempts: int
    share: float


class Tally:
    """All that was reported about one contender."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self.window = min(2.0, story.duration / 10)
        """How many seconds count as "now"."""
        self.records: list[Record] = []
        self.samples = [Sample(0.0, [0] * ENDPOINTS, [None] * ENDPOINTS, None)]
        self.lag = 0.0
        self.cpu_seconds: float | None = None
        """Known once the contender has finished."""

    def add(self, report: Mapping[str, Any]) -> None:
        """Take in a report from the traffic process."""
        self.records.extend(Record(*call) for call in report["calls"])
        self.samples.append(Sample(report["at"], report["sent"], report["ejected"], report["breaker"]))
        self.lag = report["lag"]
        self.cpu_seconds = report.get("cpu_seconds")

    @property
    def finished(self) -> bool:
        """True after the last report."""
        return self.cpu_seconds is not None

    @property
    def latest(self) -> Sample:
        """The latest sample."""
        return self.samples[-1]

    @property
    def attempts(self) -> int:
        """Attempts of the requests that have ended."""
        return sum(record.attempts for record in self.records)

    @property
    def retries(self) -> int:
        """Attempts beyond the first of each request that has ended."""
        return sum(max(0, record.attempts - 1) for record in self.records)

    @property
    def failures(self) -> dict[str, int]:
        """How many requests failed, by cause, the most frequent first."""
        return dict(Counter(record.cause for record in self.records if record.cause).most_common())

    @property
    def breaker_states(self) -> list[str]:
        """The states in which the breaker was seen, in order of first sight."""
        return list(dict.fromkeys(sample.breaker for sample in self.samples if sample.breaker))

    @property
    def ejected(self) -> list[int]:
        """The endpoints that were seen ejected."""
        return [
            endpoint
            for endpoint in range(len(self.latest.sent))
            if any(sample.ejected[endpoint] is not None for sample in self.samples[1:])
        ]

    def recent(self) -> Figures:
        """The figures of the requests that ended within the window."""
        since = self.latest.at - self.window
        return figures(self.records[bisect_right(self.records, since, key=lambda record: record.ended) :])

    def total(self) -> Figures:
        """The figures of everything so far."""
        return figures(self.records)

    def recent_shares(self) -> list[float]:
        """The share of attempts that each endpoint was sent within the window."""
        sent = self._sent_between(self.latest.at - self.window, self.latest.at)
        total = sum(sent)
        return [count / total if total else 0.0 for count in sent]

    def exposure(self, chapter: Chapter) -> Exposure:
        """What went to the broken endpoint of a chapter, from its beginning to its end."""
        sent = self._sent_between(self.story.time(chapter.start), self.story.time(chapter.end))
        attempts = sent[chapter.endpoint]
        return Exposure(chapter, attempts, attempts / sum(sent) if sum(sent) else 0.0)

    def _sent_between(self, start: float, end: float) -> list[int]:
        before, after = self._sample(start).sent, self._sample(end).sent
        return [last - first for first, last in zip(before, after, strict=True)]

    def _sample(self, at: float) -> Sample:
        """The first sample from `at` on (they are taken at every step); else the latest."""
        index = bisect_left(self.samples, at - _ROUNDING, key=lambda sample: sample.at)
        return self.samples[min(index, len(self.samples) - 1)]
