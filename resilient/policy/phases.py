"""The phases of a breaker, CLOSED, OPEN and HALF-OPEN, and the permits that they grant.

Each phase is an object, made anew by every transition, and a permit remembers the one that
granted it: the result of a permit of another phase is late, and counts nowhere. That is the
whole of the generation check.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pybreaker import STATE_CLOSED, STATE_HALF_OPEN, STATE_OPEN

from resilient.core.outcome import Kind, Outcome
from resilient.policy.window import Window

if TYPE_CHECKING:
    from resilient.policy.breaker_state import BreakerState

_SUCCESS = Kind.SUCCESS
_FAILURE = Kind.FAILURE


class Closed:
    """Calls pass; their results are counted."""

    __slots__ = ("window",)
    name: ClassVar[str] = STATE_CLOSED

    def __init__(self, window: float) -> None:
        self.window = Window(window)

    def admits_at(self, now: float) -> float:
        """The first time from `now` on at which a call passes."""
        return now


class Open:
    """Calls are refused, until `until`."""

    __slots__ = ("until",)
    name: ClassVar[str] = STATE_OPEN

    def __init__(self, until: float) -> None:
        self.until = until

    def admits_at(self, now: float) -> float:
        """The first time from `now` on at which a call passes."""
        return max(now, self.until)


class HalfOpen:
    """Probes pass, as many at a time as there are successes `missing`. Call it under the lock."""

    __slots__ = ("missing", "probes")
    name: ClassVar[str] = STATE_HALF_OPEN

    def __init__(self, missing: int) -> None:
        self.missing = missing
        self.probes: list[Probe] = []

    def admits_at(self, now: float) -> float:
        """The first time from `now` on at which a call passes, if no result comes first."""
        ends = [probe.lease_end for probe in self.probes]  # each read once: a probe may end meanwhile
        leases = sorted(end for end in ends if end > now)
        return now if len(leases) < self.missing else leases[len(leases) - self.missing]

    def grant(self, permit: Probe, now: float) -> None:
        """Give a place to a probe."""
        self.probes = [probe for probe in self.probes if probe.lease_end > now]
        self.probes.append(permit)


Phase = Closed | Open | HalfOpen
Granting = Closed | HalfOpen


class Permit:
    """Permission for one call. `observe` takes effect once, however often it is called."""

    __slots__ = ("_phase", "_state")

    def __init__(self, state: BreakerState, phase: Granting) -> None:
        self._state = state
        self._phase: Granting | None = phase

    def observe(self, outcome: Outcome, now: float) -> None:
        """Feed the result back."""
        phase, self._phase = self._phase, None
        if phase is None:
            return
        if outcome.kind is _SUCCESS:
            self._state.succeed(phase, now)
        elif outcome.kind is _FAILURE:
            self._state.fail(phase, outcome, now)
        # The others take no lock: a cancellation may come from a finalizer, in the middle of anything.


class Probe(Permit):
    """Permission for one call of a breaker that is HALF-OPEN."""

    __slots__ = ("lease_end",)

    def __init__(self, state: BreakerState, phase: HalfOpen, lease_end: float) -> None:
        super().__init__(state, phase)
        self.lease_end = lease_end
        """When its place goes to another; -inf once it has its result."""

    def observe(self, outcome: Outcome, now: float) -> None:
        """Feed the result back, and give the place back."""
        self.lease_end = float("-inf")
        super().observe(outcome, now)
