"""The detector against a model that keeps everything in lists and recounts it every time."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from resilient.balance.outlier import OutlierDetection
from resilient.balance.picker import Pick
from tests.balance.fleets import answered, cancelled, fleet, overflowed, success, timed_out, unreachable

BASE, LONGEST, INTERVAL, RAMP, JITTER = 30.0, 75.0, 10.0, 20.0, 0.1
RESULTS = {
    "success": (success(), "good"),
    "unreachable": (unreachable(), "local"),
    "timeout": (timed_out(1.0), "local"),
    "500": (answered(500), "bad"),
    "502": (answered(502), "gateway"),
    "503": (answered(503), "gateway"),
    "429": (answered(429), None),
    "cancelled": (cancelled(1.0), None),
    "overflow": (overflowed(), None),
}


@dataclass
class Known:
    """What the model knows of an endpoint: its results since it came into use, and its ejections."""

    results: list[tuple[float, str]]
    until: float | None = None
    multiplier: int = 0
    cause: str = ""
    state: str = "in use"
    ramp_began: float = 0.0

    def trailing(self, *kinds):
        """How many results of these kinds it ends with."""
        count = 0
        while count < len(self.results) and self.results[-1 - count][1] in kinds:
            count += 1
        return count

    def recent(self, now):
        """What of the window counts: the second that has begun, and the nine before it."""
        return [kind for time, kind in self.results if now // 1 - time // 1 < INTERVAL]


class DetectorMachine(RuleBasedStateMachine):
    @initialize(
        size=st.sampled_from([1, 2, 3, 3, 4, 4, 7]),
        cap=st.sampled_from([0.0, 0.1, 0.34, 0.5, 1.0, 1.0]),
        in_a_row=st.sampled_from([None, 3, 5]),
        gateway=st.sampled_from([None, 2, 2]),
        local=st.sampled_from([None, 2, 2]),
        ratio=st.sampled_from([None, None, 0.25, 0.5, 1.0]),
        volume=st.sampled_from([3, 6, 10]),
    )
    def begin(self, size, cap, in_a_row, gateway, local, ratio, volume):
        self.now, self.ratio = 0.0, cap
        self.everybody = fleet(*[1] * 8)
        self.members = self.everybody[:size]
        self.setting = OutlierDetection(
            consecutive_failures=in_a_row,
            consecutive_gateway_failures=gateway,
            consecutive_local_failures=local,
            failure_ratio=ratio,
            minimum_volume=volume,
            success_rate_stdev_factor=None,
            base_ejection_time=BASE,
            max_ejection_time=LONGEST,
            ejection_jitter_ratio=JITTER,
            max_ejection_ratio=cap,
            window=INTERVAL,
            ramp=RAMP,
        )
        self.detector = self.setting.bind()
        self.rng, self.same_rng = Random(1), Random(1)
        self.known = {stats: Known([]) for stats in self.everybody}
        self.interval_ends = INTERVAL
        self.usable = self.detector.available(self.members, 0.0)

    def cap(self):
        size = len(self.members)
        return 0 if size < 2 or not self.ratio else min(size - 1, max(1, int(size * self.ratio)))

    def out(self):
        return [stats for stats in self.members if self.known[stats].until is not None]

    def bring_back(self, stats):
        known = self.known[stats]
        known.until, known.results, known.state = None, [], "probing"

    @rule(which=st.integers(0, 3), result=st.sampled_from(sorted(RESULTS)), times=st.integers(1, 5))
    def result(self, which, result, times):
        stats = self.members[which % len(self.members)]
        outcome, kind = RESULTS[result]
        for _ in range(times):
            changed = self.expected_change(self.known[stats], kind)
            Pick(stats, self.now).done(outcome, self.now)
            assert self.detector.observe(stats, outcome, self.now, self.rng) is changed
            if changed:
                self.usable = self.detector.available(self.members, self.now)

    @rule(first=st.integers(0, 6), count=st.integers(2, 6), result=st.sampled_from(["unreachable", "500"]))
    def an_outage(self, first, count, result):
        for which in range(first, first + count):
            self.result(which, result, 5)

    @rule(which=st.integers(0, 1), results=st.lists(st.sampled_from(sorted(RESULTS)), max_size=8))
    def a_mixture(self, which, results):
        for result in results:
            self.result(which, result, 1)

    @rule(which=st.integers(0, 1), bad=st.sampled_from(["500", "502", "timeout"]), times=st.integers(1, 6))
    def every_other_fails(self, which, bad, times):
        """No row becomes long."""
        for _ in range(times):
            self.result(which, "success", 1)
            self.result(which, bad, 1)

    @rule(
        which=st.integers(0, 1),
        row=st.sampled_from(["502", "timeout"]),
        between=st.sampled_from(["500", "503", "unreachable", "success", "429"]),
    )
    def a_row_with_another_between(self, which, row, between):
        for result in (row, between, row):
            self.result(which, result, 1)

    @rule(which=st.integers(0, 1), good=st.integers(0, 9), bad=st.integers(1, 4), pause=st.sampled_from([3.0, 10.0]))
    def a_pause_and_then_both(self, which, good, bad, pause):
        """What was counted before the pause has left the window, or some of it."""
        self.time_passes(pause)
        self.result(which, "success", good)
        self.result(which, "500", bad)

    def expected_change(self, known, kind):
        if kind is None or known.until is not None:
            return False
        known.results.append((self.now, kind))
        if kind == "good":
            if known.state == "probing":
                known.state, known.ramp_began = "ramping", self.now
            elif known.state == "ramping" and self.now - known.ramp_began >= RAMP:
                known.state = "in use"
            return False
        cause = "probe" if known.state == "probing" else self.expected_cause(known)
        if cause is None or len(self.out()) >= self.cap():
            return False
        if known.multiplier * BASE < LONGEST:
            known.multiplier += 1
        jitter = JITTER * self.same_rng.random()
        known.cause, known.until = cause, self.now + min(BASE * known.multiplier, LONGEST) * (1 + jitter)
        return True

    def expected_cause(self, known):
        setting, recent = self.setting, known.recent(self.now)
        rows = {
            "consecutive-local-failures": (setting.consecutive_local_failures, known.trailing("local")),
            "consecutive-gateway-failures": (setting.consecutive_gateway_failures, known.trailing("gateway")),
            "consecutive-failures": (setting.consecutive_failures, known.trailing("local", "gateway", "bad")),
        }
        for cause, (limit, row) in rows.items():
            if limit is not None and row >= limit:
                return cause
        failed = len(recent) - recent.count("good")
        ratio = setting.failure_ratio
        is_enough = ratio is not None and len(recent) >= setting.minimum_volume and failed / len(recent) >= ratio
        return "failure-ratio" if is_enough else None

    @rule(seconds=st.sampled_from([0.5, 1.0, 3.0, 9.5, 10.0, 29.0, 61.0]))
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
        assert self.detector.sweep(self.members, self.now, self.rng) is bool(back)
        if back:
            self.usable = self.detector.available(self.members, self.now)

    def calm_down(self, known):
        ramped = known.state == "ramping" and self.now - known.ramp_began >= RAMP
        if known.multiplier and known.until is None and (known.state == "in use" or ramped):
            known.multiplier -= 1

    @rule(which=st.integers(0, 6))
    def a_check_finds_it_well(self, which):
        stats = self.members[which % len(self.members)]
        is_out = self.known[stats].until is not None
        assert self.detector.restore(stats) is is_out
        if is_out:
            self.bring_back(stats)
            self.usable = self.detector.available(self.members, self.now)

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
            assert stats.cause == known.cause
            if known.until is None:
                assert stats.consecutive_failures == known.trailing("local", "gateway", "bad")
            assert stats.in_flight == 0


TestDetector = DetectorMachine.TestCase
TestDetector.settings = settings(max_examples=250, stateful_step_count=40, deadline=None)
