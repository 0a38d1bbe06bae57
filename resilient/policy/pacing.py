"""Pacing: what is left of the peer's rate limit is spread over the time until there is more."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

from resilient.core import check
from resilient.core.outcome import Outcome
from resilient.policy.quota import quota

_LONGEST = 300.0  # seconds for which a header is believed (Envoy's and Linkerd's cap on Retry-After)
_JITTER = 0.1  # of the time to a reset, so that clients do not all come back at that moment


@check.setting
@dataclass(frozen=True, slots=True)
class Pacing:
    """Delays calls when there are more to send than the peer's headers say are left.

    It reads `RateLimit` (draft-ietf-httpapi-ratelimit-headers), `RateLimit-Remaining` and
    `-Reset`, and both with `X-` in front; after a 429 or 503 its `Retry-After` holds instead.
    While fewer are left than are in flight and waiting, calls are sent at intervals of the time
    to the reset divided by what is left, with jitter. `max_delay`: the most seconds that a call
    is delayed (1). No call is refused, and none is delayed beyond its deadline: such a call is
    sent at once, since the peer's answer says more than we know.
    """

    max_delay: check.Seconds = 1.0

    def __post_init__(self) -> None:
        check.seconds("Pacing.max_delay", self.max_delay)

    def bind(self) -> PacingState:
        """A pacing that knows of no limit."""
        return PacingState(self)


class PacingState:
    """The quota of one service as last heard, and when the next delayed call may be sent."""

    __slots__ = ("_max_delay", "_next", "_until", "remaining")

    def __init__(self, setting: Pacing) -> None:
        self._max_delay = setting.max_delay
        self._until = float("-inf")
        self._next = float("-inf")
        self.remaining = 0
        """Requests left, as last heard; it means something until the reset."""

    def is_limited(self, now: float) -> bool:
        """True while a quota is known; else there is no delay."""
        return now < self._until

    def delay(self, in_flight: int, left: float | None, now: float, rng: Random) -> float:
        """Seconds that a call with `left` seconds in all has to wait; takes its turn."""
        seconds = self._until - now
        if seconds <= 0:
            return 0.0
        interval = seconds / max(1, self.remaining)
        waiting = max(0.0, self._next - now) / interval
        if in_flight + waiting < self.remaining:
            return 0.0
        turn = max(self._next, now) + interval * (0.5 + rng.random())
        # Nobody waits past the reset, but for jitter: they must not all go at once.
        turn = min(turn, self._until + seconds * _JITTER * rng.random())
        wait = min(turn - now, self._max_delay)
        if left is not None and wait >= left:
            return 0.0
        self._next = turn
        return wait

    def observe(self, outcome: Outcome, now: float) -> None:
        """Read what a response says. A `Retry-After` applies now, whatever is left for later."""
        if outcome.retry_after is not None:
            self._hear(0, outcome.retry_after, now)
            return
        headers: Any = getattr(outcome.response, "headers", None)
        told = quota(headers) if headers is not None else None
        if told is not None:
            self._hear(told.remaining, told.seconds, now)

    def _hear(self, remaining: int, seconds: float, now: float) -> None:
        self.remaining = remaining
        self._until = now + min(seconds, _LONGEST)
