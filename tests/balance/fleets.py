"""Endpoints, outcomes and picks for the tests of balancing."""

from __future__ import annotations

from collections import Counter
from random import Random

from resilient.balance.endpoint import Endpoint, EndpointStats
from resilient.balance.least_request import LeastRequest
from resilient.balance.maglev import Maglev
from resilient.balance.peak_ewma import PeakEwma
from resilient.balance.random_choice import Random as RandomChoice
from resilient.balance.ring_hash import RingHash
from resilient.balance.round_robin import RoundRobin
from resilient.core.outcome import Kind, Origin, Outcome, Safety

BALANCERS = {
    "peak_ewma": PeakEwma(),
    "least_request": LeastRequest(),
    "least_request_of_3": LeastRequest(choice_count=3),
    "round_robin": RoundRobin(),
    "random": RandomChoice(),
    "ring_hash": RingHash(minimum_ring_size=64, maximum_ring_size=512),
    "ring_hash_bounded": RingHash(minimum_ring_size=64, maximum_ring_size=512, hash_balance_factor=1.25),
    "maglev": Maglev(table_size=251),
}


def fleet(*weights):
    return [EndpointStats(Endpoint(f"10.0.{n >> 8}.{n & 255}", 80, weight=weight)) for n, weight in enumerate(weights)]


def success(seconds=0.01):
    return _timed(Outcome(Kind.SUCCESS, status=200), seconds)


def answered(status, seconds=0.001, retry_after=None):
    kind = Kind.REFUSED if status == 429 else Kind.FAILURE
    return _timed(Outcome(kind, "5xx", status=status, retry_after=retry_after), seconds)


def unreachable(seconds=0.001):
    failure = Outcome(Kind.FAILURE, "connect-failure", safety=Safety.UNSENT, origin=Origin.LOCAL)
    return _timed(failure, seconds)


def timed_out(seconds):
    return _timed(Outcome(Kind.FAILURE, "timeout", safety=Safety.UNKNOWN, origin=Origin.LOCAL), seconds)


def cancelled(seconds):
    return _timed(Outcome(Kind.IGNORED, "cancelled"), seconds)


def overflowed(seconds=5.0):
    return _timed(Outcome(Kind.REFUSED, "overflow", safety=Safety.UNSENT, origin=Origin.LOCAL), seconds)


def _timed(outcome, seconds):
    outcome.seconds = seconds
    return outcome


def shares(picker, endpoints, picks=10_000, seed=1, now=0.0, outcome=None, keys=None, tried=()):
    """The share of each endpoint in picks that end at once."""
    rng, hits = Random(seed), Counter()
    for number in range(picks):
        pick = picker.pick(now, rng, tried, keys(number) if keys else None)
        hits[pick.stats] += 1
        pick.done(outcome or cancelled(0.0), now)
    return [hits[stats] / picks for stats in endpoints]


class CountedRandom(Random):
    """Counts draws."""

    draws = 0

    def random(self):
        self.draws += 1
        return super().random()
