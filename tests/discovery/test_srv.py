from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient.core.check import ConfigError
from resilient.discovery import lookup, system
from resilient.discovery.freshness import Reply, Status
from resilient.discovery.lookup import SrvRecord
from resilient.discovery.resolver import Endpoints, ResolutionFailed
from resilient.discovery.srv import SrvResolver, srv, srv_endpoints
from tests.discovery.fake_dns import SERVFAIL, FakeDns, answer, no_data, no_name, services, watching
from tests.discovery.virtual_loop import run

NAME = "_http._tcp.orders."
ORDERS = srv("_http._tcp.orders", nameservers=["10.0.0.53"])


def record(target: str, *addresses: str, priority: int = 10, weight: int = 1, port: int = 80) -> SrvRecord:
    return SrvRecord(priority, weight, port, target, addresses)


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeDns:
    fake = FakeDns()
    monkeypatch.setattr(lookup, "client", lambda settings: fake)
    monkeypatch.setattr(system, "has_route", lambda address: True)
    monkeypatch.setattr(random, "random", lambda: 0.0)
    return fake


def first(resolver: SrvResolver = ORDERS) -> Endpoints:
    async def main() -> Endpoints:
        return await anext(resolver.watch())

    return run(main())


def shares(*records: SrvRecord) -> dict[str, tuple[float, int]]:
    return {str(endpoint): (endpoint.weight, endpoint.priority) for endpoint in srv_endpoints(records)}


def test_priorities_are_counted_from_zero() -> None:
    last = record("c.", "10.0.0.3", priority=30), record("b.", "10.0.0.2", priority=30)
    assert shares(*last, record("a.", "10.0.0.1", priority=5)) == {
        "10.0.0.1:80": (1.0, 0),
        "10.0.0.2:80": (1.0, 1),
        "10.0.0.3:80": (1.0, 1),
    }


def test_a_weight_is_shared_by_the_addresses_of_its_target() -> None:
    found = shares(record("a.", "10.0.0.1", "::1", weight=10), record("b.", "10.0.0.2", weight=5))
    assert found == {"10.0.0.1:80": (5.0, 0), "[::1]:80": (5.0, 0), "10.0.0.2:80": (5.0, 0)}


def test_weight_zero_is_a_very_small_share() -> None:
    assert shares(record("a.", "10.0.0.1", weight=0), record("b.", "10.0.0.2", weight=1)) == {
        "10.0.0.1:80": (0.01, 0),
        "10.0.0.2:80": (1.0, 0),
    }


def test_where_all_have_weight_zero_they_are_equal() -> None:
    zeros = record("a.", "10.0.0.1", weight=0), record("b.", "10.0.0.2", weight=0)
    assert shares(*zeros, record("c.", "10.0.0.3", priority=20, weight=7)) == {
        "10.0.0.1:80": (1.0, 0),
        "10.0.0.2:80": (1.0, 0),
        "10.0.0.3:80": (7.0, 1),
    }


def test_an_address_in_two_priorities_has_the_better_one() -> None:
    twice = record("b.", "10.0.0.1", priority=2), record("a.", "10.0.0.1", priority=1)
    assert shares(*twice) == {"10.0.0.1:80": (1.0, 0)}


RECORDS = st.lists(
    st.builds(
        SrvRecord,
        st.integers(0, 65535),
        st.integers(0, 65535),
        st.integers(1, 65535),
        st.sampled_from(["a.", "b.", "c."]),
        st.lists(st.sampled_from(["10.0.0.1", "10.0.0.2", "::1"]), min_size=1, unique=True).map(tuple),
    )
)


@given(RECORDS, st.randoms(use_true_random=False))
def test_the_order_of_the_records_means_nothing(records: list[SrvRecord], rng: random.Random) -> None:
    distinct = list({(r.target, r.port): r for r in records}.values())
    shuffled = rng.sample(distinct, len(distinct))
    assert {str(e) for e in srv_endpoints(shuffled)} == {str(e) for e in srv_endpoints(distinct)}


@given(RECORDS)
def test_priorities_have_no_gaps_before_the_last_address(records: list[SrvRecord]) -> None:
    ranks = {record.priority: rank for rank, record in enumerate(sorted(records, key=lambda r: r.priority))}
    for endpoint in srv_endpoints(records):
        assert endpoint.weight > 0
        assert endpoint.priority <= max(ranks.values(), default=0)


def test_addresses_that_came_along_are_not_asked_for(fake: FakeDns) -> None:
    fake.zone = {(NAME, "SRV"): services(record("a.", "10.0.0.1"), record("b."), record("b.", port=81))}
    fake.zone["b.", "A"] = answer("10.0.0.2")
    assert [str(endpoint) for endpoint in first()] == ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.2:81"]
    assert sorted(name for _, name, _ in fake.asked) == [NAME, "b.", "b."]


def test_only_the_wanted_family_is_used(fake: FakeDns) -> None:
    fake.zone = {(NAME, "SRV"): services(record("a.", "10.0.0.1"), record("b.", "10.0.0.2", "::2"))}
    fake.zone["a.", "AAAA"] = answer("::1")
    assert [str(endpoint) for endpoint in first(replace(ORDERS, family="ipv6"))] == ["[::1]:80", "[::2]:80"]
    assert ("a.", "A") not in [(name, rdtype) for _, name, rdtype in fake.asked]


def test_the_root_as_target_is_an_answer_without_endpoints(fake: FakeDns) -> None:
    fake.zone = {(NAME, "SRV"): services(record("."))}
    assert first() == ()


def test_the_shortest_ttl_decides_when_to_ask_again(fake: FakeDns) -> None:
    fake.zone = {(NAME, "SRV"): services(record("a."), ttl=100), ("a.", "A"): answer("10.0.0.1", ttl=10)}
    fake.zone["a.", "AAAA"] = no_data(ttl=50)

    async def main() -> None:
        async with watching(ORDERS) as watch:
            await watch.next()
            assert await watch.quiet(20)

    run(main())
    assert fake.times("SRV") == [0.0, 8.0, 16.0]


def test_a_target_that_fails_keeps_its_addresses_and_one_that_is_gone_does_not(fake: FakeDns) -> None:
    fake.zone = {(NAME, "SRV"): services(record("a."), record("b."), ttl=100)}
    fake.zone |= {("a.", "A"): answer("10.0.0.1", ttl=100), ("b.", "A"): answer("10.0.0.2", ttl=100)}

    async def main() -> None:
        async with watching(replace(ORDERS, family="ipv4")) as watch:
            assert await watch.next() == (0.0, ["10.0.0.1:80", "10.0.0.2:80"])
            fake.zone |= {("a.", "A"): SERVFAIL, ("b.", "A"): no_name(ttl=100)}
            assert await watch.next() == (80.0, ["10.0.0.1:80"])

    run(main())


@pytest.mark.parametrize(
    ("reply", "pause"),
    [
        (Reply(Status.FAILED, reason="REFUSED"), None),
        (Reply(Status.NXDOMAIN, 7.0), 7.0),
        (services(record("gone.")), 30.0),
    ],
)
def test_no_endpoint_at_all_is_a_failure(fake: FakeDns, reply: object, pause: float | None) -> None:
    fake.zone = {(NAME, "SRV"): reply}
    with pytest.raises(ResolutionFailed, match=r"_http\._tcp\.orders has no endpoints") as failed:
        first()
    assert failed.value.retry_after == pause


def test_a_slow_family_of_a_target_does_not_hold_up_the_first_set(fake: FakeDns) -> None:
    fake.zone = {(NAME, "SRV"): services(record("a.")), ("a.", "A"): answer("10.0.0.1")}
    fake.zone["a.", "AAAA"] = (0.5, answer("::1"))

    async def main() -> None:
        async with watching(ORDERS) as watch:
            assert await watch.next() == (0.05, ["10.0.0.1:80"])
            assert await watch.next() == (0.55, ["10.0.0.1:80", "[::1]:80"])

    run(main())


def test_addresses_without_a_route_get_no_share(fake: FakeDns, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "has_route", lambda address: ":" not in address)
    fake.zone = {(NAME, "SRV"): services(record("a.", "10.0.0.1", "::1", weight=6), record("b.", "::2"))}
    assert [(str(endpoint), endpoint.weight) for endpoint in first()] == [("10.0.0.1:80", 6.0)]


def test_an_error_does_not_exchange_a_service_for_its_namesake(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeDns(candidates=["s.prod.", "s."])
    monkeypatch.setattr(lookup, "client", lambda settings: fake)
    fake.zone = {("s.", "SRV"): services(record("b.", "10.0.0.2"))}
    fake.zone["s.prod.", "SRV"] = services(record("a.", "10.0.0.1"))

    async def main() -> None:
        async with watching(ORDERS) as watch:
            assert await watch.next() == (0.0, ["10.0.0.1:80"])
            fake.zone["s.prod.", "SRV"] = Reply(Status.FAILED, reason="SERVFAIL")
            with pytest.raises(ResolutionFailed, match="SERVFAIL"):
                await watch.next()

    run(main())


def test_many_targets_are_asked_a_few_at_a_time(fake: FakeDns) -> None:
    targets = [f"t{number}." for number in range(40)]
    fake.zone = {(NAME, "SRV"): services(*(record(target) for target in targets))}
    fake.zone |= {(target, "A"): (1.0, answer(f"10.0.0.{index + 1}")) for index, target in enumerate(targets)}
    assert len(first(replace(ORDERS, family="ipv4"))) == 40
    assert {time: fake.times("A").count(time) for time in fake.times("A")} == {0.0: 16, 1.0: 16, 2.0: 8}


def test_it_is_a_value() -> None:
    assert srv("_HTTP._tcp.Orders") == srv("_http._tcp.orders")
    assert hash(ORDERS) == hash(replace(ORDERS))
    assert repr(srv("_http._tcp.orders")) == "SrvResolver('_http._tcp.orders')"
    with pytest.raises(ConfigError, match=r"^srv\.name: "):
        srv("")
