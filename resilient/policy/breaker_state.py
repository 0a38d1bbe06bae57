"""The state machine of a breaker: from phase to phase, by the results of its permits."""

from __future__ import annotations

from _thread import allocate_lock  # arithmetic on a few fields; nothing waits or calls back inside it
from datetime import datetime
from typing import TYPE_CHECKING

from pybreaker import STATE_HALF_OPEN, STATE_OPEN, CircuitBreakerStorage

from resilient.core.outcome import Outcome
from resilient.policy.circuit import Change, Circuit
from resilient.policy.phases import Closed, Granting, HalfOpen, Open, Permit, Phase, Probe
from resilient.policy.window import Window

if TYPE_CHECKING:
    from resilient.policy.breaker import Breaker


class BreakerState:
    """The breaker of one service. A call asks `admit` and feeds its Permit.

    The state is what the storage says; the phase is what we know besides. Where they differ,
    somebody else has written to the storage, and the phase follows at the next call.
    Failures, probes and transitions are counted under one lock; passing and succeeding while
    CLOSED, and being refused while OPEN, need none.
    """

    __slots__ = ("_break", "_circuit", "_heard", "_lock", "_phase", "_storage", "name", "remote", "setting", "untold")

    def __init__(self, setting: Breaker, name: str, circuit: Circuit, remote: CircuitBreakerStorage | None) -> None:
        self.setting = setting
        self.name = name
        self.remote = remote
        """A storage that others share, which only a mirror may touch; or None."""
        self.untold: Phase | None = None
        """Our latest OPEN or CLOSED that `remote` has not been told of."""
        self._circuit = circuit
        self._storage = circuit.storage
        self._lock = allocate_lock()
        self._break = setting.break_duration
        self._phase: Phase = Closed(setting.window)
        # A ready breaker may be given listeners at any time; ours has those that it was made with.
        self._heard = setting.circuit_breaker is not None or bool(circuit.breaker.listeners)

    def after_fork(self) -> None:
        """In a forked child: locks that a thread of the parent held are never released."""
        self._lock = allocate_lock()
        self._circuit.after_fork()

    @property
    def state(self) -> str:
        """'closed', 'open' or 'half-open'. OPEN lasts until the first call after the break."""
        return self._storage.state

    @property
    def retry_at(self) -> float | None:
        """When the first probe may pass, on the clock of `now`; None unless OPEN."""
        phase = self._phase
        return phase.until if isinstance(phase, Open) else None

    def remaining(self, now: float) -> float:
        """Seconds until a call may pass, if no result comes first; 0.0 if one may now."""
        self._follow(now)
        with self._lock:
            return self._phase.admits_at(now) - now

    def admit(self, now: float) -> Permit | None:
        """A permit for one call; None if it is refused."""
        phase = self._phase
        if self._storage.state != phase.name:
            phase = self._follow(now)
        permit = Permit(self, phase) if isinstance(phase, Closed) else self._admit_probe(phase, now)
        if self._heard and permit is not None:
            self._circuit.before_call()
        return permit

    def _admit_probe(self, phase: Phase, now: float) -> Permit | None:
        if isinstance(phase, Open) and phase.until > now:
            return None
        change = None
        with self._lock:
            if isinstance(self._phase, Open) and self._phase.admits_at(now) <= now:
                change = self._enter(HalfOpen(self.setting.probes))
            permit = self._grant(now)
        self._circuit.changed(change)
        return permit

    def _grant(self, now: float) -> Permit | None:
        """A permit of the current phase, under the lock."""
        phase = self._phase
        if isinstance(phase, Closed):
            return Permit(self, phase)
        if isinstance(phase, Open) or phase.admits_at(now) > now:
            return None
        probe = Probe(self, phase, now + self.setting.break_duration)
        phase.grant(probe, now)
        return probe

    def succeed(self, phase: Granting, now: float) -> None:
        """Count the success of a permit of `phase`; only permits call this."""
        # Every call comes here: one addition, and a lock only when a bucket is complete.
        change = None
        if isinstance(phase, HalfOpen):
            change = self._count_probe(phase)
        elif phase is self._phase:
            window = phase.window
            if now >= window.end:
                with self._lock:
                    window.turn(now)
            window.results += 1
            if self._storage.counter:
                self._storage.reset_counter()
        if self._heard:
            self._circuit.changed(change)
            self._circuit.success()

    def fail(self, phase: Granting, outcome: Outcome, now: float) -> None:
        """Count the failure of a permit of `phase`; only permits call this."""
        if self._circuit.excludes(outcome.error):
            return
        change = None
        with self._lock:
            if self._is_current(phase):
                change = self._count_failure(phase, now)
        if self._heard:
            self._circuit.failure(outcome)
            self._circuit.changed(change)

    def _is_current(self, phase: Granting) -> bool:
        """False for a late result: the breaker has moved on, or the storage says so."""
        return phase is self._phase and self._storage.state == phase.name

    def _count_probe(self, phase: HalfOpen) -> Change | None:
        with self._lock:
            if not self._is_current(phase):
                return None
            self._storage.reset_counter()
            self._storage.increment_success_counter()
            phase.missing -= 1
            return self._enter(self._new_closed()) if phase.missing == 0 else None

    def _count_failure(self, phase: Granting, now: float) -> Change | None:
        self._storage.increment_counter()
        if isinstance(phase, Closed):
            phase.window.record(True, now)
            if not self._has_failed(phase.window):
                return None
        return self._enter(self._new_open(now))

    def _has_failed(self, window: Window) -> bool:
        limit, ratio = self.setting.consecutive_failures, self.setting.failure_ratio
        if limit is not None and self._storage.counter >= limit:
            return True
        enough = window.results >= self.setting.minimum_throughput
        return ratio is not None and enough and window.failures / window.results >= ratio

    def _new_open(self, now: float, age: float = 0.0) -> Open:
        """OPEN for the present break, `age` seconds of which are over; the next one is longer."""
        until = now + max(0.0, self._break - age)
        if self.setting.max_break_duration is not None:
            self._break = min(2 * self._break, self.setting.max_break_duration)
        return Open(until)

    def _new_closed(self) -> Closed:
        self._break = self.setting.break_duration
        return Closed(self.setting.window)

    def _enter(self, phase: Phase) -> Change | None:
        """Change to `phase` by our own decision, under the lock."""
        self._phase = phase
        if not isinstance(phase, HalfOpen):
            self.untold = phase
        return self._circuit.turn(phase.name)

    def _follow(self, now: float) -> Phase:
        """The current phase, made from the storage if somebody else has written to it."""
        change = None
        with self._lock:
            if self._storage.state != self._phase.name:
                self._phase = self._phase_of(self._storage.state, now)
                change = self._circuit.show()
            phase = self._phase
        self._circuit.changed(change)
        return phase

    def _phase_of(self, state: str, now: float, age: float = 0.0) -> Phase:
        if state == STATE_OPEN:
            return self._new_open(now, age)
        return HalfOpen(self.setting.probes) if state == STATE_HALF_OPEN else self._new_closed()

    def adopt(self, state: str, now: float, age: float = 0.0) -> bool:
        """Follow another process, which changed to OPEN or CLOSED `age` seconds ago.

        False, and nothing is done, if there is a change of our own to pass on first.
        """
        change = None
        with self._lock:
            if self.untold is not None:
                return False
            if state != self._storage.state:
                self._phase = self._phase_of(state, now, age)
                change = self._circuit.turn(state)
        self._circuit.changed(change)
        return True

    def told(self, phase: Phase) -> None:
        """The shared storage knows of `phase` now, but not yet of what came later."""
        with self._lock:
            if self.untold is phase:
                self.untold = None

    @property
    def opened_at(self) -> datetime | None:
        """When it last opened, on the wall clock: for other users of the storage."""
        return self._storage.opened_at
