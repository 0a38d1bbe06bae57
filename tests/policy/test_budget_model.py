"""The retry budget against a model that keeps lists of moments and recounts them every time."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from resilient import RetryBudget

# Whole numbers of sixteenths all over, so that both sides count without rounding.
WINDOW, SLOT = 2.5, 0.25
PAUSES = [0.0, 0.0625, 0.1875, 0.25, 0.5, 1.0, 2.25, 2.5, 4.0, 60.0]


class BudgetMachine(RuleBasedStateMachine):
    """A call pays a share that lasts for a window; the reserve refills by itself; a retry takes from both."""

    @initialize(
        ratio=st.sampled_from([0.0, 0.125, 0.25, 0.5, 1.0]),
        floor=st.sampled_from([0.0, 0.5, 4.0, 10.0]),
    )
    def begin(self, ratio: float, floor: float) -> None:
        self.state = RetryBudget(ratio=ratio, min_per_second=floor, window=WINDOW).bind()
        self.ratio, self.floor = ratio, floor
        self.full = max(floor, 5.0) if floor else 0.0
        self.now = 7.0
        self.slots_from: float | None = None
        self.latest = 7.0
        self.shares: list[tuple[float, float]] = []
        """What calls have paid in, and retries taken, of the share, and when."""
        self.reserves: list[tuple[float, float]] = []
        """What retries have taken of the reserve, and when."""
        self.taken = (0.0, 0.0)

    def slot(self, moment: float) -> float:
        assert self.slots_from is not None
        return (moment - self.slots_from) // SLOT

    def begin_slots(self) -> None:
        """Slots are counted from the first use, and anew after a window without any."""
        if self.slots_from is None or self.slot(self.now) - self.slot(self.latest) >= WINDOW / SLOT:
            self.slots_from, self.shares = self.now, []
        self.latest = self.now

    def share(self) -> float:
        """What is left of the share: the slot that is being filled and the nine before it count."""
        return sum(amount for moment, amount in self.shares if self.slot(self.now) - self.slot(moment) < WINDOW / SLOT)

    def reserve(self) -> float:
        left, since = self.full, self.now
        for moment, amount in [*self.reserves, (self.now, 0.0)]:
            left = min(self.full, left + self.floor * max(0.0, moment - since)) - amount
            left, since = min(self.full, left), moment
        return left

    @rule(times=st.integers(1, 12))
    def call(self, times: int) -> None:
        self.begin_slots()
        for _ in range(times):
            self.state.deposit(self.now)
            self.shares.append((self.now, self.ratio))

    @rule(times=st.integers(1, 12))
    def retry(self, times: int) -> None:
        self.begin_slots()
        for _ in range(times):
            share, reserve = self.share(), self.reserve()
            assert self.state.withdraw(self.now) is (max(share, reserve) >= 1)
            if max(share, reserve) >= 1:
                self.taken = min(1.0, max(0.0, share)), min(1.0, reserve)
                self.put(-self.taken[0], -self.taken[1])

    @rule()
    def give_back(self) -> None:
        """The attempt was not made; the one before it was."""
        self.begin_slots()
        self.state.give_back(self.now)
        self.put(*self.taken)
        self.taken = (0.0, 0.0)

    def put(self, share: float, reserve: float) -> None:
        self.shares.append((self.now, share))
        self.reserves.append((self.now, -reserve))

    @rule(pause=st.sampled_from(PAUSES))
    def wait(self, pause: float) -> None:
        self.now += pause

    @rule(pause=st.sampled_from(PAUSES))
    def look(self, pause: float) -> None:
        self.now += pause
        self.begin_slots()
        assert self.state.available(self.now) == max(0.0, self.share(), self.reserve())

    @invariant()
    def the_reserve_is_never_in_debt(self) -> None:
        assert 0.0 <= self.reserve() <= self.full


BudgetMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestBudget = BudgetMachine.TestCase
