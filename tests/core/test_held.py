"""What a response with an open body occupies is given back once."""

from __future__ import annotations

from random import Random

import httpx

from resilient import Limit, Policy
from resilient.balance.endpoint import Endpoint
from resilient.balance.picker import Pick
from resilient.core.bound import Bound
from resilient.core.classify import HttpClassifier
from resilient.core.held import Held
from resilient.core.outcome import Kind, Outcome


def test_who_closes_it_a_second_time_gives_nothing_back() -> None:
    bound = Bound("orders", Policy(limit=Limit(max_in_flight=3)), Random(1), HttpClassifier())
    bound.update([Endpoint("10.0.0.1", 80)], 0.0)
    [stats], limit = bound.members, bound.limit
    assert limit is not None
    assert limit.acquire()
    assert limit.acquire()
    held, _other = Held(bound, Pick(stats, 0.0), limit, Outcome(Kind.SUCCESS)), Pick(stats, 0.0)
    held.broke(httpx.ReadError(""), 1.0)
    assert (stats.failures, stats.in_flight, limit.in_flight) == (1, 2, 2)
    assert held.release(3.0)
    assert not held.release(3.0)
    held.broke(httpx.ReadError(""), 2.0)
    assert (stats.failures, stats.in_flight, limit.in_flight) == (1, 1, 1)
