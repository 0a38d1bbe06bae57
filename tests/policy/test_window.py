"""The sliding window of results, against a list of all of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from resilient.policy.window import BUCKETS, Window

LENGTH = 2.5  # a bucket is 0.25 s: exact in binary, so that the naive sums below are exact too


def test_counts_results_and_failures():
    window = Window(10.0)
    for failed in (True, False, True):
        window.record(failed, 0.5)
    assert (window.results, window.failures) == (3, 2)


def test_a_result_leaves_with_its_bucket():
    window = Window(10.0)
    window.record(True, 0.9)
    window.record(False, 9.9)
    assert (window.results, window.failures) == (2, 1)
    window.record(False, 10.0)
    assert (window.results, window.failures) == (2, 0)


def test_a_pause_longer_than_the_window_clears_the_whole_ring():
    window = Window(10.0)
    for second in range(10):
        window.record(True, float(second))
    window.record(False, 1000.0)
    assert (window.results, window.failures) == (1, 0)


def test_a_time_that_goes_back_counts_in_the_current_bucket():
    window = Window(10.0)
    window.record(True, 5.0)
    window.record(True, 1.0)
    window.record(False, 14.0)
    assert (window.results, window.failures) == (3, 2)


def test_turning_twice_at_one_time_changes_nothing():
    window = Window(10.0)
    window.record(True, 3.0)
    window.turn(4.0)
    window.turn(4.0)
    assert (window.results, window.failures) == (1, 1)


@given(st.lists(st.tuples(st.integers(0, 30), st.booleans())))
def test_holds_what_a_list_of_all_results_would(steps):
    window, now, history = Window(LENGTH), 0.0, []
    for quarter_buckets, failed in steps:
        now += quarter_buckets / 16
        window.record(failed, now)
        history.append((int(now / 0.25), failed))
        recent = [was_failed for bucket, was_failed in history if bucket > int(now / 0.25) - BUCKETS]
        assert (window.results, window.failures) == (len(recent), sum(recent))
