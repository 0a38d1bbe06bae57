"""What goes wrong, when, and how much traffic there is: times in seconds from the start.

Each scenario is fair weather for WARM_UP seconds, the fault for `seconds`, and fair weather
again for COOL_DOWN seconds. What is measured is the time of the fault.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from random import Random
from typing import Any

ENDPOINTS = 10
BAD = 3
"""The endpoint that is bad where one is."""
WARM_UP = 3.0
COOL_DOWN = 3.0
PAUSE = 0.2
_RESTART = 0.5  # seconds in which an endpoint is away
_OVERLOAD_CAPACITY = 200.0  # requests a second; the rate of this scenario is its own


@dataclass(frozen=True)
class State:
    """How an endpoint behaves.

    `seconds`: the mean of its service time, which varies by half of it. `workers`: requests
    that it works on at once; the others queue, and are served even if nobody waits any more.
    `failing`: the share of answers that are a 503, given at once. `hanging`: it accepts and
    says nothing. `listening`: False after it has stopped in good order: idle connections are
    closed, requests under way answered. `killed`: with it, connections are reset.
    """

    seconds: float = 0.01
    workers: int = 8
    failing: float = 0.0
    hanging: bool = False
    listening: bool = True
    killed: bool = False


@dataclass(frozen=True)
class Change:
    at: float
    endpoint: int
    state: State


@dataclass(frozen=True)
class Scenario:
    """`rates`: from when on how many requests a second. `deadline`: of each call."""

    name: str
    title: str
    seconds: float
    rates: list[tuple[float, float]]
    changes: list[Change] = field(default_factory=list)
    pauses: list[tuple[float, int]] = field(default_factory=list)
    """From when on which endpoint does nothing for PAUSE seconds."""
    deadline: float = 1.0
    bad: int | None = None
    capacity: float | None = None
    """Requests a second, where there are more than that."""
    failing: float = 0.0
    """The share of requests that fail, whoever gets them."""

    @property
    def end(self) -> float:
        """When the fault ends."""
        return WARM_UP + self.seconds

    @property
    def duration(self) -> float:
        return self.end + COOL_DOWN

    def plan(self) -> dict[str, Any]:
        """What the endpoints have to know."""
        return {"changes": [asdict(change) for change in self.changes], "pauses": self.pauses}


Make = Callable[[float, float], Scenario]


def _one_bad(name: str, title: str, state: State) -> Make:
    def make(rate: float, seconds: float) -> Scenario:
        changes = [Change(WARM_UP, BAD, state), Change(WARM_UP + seconds, BAD, State())]
        return Scenario(name, title, seconds, [(0.0, rate)], changes, bad=BAD)

    return make


def _all(name: str, title: str, state: State) -> Make:
    def make(rate: float, seconds: float) -> Scenario:
        changes = [
            Change(at, number, new)
            for at, new in ((WARM_UP, state), (WARM_UP + seconds, State()))
            for number in range(ENDPOINTS)
        ]
        return Scenario(name, title, seconds, [(0.0, rate)], changes, failing=state.failing)

    return make


def _healthy(rate: float, seconds: float) -> Scenario:
    return Scenario("healthy", "nothing is wrong", seconds, [(0.0, rate)])


def _pauses(rate: float, seconds: float) -> Scenario:
    """Each endpoint pauses once in four seconds on average, independently of the others."""
    rng = Random(4)
    pauses = []
    for number in range(ENDPOINTS):
        at = WARM_UP + rng.expovariate(0.25)
        while at < WARM_UP + seconds:
            pauses.append((at, number))
            at += PAUSE + rng.expovariate(0.25)
    return Scenario("pauses", "all pause 200 ms at random", seconds, [(0.0, rate)], pauses=pauses)


def _restart(rate: float, seconds: float) -> Scenario:
    """One after the other stops and comes back, all within `seconds`."""
    changes = []
    for number in range(ENDPOINTS):
        at = WARM_UP + number * seconds / ENDPOINTS
        away = min(_RESTART, 0.8 * seconds / ENDPOINTS)
        changes += [Change(at, number, State(listening=False)), Change(at + away, number, State())]
    return Scenario("restart", "rolling restart", seconds, [(0.0, rate)], changes)


def _overload(rate: float, seconds: float) -> Scenario:
    """Endpoints of one worker each, sent half of what they can do, then 150 % of it, then half."""
    state = State(ENDPOINTS / _OVERLOAD_CAPACITY, workers=1)
    changes = [Change(0.0, number, state) for number in range(ENDPOINTS)]
    load = ((0.0, 0.5), (WARM_UP, 1.5), (WARM_UP + seconds, 0.5))
    rates = [(at, share * _OVERLOAD_CAPACITY) for at, share in load]
    title = "150 % of capacity, 250 ms deadline"
    return Scenario("overload", title, seconds, rates, changes, deadline=0.25, capacity=_OVERLOAD_CAPACITY)


SCENARIOS: dict[str, Make] = {
    "healthy": _healthy,
    "slow": _one_bad("slow", "one is 20 times slower", State(seconds=0.2)),
    "failing": _one_bad("failing", "one answers 503 at once", State(failing=1.0)),
    "hanging": _one_bad("hanging", "one hangs", State(hanging=True)),
    "refusing": _one_bad("refusing", "one refuses connections", State(listening=False, killed=True)),
    "pauses": _pauses,
    "restart": _restart,
    "all-failing": _all("all-failing", "all answer 503 to 30 %", State(failing=0.3)),
    "storm": _all("storm", "all answer 503 to 90 %", State(failing=0.9)),
    "overload": _overload,
}


def arrivals(scenario: Scenario, seed: int) -> list[float]:
    """When calls arrive: a Poisson process, the same for all contenders."""
    rng = Random(seed)
    times = []
    steps = [*scenario.rates, (scenario.duration, 0.0)]
    for (start, rate), (end, _) in pairwise(steps):
        at = start + rng.expovariate(rate)
        while at < end:
            times.append(at)
            at += rng.expovariate(rate)
    return times
