"""One simulated call: the third driver, beside threads and tasks, of the same journey."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from resilient.core.call import Call, Journey, journey
from resilient.core.effects import Admit, Discard, Effect, Reply, Resolve, Send, Sleep, Start, Stop, Wait
from resilient.core.outcome import Outcome
from resilient.policy.limit import LimitState
from resilient.testing.behaviour import FakeResponse
from resilient.testing.result import CallRecord

if TYPE_CHECKING:
    from resilient.testing.simulation import Simulation

NEVER = float("inf")


class RunningCall:
    """One call under way: interprets its effects as events."""

    __slots__ = (
        "_began",
        "_call",
        "_client",
        "_ended",
        "_finished",
        "_key",
        "_leave",
        "_route",
        "_sent",
        "_sim",
        "_started",
        "_step",
        "_steps",
        "_waiting",
    )

    def __init__(self, simulation: Simulation, call: Call, client: int, key: str = "", route: str = "") -> None:
        self._sim = simulation
        self._call = call
        self._client = client
        self._key = key
        self._route = route
        self._began = simulation.now
        self._steps: Journey = journey(call, simulation.now)
        self._step = 0
        self._ended = False
        self._leave: Callable[[], None] | None = None
        self._finished: deque[tuple[Send, Any]] = deque()
        self._started: set[Send] = set()
        self._sent: list[str] = []
        self._waiting = False

    def begin(self) -> None:
        """Go, at the present time of the simulation."""
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
        self._record(NEVER, ok=False, reason="unfinished")

    def _record(self, seconds: float, *, ok: bool, reason: str, cancelled: bool = False) -> None:
        sent = tuple(self._sent)
        record = CallRecord(
            self._began, seconds, ok, self._client, self._call.report, cancelled, reason, sent, self._key, self._route
        )
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
            if isinstance(result, Exception):
                self._reply_at(time, None, result)
            else:
                self._reply_at(time, result)
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
        self._sent.append(send.pick.stats.address)
        time, result = self._sim.serve(send, self._route) if self._route else self._sim.serve(send)
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
