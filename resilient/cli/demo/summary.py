"""The summary: as a table with a few sentences, and as a JSON document. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from resilient._version import __version__
from resilient.cli.demo.screen import milliseconds, percent
from resilient.cli.demo.stats import Figures, Tally
from resilient.cli.demo.story import TITLES, Story
from resilient.cli.demo.terminal import Style

_LABEL = 34
_COLUMN = 16
_BUSY = 0.1  # seconds; ten times what an endpoint takes to answer


def table(story: Story, tallies: Mapping[str, Tally], style: Style) -> list[str]:
    """The figures of the whole run, a row each."""
    totals = {name: tally.total() for name, tally in tallies.items()}
    requests = next(iter(totals.values())).requests
    title = f"{requests} requests each in {story.duration:g} s, the same arrivals (seed {story.seed})"
    best = _looks([f.success_ratio for f in totals.values()])
    rows = [
        ("", [TITLES[name] for name in tallies], ["bold"] * len(tallies)),
        ("success", [percent(f.success_ratio, 2) for f in totals.values()], best),
        ("answered / failed", [f"{f.succeeded} / {f.requests - f.succeeded}" for f in totals.values()], None),
        ("p50", [milliseconds(f.p50) for f in totals.values()], None),
        ("p99", [milliseconds(f.p99) for f in totals.values()], _looks([-(f.p99 or 0) for f in totals.values()])),
        ("worst", [milliseconds(f.worst) for f in totals.values()], None),
        ("retries", [_retries(tally) for tally in tallies.values()], None),
        ("CPU of the client", [f"{tally.cpu_seconds or 0:.2f} s" for tally in tallies.values()], None),
    ]
    rows += [
        (
            f"sent to endpoint {chapter.number} while {chapter.fault}",
            [percent(tally.exposure(chapter).share) for tally in tallies.values()],
            None,
        )
        for chapter in story.chapters
    ]
    return [style.paint(title, "bold"), "", *(_row(style, *row) for row in rows)]


def _row(style: Style, label: str, texts: list[str], looks: list[str] | None) -> str:
    cells = [text.rjust(_COLUMN) for text in texts]
    if looks is not None:
        cells = [style.paint(cell, *look.split()) for cell, look in zip(cells, looks, strict=True)]
    return label.ljust(_LABEL) + "".join(cells)


def _looks(values: list[float | None]) -> list[str]:
    """Green for the best; none if all are alike."""
    known = [value for value in values if value is not None]
    if len(set(known)) < 2:
        return [""] * len(values)
    return ["green" if value == max(known) else "" for value in values]


def _retries(tally: Tally) -> str:
    return f"{tally.retries} ({percent(tally.retries / len(tally.records))})" if tally.retries else "0"


def sentences(tallies: Mapping[str, Tally]) -> list[str]:
    """What the run has shown, in words; each follows from its own figures alone."""
    plain, mesh = tallies["httpx"], tallies["resilient"]
    return [
        f"{_failed('Plain httpx', plain.total())}; {_failed('resilient', mesh.total())}.",
        _slowest(plain.total(), mesh.total()),
        f"{_cost(mesh)}; {_ejections(mesh)}; {_breaker(mesh)}.",
        *_busy(max(plain.lag, mesh.lag)),
    ]


def _busy(lag: float) -> list[str]:
    """A warning if the computer was too busy for the latencies to be the clients' own."""
    if lag < _BUSY:
        return []
    return [f"This computer was busy: requests began up to {milliseconds(lag)} late, which is part of every latency."]


def _failed(name: str, total: Figures) -> str:
    failed = total.requests - total.succeeded
    return f"{name} failed {failed} of {total.requests} requests" if failed else f"{name} answered every request"


def _slowest(plain: Figures, mesh: Figures) -> str:
    return (
        f"One request in a hundred took {milliseconds(plain.p99)} or longer through plain httpx, "
        f"{milliseconds(mesh.p99)} through resilient."
    )


def _cost(mesh: Tally) -> str:
    if not mesh.retries:
        return "resilient made no retries"
    return f"resilient made {mesh.retries} retries ({percent(mesh.retries / len(mesh.records))} of the requests)"


def _ejections(mesh: Tally) -> str:
    numbers = [str(endpoint + 1) for endpoint in mesh.ejected]
    if not numbers:
        return "it ejected no endpoint"
    names = " and ".join([", ".join(numbers[:-1]), numbers[-1]] if len(numbers) > 1 else numbers)
    return f"it ejected endpoint{'s' if len(numbers) > 1 else ''} {names}"


def _breaker(mesh: Tally) -> str:
    states = [state.upper() for state in mesh.breaker_states]
    return f"the breaker stayed {states[0]}" if len(states) == 1 else f"the breaker was {', then '.join(states)}"


def document(story: Story, tallies: Mapping[str, Tally]) -> dict[str, Any]:
    """The JSON document that `--json` prints. Times are seconds, ratios lie in 0..1.

    - `version` of resilient; `seed`, `duration`, `rate` (arrivals per second), `deadline`.
    - `faults`: `endpoint` (from 1), `fault`, `start`, `end`.
    - `contenders`: for `httpx` and `resilient`:
      - `requests`, `succeeded`, `success_ratio`, `failures` (count by status or exception);
      - `latency`: `p50`, `p99`, `worst` of all requests, failed ones included, from the time
        at which they should have begun;
      - `attempts` (a request's first and its retries), `retries`, `attempts_by_endpoint`;
      - `exposure`: for each fault the `attempts` sent to that `endpoint` while it lasted, and
        their `share` of all attempts sent meanwhile;
      - `ejected`: endpoints that were seen ejected; `breaker`: states seen, in order;
      - `lag`: the worst delay of a request's start behind its schedule; `cpu_seconds`.
    - `summary`: sentences.
    """
    return {
        "version": __version__,
        "seed": story.seed,
        "duration": story.duration,
        "rate": story.rate,
        "deadline": story.deadline,
        "faults": [
            {"endpoint": c.number, "fault": c.fault, "start": story.time(c.start), "end": story.time(c.end)}
            for c in story.chapters
        ],
        "contenders": {name: _contender(story, tally) for name, tally in tallies.items()},
        "summary": sentences(tallies),
    }


def _contender(story: Story, tally: Tally) -> dict[str, Any]:
    total = tally.total()
    exposures = [tally.exposure(chapter) for chapter in story.chapters]
    return {
        "requests": total.requests,
        "succeeded": total.succeeded,
        "success_ratio": total.success_ratio,
        "failures": tally.failures,
        "latency": {"p50": total.p50, "p99": total.p99, "worst": total.worst},
        "attempts": tally.attempts,
        "retries": tally.retries,
        "attempts_by_endpoint": tally.latest.sent,
        "exposure": [{"endpoint": e.chapter.number, "attempts": e.attempts, "share": e.share} for e in exposures],
        "ejected": [endpoint + 1 for endpoint in tally.ejected],
        "breaker": tally.breaker_states,
        "lag": tally.lag,
        "cpu_seconds": tally.cpu_seconds,
    }
