"""One contender in one scenario: what it was seen to do."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

from benchmarks.children import Child
from benchmarks.faults.contenders import Target, target
from benchmarks.faults.scenarios import WARM_UP, Scenario, arrivals
from benchmarks.report import percentile

GRACE = 2.0
"""Seconds after which the bad endpoint should be known."""
CALM = 0.2
"""How starved a run may be; two busy processes on two cores are not."""

Calls = Sequence[tuple[float, float, bool]]


@dataclass(frozen=True)
class Measured:
    """Of the calls that were due to begin during the fault; times in milliseconds.

    `success`: the share that was answered well within the deadline. `p50`, `p99`, `p999`: of
    all calls, one that failed counting as one that took the whole deadline, so that to fail
    fast is not to be fast. `amplification`: requests that were sent for each call. `bad_share`:
    the bad endpoint's share of them, from GRACE seconds after the fault on. `goodput`: good
    answers a second. `recovery`: seconds after the fault until the last call that failed was
    due. `cpu`: milliseconds of client, traffic and proxy for each call. `starved`: of the time
    in which the client's process had work, the share in which it had no core: the machine's doing.
    """

    scenario: str
    contender: str
    calls: int
    success: float
    p50: float
    p99: float
    p999: float
    amplification: float
    bad_share: float | None
    goodput: float
    recovery: float
    cpu: float
    starved: float


def run(scenario: Scenario, contender: str, seed: int, tries: int = 3) -> Measured:
    """A run, made again while the machine is restless: of at most `tries`, the least starved one.

    The scheduler's account decides, not the result.
    """
    runs = []
    for _ in range(tries):
        runs.append(_run(scenario, contender, seed))
        if runs[-1].starved < CALM:
            break
    return min(runs, key=lambda one: one.starved)


def _run(scenario: Scenario, contender: str, seed: int) -> Measured:
    with (
        Child("benchmarks.faults.backend") as backend,
        target(contender, backend.receive()) as aim,
        Child("benchmarks.faults.traffic", contender) as traffic,
    ):
        return _measure(scenario, contender, seed, Processes(backend, aim, traffic))


class Processes(NamedTuple):
    backend: Child
    aim: Target
    traffic: Child


def _measure(scenario: Scenario, contender: str, seed: int, processes: Processes) -> Measured:
    backend, aim, traffic = processes
    due = arrivals(scenario, seed)
    traffic.ask(aim.urls)
    start = time.monotonic() + 0.2
    cpu = -aim.cpu_seconds()
    backend.send({"start": start, **scenario.plan()})
    traffic.send({"start": start, "arrivals": due, "deadline": scenario.deadline})
    by_proxy = _refused_by_proxy(scenario, aim, start)
    found = traffic.receive()
    cpu += aim.cpu_seconds() + found["cpu"]
    sent = [(at, number) for at, number in backend.ask("stop")]
    sent += [(at, scenario.bad) for at in [*found["refused"], *by_proxy]]
    return _summary(scenario, contender, found["calls"], sent, cpu, found["waited"] / (found["waited"] + found["cpu"]))


def _refused_by_proxy(scenario: Scenario, aim: Target, start: float) -> list[float]:
    """When connections to the bad endpoint failed: known to lie before or after the time of grace."""
    if scenario.bad is None or aim.proxy is None:
        return []
    counts = []
    for at in (WARM_UP, WARM_UP + GRACE, scenario.end):
        time.sleep(max(0.0, start + at - time.monotonic()))
        counts.append(aim.refused(scenario.bad))
    before, early, late = counts
    return [WARM_UP] * (early - before) + [WARM_UP + GRACE] * (late - early)


def _summary(
    scenario: Scenario,
    contender: str,
    calls: Calls,
    sent: Sequence[tuple[float, int | None]],
    cpu: float,
    starved: float,
) -> Measured:
    during = [call for call in calls if WARM_UP <= call[0] < scenario.end]
    good = sum(ok for _, _, ok in during)
    times = [seconds if ok else max(seconds, scenario.deadline) for _, seconds, ok in during]
    attempts = sum(WARM_UP <= at < scenario.end for at, _ in sent)
    late = [number for at, number in sent if WARM_UP + GRACE <= at < scenario.end]
    return Measured(
        scenario.name,
        contender,
        calls=len(during),
        success=good / len(during),
        p50=percentile(times, 0.5) * 1e3,
        p99=percentile(times, 0.99) * 1e3,
        p999=percentile(times, 0.999) * 1e3,
        amplification=attempts / len(during),
        bad_share=None if scenario.bad is None else late.count(scenario.bad) / max(1, len(late)),
        goodput=good / scenario.seconds,
        recovery=max((at - scenario.end for at, _, ok in calls if at >= scenario.end and not ok), default=0.0),
        cpu=cpu / len(calls) * 1e3,
        starved=starved,
    )


def median(runs: Sequence[Measured]) -> Measured:
    """Of each number the median of several runs."""
    first = runs[0]
    numbers = {
        field.name: statistics.median(getattr(run, field.name) for run in runs)
        for field in fields(Measured)
        if field.name not in ("scenario", "contender") and getattr(first, field.name) is not None
    }
    return replace(first, **numbers)
