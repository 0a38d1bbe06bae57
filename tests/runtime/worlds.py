"""One scenario in four worlds: threads, asyncio, trio, and the simulator, all in virtual time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any

import anyio
import trio
from trio.testing import MockClock

from resilient import AttemptReport, Policy, RoundRobin
from resilient.balance.endpoint import parse_endpoint
from resilient.core.bound import Bound
from resilient.core.call import Call
from resilient.core.classify import HttpClassifier
from resilient.core.effects import Send
from resilient.policy.phases import HalfOpen
from resilient.runtime.control import Watch
from resilient.runtime.tasks import TaskDriver
from resilient.runtime.threads import ThreadDriver
from resilient.runtime.waiting import ThreadWaiter
from resilient.testing import FakeEndpoint, FakeResponse, Simulation, VirtualClock, VirtualLoop
from resilient.testing.running import RunningCall

HANGS = float("inf")


class ConnectError(Exception):
    """Named as httpx's: the classifier goes by names."""


class Stray(BaseException):
    """Neither an Exception nor a cancellation: what pytest.fail() and sys.exit() raise."""


@dataclass(frozen=True)
class Scenario:
    """What the world does to one call, and how the call ends.

    `script`: seconds and result of each attempt; the result is a status or an exception.
    `streamed`: bodies stay open. `places_free_at`: when somebody else leaves the limit.
    `resolved_at`: seconds and success of the first resolution. `before`: done to the service
    at first. Expected: `ends` (what the call ended with, and when), `attempts`, `flags`.
    """

    name: str
    script: tuple[tuple[float, Any], ...]
    ends: tuple[str, float]
    attempts: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    policy: Policy = field(default_factory=Policy)
    endpoints: int = 3
    deadline: float | None = None
    idempotent: bool = True
    streamed: bool = False
    places_free_at: float | None = None
    resolved_at: tuple[float, bool] | None = None
    before: Callable[[Bound], None] = lambda bound: None


@dataclass
class Seen:
    """What was seen of one run."""

    ends: tuple[str, float]
    attempts: tuple[str, ...]
    flags: tuple[str, ...]
    cut_off: list[tuple[int, float]]
    """Numbers of the attempts that were cancelled while under way, and when."""
    left_open: list[int]
    """Numbers of the attempts whose responses nobody closed and the caller did not get."""
    service: Bound


class Answer(FakeResponse):
    """A response that knows whether it was closed."""

    def __init__(self, number: int, status: int) -> None:
        super().__init__(status, {})
        self.number = number
        self.closed = False

    def close(self) -> None:
        self.closed = True

    async def aclose(self) -> None:
        await anyio.lowlevel.checkpoint()
        self.closed = True


class World:
    """One run of a scenario. `cancel_at`: when the caller gives up."""

    def __init__(self, scenario: Scenario, cancel_at: float | None = None) -> None:
        self.scenario = scenario
        self.cancel_at = cancel_at
        self.answers: list[Answer] = []
        self.cut_off: list[tuple[int, float]] = []
        self.service = Bound("orders", scenario.policy.replace(balancer=RoundRobin()), Random(7), HttpClassifier())
        self.endpoints = [parse_endpoint(f"10.0.0.{n}:80") for n in range(1, scenario.endpoints + 1)]
        if scenario.resolved_at is None:
            self.service.update(self.endpoints, 0.0)
        else:
            self.service.watch = Watch(self.service, None, lambda: 0.0)  # type: ignore[arg-type]
        if scenario.places_free_at is not None:
            assert self.service.limit is not None
            assert self.service.limit.acquire()
        scenario.before(self.service)
        self.call = Call(
            self.service,
            deadline=scenario.deadline,
            idempotent=scenario.idempotent,
            is_open=lambda _: scenario.streamed,
        )

    def result(self, send: Send) -> Any:
        """What an attempt ends with, raised or returned."""
        _, result = self.scenario.script[send.number - 1]
        if not isinstance(result, int):
            raise result
        self.answers.append(Answer(send.number, result))
        return self.answers[-1]

    def seconds(self, send: Send) -> float:
        return self.scenario.script[send.number - 1][0]

    def leave_limit(self) -> None:
        assert self.service.limit is not None
        self.service.limit.release()

    def resolve(self) -> None:
        assert self.scenario.resolved_at is not None
        assert isinstance(self.service.watch, Watch)
        if self.scenario.resolved_at[1]:
            self.service.update(self.endpoints, self.scenario.resolved_at[0])
        else:
            self.service.failure = RuntimeError("no such name")
        self.service.watch.answer()

    @property
    def meanwhile(self) -> list[tuple[float, Callable[[], None]]]:
        """What else happens, and when."""
        scenario = self.scenario
        events: list[tuple[float, Callable[[], None]]] = []
        if scenario.places_free_at is not None:
            events.append((scenario.places_free_at, self.leave_limit))
        if scenario.resolved_at is not None:
            events.append((scenario.resolved_at[0], self.resolve))
        return events

    def seen(self, ends: str, time: float) -> Seen:
        report = self.call.report
        given = None if ends == "cancelled" else self.call.latest
        if self.call.held is not None:
            self.call.held.release(time)
        return Seen(
            (ends, round(time, 6)),
            _lines(report.attempts),
            tuple(report.flags),
            self.cut_off,
            [a.number for a in self.answers if self.scenario.streamed and not a.closed and a is not given],
            self.service,
        )


def _lines(attempts: list[AttemptReport]) -> tuple[str, ...]:
    """The attempts in their order; endpoints are a, b, c by the number of their first attempt."""
    order = dict.fromkeys(attempt.endpoint for attempt in sorted(attempts, key=lambda attempt: attempt.number))
    letters = dict(zip(order, "abc", strict=False))
    return tuple(
        f"{a.number} {letters[a.endpoint]} {a.status or a.reason} {round(a.seconds, 6):g}{' hedge' if a.hedge else ''}"
        for a in attempts
    )


def _end(outcome: Any) -> str:
    return str(outcome.status or outcome.reason)


class Threads(World):
    """The calling thread is "cancelled" by a KeyboardInterrupt, which is all that there is."""

    def run(self) -> Seen:
        self.clock = VirtualClock()
        self.caller: threading.Thread | None = None
        others = [self._later(time, action) for time, action in self.meanwhile]
        return self.clock.run(self._drive, *others)[0]  # type: ignore[no-any-return]

    def _later(self, time: float, action: Callable[[], None]) -> Callable[[], None]:
        def later() -> None:
            self.clock.sleep(time)
            action()

        return later

    def _drive(self) -> Seen:
        self.caller = threading.current_thread()
        driver = ThreadDriver(self.clock, self._sleep, self._wait)
        try:
            return self.seen(_end(driver.drive(self.call, self._attempt)), self.clock())
        except KeyboardInterrupt:
            return self.seen("cancelled", self.clock())

    def _sleep(self, seconds: float) -> None:
        self._wait(ThreadWaiter(), seconds)

    def _wait(self, waiter: ThreadWaiter, timeout: float | None) -> bool:
        if self.cancel_at is None or threading.current_thread() is not self.caller:
            return self.clock.wait(waiter, timeout)
        left = self.cancel_at - self.clock()
        if timeout is not None and timeout <= left:
            return self.clock.wait(waiter, timeout)
        if self.clock.wait(waiter, left):
            return True
        raise KeyboardInterrupt

    def _attempt(self, send: Send) -> Any:
        seconds = self.seconds(send)
        if send.timeout is not None and send.timeout < seconds:
            self._sleep(send.timeout)
            raise TimeoutError
        self._sleep(seconds)
        return self.result(send)


class Tasks(World):
    """What asyncio and trio have in common."""

    async def main(self) -> Seen:
        async with anyio.create_task_group() as group:
            for time, action in self.meanwhile:
                group.start_soon(self._later, time, action)
            try:
                result: Any = await self._drive()
            except (ZeroDivisionError, Stray) as error:
                result = error  # the group would wrap it
        if isinstance(result, BaseException):
            raise result
        return result  # type: ignore[no-any-return]

    async def _later(self, time: float, action: Callable[[], None]) -> None:
        await anyio.sleep(time)
        action()

    async def _drive(self) -> Seen:
        driver = TaskDriver(anyio.current_time)
        with anyio.CancelScope(deadline=HANGS if self.cancel_at is None else self.cancel_at):
            outcome = await driver.drive(self.call, self._attempt)
            return self.seen(_end(outcome), anyio.current_time())
        return self.seen("cancelled", anyio.current_time())

    async def _attempt(self, send: Send) -> Any:
        try:
            with anyio.move_on_after(send.timeout):
                await anyio.sleep(self.seconds(send))
                return self.result(send)
        except anyio.get_cancelled_exc_class():
            self.cut_off.append((send.number, round(anyio.current_time(), 6)))
            raise
        raise TimeoutError


class Asyncio(Tasks):
    def run(self) -> Seen:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            return runner.run(self.main())


class Trio(Tasks):
    def run(self) -> Seen:
        return trio.run(self.main, clock=MockClock(autojump_threshold=0))


class Simulator(World):
    def run(self) -> Seen:
        simulation = _Scripted(self)
        for time, action in self.meanwhile:
            simulation.schedule(time, action)
        running = RunningCall(simulation, self.call, 0)
        simulation.schedule(0.0, running.begin)
        if self.cancel_at is not None:
            simulation.schedule(self.cancel_at, running.cancel)
        simulation.run(rate=1e-9, duration=1e-9)
        [record] = simulation.result.calls
        status = record.report.attempts[-1].status if record.report.attempts else None
        ends = record.reason if record.reason in ("cancelled", *record.report.FLAGS) or status is None else str(status)
        return self.seen(ends, record.start + record.seconds)


class _Scripted(Simulation):
    def __init__(self, world: World) -> None:
        super().__init__(Policy(), [FakeEndpoint("10.0.0.1:80")])
        self._world = world

    def serve(self, send: Send) -> Any:
        result: Any = None
        with suppress(ConnectError):
            result = self._world.result(send)
        return self.now + self._world.seconds(send), ConnectError() if result is None else result


WORLDS = {"threads": Threads, "asyncio": Asyncio, "trio": Trio, "simulator": Simulator}


def nothing_is_held(service: Bound, now: float) -> bool:
    """True if no attempt is in flight, no place is taken, and no permit is out."""
    limit, breaker = service.limit, service.breaker
    probes = breaker._phase.probes if breaker is not None and isinstance(breaker._phase, HalfOpen) else []
    return (
        service.in_flight == 0
        and (limit is None or (limit.in_flight == 0 and limit.waiting == 0))
        and not any(probe.lease_end > now for probe in probes)
    )
