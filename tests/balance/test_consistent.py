"""Ring hash and Maglev: the same key, the same endpoint."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from random import Random

import pytest

from resilient.balance.endpoint import Endpoint, EndpointStats
from resilient.balance.maglev import Maglev, build_table
from resilient.balance.ramp import Ramp
from resilient.balance.ring_hash import RingHash, build_ring
from resilient.core.bound import Bound
from resilient.core.check import ConfigError
from resilient.core.classify import HttpClassifier
from resilient.core.outcome import Kind
from resilient.policy.policy import Policy
from tests.balance.fleets import CountedRandom, fleet

KEYS = [b"user-%d" % number for number in range(4000)]
both = pytest.mark.parametrize("balancer", [RingHash(), Maglev(table_size=5003)], ids=["ring_hash", "maglev"])


def owners(picker, keys=KEYS, tried=(), now=0.0):
    found = []
    for key in keys:
        pick = picker.pick(now, Random(1), tried, key)
        pick.release()
        found.append(pick.stats)
    return found


@both
def test_a_key_keeps_its_endpoint_whatever_the_order_of_the_set(balancer):
    endpoints = fleet(1, 1, 1, 1, 1)
    assert owners(balancer.picker(endpoints)) == owners(balancer.picker(endpoints[::-1]))


@both
def test_it_does_not_depend_on_the_hash_seed_of_the_process(balancer):
    code = (
        "from resilient.balance.ring_hash import RingHash; from resilient.balance.maglev import Maglev\n"
        "from resilient.balance.endpoint import Endpoint, EndpointStats\nfrom random import Random\n"
        f"picker = {balancer!r}.picker([EndpointStats(Endpoint(f'10.0.0.{{n}}', 80)) for n in range(5)])\n"
        "print([picker.pick(0.0, Random(1), (), b'%d' % n).stats.address for n in range(50)])"
    )
    found = set()
    for seed in ("1", "2"):
        env = {"PYTHONPATH": ":".join(sys.path), "PYTHONHASHSEED": seed}
        found.add(subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=True).stdout)
    assert len(found) == 1


@both
@pytest.mark.parametrize("weights", [(1, 1, 1, 1), (4, 2, 1, 1)])
def test_keys_are_shared_by_weight(balancer, weights):
    endpoints = fleet(*weights)
    hits = Counter(owners(balancer.picker(endpoints)))
    for stats, weight in zip(endpoints, weights, strict=True):
        assert hits[stats] / len(KEYS) == pytest.approx(weight / sum(weights), rel=0.25)


@both
def test_when_an_endpoint_goes_few_keys_of_others_move(balancer):
    endpoints = fleet(*[1] * 10)
    before, after = owners(balancer.picker(endpoints)), owners(balancer.picker(endpoints[1:]))
    moved = sum(old is not new for old, new in zip(before, after, strict=True) if old is not endpoints[0])
    assert moved / len(KEYS) <= (0.0 if isinstance(balancer, RingHash) else 0.1)
    heirs = {new for old, new in zip(before, after, strict=True) if old is endpoints[0]}
    assert len(heirs) == 9


@both
def test_when_an_endpoint_is_ejected_no_key_of_others_moves(balancer):
    endpoints = fleet(*[1] * 10)
    before = owners(balancer.picker(endpoints))
    after = owners(balancer.picker_among(endpoints, endpoints[1:]))
    assert all(old is new for old, new in zip(before, after, strict=True) if old is not endpoints[0])
    heirs = Counter(new for old, new in zip(before, after, strict=True) if old is endpoints[0])
    assert heirs.keys() == set(endpoints[1:])


@both
def test_a_single_endpoint_of_a_table_has_all_keys(balancer):
    endpoints = fleet(*[1] * 50)
    assert set(owners(balancer.picker_among(endpoints, endpoints[:1]), KEYS[:500])) == {endpoints[0]}


def test_a_ring_without_an_endpoint_is_the_ring_of_the_others() -> None:
    endpoints = fleet(*[1] * 10)
    whole, own = RingHash().picker_among(endpoints, endpoints[1:]), RingHash().picker(endpoints[1:])
    assert owners(whole) == owners(own)


@pytest.mark.parametrize(
    ("balancer", "build"), [(RingHash(minimum_ring_size=77), build_ring), (Maglev(table_size=4001), build_table)]
)
def test_the_table_is_built_when_the_set_changes_and_not_when_one_of_it_is_ejected(balancer, build):
    bound = Bound("orders", Policy(balancer=balancer), Random(1), HttpClassifier(lambda: 0.0))
    bound.update([stats.endpoint for stats in fleet(1, 1, 1, 1)], 0.0)
    built = build.cache_info().misses
    bound.members[0].ejected_until = 30.0
    bound.rebuild(1.0)
    assert endpoint_of(bound, KEYS) == set(bound.members[1:])
    bound.members[0].restore()
    bound.rebuild(2.0)
    assert endpoint_of(bound, KEYS) == set(bound.members)
    assert build.cache_info().misses == built
    bound.update([stats.endpoint for stats in fleet(1, 1, 1, 1, 1)], 3.0)
    assert build.cache_info().misses == built + 1


def endpoint_of(bound, keys):
    return {bound.pick(2.0, (), key).stats for key in keys}


@both
def test_a_retry_goes_on_to_the_next_endpoint_and_always_to_the_same(balancer):
    endpoints = fleet(*[1] * 5)
    picker = balancer.picker(endpoints)
    for key in KEYS[:50]:
        tried, walk = (), []
        for _ in endpoints:
            tried = (*tried, *owners(picker, [key], tried))
        assert set(tried) == set(endpoints)
        walk = owners(picker, [key], tried[:2])
        assert walk == [tried[2]]


@both
def test_a_retry_finds_the_light_one_beside_a_giant(balancer):
    endpoints = fleet(10_000, 1)
    assert set(owners(balancer.picker(endpoints), KEYS[:100], (endpoints[0],))) == {endpoints[1]}


@both
def test_without_a_key_any_endpoint(balancer):
    endpoints = fleet(3, 1)
    picker, rng = balancer.picker(endpoints), CountedRandom(1)
    hits = Counter(picker.pick(0.0, rng).stats for _ in range(2000))
    assert hits[endpoints[0]] / 2000 == pytest.approx(0.75, abs=0.04)
    draws = rng.draws
    picker.pick(0.0, rng, (), b"key")
    assert rng.draws == draws


@both
def test_while_an_endpoint_ramps_up_its_keys_come_back_one_by_one_and_stay(balancer):
    endpoints = fleet(1, 1, 1)
    whole = owners(balancer.picker(endpoints))
    ramp = endpoints[0].ramp = Ramp(10.0, patience=1.0)
    ramp.picked(0.0)
    ramp.observe(Kind.SUCCESS, 0.0, 0.0)
    picker, back = balancer.picker(endpoints), set()
    for now in (2.0, 5.0, 8.0, 10.0):
        found = {key for key, stats in zip(KEYS, owners(picker, now=now), strict=True) if stats is endpoints[0]}
        assert len(found) / whole.count(endpoints[0]) == pytest.approx(now / 10, abs=0.06)
        assert back <= found
        back = found


@pytest.mark.parametrize("kind", [RingHash, Maglev])
@pytest.mark.parametrize("factor", [1.0, 1.25, 2.0])
def test_no_endpoint_takes_more_than_the_factor_of_its_share(kind, factor):
    endpoints = fleet(2, 1, 1)
    picker, rng = kind(hash_balance_factor=factor).picker(endpoints), Random(1)
    for number in range(1, 101):
        picker.pick(0.0, rng, (), b"the one hot key")
        for stats in endpoints:
            assert stats.in_flight <= -(-number * factor * stats.endpoint.weight // 4)
    assert sum(stats.in_flight for stats in endpoints) == 100


def test_the_request_that_is_being_picked_counts_for_the_bound():
    endpoints = fleet(1, 1)
    picker, rng = RingHash(hash_balance_factor=2.0).picker(endpoints), Random(1)
    first, second = (picker.pick(0.0, rng, (), b"key") for _ in range(2))
    assert first.stats is second.stats


def test_what_a_full_endpoint_cannot_take_is_spread_over_all():
    endpoints = fleet(*[1] * 10)
    picker = RingHash(hash_balance_factor=1.25).picker(endpoints)
    first = owners(picker, KEYS)
    full = first[0]
    full.in_flight = 1000
    heirs = Counter(
        now for now, before in zip(owners(picker, KEYS), first, strict=True) if before is full and now is not full
    )
    assert len(heirs) == 9


def test_what_is_in_flight_is_counted_once_in_so_many_picks():
    endpoints = fleet(*[1] * 640)
    picker, rng = RingHash(hash_balance_factor=1.5).picker(endpoints), Random(1)
    counted = []
    for number in range(63):
        picker.pick(0.0, rng, (), b"%d" % number)
        counted.append(picker._recount_in)
    assert counted.count(20) == 3


def test_a_maglev_table_is_nearly_exactly_by_weight_and_full():
    table = build_table((("a", 1.0), ("b", 1.0), ("c", 2.0)), 65_537)
    hits = Counter(table)
    assert sum(hits.values()) == 65_537
    assert [hits[index] for index in range(3)] == pytest.approx([16384, 16384, 32768], abs=2)


def test_a_ring_grows_until_the_lightest_has_a_whole_number_of_points():
    heavy, light = EndpointStats(Endpoint("10.0.0.1", 80, weight=999)), EndpointStats(Endpoint("10.0.0.2", 80))
    picker = RingHash(minimum_ring_size=1024).picker([heavy, light])
    assert Counter(picker._slots) == {0: 1998, 1: 2}
    bounded = RingHash(minimum_ring_size=100, maximum_ring_size=100).picker([heavy, light])
    assert Counter(bounded._slots) == {0: 100, 1: 1}


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (RingHash, {"minimum_ring_size": 0}),
        (RingHash, {"maximum_ring_size": 100}),
        (RingHash, {"hash_balance_factor": 0.9}),
        (RingHash, {"hash_balance_factor": 150}),
        (RingHash, {"hash_on": "x-user"}),
        (Maglev, {"table_size": 65_536}),
        (Maglev, {"table_size": 5_000_077}),
        (Maglev, {"hash_balance_factor": "1.5"}),
        (Maglev, {"hash_on": "x-user"}),
    ],
)
def test_a_wrong_setting_is_refused(kind, fields):
    with pytest.raises(ConfigError, match=f"{kind.__name__}.{next(iter(fields))}"):
        kind(**fields)
