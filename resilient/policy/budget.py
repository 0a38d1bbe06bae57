"""Retry budget: retries as a share of requests, so that a fault cannot become a storm.

Why a share and not a count per call: with n attempts allowed in each layer and a total
outage, counts multiply the load by n to the power of the layers; a share adds a fifth, whatever n is.

The windowed bucket is Finagle's RetryBudget (deposit one per request, withdraw 1/ratio per
retry, 20 %, 10 a second) with three changes. Its window of 10 s keeps what calm times did not
spend, and the first seconds of a fault spend it all at once: ours is 2 s. Its floor of
`min_per_second` is there for the whole window at once, 100 retries at a cold start with its
defaults; ours refills at that rate and holds one second's worth, 5 at least, so that a process
which has just started can retry too. And it adds the floor to the share, so 80 requests a second,
a third of which fail, make 1.33 attempts each with a budget of "20 %"; ours is the larger of the
two (as Envoy's `budget_percent` and `min_retry_concurrency`), since a floor is the least that is
allowed, not an extra: a retry is paid for from both, as far as they reach. So where all calls are
alike, over any time t:
retries <= max(ratio * calls in (t + window), min_per_second * t + max(min_per_second, 5)).

A budget belongs to a process. The floor is for services with little traffic; ten processes that
share 200 requests a second have more retries from their floors than from their shares, and make
1.54 attempts per call if 90 % fail, against 1.21 with a floor of 1 (simulated). A large fleet
should divide the floor among its processes.
"""

from __future__ import annotations

from dataclasses import dataclass

from resilient.core import check

_ONE = 1 - 1e-9  # what one retry costs, whatever floats make of five fifths
_RESERVE = 5.0  # retries: two calls of three attempts, or one of six
_SLOTS = 10  # of the window, as Tower's TpsBudget has; the window moves by a tenth at a time


@check.setting
@dataclass(frozen=True, slots=True)
class RetryBudget:
    """At most `ratio` retries per request over `window` seconds, but at least `min_per_second`.

    One budget serves all calls of a service in a Mesh, whichever client makes them; hedges
    draw from it as well. Retries of what never left the process are free. Defaults: 0.2 and 10
    a second (Finagle; Gateway API GEP-3388 has the same), 2 s.
    """

    ratio: float = 0.2
    min_per_second: float = 10.0
    window: check.Seconds = 2.0

    def __post_init__(self) -> None:
        check.ratio("RetryBudget.ratio", self.ratio)
        check.number("RetryBudget.min_per_second", self.min_per_second)
        check.seconds("RetryBudget.window", self.window)

    def bind(self) -> BudgetState:
        """A budget with nothing spent."""
        return BudgetState(self)


class BudgetState:
    """The counts of one budget. `deposit` per call, `withdraw` per retry or hedge."""

    __slots__ = (
        "_balance",
        "_full",
        "_index",
        "_reserve",
        "_reserve_at",
        "_slot_end",
        "_slots",
        "_taken",
        "_width",
        "setting",
    )

    def __init__(self, setting: RetryBudget) -> None:
        self.setting = setting
        self._width = setting.window / _SLOTS
        self._slots = [0.0] * _SLOTS
        self._index = 0
        self._slot_end = float("-inf")
        self._balance = 0.0  # the sum of the slots, kept beside them
        self._taken = (0.0, 0.0)  # of it and of the reserve, by the latest withdrawal
        self._full = max(setting.min_per_second, _RESERVE) if setting.min_per_second else 0.0
        self._reserve = self._full
        self._reserve_at: float | None = None

    def deposit(self, now: float) -> None:
        """Count one call."""
        if now >= self._slot_end:
            self._turn(now)
        self._slots[self._index] += self.setting.ratio
        self._balance += self.setting.ratio

    def withdraw(self, now: float) -> bool:
        """Take what one retry costs; False, and nothing taken, if it is not there."""
        self._bring_up(now)
        if self._balance < _ONE and self._reserve < _ONE:
            return False
        taken, reserve = min(1.0, max(0.0, self._balance)), min(1.0, self._reserve)
        self._slots[self._index] -= taken
        self._balance -= taken
        self._reserve -= reserve
        self._taken = taken, reserve
        return True

    def give_back(self, now: float) -> None:
        """Undo the latest withdrawal: the attempt was not made."""
        self._bring_up(now)
        (taken, reserve), self._taken = self._taken, (0.0, 0.0)
        self._slots[self._index] += taken
        self._balance += taken
        self._reserve = min(self._full, self._reserve + reserve)

    def available(self, now: float) -> float:
        """Retries that could be made at `now`."""
        self._bring_up(now)
        return max(0.0, self._balance, self._reserve)

    def _bring_up(self, now: float) -> None:
        """Bring the balance and the reserve up to `now`."""
        if now >= self._slot_end:
            self._turn(now)
        since = self._reserve_at if self._reserve_at is not None else now
        self._reserve = min(self._full, self._reserve + self.setting.min_per_second * max(0.0, now - since))
        self._reserve_at = now

    def _turn(self, now: float) -> None:
        """Forget the slots that have left the window."""
        passed = int((now - self._slot_end) / self._width) + 1 if self._slot_end > float("-inf") else _SLOTS
        if passed >= _SLOTS:
            self._slots = [0.0] * _SLOTS
            self._slot_end = now + self._width
        elif passed > 0:
            for _ in range(passed):
                self._index = (self._index + 1) % _SLOTS
                self._slots[self._index] = 0.0
            self._slot_end += passed * self._width
        self._balance = sum(self._slots)
