"""Limits that adapt: how many calls may be in flight is learnt from what becomes of them.

AdaptiveLimit is for clients. It goes down on signs of overload (429, 503 with a `Retry-After`
or `x-envoy-overloaded`, refused streams, timeouts) and on nothing else: a client's latency
includes the network, and may rise for reasons that fewer calls do not cure. Latency only
decides whether it goes up. Three rules:

- An attempt that met overload takes away half a place. So a limit under which all fail is
  halved in the time of one answer, and one under which a tenth fail loses a twentieth (DCTCP,
  RFC 8257, reduces in proportion to what is marked, by half of it). There is no state per round
  trip.
- A success adds a place, until a sign of overload comes (slow start); from then on, the
  successes of a round trip together add a fifth of a place, until no sign has come for 2 s. It
  grows only if half of the limit is in use (Netflix's AIMDLimit), and in proportion to how far
  the latency is below `tolerance` times its long-term average, so it does not grow fast into a
  queue. A queue that builds up slowly takes the average with it; that ends with signs of
  overload, which come with deadlines, or at `maximum`.
- The last to come is served first, and a call that can no longer be answered in time is not
  sent. Under overload a first-in-first-out queue serves everybody too late (Facebook's adaptive
  LIFO; Maurer, "Fail at Scale", ACM Queue 2015).

Simulated at 150 % of capacity with a deadline of 250 ms (tests/simulation/test_overload.py),
one client keeps 95 to 100 % of what the servers can do, and ten clients 93 to 97 % where an
endpoint has several workers; where it has one, ten clients that do not know of each other keep
70 to 76 %, and no fixed limit more than 80 %. A first-in-first-out queue and
leaving out the latency rule each cost goodput in a first version, one seed.

GradientLimit is for servers, whose latency is their own.
"""

from __future__ import annotations

from dataclasses import dataclass

from resilient.core import check
from resilient.core.outcome import Kind, Outcome
from resilient.policy.limit import LimitState, Waiter

_CUT = 0.5  # of a place, for each sign of overload
_STEP = 0.2  # of a place, for all successes of a round trip together
_CALM = 2.0  # seconds without a sign of overload, after which it is over
_FRESH = 0.1  # weight of a sample in the short-term average: about the last ten
_MEMORY = 30.0  # seconds; time constant of the long-term average
_DEVIATIONS = 3.0  # above the average: what an attempt may well take
_SAMPLES = 600.0  # of the gradient's long-term average (Netflix)
_QUEUE = 4.0  # calls that the gradient allows to wait (Netflix)
_SMOOTHING = 0.2  # of the gradient's limit (Netflix)


@check.setting
@dataclass(frozen=True, slots=True)
class AdaptiveLimit:
    """A limit on calls in flight that finds out by itself what a service can bear.

    It begins at `initial` (20, as Netflix's do) and moves between `minimum` and `maximum`,
    down on 429, on 503 with a `Retry-After` or `x-envoy-overloaded` (with neither, it may be one
    endpoint's fault), refused streams and timeouts, up on successes. `tolerance`: the multiple of
    the long-term average latency at which it stops going up (1.5, as in Netflix's Gradient2).
    `max_queue`: calls that may wait for a place, the latest served first; `queue_timeout`: the
    most seconds that they wait, and never so long that no time is left for an answer before the
    deadline.

    Where there are more clients than places, a limit cannot go below one each: add a Throttle.
    """

    initial: int = 20
    minimum: int = 1
    maximum: int = 1000
    tolerance: float = 1.5
    max_queue: int = 100
    queue_timeout: check.Seconds = 5.0

    def __post_init__(self) -> None:
        _check("AdaptiveLimit", self)

    def bind(self) -> AdaptiveState:
        """A limit with nothing in flight, that has learnt nothing."""
        return AdaptiveState(self)


@check.setting
@dataclass(frozen=True, slots=True)
class GradientLimit:
    """A limit on calls in flight that follows latency: Netflix's Gradient2.

    For a place where latency is the service's own, such as its inbound side. It falls when
    latency rises above `tolerance` times its long-term average, at most by half, and otherwise
    rises by the number of calls that may queue (4). Defaults are Netflix's: 20 at first, between
    20 and 200, tolerance 1.5. Calls wait as for Limit.
    """

    initial: int = 20
    minimum: int = 20
    maximum: int = 200
    tolerance: float = 1.5
    max_queue: int = 100
    queue_timeout: check.Seconds = 5.0

    def __post_init__(self) -> None:
        _check("GradientLimit", self)

    def bind(self) -> GradientState:
        """A limit with nothing in flight, that has learnt nothing."""
        return GradientState(self)


def _check(name: str, limit: AdaptiveLimit | GradientLimit) -> None:
    check.count(f"{name}.minimum", limit.minimum)
    check.count(f"{name}.maximum", limit.maximum, minimum=limit.minimum)
    check.count(f"{name}.initial", limit.initial, minimum=limit.minimum)
    if limit.initial > limit.maximum:
        raise check.fault(f"{name}.initial", limit.initial, f"at most {name}.maximum, {limit.maximum}")
    check.number(f"{name}.tolerance", limit.tolerance, minimum=1.0, above=True)
    check.count(f"{name}.max_queue", limit.max_queue, minimum=0)
    check.seconds(f"{name}.queue_timeout", limit.queue_timeout)


class MovingState(LimitState):
    """A LimitState whose `max_in_flight` follows `limit`, a float between two bounds."""

    __slots__ = ("_maximum", "_minimum", "limit")

    def __init__(self, setting: AdaptiveLimit | GradientLimit) -> None:
        super().__init__(setting.initial, setting.max_queue, setting.queue_timeout)
        self._minimum, self._maximum = setting.minimum, setting.maximum
        self.limit = float(setting.initial)

    def _move(self, limit: float) -> None:
        """Set the limit, within its bounds; new places are given to those that wait."""
        self.limit = min(max(limit, self._minimum), self._maximum)
        self.max_in_flight = int(self.limit)
        if self._queue:
            self._fill()

    @property
    def _is_binding(self) -> bool:
        """True if so much of the limit is in use that it matters."""
        return self.in_flight * 2 >= self.limit


class Latency:
    """Averages of the seconds of successes: of the last ten, and of the last half minute."""

    __slots__ = ("_count", "_stamp", "deviation", "long", "short")

    def __init__(self) -> None:
        self.short = self.long = self.deviation = 0.0
        self._count = 0
        self._stamp = 0.0

    def record(self, seconds: float, now: float) -> None:
        """Take a sample into the averages."""
        self._count += 1
        first = 1.0 / self._count  # the first ones weigh the same
        fresh = max(first, _FRESH)
        self.deviation += fresh * (abs(seconds - self.short) - self.deviation)
        self.short += fresh * (seconds - self.short)
        self.long += max(first, min(_FRESH, (now - self._stamp) / _MEMORY)) * (seconds - self.long)
        self._stamp = now

    @property
    def likely(self) -> float:
        """Seconds within which nearly every answer comes; 0 while nothing is known."""
        return self.short + _DEVIATIONS * self.deviation


class AdaptiveState(MovingState):
    """What an AdaptiveLimit has learnt about one service."""

    __slots__ = ("_latency", "_overloaded_at", "_slow_start_until", "_tolerance")

    def __init__(self, setting: AdaptiveLimit) -> None:
        super().__init__(setting)
        self._tolerance = setting.tolerance
        self._latency = Latency()
        self._slow_start_until = float("inf")
        """The limit from which it grows slowly."""
        self._overloaded_at = float("-inf")

    def _next(self) -> Waiter:
        """Remove and return the latest waiter: of all, it has the best chance of being in time."""
        return self._queue.pop()

    def patience(self, left: float | None) -> float:
        """Seconds to wait: as long as an answer may still be expected in time."""
        return super().patience(None if left is None else left - self._latency.likely)

    def observe(self, outcome: Outcome, now: float) -> None:
        """Learn from an attempt."""
        if outcome.kind is Kind.SUCCESS:
            self._latency.record(outcome.seconds, now)
            if self._is_binding:
                self._grow(now)
        elif outcome.is_overload and (outcome.reason != "timeout" or outcome.seconds >= self._latency.short):
            # What was cut off sooner than answers usually come says nothing.
            self._cut(now)

    def _grow(self, now: float) -> None:
        if now - self._overloaded_at > _CALM:
            self._slow_start_until = float("inf")
        room = self._tolerance * self._latency.long / max(self._latency.short, 1e-9) - 1.0
        if room > 0:
            step = 1.0 if self.limit < self._slow_start_until else _STEP / self.limit
            self._move(self.limit + min(room, 1.0) * step)

    def _cut(self, now: float) -> None:
        self._overloaded_at = now
        self._slow_start_until = max(min(self._slow_start_until, self.limit) - _CUT, self._minimum)
        # A limit far above what is in use does not show that the service can bear that much.
        self._move(min(self.limit, max(2.0 * self.in_flight, 1.0)) - _CUT)


class GradientState(MovingState):
    """What a GradientLimit has learnt about one service."""

    __slots__ = ("_count", "_long", "_tolerance")

    def __init__(self, setting: GradientLimit) -> None:
        super().__init__(setting)
        self._tolerance = setting.tolerance
        self._count = 0.0
        self._long = 0.0

    def observe(self, outcome: Outcome, now: float) -> None:  # noqa: ARG002
        """Learn from an attempt: from successes alone, since a failure may be fast."""
        if outcome.kind is not Kind.SUCCESS:
            return
        seconds = max(outcome.seconds, 1e-9)
        self._count = min(self._count + 1.0, _SAMPLES)
        self._long += (seconds - self._long) / self._count
        if self._long > 2.0 * seconds:
            self._long *= 0.95  # recover from an overload sooner than the average would
        if self._is_binding:
            gradient = min(max(self._tolerance * self._long / seconds, 0.5), 1.0)
            target = gradient * self.limit + _QUEUE
            self._move(self.limit + _SMOOTHING * (target - self.limit))
