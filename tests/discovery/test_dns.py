from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from resilient.core.check import ConfigError
from resilient.discovery import lookup, system
from resilient.discovery.dns import DnsResolver, dns
from resilient.discovery.resolver import FixedResolver, ResolutionFailed, Resolver
from tests.discovery.fake_dns import SERVFAIL, SILENT, FakeDns, answer, no_data, no_name, watching
from tests.discovery.virtual_loop import run


@pytest.fixture(autouse=True)
def world(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every address has a route, and no jitter."""
    monkeypatch.setattr(system, "has_route", lambda address: True)
    monkeypatch.setattr(random, "random", lambda: 0.0)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeDns:
    fake = FakeDns()
    monkeypatch.setattr(lookup, "client", lambda settings: fake)
    return fake


V1 = {"A": "10.0.0.1", "AAAA": "::1"}
OWN = {"nameservers": ["10.0.0.53"]}
ORDERS = dns("orders", 8080, **OWN)  # type: ignore[arg-type]


def test_both_families_become_endpoints_in_order(fake: FakeDns) -> None:
    fake.zone = {("orders.", "A"): answer("10.0.0.10", "10.0.0.2"), ("orders.", "AAAA"): answer("::1")}

    async def main() -> None:
        async with watching(ORDERS) as watch:
            assert await watch.next() == (0.0, ["10.0.0.2:8080", "10.0.0.10:8080", "[::1]:8080"])

    run(main())
    assert [rdtype for _, _, rdtype in fake.asked] == ["A", "AAAA"]


@pytest.mark.parametrize(("family", "expected"), [("ipv4", ["10.0.0.1:80"]), ("ipv6", ["[::1]:80"])])
def test_one_family_is_asked_for_alone(fake: FakeDns, family: str, expected: list[str]) -> None:
    fake.zone = {("orders.", "A"): answer("10.0.0.1"), ("orders.", "AAAA"): answer("::1")}

    async def main() -> None:
        async with watching(dns("orders", 80, family=family, nameservers=["10.0.0.53"])) as watch:
            assert await watch.next() == (0.0, expected)

    run(main())
    assert len(fake.asked) == 1


def test_the_name_is_asked_for_again_before_the_ttl_ends(fake: FakeDns) -> None:
    fake.zone = {("orders.", "A"): answer("10.0.0.1", ttl=100), ("orders.", "AAAA"): no_data(ttl=200)}

    async def main() -> None:
        async with watching(ORDERS) as watch:
            await watch.next()
            assert await watch.quiet(250)

    run(main())
    assert fake.times("A") == [0.0, 80.0, 160.0, 240.0] == fake.times("AAAA")


def test_time_spent_asking_counts_towards_the_ttl(fake: FakeDns) -> None:
    fake.zone = {("orders.", "A"): (3.0, answer("10.0.0.1", ttl=10)), ("orders.", "AAAA"): no_data()}

    async def main() -> None:
        async with watching(ORDERS) as watch:
            await watch.next()
            assert await watch.quiet(20)

    run(main())
    assert fake.times("A")[:3] == [0.0, 8.0, 16.0]


def test_a_change_is_told_and_a_rotation_is_not(fake: FakeDns) -> None:
    fake.zone = {("orders.", "A"): answer("10.0.0.1", "10.0.0.2", ttl=10), ("orders.", "AAAA"): no_data()}

    async def main() -> None:
        async with watching(ORDERS) as watch:
            assert await watch.next() == (0.0, ["10.0.0.1:8080", "10.0.0.2:8080"])
            fake.zone["orders.", "A"] = answer("10.0.0.2", "10.0.0.1", ttl=10)
            loop = asyncio.get_running_loop()
            loop.call_later(20, fake.zone.update, {("orders.", "A"): answer("10.0.0.3", ttl=10)})
            assert await watch.next() == (24.0, ["10.0.0.3:8080"])

    run(main())


def test_one_family_fails_and_keeps_its_addresses(fake: FakeDns) -> None:
    fake.zone = {("orders.", "A"): answer("10.0.0.1", ttl=100), ("orders.", "AAAA"): answer("::1", ttl=100)}

    async def main() -> None:
        async with watching(ORDERS) as watch:
            await watch.next()
            fake.zone = {("orders.", "A"): answer("10.0.0.2", ttl=100), ("orders.", "AAAA"): SERVFAIL}
            assert await watch.next() == (80.0, ["10.0.0.2:8080", "[::1]:8080"])
            fake.zone["orders.", "AAAA"] = no_data()
            assert await watch.next() == (85.0, ["10.0.0.2:8080"])

    run(main())


@pytest.mark.parametrize("failing", ["A", "AAAA"])
def test_what_answered_is_used_from_the_start(fake: FakeDns, failing: str) -> None:
    fake.zone = {("orders.", "A"): answer("10.0.0.1"), ("orders.", "AAAA"): answer("::1")}
    fake.zone["orders.", failing] = SERVFAIL

    async def main() -> None:
        async with watching(ORDERS) as watch:
            _, found = await watch.next()
            assert found == (["10.0.0.1:8080"] if failing == "AAAA" else ["[::1]:8080"])

    run(main())


def test_a_slow_family_does_not_hold_up_the_first_set(fake: FakeDns) -> None:
    fake.zone = {("orders.", "A"): (0.001, answer("10.0.0.1")), ("orders.", "AAAA"): (0.5, answer("::1"))}

    async def main() -> None:
        async with watching(ORDERS) as watch:
            time, found = await watch.next()
            assert (round(time, 6), found) == (0.051, ["10.0.0.1:8080"])
            time, found = await watch.next()
            assert (round(time, 6), found) == (0.551, ["10.0.0.1:8080", "[::1]:8080"])

    run(main())
    assert fake.cancelled == [("orders.", "AAAA")]


def test_a_lost_family_delays_fresh_addresses_by_no_more_than_the_margin(fake: FakeDns) -> None:
    fake.zone = {("orders.", "A"): answer("10.0.0.1", ttl=10), ("orders.", "AAAA"): answer("::1", ttl=10)}

    async def main() -> None:
        async with watching(ORDERS) as watch:
            await watch.next()
            fake.zone = {("orders.", "A"): answer("10.0.0.2", ttl=10), ("orders.", "AAAA"): (60.0, SILENT)}
            time, found = await watch.next()
            assert (round(time, 6), found) == (10.0, ["10.0.0.2:8080", "[::1]:8080"])

    run(main())


@pytest.mark.parametrize(
    ("reply", "pause"),
    [(SERVFAIL, None), (SILENT, None), (no_name(ttl=7), 7.0), (no_data(ttl=9), 9.0), (no_name(ttl=None), None)],
)
def test_no_address_at_all_is_a_failure(fake: FakeDns, reply: object, pause: float | None) -> None:
    fake.zone = {("orders.", "A"): reply, ("orders.", "AAAA"): reply}

    async def main() -> ResolutionFailed:
        async with watching(ORDERS) as watch:
            with pytest.raises(ResolutionFailed, match=r"^orders has no endpoints \(orders\. A: ") as failed:
                await watch.next()
            return failed.value

    assert run(main()).retry_after == pause


@pytest.mark.parametrize("flap", [SERVFAIL, SILENT, no_name()])
def test_a_failure_after_good_answers_is_told_and_not_an_empty_set(fake: FakeDns, flap: object) -> None:
    fake.zone = {("orders.", "A"): answer("10.0.0.1", ttl=10), ("orders.", "AAAA"): no_data()}

    async def main() -> None:
        async with watching(ORDERS) as watch:
            await watch.next()
            fake.zone = {("orders.", "A"): flap, ("orders.", "AAAA"): flap}
            with pytest.raises(ResolutionFailed):
                await watch.next()

    run(main())


class TestSearch:
    @pytest.fixture
    def fake(self, monkeypatch: pytest.MonkeyPatch) -> FakeDns:
        fake = FakeDns(candidates=["orders.prod.", "orders.svc.", "orders."])
        monkeypatch.setattr(lookup, "client", lambda settings: fake)
        return fake

    def first(self) -> list[str]:
        async def main() -> list[str]:
            async with watching(ORDERS) as watch:
                return (await watch.next())[1]

        return run(main())

    def test_the_first_domain_with_an_address_wins(self, fake: FakeDns) -> None:
        fake.zone = {("orders.svc.", "AAAA"): answer("::1"), ("orders.", "A"): answer("10.0.0.9")}
        assert self.first() == ["[::1]:8080"]

    def test_a_name_without_addresses_is_passed_over(self, fake: FakeDns) -> None:
        fake.zone = {("orders.prod.", "A"): no_data(), ("orders.prod.", "AAAA"): no_data()}
        fake.zone["orders.", "A"] = answer("10.0.0.9")
        assert self.first() == ["10.0.0.9:8080"]

    def test_an_error_in_one_domain_does_not_end_the_search(self, fake: FakeDns) -> None:
        fake.zone = {("orders.prod.", "A"): SERVFAIL, ("orders.prod.", "AAAA"): SERVFAIL}
        fake.zone["orders.", "A"] = answer("10.0.0.9")
        assert self.first() == ["10.0.0.9:8080"]

    def test_silence_ends_it(self, fake: FakeDns) -> None:
        fake.zone = {("orders.prod.", "A"): SILENT, ("orders.prod.", "AAAA"): SILENT}
        with pytest.raises(ResolutionFailed):
            self.first()
        assert len(fake.asked) == 2

    def test_an_error_does_not_exchange_a_service_for_its_namesake(self, fake: FakeDns) -> None:
        fake.zone = {("orders.prod.", "A"): answer("10.0.0.1", ttl=10), ("orders.", "A"): answer("10.0.0.9")}

        async def main() -> None:
            async with watching(ORDERS) as watch:
                assert await watch.next() == (0.0, ["10.0.0.1:8080"])
                fake.zone["orders.prod.", "A"] = fake.zone["orders.prod.", "AAAA"] = SERVFAIL
                with pytest.raises(ResolutionFailed, match="SERVFAIL"):
                    await watch.next()

        run(main())

    def test_families_of_different_names_are_not_mixed(self, fake: FakeDns) -> None:
        fake.zone = {("orders.prod.", rdtype): answer(address, ttl=10) for rdtype, address in V1.items()}

        async def main() -> None:
            async with watching(ORDERS) as watch:
                assert await watch.next() == (0.0, ["10.0.0.1:8080", "[::1]:8080"])
                fake.zone = {("orders.svc.", "A"): answer("10.0.0.2"), ("orders.svc.", "AAAA"): SERVFAIL}
                assert await watch.next() == (8.0, ["10.0.0.2:8080"])

        run(main())


class TestSystem:
    """Without nameservers of its own, a resolver knows what the system knows."""

    @pytest.fixture
    def hosts(self, tmp_path: Path) -> Path:
        hosts = tmp_path / "hosts"
        hosts.write_text("127.0.0.1 localhost\n10.9.9.9 Orders orders.test # ours\n::9 orders\n")
        return hosts

    @pytest.fixture
    def known_to_libc(self, monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[str, ...]]:
        known: dict[str, tuple[str, ...]] = {}

        async def getaddrinfo(name: str, family: str) -> tuple[str, ...]:
            return known.get(name, ())

        monkeypatch.setattr(system, "getaddrinfo", getaddrinfo)
        return known

    def first(self, name: str, hosts: Path, **settings: object) -> list[str]:
        async def main() -> list[str]:
            async with watching(dns(name, 80, hosts_file=str(hosts), **settings)) as watch:  # type: ignore[arg-type]
                return (await watch.next())[1]

        return run(main())

    @pytest.mark.parametrize(("name", "address"), [("10.0.0.1", "10.0.0.1:80"), ("::1", "[::1]:80")])
    def test_a_literal_is_itself_for_ever(self, fake: FakeDns, name: str, address: str) -> None:
        async def main() -> list[list[str]]:
            return [[str(endpoint) for endpoint in endpoints] async for endpoints in dns(name, 80).watch()]

        assert run(main()) == [[address]]
        assert fake.asked == []

    def test_the_hosts_file_comes_before_dns(self, fake: FakeDns, hosts: Path) -> None:
        assert self.first("ORDERS", hosts) == ["10.9.9.9:80", "[::9]:80"]
        assert self.first("orders", hosts, family="ipv6") == ["[::9]:80"]
        assert fake.asked == []

    def test_a_hosts_file_without_the_family_is_passed_over(self, fake: FakeDns, hosts: Path) -> None:
        fake.zone = {("orders.test.", "AAAA"): answer("::8")}
        assert self.first("orders.test", hosts, family="ipv6") == ["[::8]:80"]

    def test_own_nameservers_know_nothing_of_the_hosts_file(self, fake: FakeDns, hosts: Path) -> None:
        fake.zone = {("orders.", "A"): answer("10.0.0.1")}
        assert self.first("orders", hosts, nameservers=["10.0.0.53"]) == ["10.0.0.1:80"]

    def test_a_changed_hosts_file_is_read_again(self, fake: FakeDns, hosts: Path) -> None:
        async def main() -> None:
            async with watching(dns("orders", 80, hosts_file=str(hosts))) as watch:
                await watch.next()
                hosts.write_text("10.8.8.8 orders\n")
                assert await watch.next() == (5.0, ["10.8.8.8:80"])

        run(main())

    def test_localhost_is_never_asked_for(self, fake: FakeDns, hosts: Path) -> None:
        assert self.first("localhost", hosts) == ["127.0.0.1:80"]
        assert self.first("app.localhost", hosts) == ["127.0.0.1:80", "[::1]:80"]
        assert fake.asked == []

    @pytest.mark.parametrize("reply", [no_name(), no_data(), SERVFAIL, SILENT])
    def test_what_dns_does_not_know_is_asked_of_libc(
        self, fake: FakeDns, hosts: Path, known_to_libc: dict[str, tuple[str, ...]], reply: object
    ) -> None:
        fake.zone = {("printer.", "A"): reply, ("printer.", "AAAA"): reply}
        known_to_libc["printer"] = ("10.0.0.7",)
        assert self.first("printer", hosts) == ["10.0.0.7:80"]

    def test_own_nameservers_have_the_last_word(
        self, fake: FakeDns, hosts: Path, known_to_libc: dict[str, tuple[str, ...]]
    ) -> None:
        known_to_libc["printer"] = ("10.0.0.7",)
        with pytest.raises(ResolutionFailed):
            self.first("printer", hosts, nameservers=["10.0.0.53"])

    def test_dns_has_the_last_word_about_what_it_knew(
        self, fake: FakeDns, hosts: Path, known_to_libc: dict[str, tuple[str, ...]]
    ) -> None:
        known_to_libc["payments"] = ("10.0.0.7",)
        fake.zone = {("payments.", "A"): answer("10.0.0.1", ttl=10)}

        async def main() -> None:
            async with watching(dns("payments", 80, hosts_file=str(hosts))) as watch:
                await watch.next()
                fake.zone.clear()
                with pytest.raises(ResolutionFailed):
                    await watch.next()

        run(main())

    def test_libc_is_asked_when_there_is_no_resolv_conf(
        self, hosts: Path, known_to_libc: dict[str, tuple[str, ...]], tmp_path: Path
    ) -> None:
        known_to_libc["printer"] = ("10.0.0.7",)
        assert self.first("printer", hosts, resolv_conf=str(tmp_path / "none")) == ["10.0.0.7:80"]

    def test_nobody_knows_the_name(self, hosts: Path, known_to_libc: object, tmp_path: Path) -> None:
        with pytest.raises(ResolutionFailed, match="no nameservers"):
            self.first("printer", hosts, resolv_conf=str(tmp_path / "none"))


def test_addresses_without_a_route_are_left_out(fake: FakeDns, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.zone = {("orders.", "A"): answer("10.0.0.1"), ("orders.", "AAAA"): answer("2001:db8::1")}
    monkeypatch.setattr(system, "has_route", lambda address: ":" not in address)

    async def main() -> None:
        async with watching(ORDERS) as watch:
            assert await watch.next() == (0.0, ["10.0.0.1:8080"])

    run(main())


def test_it_is_a_value() -> None:
    assert dns("Orders", 80, nameservers=["10.0.0.53"]) == dns("orders", 80, nameservers=("10.0.0.53",))
    assert hash(dns("bücher", 80)) == hash(dns("xn--bcher-kva", 80))
    assert dns("orders", 80) != dns("orders", 81)
    assert repr(dns("orders", 80, search=["svc"])) == "DnsResolver('orders', 80, search=('svc',))"
    assert dns("orders", 80, nameservers="10.0.0.53").nameservers == ("10.0.0.53",)
    assert isinstance(dns("orders", 80), Resolver)
    assert not isinstance(dns("orders", 80), FixedResolver)


def test_a_nameserver_may_have_a_port_of_its_own() -> None:
    own = dns("orders", 80, nameservers=["10.0.0.53", "10.0.0.54:5353", "[::1]:5354", "::1"], nameserver_port=54)
    assert own.server_addresses() == (("10.0.0.53", 54), ("10.0.0.54", 5353), ("::1", 5354), ("::1", 54))


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"name": "a b"}, "dns.name"),
        ({"port": 0}, "Endpoint.port"),
        ({"port": 65536}, "Endpoint.port"),
        ({"nameservers": ["ns.example"]}, "dns.nameservers"),
        ({"nameservers": [53]}, "dns.nameservers"),
        ({"nameserver_port": 0}, "dns.nameserver_port"),
        ({"search": ["a b"]}, "dns.search"),
        ({"ndots": -1}, "dns.ndots"),
        ({"family": "ipv5"}, "dns.family"),
        ({"min_ttl": 0}, "dns.min_ttl"),
        ({"min_ttl": 10, "max_ttl": 5}, "dns.max_ttl"),
        ({"timeout": 0}, "dns.timeout"),
        ({"refresh_ratio": 1}, "dns.refresh_ratio"),
        ({"refresh_ratio": 0}, "dns.refresh_ratio"),
        ({"refresh_ratio": 2}, "dns.refresh_ratio"),
    ],
)
def test_a_wrong_setting_is_refused_when_it_is_built(settings: dict[str, object], fault: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{fault}: "):
        DnsResolver(**{"name": "orders", "port": 80} | settings)  # type: ignore[arg-type]
