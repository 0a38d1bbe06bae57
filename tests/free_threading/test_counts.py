"""What is in flight comes down to 0 again, whatever threads do at the same time."""

from __future__ import annotations

import sys
import threading
from random import Random

import pytest

import resilient
from resilient.balance import picker
from resilient.balance.endpoint import Endpoint, EndpointStats
from resilient.core import counting
from resilient.core.outcome import Kind, Outcome


@pytest.fixture(autouse=True)
def hasty():
    """Threads give way as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def in_threads(work):
    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


class Divisible:
    """A count whose addition is not whole, even under the GIL."""

    def __init__(self):
        self.value = 0

    @property
    def in_flight(self):
        value = self.value
        for _ in range(3):  # a jump backwards, where a thread may give way
            pass
        return value

    @in_flight.setter
    def in_flight(self, value):
        self.value = value


def test_an_addition_that_is_not_whole_is_made_so():
    counted = Divisible()
    in_threads(lambda _: [counting.count(counted, change) for change in (1, 2, -1, -1) * 500])
    assert counted.value == 8 * 500


@pytest.mark.parametrize("has_gil", {counting.HAS_GIL, False})
def test_in_flight_returns_to_zero(monkeypatch, has_gil):
    monkeypatch.setattr(picker, "HAS_GIL", has_gil)
    stats = [EndpointStats(Endpoint("10.0.0.1", port)) for port in (1, 2)]
    picks, rng, good = resilient.PeakEwma().picker(stats), Random(1), Outcome(Kind.SUCCESS, "")

    def work(_):
        for _ in range(1000):
            picks.pick(0.0, rng).done(good, 0.0)

    in_threads(work)
    assert [one.in_flight for one in stats] == [0, 0]


def test_a_forked_child_counts_though_a_thread_of_its_parent_was_counting():
    counted = EndpointStats(Endpoint("10.0.0.1", 1))
    held, done = threading.Event(), threading.Event()

    def hold():
        with counting._lock:
            held.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    counting.after_fork()
    counting.count(counted, 1)
    done.set()
    thread.join()
    assert counted.in_flight == 1
