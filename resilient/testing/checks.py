"""Checks of health in a simulation: the checker of real meshes, on the events of the simulation."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from random import Random
from typing import Any, Protocol

from resilient.balance.endpoint import EndpointStats
from resilient.core.bound import Bound
from resilient.core.classify import is_draining
from resilient.policy.health import HealthCheck
from resilient.runtime.asking import Verdict
from resilient.runtime.health import HealthChecker, _Turn
from resilient.testing.behaviour import FakeResponse
from resilient.testing.fakes import ConnectError

Answer = tuple[float, FakeResponse | Exception]


class Events(Protocol):
    """The simulation, as far as checks are concerned with it."""

    now: float

    def schedule_check(self, time: float, action: Callable[[], None]) -> None:
        """Do something at a time, if the simulation goes on until then."""

    def serve_check(self, stats: EndpointStats, route: str) -> Answer:
        """What an endpoint answers to a check that comes now, and when."""
        ...


class SimulatedChecker(HealthChecker):
    """Checks the endpoints of one simulated client."""

    def __init__(self, events: Events, bound: Bound, setting: HealthCheck, rng: Random) -> None:
        super().__init__(bound, setting, lambda: events.now, rng, ask=_not_asked)
        self._events = events

    def start(self) -> None:
        """Begin."""
        self._loop: Any = _Loop(self._events)
        self._follow_members()

    def _follow_members(self) -> None:
        """In their order: a set has another one in each run."""
        members = self.bound.members
        for stats in [stats for stats in self._turns if stats not in members]:
            self._turns.pop(stats).cancel()
        for stats in members:
            if stats not in self._turns:
                self._turns[stats] = _Turn(self, stats, self._loop)

    async def check(self, stats: EndpointStats) -> Verdict:
        """Ask an endpoint; the time that this takes passes in the simulation."""
        setting, began = self.setting, self._events.now
        time, answer = self._events.serve_check(stats, f"{setting.method} {setting.path}")
        if setting.protocol == "tcp":
            return Verdict(ok=not isinstance(answer, ConnectError), reason="no connection")
        if time > began + setting.timeout:
            await _Until(began + setting.timeout)
            return Verdict(ok=False, reason=f"no answer in {setting.timeout:g} s")
        await _Until(time)
        return self._judged(answer)

    def _judged(self, answer: FakeResponse | Exception) -> Verdict:
        """As `runtime/asking.py` judges."""
        if isinstance(answer, Exception):
            return Verdict(ok=False, reason=str(answer))
        if is_draining(answer):
            return Verdict(ok=False, reason="it is draining", at_once=True)
        status = answer.status_code
        if status in (self.setting.expected_statuses if self.setting.protocol == "http" else (200,)):
            return Verdict(ok=True)
        return Verdict(ok=False, reason=f"status {status}", at_once=status not in self.setting.retriable_statuses)


async def _not_asked(_: object) -> Verdict:
    raise NotImplementedError


class _Until:
    """Awaited: the rest comes at that time."""

    def __init__(self, time: float) -> None:
        self._time = time

    def __await__(self) -> Generator[float, None, None]:
        yield self._time


class _Loop:
    """What a checker needs of an event loop."""

    def __init__(self, events: Events) -> None:
        self._events = events

    def is_closed(self) -> bool:
        return False

    def call_soon_threadsafe(self, function: Callable[[], object]) -> None:
        function()

    def call_later(self, delay: float, function: Callable[[], object]) -> _Job:
        job = _Job(function)
        self._events.schedule_check(self._events.now + delay, job.run)
        return job

    def create_task(self, coroutine: Coroutine[float, None, None]) -> _Job:
        job = _Job(lambda: self._go_on(coroutine, job))
        job.run()
        return job

    def _go_on(self, coroutine: Coroutine[float, None, None], job: _Job) -> None:
        try:
            time = coroutine.send(None)
        except StopIteration:
            return
        self._events.schedule_check(time, job.run)


class _Job:
    """A timer, or a task between two of its steps."""

    def __init__(self, function: Callable[[], object]) -> None:
        self._function: Callable[[], object] | None = function

    def run(self) -> None:
        if self._function is not None:
            self._function()

    def cancel(self) -> None:
        self._function = None
