"""A seeded simulator: the journey of real calls, with virtual time and fake endpoints.

It is the third driver beside threads and tasks, and interprets the same effects. Nothing in
it waits: a minute of traffic takes as long as its decisions do.
"""

from __future__ import annotations

import gc
import heapq
import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

from resilient.balance.endpoint import Endpoint, Locality
from resilient.balance.locality import NOWHERE
from resilient.core.bound import Bound
from resilient.core.call import Call, Journey, journey
from resilient.core.classify import HttpClassifier
from resilient.core.effects import Admit, Discard, Effect, Reply, Resolve, Send, Sleep, Start, Stop, Wait
from resilient.core.outcome import Outcome
from resilient.core.report import CallReport
from resilient.policy.limit import LimitState
from resilient.policy.policy import Policy
from resilient.testing.fakes import FakeEndpoint, FakeResponse

_NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class CallRecord:
    """One simulated call: when it began, how long it took, how it ended.

    `reason` is "" for a success, else a word as in `AttemptReport.reason`, "cancelled", or
    "unfinished": the call had no timeout, and would have waited for ever (`seconds` is infinite).
    """

    start: float
    seconds: float
    ok: bool
    client: int
    report: CallReport
    cancelled: bool = False
    reason: str = ""


@dataclass
class Result:
    """What a simulation saw. Times are relative to its start."""

    calls: list[CallRecord] = field(default_factory=list)

    def between(self, start: float, end: float) -> Result:
        """The calls that began in [start, end)."""
        return Result([call for call in self.calls if start <= call.start < end])

    @property
    def success_ratio(self) -> float:
        """The share of calls that succeeded, of those that were not cancelled."""
        ended = [call for call in self.calls if not call.cancelled]
        return sum(call.ok for call in ended) / len(ended) if ended else 1.0

    @property
    def attempts(self) -> int:
        """All attempts made."""
        return sum(len(call.report.attempts) for call in self.calls)

    @property
    def amplification(self) -> float:
        """Attempts per call."""
        return self.attempts / len(self.calls) if self.calls else 0.0

    def share(self, address: str) -> float:
        """The share of attempts that went to one endpoint."""
        hits = sum(attempt.endpoint == address for call in self.calls for attempt in call.report.attempts)
        return hits / self.attempts if self.attempts else 0.0

    def percentile(self, p: float) -> float:
        """Seconds within which the fraction `p` of successful calls ended (nearest rank)."""
        times = sorted(call.seconds for call in self.calls if call.ok)
        return times[min(len(times) - 1, int(p * len(times)))] if times else float("nan")

    def trace(self) -> list[str]:
        """One line for each call: two runs with one seed give the same."""
        return [f"{call.start:.6f} {call.seconds:.6f} {call.ok} {call.report}" for call in self.calls]


class Simulation:
    """Clients with one policy against fake endpoints, in virtual time.

        sim = Simulation(resilient.Policy(), fleet(10), seed=1)
        sim.endpoints[0].at(5.0, latency=0.2)
        result = sim.run(rate=200, duration=20)

    `clients`: how many clients, each with a state of its own (balancing, breaker, budget), as
    processes have; they run in `localities`, in turn. `seed`: the same seed gives the same trace.
    """

    def __init__(
        self,
        policy: Policy,
        endpoints: Sequence[FakeEndpoint],
        *,
        clients: int = 1,
        localities: Sequence[Locality] = (NOWHERE,),
        seed: int = 0,
    ) -> None:
        self.now = 0.0
        self.endpoints = list(endpoints)
        self.result = Result()
        self._rng = Random(seed)
        # Of their own, so that the same calls arrive whatever is done with them.
        self.arrivals = Random(seed)
        self.running: dict[_Running, None] = {}
        self._stuck: list[_Running] = []
        self._by_address = {endpoint.address: endpoint for endpoint in self.endpoints}
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        known = self._values()
        self.clients = [
            Bound(
                "simulated",
                policy,
                Random(self._rng.random()),
                HttpClassifier(),
                locality=localities[number % len(localities)],
            )
            for number in range(clients)
        ]
        for client in self.clients:
            client.update(known, 0.0)

    def _values(self) -> tuple[Endpoint, ...]:
        return tuple(fake.endpoint for fake in self.endpoints)

    def schedule(self, time: float, action: Callable[[], None]) -> None:
        """Do something at a time of the simulation; at infinity it never happens."""
        if time < _NEVER:
            heapq.heappush(self._events, (time, next(self._order), action))

    def resolve(self, time: float, endpoints: Sequence[FakeEndpoint]) -> None:
        """Discovery reports another set of endpoints at `time`, to all clients."""

        def change() -> None:
            self.endpoints = list(endpoints)
            self._by_address.update({endpoint.address: endpoint for endpoint in endpoints})
            for client in self.clients:
                client.update(self._values(), self.now)

        self.schedule(time, change)

    def run(
        self,
        *,
        rate: float,
        duration: float,
        timeout: float | None = None,
        idempotent: bool = True,
        cancel_ratio: float = 0.0,
    ) -> Result:
        """Calls arrive at `rate` a second (Poisson) for `duration` seconds; run until all ended.

        `timeout`: of each call, besides the policy's. `cancel_ratio`: the share of calls that
        their caller gives up at some moment of the first 50 ms.
        """
        calls = _Arrivals(self, rate, self.now + duration, timeout, idempotent, cancel_ratio)
        calls.expect(self.now)
        with _without_cycle_detection():
            while self._events:
                self.now, _, action = heapq.heappop(self._events)
                action()
        for call in self.running:
            call.record_unfinished()
        self._stuck += self.running
        self.running.clear()
        return self.result

    def serve(self, send: Send) -> tuple[float, FakeResponse | Exception]:
        """The result of an attempt that begins now, and its time."""
        return self._by_address[send.pick.stats.address].serve(self.now, self._rng)

    @property
    def in_flight(self) -> int:
        """Attempts in flight, over all clients."""
        return sum(client.in_flight for client in self.clients)


@contextmanager
def _without_cycle_detection() -> Iterator[None]:
    """Calls leave no cycles behind, and looking for some takes half of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class _Arrivals:
    """The calls of one run, each scheduled when the one before it begins."""

    def __init__(
        self,
        simulation: Simulation,
        rate: float,
        end: float,
        timeout: float | None,
        idempotent: bool,
        cancel_ratio: float,
    ) -> None:
        self._sim = simulation
        self._rate = rate
        self._end = end
        self._timeout = timeout
        self._idempotent = idempotent
        self._cancel_ratio = cancel_ratio

    def expect(self, now: float) -> None:
        """Schedule the next call, if it comes before the end."""
        time = now + self._sim.arrivals.expovariate(self._rate)
        if time < self._end:
            self._sim.schedule(time, self._begin)

    def _begin(self) -> None:
        sim = self._sim
        number = int(sim.arrivals.random() * len(sim.clients))
        client = sim.clients[number]
        limits = [limit for limit in (self._timeout, client.policy.timeout) if limit is not None]
        call = Call(client, deadline=sim.now + min(limits) if limits else None, idempotent=self._idempotent)
        running = _Running(sim, call, number)
        if sim.arrivals.random() < self._cancel_ratio:
            sim.schedule(sim.now + sim.arrivals.random() * 0.05, running.cancel)
        self.expect(sim.now)
        running.begin()


class _Running:
    """One call under way: interprets its effects as events."""

    def __init__(self, simulation: Simulation, call: Call, client: int) -> None:
        self._sim = simulation
        self._call = call
        self._client = client
        self._began = simulation.now
        self._steps: Journey = journey(call, simulation.now)
        self._step = 0
        self._ended = False
        self._leave: Callable[[], None] | None = None
        self._finished: deque[tuple[Send, Any]] = deque()
        self._started: set[Send] = set()
        self._waiting = False

    def begin(self) -> None:
        self._sim.running[self] = None
        self._resume(None)

    def cancel(self) -> None:
        """The caller gives up, whatever the call is doing."""
        if self._ended:
            return
        if self._leave is not None:
            self._leave()
        _close(self._call.cut_off(self._sim.now))
        self._steps.close()
        self._end(ok=False, cancelled=True, reason="cancelled")

    def _resume(self, reply: Reply | None) -> None:
        self._step += 1
        self._leave = None
        self._waiting = False
        try:
            effect = self._steps.send(reply)  # type: ignore[arg-type]
        except StopIteration as stop:
            outcome: Outcome = stop.value
            self._end(ok=outcome.ok, reason=outcome.reason)
            return
        self._perform(effect)

    def _end(self, *, ok: bool, reason: str, cancelled: bool = False) -> None:
        self._ended = True
        self._sim.running.pop(self, None)
        for _, result in self._finished:
            _close(result)
        self._record(self._sim.now - self._began, ok=ok, reason=reason, cancelled=cancelled)

    def record_unfinished(self) -> None:
        """Nothing happens any more, and the call has not ended."""
        self._record(_NEVER, ok=False, reason="unfinished")

    def _record(self, seconds: float, *, ok: bool, reason: str, cancelled: bool = False) -> None:
        record = CallRecord(self._began, seconds, ok, self._client, self._call.report, cancelled, reason)
        self._sim.result.calls.append(record)

    def _reply_at(self, time: float, value: Any = None, error: Exception | None = None) -> None:
        step = self._step

        def reply() -> None:
            if not self._ended and self._step == step:
                self._resume((value, error, self._sim.now))
            else:
                _close(value)

        self._sim.schedule(time, reply)

    def _perform(self, effect: Effect) -> None:
        now = self._sim.now
        if isinstance(effect, Send):
            time, result = self._serve(effect, now)
            self._reply_at(time, *_as_reply(result))
        elif isinstance(effect, Sleep):
            self._reply_at(now + effect.seconds)
        elif isinstance(effect, Admit):
            self._admit(effect, now)
        elif isinstance(effect, Resolve):
            self._resolve(effect, now)
        elif isinstance(effect, Wait):
            self._wait(effect, now)
        else:
            self._perform_at_once(effect, now)

    def _perform_at_once(self, effect: Effect, now: float) -> None:
        if isinstance(effect, Start):
            self._start(effect.send, now)
        elif isinstance(effect, Stop):
            self._started.discard(effect.send)
        elif isinstance(effect, Discard):
            _close(effect.response)
        else:
            raise TypeError(f"no simulation of {effect!r}")
        self._reply_at(now)

    def _serve(self, send: Send, now: float) -> tuple[float, FakeResponse | Exception]:
        """The result of an attempt, and its time; infinity if there never is one."""
        time, result = self._sim.serve(send)
        if send.timeout is not None and time > now + send.timeout:
            return now + send.timeout, TimeoutError("timed out")
        return time, result

    def _start(self, send: Send, now: float) -> None:
        """An attempt that runs beside the journey."""
        self._started.add(send)
        time, result = self._serve(send, now)
        self._sim.schedule(time, lambda: self._news(send, result))

    def _news(self, send: Send, result: FakeResponse | Exception) -> None:
        if self._ended or send not in self._started:
            _close(result)
            return
        self._started.remove(send)
        self._finished.append((send, result))
        if self._waiting:
            self._deliver()

    def _wait(self, effect: Wait, now: float) -> None:
        self._waiting = True
        if self._finished:
            self._deliver()
        elif effect.timeout is not None:
            self._reply_at(now + effect.timeout)

    def _deliver(self) -> None:
        send, result = self._finished.popleft()
        response, error = _as_reply(result)
        self._resume(((send, response), error, self._sim.now))

    def _resolve(self, effect: Resolve, now: float) -> None:
        watch = effect.bound.watch
        if watch is None:
            self._reply_at(now)
            return
        waiter = _Waiter(lambda: self._reply_at(self._sim.now, None, effect.bound.failure))
        watch.subscribe(waiter)
        self._leave = lambda: watch.unsubscribe(waiter)
        if effect.timeout is not None:
            self._reply_at(now + effect.timeout)

    def _admit(self, effect: Admit, now: float) -> None:
        limit = effect.limit
        waiter = _Waiter(lambda: self._reply_at(self._sim.now, True))
        place = limit.enqueue(waiter)
        if place is not None:
            self._reply_at(now, place)
            return
        self._leave = lambda: None if limit.abandon(waiter) else limit.release()
        if effect.timeout is not None:
            self._sim.schedule(now + effect.timeout, lambda: self._stop_queueing(limit, waiter))

    def _stop_queueing(self, limit: LimitState, waiter: _Waiter) -> None:
        if limit.abandon(waiter):
            self._reply_at(self._sim.now, False)


class _Waiter:
    def __init__(self, then: Callable[[], None]) -> None:
        self._then = then

    def wake(self) -> bool:
        self._then()
        return True


def _as_reply(result: FakeResponse | Exception) -> tuple[FakeResponse | None, Exception | None]:
    return (None, result) if isinstance(result, Exception) else (result, None)


def _close(result: Any) -> None:
    if isinstance(result, FakeResponse):
        result.close()
