"""Who gets which share of the calls: priorities, panic, regions, zones, weights."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient.balance.endpoint import Endpoint, EndpointStats, Locality
from resilient.balance.locality import Failover, priority_loads, zone_shares
from resilient.core.check import ConfigError

HOME = Locality("eu", "eu-1a")
ELSEWHERE = Locality("eu", "eu-1b")
ABROAD = Locality("us", "us-1a")


def members(*groups):
    """EndpointStats for `(count, usable, fields)`; those that are not usable fail their checks."""
    found = []
    for count, usable, fields in groups:
        for number in range(count):
            stats = EndpointStats(Endpoint("10.0.0.1", len(found) + 1, **fields))
            stats.unhealthy_until = None if number < usable else 100.0
            found.append(stats)
    return found


def shares(everybody, failover=Failover(), own=Locality(), of=lambda stats: stats.endpoint.priority):
    """The share of the calls by a property of the endpoints, layers that stand by left out."""
    found = {}
    for layer in failover.layers(everybody, everybody, own):
        if layer.share:
            (name,) = {of(stats) for stats in layer.endpoints}
            found[name] = found.get(name, 0.0) + layer.share
    return pytest.approx(found)


def zone(stats):
    return stats.endpoint.locality.zone


def priorities(*healthy):
    """100 endpoints of each priority, so many of them usable."""
    return members(*((100, usable, {"priority": rank}) for rank, usable in enumerate(healthy)))


# The tables of Envoy's documentation, "Priority levels".
@pytest.mark.parametrize(
    ("healthy", "expected"),
    [
        ((100, 100), {0: 1.0}),
        ((72, 100), {0: 1.0}),
        ((71, 100), {0: 0.994, 1: 0.006}),
        ((50, 100), {0: 0.7, 1: 0.3}),
        ((25, 100), {0: 0.35, 1: 0.65}),
        ((0, 100), {1: 1.0}),
        ((25, 25), {0: 0.5, 1: 0.5}),
        ((5, 0, 65), {0: 0.07 / 0.98, 2: 0.91 / 0.98}),
        ((20, 20, 10), {0: 0.4, 1: 0.4, 2: 0.2}),
        ((25, 50, 100), {0: 0.35, 1: 0.65}),
        ((25, 25, 100), {0: 0.35, 1: 0.35, 2: 0.3}),
    ],
)
def test_priorities_share_as_in_envoys_tables(healthy, expected) -> None:
    assert expected == shares(priorities(*healthy))


def test_numbers_of_priorities_need_not_follow_each_other() -> None:
    everybody = members((2, 0, {"priority": 3}), (2, 2, {"priority": 17}))
    assert shares(everybody) == {17: 1.0}


def test_a_level_is_whole_with_more_overprovisioning() -> None:
    assert shares(priorities(50, 100), Failover(overprovisioning_factor=2.0)) == {0: 1.0}
    assert shares(priorities(50, 100), Failover(overprovisioning_factor=1.0)) == {0: 0.5, 1: 0.5}


def test_a_level_with_no_load_stands_by() -> None:
    everybody = priorities(100, 100)
    first, second = Failover().layers(everybody, everybody)
    assert first.share == 1.0
    assert second == (0.0, tuple(everybody[100:]))


def panicked(healthy, total=10, **options):
    everybody = members((total, healthy, {}))
    (layer,) = Failover(**options).layers(everybody, everybody)
    return len(layer.endpoints) > healthy


def test_below_the_panic_ratio_all_are_used_again() -> None:
    assert not panicked(5)
    assert panicked(4)
    assert not panicked(4, panic_ratio=0.3)


def test_without_a_panic_ratio_only_if_nothing_is_left() -> None:
    assert not panicked(1, panic_ratio=0.0)
    assert panicked(0, panic_ratio=0.0)


def test_there_is_no_panic_while_another_level_carries_the_calls() -> None:
    everybody = priorities(10, 100)
    first, second = Failover().layers(everybody, everybody)
    assert (len(first.endpoints), len(second.endpoints)) == (10, 100)


def test_if_all_are_unhealthy_the_first_level_gets_all_calls() -> None:
    everybody = priorities(0, 0)
    (layer,) = Failover().layers(everybody, everybody)
    assert layer == (1.0, tuple(everybody[:100]))


def test_panic_does_not_bring_ejected_ones_back_while_there_are_others() -> None:
    ejected, unhealthy = everybody = members((2, 0, {}))
    ejected.ejected_until, ejected.unhealthy_until = 100.0, None
    (layer,) = Failover().layers(everybody, [unhealthy])
    assert layer.endpoints == (unhealthy,)


def test_a_priority_that_is_ejected_as_a_whole_fails_over() -> None:
    first, second = everybody = members((1, 1, {"priority": 0}), (1, 1, {"priority": 1}))
    first.ejected_until = 100.0
    (layer,) = Failover().layers(everybody, [second])
    assert layer == (1.0, (second,))


def test_ones_own_zone_is_preferred() -> None:
    everybody = members((2, 2, {"locality": HOME}), (2, 2, {"locality": ELSEWHERE}))
    assert shares(everybody, own=HOME, of=zone) == {"eu-1a": 1.0}


def test_a_zone_keeps_what_it_can_carry_and_spills_the_rest() -> None:
    # One of three is gone: 2 of 5 endpoints, half of the callers; 0.4 / 0.5 stay.
    everybody = members((3, 2, {"locality": HOME}), (3, 3, {"locality": ELSEWHERE}))
    assert shares(everybody, own=HOME, of=zone) == {"eu-1a": 0.8, "eu-1b": 0.2}


def test_weights_count_for_the_size_of_a_zone() -> None:
    everybody = members((1, 1, {"locality": HOME}), (1, 1, {"locality": ELSEWHERE, "weight": 3.0}))
    assert shares(everybody, own=HOME, of=zone) == {"eu-1a": 0.5, "eu-1b": 0.5}


def test_a_zone_without_a_usable_endpoint_spills_everything() -> None:
    everybody = members((3, 0, {"locality": HOME}), (6, 6, {"locality": ELSEWHERE}))
    assert shares(everybody, own=HOME, of=zone) == {"eu-1b": 1.0}


def test_zones_do_not_matter_to_a_process_that_does_not_know_its_own() -> None:
    everybody = members((2, 2, {"locality": HOME}), (2, 2, {"locality": ELSEWHERE}))
    assert Failover().layers(everybody, everybody) == [(1.0, tuple(everybody))]
    assert Failover().layers(everybody, everybody, Locality("eu", "eu-1c")) == [(1.0, tuple(everybody))]


def test_zones_do_not_matter_if_they_are_not_to() -> None:
    everybody = members((2, 2, {"locality": HOME}), (2, 2, {"locality": ABROAD}))
    assert Failover(prefer_zone=False).layers(everybody, everybody, HOME) == [(1.0, tuple(everybody))]


def test_another_region_is_the_next_level() -> None:
    everybody = members((4, 4, {"locality": ELSEWHERE}), (4, 4, {"locality": ABROAD}))
    assert shares(everybody, own=HOME, of=zone) == {"eu-1b": 1.0}
    everybody = members((4, 2, {"locality": ELSEWHERE}), (4, 4, {"locality": ABROAD}))
    assert shares(everybody, own=HOME, of=zone) == {"eu-1b": 0.7, "us-1a": 0.3}


def test_a_priority_goes_before_a_region() -> None:
    everybody = members((1, 1, {"locality": ABROAD}), (1, 1, {"locality": HOME, "priority": 1}))
    assert shares(everybody, own=HOME, of=zone) == {"us-1a": 1.0}


def test_localities_share_by_given_weights() -> None:
    failover = Failover(locality_weights={"eu/eu-1a": 80, "eu": 20})
    everybody = members((2, 2, {"locality": HOME}), (2, 2, {"locality": ELSEWHERE}), (9, 9, {"locality": ABROAD}))
    assert shares(everybody, failover, of=zone) == {"eu-1a": 0.8, "eu-1b": 0.2}


def test_a_weight_counts_as_far_as_its_locality_is_usable() -> None:
    # Envoy: 80 * 1.4 * 0.5 = 56 against 20.
    failover = Failover(locality_weights={"eu/eu-1a": 80, "eu/eu-1b": 20})
    everybody = members((2, 1, {"locality": HOME}), (2, 2, {"locality": ELSEWHERE}))
    assert shares(everybody, failover, of=zone) == {"eu-1a": 56 / 76, "eu-1b": 20 / 76}


def test_localities_without_a_weight_serve_when_no_other_does() -> None:
    failover = Failover(locality_weights={"eu": 1})
    everybody = members((4, 1, {"locality": ABROAD}))
    assert shares(everybody, failover, of=zone) == {"us-1a": 1.0}


def test_a_name_fits_whole_parts_of_a_locality() -> None:
    failover = Failover(locality_weights={"eu": 1, "eu-2": 3})
    everybody = members((1, 1, {"locality": HOME}), (1, 1, {"locality": Locality("eu-2", "x")}))
    assert shares(everybody, failover, of=zone) == {"eu-1a": 0.25, "x": 0.75}


health = st.floats(min_value=0.0, max_value=1.0)


@given(st.lists(health, min_size=1, max_size=6))
def test_loads_add_up_and_nobody_carries_more_than_its_part(carried) -> None:
    loads = priority_loads(carried)
    assert sum(loads) == pytest.approx(1.0)
    if sum(carried) >= 1.0:
        assert all(load <= able + 1e-9 for load, able in zip(loads, carried, strict=True))


@given(st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(any))
def test_zones_share_so_that_all_endpoints_get_the_same(sizes) -> None:
    """The law behind the formula: with callers in each zone, each zone gets what it can carry."""
    zones = {("eu", str(number)): float(size) for number, size in enumerate(sizes)}
    received = dict.fromkeys(zones, 0.0)
    for home in zones:
        for name, share in zone_shares(zones, home).items():
            received[name] += share / len(zones)
    assert received == pytest.approx({name: size / sum(sizes) for name, size in zones.items()}, abs=1e-9)


localities = st.sampled_from([Locality(), HOME, ELSEWHERE, ABROAD])
fleets = st.lists(
    st.tuples(st.integers(0, 2), localities, st.sampled_from(["usable", "unhealthy", "ejected"])), max_size=12
)
failovers = st.builds(
    Failover,
    overprovisioning_factor=st.floats(1.0, 3.0),
    panic_ratio=st.floats(0.0, 1.0),
    prefer_zone=st.booleans(),
    locality_weights=st.dictionaries(st.sampled_from(["eu", "us", "eu/eu-1a"]), st.floats(0, 10)),
)


@given(fleets, failovers, localities)
def test_whatever_happens_somebody_is_there(fleet, failover, own) -> None:
    everybody = [
        EndpointStats(Endpoint("10.0.0.1", port, priority=priority, locality=locality))
        for port, (priority, locality, _) in enumerate(fleet, start=1)
    ]
    for stats, (_, _, state) in zip(everybody, fleet, strict=True):
        stats.unhealthy_until = 1.0 if state == "unhealthy" else None
        stats.ejected_until = 1.0 if state == "ejected" else None
    fit = [stats for stats in everybody if stats.ejected_until is None]
    layers = failover.layers(everybody, fit, own)
    assert sum(layer.share for layer in layers) == pytest.approx(1.0)
    assert all(layer.endpoints for layer in layers) or not everybody
    placed = [stats for layer in layers for stats in layer.endpoints]
    assert len(placed) == len(set(placed))
    usable = {stats for stats in fit if stats.unhealthy_until is None}
    assert usable <= set(placed)
    if usable and failover.panic_ratio == 0.0:
        assert set(placed) == usable


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"overprovisioning_factor": 0.9}, "Failover.overprovisioning_factor: 0.9"),
        ({"panic_ratio": 50}, "Failover.panic_ratio: 50"),
        ({"prefer_zone": "eu-1a"}, "Failover.prefer_zone: 'eu-1a'"),
        ({"locality_weights": {"eu": -1}}, r"Failover.locality_weights\['eu'\]: -1"),
        ({"locality_weights": {1: 1}}, "Failover.locality_weights: 1"),
        ({"locality_weights": "eu"}, "Failover.locality_weights: 'eu'"),
        ({"locality_weights": (1,)}, r"Failover.locality_weights: \(1,\) .* a mapping such as"),
        ({"locality_weights": ("eu", 1)}, r"Failover.locality_weights: \('eu', 1\) .* a mapping such as"),
        ({"locality_weights": (("eu", 1, 2),)}, r"Failover.locality_weights: \(\('eu', 1, 2\),\)"),
        ({"locality_weights": None}, "Failover.locality_weights: None"),
    ],
)
def test_wrong_settings_are_refused(settings, message) -> None:
    with pytest.raises(ConfigError, match=message):
        Failover(**settings)
