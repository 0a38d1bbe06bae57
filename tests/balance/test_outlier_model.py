"""The detector against a model that keeps everything in lists and recounts it every time."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from resilient.balance.outlier import OutlierDetection
from resilient.balance.picker import Pick
from tests.balance.fleets import answered, cancelled, fleet, overflowed, success, unreachable

LIMIT, BASE, LONGEST, INTERVAL, RAMP = 3, 30.0, 75.0, 10.0, 20.0
RESULTS = {
    "success": (success(), True),
    "unreachable": (unreachable(), False),
    "500": (answered(500), False),
    "429": (answered(429), None),
    "cancelled": (cancelled(1.0), None),
    "overflow": (overflowed(), None),
}


class Known:
    """What the model knows of an endpoint."""

    def __init__(self):
        self.row, self.until, self.multiplier = [], None, 0
        self.state, self.ramp_began = "in use", None

    def trailing(self):
        """How many failures the row ends with."""
        return len(self.row) - max((at + 1 for at, good in enumerate(self.row) if good), default=0)


class DetectorMachine(RuleBasedStateMachine):
    @initialize(size=st.integers(1, 7), ratio=st.sampled_from([0.0, 0.1, 0.34, 0.5, 1.0]))
    def begin(self, size, ratio):
        self.ratio, self.now = ratio, 0.0
        self.everybody = fleet(*[1] * 8)
        self.members = self.everybody[:size]
        self.detector = OutlierDetection(
            consecutive_failures=LIMIT,
            failure_ratio=None,
            success_rate_stdev_factor=None,
            base_ejection_time=BASE,
            max_ejection_time=LONGEST,
            max_ejection_ratio=ratio,
            window=INTERVAL,
            ramp=RAMP,
        ).bind()
        self.known = {stats: Known() for stats in self.everybody}
        self.interval_ends = INTERVAL
        self.usable = self.detector.available(self.members, 0.0)

    def cap(self):
        size = len(self.members)
        return 0 if size < 2 or not self.ratio else min(size - 1, max(1, int(size * self.ratio)))

    def out(self):
        return [stats for stats in self.members if self.known[stats].until is not None]

    def bring_back(self, stats):
        known = self.known[stats]
        known.until, known.row, known.state = None, [], "probing"

    @rule(which=st.integers(0, 6), result=st.sampled_from(sorted(RESULTS)), times=st.integers(1, 4))
    def result(self, which, result, times):
        stats = self.members[which % len(self.members)]
        outcome, good = RESULTS[result]
        for _ in range(times):
            changed = self.expected_change(self.known[stats], good)
            Pick(stats, self.now).done(outcome, self.now)
            assert self.detector.observe(stats, outcome, self.now) is changed
            if changed:
                self.usable = self.detector.available(self.members, self.now)

    @rule(first=st.integers(0, 6), count=st.integers(2, 6))
    def an_outage(self, first, count):
        for which in range(first, first + count):
            self.result(which, "unreachable", LIMIT)

    def expected_change(self, known, good):
        if good is None or known.until is not None:
            return False
        known.row.append(good)
        if good:
            if known.state == "probing":
                known.state, known.ramp_began = "ramping", self.now
            elif known.state == "ramping" and self.now - known.ramp_began >= RAMP:
                known.state = "in use"
            return False
        if known.state != "probing" and known.trailing() < LIMIT:
            return False
        if len(self.out()) >= self.cap():
            return False
        if known.multiplier * BASE < LONGEST:
            known.multiplier += 1
        known.until = self.now + min(BASE * known.multiplier, LONGEST)
        return True

    @rule(seconds=st.sampled_from([0.5, 3.0, 10.0, 29.0, 61.0]))
    def time_passes(self, seconds):
        self.now += seconds
        due = min([self.interval_ends, *[self.known[stats].until for stats in self.out()]])
        assert self.detector.next_change == due
        if self.now < due:
            return
        back = [stats for stats in self.out() if self.known[stats].until <= self.now]
        for stats in back:
            self.bring_back(stats)
        if self.now >= self.interval_ends:
            self.interval_ends = self.now + INTERVAL
            for stats in self.members:
                self.calm_down(self.known[stats])
        assert self.detector.sweep(self.members, self.now) is bool(back)
        if back:
            self.usable = self.detector.available(self.members, self.now)

    def calm_down(self, known):
        ramped = known.state == "ramping" and self.now - known.ramp_began >= RAMP
        if known.multiplier and known.until is None and (known.state == "in use" or ramped):
            known.multiplier -= 1

    @rule(size=st.integers(1, 8))
    def the_set_changes(self, size):
        self.members = self.everybody[8 - size :] if size % 2 else self.everybody[:size]
        excess = len(self.out()) - self.cap()
        by_return = sorted(self.out(), key=lambda stats: self.known[stats].until)
        self.usable = self.detector.available(self.members, self.now)
        restored = [stats for stats in by_return if stats.ejected_until is None]
        assert len(restored) == max(0, excess)
        times = [self.known[stats].until for stats in by_return]
        assert [self.known[stats].until for stats in restored] == times[: len(restored)]
        for stats in restored:
            self.bring_back(stats)

    @invariant()
    def the_cap_holds_and_the_last_one_stays(self):
        assert self.usable
        assert len(self.out()) <= self.cap()
        assert self.usable == [stats for stats in self.members if stats.ejected_until is None]

    @invariant()
    def the_counts_agree(self):
        for stats, known in self.known.items():
            assert stats.ejected_until == known.until
            assert stats.ejections == known.multiplier
            if known.until is None:
                assert stats.consecutive_failures == known.trailing()
            assert stats.in_flight == 0


TestDetector = DetectorMachine.TestCase
TestDetector.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
