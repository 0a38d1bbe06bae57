"""Throttle: refuse on this side what the other would refuse anyway.

Beyer et al., "Site Reliability Engineering" (2016), chapter 21, "Client-side throttling": a
call is refused with the probability

    max(0, (requests - multiplier * accepts) / (requests + 1))

over the last seconds. Where the service rejects half of the requests, nothing is refused here;
where it rejects all, nearly all are, and the few that pass find out when the overload ends. It
needs only its own counts, so it works where there are more clients than a service has places,
and a limit on calls in flight cannot go low enough.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from resilient.core import check
from resilient.policy.window import Window


@check.setting
@dataclass(frozen=True, slots=True)
class Throttle:
    """Refuses calls at random while a service is rejecting too much for overload.

    Overload is a 429, a 503, a refused stream, and no answer in the time that answers usually
    take; a 500 is not. `multiplier`: calls are refused above this many requests for each accepted
    one; 2 leaves the service twice what it accepts, 1.1 spares it nearly all of the excess.
    `window`: seconds that count. `max_refusal_ratio`: the largest share that is refused, since
    some calls must pass to see the end of it (0.9, failsafe-go's; Envoy has 0.8).
    `minimum_per_second`: a service called less often is never throttled, since chance looks like
    overload there (1). A refused call raises RateLimited.

    Defaults: 2 (Google's), and 10 s; Envoy's 30 s and Google's two minutes keep on refusing
    for about as long after the overload has ended.
    """

    multiplier: float = 2.0
    window: check.Seconds = 10.0
    max_refusal_ratio: float = 0.9
    minimum_per_second: float = 1.0

    def __post_init__(self) -> None:
        check.number("Throttle.multiplier", self.multiplier, minimum=1.0)
        check.seconds("Throttle.window", self.window)
        check.ratio("Throttle.max_refusal_ratio", self.max_refusal_ratio)
        if self.max_refusal_ratio == 1:
            raise check.fault("Throttle.max_refusal_ratio", 1, "a ratio below 1, or the end would not be seen")
        check.number("Throttle.minimum_per_second", self.minimum_per_second)

    def bind(self) -> ThrottleState:
        """A throttle that has counted nothing."""
        return ThrottleState(self)


class ThrottleState:
    """What one service has accepted and rejected, including our own refusals."""

    __slots__ = ("_minimum", "_setting", "_window")

    def __init__(self, setting: Throttle) -> None:
        self._setting = setting
        self._window = Window(setting.window)
        self._minimum = setting.minimum_per_second * setting.window

    def admit(self, now: float, rng: Random) -> bool:
        """False if the call is refused; that is counted here."""
        if not self._window.failures:
            return True
        if rng.random() >= self.refusal_ratio(now):
            return True
        self._window.record(True, now)
        return False

    def refusal_ratio(self, now: float) -> float:
        """The probability with which a call is refused at `now`."""
        window = self._window
        if now >= window.end:
            window.turn(now)
        requests = window.results
        if requests < self._minimum:
            return 0.0
        accepts = requests - window.failures
        excess = (requests - self._setting.multiplier * accepts) / (requests + 1)
        return min(max(excess, 0.0), self._setting.max_refusal_ratio)

    def observe(self, overloaded: bool, now: float) -> None:
        """Count an attempt that was made: rejected for overload, or accepted."""
        self._window.record(overloaded, now)
