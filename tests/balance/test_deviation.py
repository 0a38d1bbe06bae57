"""The arithmetic of peers, by hand."""

from __future__ import annotations

from resilient.balance.deviation import latency_outliers, success_rate_outliers


def rates(*values):
    return dict(enumerate(values))


def test_the_example_of_the_envoy_documentation():
    # mean 90, standard deviation 20, threshold 52
    assert success_rate_outliers(rates(0.5, 1, 1, 1, 1), 1.9) == [0]


def test_the_worst_comes_first():
    assert success_rate_outliers(rates(0.6, 0.5, *[1.0] * 18), 1.9) == [1, 0]


def test_one_failure_in_a_hundred_is_no_outlier_however_equal_the_others_are():
    assert success_rate_outliers(rates(0.99, 1, 1, 1, 1), 1.9) == []


def test_where_all_are_alike_nobody_is_one():
    assert success_rate_outliers(rates(0.5, 0.5, 0.5, 0.5, 0.5), 1.9) == []
    assert success_rate_outliers({}, 1.9) == []


def test_latency_is_held_to_the_median_of_medians():
    assert latency_outliers(rates(0.01, 0.012, 0.011, 0.034), 3.0) == []
    assert latency_outliers(rates(0.01, 0.012, 0.011, 0.040, 0.1), 3.0) == [4, 3]


def test_two_cannot_tell_which_is_the_odd_one():
    assert latency_outliers(rates(0.01, 1.0), 3.0) == []


def test_a_few_milliseconds_are_the_way_there():
    assert latency_outliers(rates(0.001, 0.001, 0.005), 3.0) == []
    assert latency_outliers(rates(0.001, 0.001, 0.007), 3.0) == [2]
