"""Resolvers against a real Knot DNS server whose zone changes meanwhile."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import dns.flags
import dns.message
import dns.query
import dns.rcode
import pytest

from resilient.discovery.dns import DnsResolver
from resilient.discovery.dns import dns as dns_resolver
from resilient.discovery.resolver import Endpoints, ResolutionFailed, Resolver
from resilient.discovery.srv import srv
from resilient.discovery.targets import parse_target
from tests.real.knot import NEGATIVE_TTL, Knot
from tests.real.procs import HOST

PATIENCE = 60.0
"""Seconds after which a test that waits gives up: far more than a busy machine needs."""

Reach = Callable[[list[str]], Awaitable[list[list[str]]]]

pytestmark = pytest.mark.usefixtures("no_leaks")


def on(knot: Knot, name: str, **settings: object) -> DnsResolver:
    return dns_resolver(name, 80, nameservers=[HOST], nameserver_port=knot.port, **settings)  # type: ignore[arg-type]


def text(endpoints: Endpoints) -> list[str]:
    return [str(endpoint) for endpoint in endpoints]


@asynccontextmanager
async def watching(resolver: Resolver) -> AsyncIterator[Reach]:
    """The function that waits for a certain set and returns those that came on the way to it.

    On a busy machine one family may come later than the other, in a set of its own.
    """
    async with asyncio.timeout(PATIENCE), aclosing(resolver.watch()) as sets:

        async def reach(expected: list[str]) -> list[list[str]]:
            seen = []
            while (found := text(await anext(sets))) != expected:
                seen.append(found)
            return seen

        yield reach


def first(resolver: Resolver) -> Endpoints:
    """The first set; the watch ends with it."""

    async def main() -> Endpoints:
        async with asyncio.timeout(PATIENCE), aclosing(resolver.watch()) as sets:
            return await anext(sets)

    return asyncio.run(main())


def failure(resolver: Resolver) -> ResolutionFailed:
    with pytest.raises(ResolutionFailed) as failed:
        first(resolver)
    return failed.value


def test_addresses_come_and_go_in_both_families(knot: Knot) -> None:
    knot.put("orders", "A", "10.0.0.1")

    async def main() -> None:
        async with watching(on(knot, "orders.test")) as reach:
            await reach(["10.0.0.1:80"])
            knot.put("orders", "A", "10.0.0.1", "10.0.0.2")
            await reach(["10.0.0.1:80", "10.0.0.2:80"])
            knot.put("orders", "AAAA", "::1")
            await reach(["10.0.0.1:80", "10.0.0.2:80", "[::1]:80"])
            knot.put("orders", "A", "10.0.0.2")
            await reach(["10.0.0.2:80", "[::1]:80"])
            knot.put("orders", "AAAA")
            await reach(["10.0.0.2:80"])

    asyncio.run(main())


def test_a_ttl_is_respected(knot: Knot) -> None:
    """With 60 s to live a change is not seen, with 1 s it is."""
    knot.put("slow", "A", "10.0.0.1", ttl=60)
    knot.put("fast", "A", "10.0.0.1", ttl=1)

    async def main() -> None:
        slow, fast = on(knot, "slow.test", family="ipv4"), on(knot, "fast.test", family="ipv4")
        async with watching(slow) as reach_slow, watching(fast) as reach_fast:
            await reach_slow(["10.0.0.1:80"])
            await reach_fast(["10.0.0.1:80"])
            knot.put("slow", "A", "10.0.0.2", ttl=60)
            change = asyncio.ensure_future(reach_slow(["10.0.0.2:80"]))
            for address in ("10.0.0.2", "10.0.0.3"):
                knot.put("fast", "A", address, ttl=1)
                await reach_fast([f"{address}:80"])
            assert not change.done()
            change.cancel()
            await asyncio.wait([change])

    asyncio.run(main())


def test_an_alias_has_the_lowest_ttl_of_its_chain(knot: Knot) -> None:
    knot.put("target", "A", "10.0.0.1", ttl=60)
    knot.put("orders", "CNAME", "target.test.", ttl=1)

    async def main() -> None:
        async with watching(on(knot, "orders.test", family="ipv4")) as reach:
            await reach(["10.0.0.1:80"])
            knot.put("target", "A", "10.0.0.2", ttl=60)
            await reach(["10.0.0.2:80"])

    asyncio.run(main())


def test_a_name_that_flaps_is_a_failure_and_then_there_again(knot: Knot) -> None:
    knot.put("orders", "A", "10.0.0.1")

    async def main() -> None:
        async with watching(on(knot, "orders.test")) as reach:
            await reach(["10.0.0.1:80"])
            knot.remove("orders")
            with pytest.raises(ResolutionFailed, match="no such name") as failed:
                await reach([])
            assert failed.value.retry_after == NEGATIVE_TTL

    asyncio.run(main())
    knot.put("orders", "A", "10.0.0.1")
    assert text(first(on(knot, "orders.test"))) == ["10.0.0.1:80"]


def test_an_empty_name_is_a_failure_too(knot: Knot) -> None:
    knot.put("orders", "TXT", "nothing")
    failed = failure(on(knot, "orders.test"))
    assert "no such record" in str(failed)
    assert failed.retry_after == NEGATIVE_TTL


@pytest.mark.parametrize(("name", "rcode"), [("orders.broken", "SERVFAIL"), ("orders.elsewhere", "REFUSED")])
def test_an_error_of_the_server_is_a_failure_to_be_repeated_soon(knot: Knot, name: str, rcode: str) -> None:
    failed = failure(on(knot, name))
    assert rcode in str(failed)
    assert failed.retry_after is None


def test_a_frozen_server_is_a_failure_in_time_and_then_there_again(knot: Knot) -> None:
    knot.put("orders", "A", "10.0.0.1")
    resolver = on(knot, "orders.test", timeout=2.0)

    async def main() -> None:
        async with watching(resolver) as reach:
            await reach(["10.0.0.1:80"])
            knot.proc.pause()
            with pytest.raises(ResolutionFailed) as failed:
                await reach([])
            assert failed.value.retry_after is None

    asyncio.run(main())
    knot.proc.resume()
    assert text(first(on(knot, "orders.test"))) == ["10.0.0.1:80"]


def test_the_next_nameserver_answers_for_a_frozen_one(knot: Knot) -> None:
    knot.put("orders", "A", "10.0.0.1")
    with socket.socket(type=socket.SOCK_DGRAM) as silent:
        silent.bind((HOST, 0))
        servers = [f"{HOST}:{silent.getsockname()[1]}", f"{HOST}:{knot.port}"]
        assert text(first(dns_resolver("orders.test", 80, nameservers=servers, timeout=3.0))) == ["10.0.0.1:80"]


class TestHalfAServer:
    """A server that answers for one family only, as broken middleboxes do."""

    @pytest.fixture
    def half(self, knot: Knot) -> Iterator[int]:
        """The port of a forwarder to Knot that fails for AAAA while `silent` or `failing` says so."""
        with socket.socket(type=socket.SOCK_DGRAM) as listener:
            listener.bind((HOST, 0))
            thread = threading.Thread(target=self._forward, args=(listener, knot.port))
            thread.start()
            yield listener.getsockname()[1]
            self.mode = "stop"
            with socket.socket(type=socket.SOCK_DGRAM) as waker:
                waker.sendto(b"", listener.getsockname())
            thread.join()

    mode = "good"

    def _forward(self, listener: socket.socket, port: int) -> None:
        while True:
            wire, sender = listener.recvfrom(65535)
            if self.mode == "stop":
                return
            question = dns.message.from_wire(wire)
            if question.question[0].rdtype == dns.rdatatype.AAAA and self.mode != "good":
                if self.mode == "failing":
                    response = dns.message.make_response(question)
                    response.set_rcode(dns.rcode.SERVFAIL)
                    listener.sendto(response.to_wire(), sender)
                continue
            listener.sendto(dns.query.udp(question, HOST, timeout=5.0, port=port).to_wire(), sender)

    @pytest.mark.parametrize("mode", ["silent", "failing"])
    def test_the_family_that_answers_is_used_at_once(self, knot: Knot, half: int, mode: str) -> None:
        knot.put("orders", "A", "10.0.0.1", ttl=60)
        self.mode = mode
        assert text(first(dns_resolver("orders.test", 80, nameservers=[HOST], nameserver_port=half))) == ["10.0.0.1:80"]

    @pytest.mark.parametrize("mode", ["silent", "failing"])
    def test_the_family_that_fails_keeps_its_addresses(self, knot: Knot, half: int, mode: str) -> None:
        knot.put("orders", "A", "10.0.0.1")
        knot.put("orders", "AAAA", "::1")

        async def main() -> None:
            resolver = dns_resolver("orders.test", 80, nameservers=[HOST], nameserver_port=half)
            async with watching(resolver) as reach:
                await reach(["10.0.0.1:80", "[::1]:80"])
                self.mode = mode
                knot.put("orders", "A", "10.0.0.2")
                assert await reach(["10.0.0.2:80", "[::1]:80"]) == []
                self.mode = "good"
                knot.put("orders", "AAAA")
                await reach(["10.0.0.2:80"])

        asyncio.run(main())


def test_a_truncated_answer_is_asked_for_by_tcp(knot: Knot) -> None:
    addresses = [f"10.0.{high}.{low}" for high in range(2) for low in range(1, 101)]
    knot.put("many", "A", *addresses)
    assert {endpoint.host for endpoint in first(on(knot, "many.test"))} == set(addresses)


def test_two_hundred_services_come_by_tcp_with_their_order_and_weights(knot: Knot) -> None:
    knot.put("node", "A", "10.0.0.1")
    records = [f"{10 * (number % 2)} {number} {8000 + number} node.test." for number in range(200)]
    knot.put("_http._tcp.orders", "SRV", *records)
    endpoints = first(srv("_http._tcp.orders.test", nameservers=[f"{HOST}:{knot.port}"]))
    assert {endpoint.port: (endpoint.host, endpoint.priority, endpoint.weight) for endpoint in endpoints} == {
        8000 + number: ("10.0.0.1", number % 2, number or 0.01) for number in range(200)
    }


def test_services_follow_their_records_and_the_addresses_of_their_targets(knot: Knot) -> None:
    knot.put("node1", "A", "10.0.0.1")
    knot.put("node2", "A", "10.0.0.2")
    knot.put("node2", "AAAA", "::1")
    knot.put("_http._tcp.orders", "SRV", "10 5 80 node1.test.")

    async def main() -> None:
        target = f"srv://{HOST}:{knot.port}/_http._tcp.orders.test"
        async with watching(parse_target(target)) as reach:
            await reach(["10.0.0.1:80"])
            knot.put("_http._tcp.orders", "SRV", "10 5 80 node1.test.", "20 1 81 node2.test.", "20 1 82 gone.test.")
            await reach(["10.0.0.1:80", "10.0.0.2:81", "[::1]:81"])
            knot.put("node1", "A", "10.0.0.9")
            await reach(["10.0.0.9:80", "10.0.0.2:81", "[::1]:81"])
            knot.put("_http._tcp.orders", "SRV", "0 0 0 .")
            await reach([])
            knot.remove("_http._tcp.orders")
            with pytest.raises(ResolutionFailed, match="no such name"):
                await reach([])

    asyncio.run(main())


def test_short_names_are_searched_for(knot: Knot) -> None:
    knot.put("orders.svc", "A", "10.0.0.1")
    knot.put("a.b.svc", "A", "10.0.0.2")
    search = ["none.test", "svc.test"]
    assert text(first(on(knot, "orders", search=search))) == ["10.0.0.1:80"]
    assert text(first(on(knot, "a.b", search=search, ndots=5))) == ["10.0.0.2:80"]
    assert "orders.none.test. A: no such name" in str(failure(on(knot, "orders", search=["none.test"])))


def test_a_domain_that_is_refused_does_not_end_the_search(knot: Knot) -> None:
    knot.put("orders.svc", "A", "10.0.0.1")
    assert text(first(on(knot, "orders", search=["corp.elsewhere", "broken", "svc.test"]))) == ["10.0.0.1:80"]


@pytest.mark.parametrize("name", ["bücher.test", "BÜCHER.test", "xn--bcher-kva.test"])
def test_names_outside_ascii_are_found(knot: Knot, name: str) -> None:
    knot.put("xn--bcher-kva", "A", "10.0.0.1")
    assert text(first(on(knot, name))) == ["10.0.0.1:80"]


def test_what_neither_hosts_nor_dns_know_is_asked_of_libc(tmp_path: Path) -> None:
    """`localhost` by another spelling: only the C library takes it for an address."""
    nothing = str(tmp_path / "none")
    resolver = dns_resolver("127.1", 80, hosts_file=nothing, resolv_conf=nothing)
    assert text(first(resolver)) == ["127.0.0.1:80"]
