"""The protocols of balancing, and the Pick that every picker hands out."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Protocol, runtime_checkable

from resilient.balance.endpoint import EndpointStats
from resilient.core.counting import HAS_GIL, count
from resilient.core.outcome import Kind, Outcome


class Pick:
    """One choice of an endpoint: counted as in flight until it is released.

    `observe` feeds the result back, `release` gives the in-flight count back; `done` does
    both. Each takes effect once, however often it is called: a streamed response is
    observed at its headers and released when its body is closed.
    """

    __slots__ = ("_observed", "_released", "started", "stats")

    def __init__(self, stats: EndpointStats, now: float) -> None:
        self.stats = stats
        self.started = now
        self._observed = False
        self._released = False
        if HAS_GIL:
            stats.in_flight += 1
        else:
            count(stats, 1)
        stats.requests += 1
        if stats.ramp is not None:
            stats.ramp.picked(now)

    def observe(self, outcome: Outcome, now: float) -> bool:
        """Feed the result of the attempt back; False if one was fed back before."""
        if self._observed:
            return False
        self._observed = True
        if outcome.kind is Kind.FAILURE:
            self.stats.failures += 1
        if self.stats.ramp is not None:
            self.stats.ramp.observe(outcome.kind, self.started, now)
        self._learn(outcome, now)
        return True

    def _learn(self, outcome: Outcome, now: float) -> None:
        """What this balancer learns from a result; nothing, here."""

    def release(self) -> None:
        """Give the in-flight count back."""
        if not self._released:
            self._released = True
            if HAS_GIL:
                self.stats.in_flight -= 1
            else:
                count(self.stats, -1)

    def done(self, outcome: Outcome, now: float) -> None:
        """Observe and release."""
        self.observe(outcome, now)
        self.release()


@runtime_checkable
class Picker(Protocol):
    """Chooses among one fixed set of endpoints. Never blocks; immutable except for cursors."""

    def pick(
        self, now: float, rng: Random, tried: Sequence[EndpointStats] = (), key: bytes | None = None
    ) -> Pick | None:
        """Choose an endpoint, not one of `tried` if there is another; None if there are none.

        `key` is what consistent hashing hashes; others ignore it.
        """
        ...


@runtime_checkable
class Balancer(Protocol):
    """A frozen value that makes pickers. Third parties register theirs as entry points."""

    def picker(self, endpoints: Sequence[EndpointStats]) -> Picker:
        """A picker for this set; called when the set changes, never per request."""
        ...
