"""The client on dnspython, its nameservers replaced by ones in memory."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import dns.asyncresolver
import dns.exception
import dns.message
import dns.nameserver
import dns.rcode
import pytest

from resilient.discovery.dns import DnsResolver
from resilient.discovery.freshness import Reply, Status
from resilient.discovery.lookup import Client, SrvRecord, ask_families, client
from resilient.discovery.resolver import ResolutionFailed
from tests.discovery.fake_dns import FakeDns, answer
from tests.discovery.virtual_loop import now, run

SOA = "orders. 60 IN SOA ns. admin. 1 3600 600 86400 {minimum}"


class InMemory(dns.nameserver.Nameserver):
    """Answers each question with the sections of a message, given as text."""

    def __init__(self, *sections: str, rcode: str = "NOERROR") -> None:
        super().__init__()
        self.sections, self.rcode = sections, rcode
        self.asked: list[str] = []

    def __str__(self) -> str:
        return "in memory"

    def kind(self) -> str:
        return "memory"

    def is_always_max_size(self) -> bool:
        return True

    def answer_nameserver(self) -> str:
        return "10.0.0.53"

    def answer_port(self) -> int:
        return 53

    async def async_query(self, request: dns.message.QueryMessage, *_: Any, **__: Any) -> dns.message.Message:
        self.asked.append(request.question[0].to_text())
        head = f"id {request.id}\nopcode QUERY\nrcode {self.rcode}\nflags QR RD RA\n;QUESTION\n{request.question[0]}\n"
        return dns.message.from_text(head + "\n".join(self.sections))


class Broken(InMemory):
    async def async_query(self, request: dns.message.QueryMessage, *_: Any, **__: Any) -> dns.message.Message:
        raise OSError("connection refused")


def on(monkeypatch: pytest.MonkeyPatch, *nameservers: dns.nameserver.Nameserver, **settings: Any) -> Client:
    made = client(DnsResolver("orders", 80, nameservers=["10.0.0.53"], **settings))
    made._nameservers.nameservers = nameservers  # type: ignore[attr-defined]
    return made


def addresses(monkeypatch: pytest.MonkeyPatch, *nameservers: dns.nameserver.Nameserver) -> Reply[str]:
    return run(on(monkeypatch, *nameservers).addresses("orders.", "A"))


def test_the_ttl_is_the_lowest_of_the_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    aliases = "orders. 50 IN CNAME a.b.", "a.b. 20 IN CNAME c."
    chain = InMemory(";ANSWER", *aliases, "c. 90 IN A 10.0.0.1", "c. 90 IN A 10.0.0.2")
    reply = addresses(monkeypatch, chain)
    assert (reply.status, reply.ttl, set(reply.records)) == (Status.ANSWER, 20.0, {"10.0.0.1", "10.0.0.2"})


@pytest.mark.parametrize(("minimum", "ttl"), [(30, 30.0), (90, 60.0)])
@pytest.mark.parametrize(("rcode", "status"), [("NOERROR", Status.NODATA), ("NXDOMAIN", Status.NXDOMAIN)])
def test_a_negative_reply_has_the_ttl_of_rfc_2308(
    monkeypatch: pytest.MonkeyPatch, minimum: int, ttl: float, rcode: str, status: Status
) -> None:
    reply = addresses(monkeypatch, InMemory(";AUTHORITY", SOA.format(minimum=minimum), rcode=rcode))
    assert (reply.status, reply.ttl) == (status, ttl)


@pytest.mark.parametrize("rcode", ["NOERROR", "NXDOMAIN"])
def test_without_an_soa_it_has_none(monkeypatch: pytest.MonkeyPatch, rcode: str) -> None:
    assert addresses(monkeypatch, InMemory(rcode=rcode)).ttl is None


@pytest.mark.parametrize("rcode", ["SERVFAIL", "REFUSED", "FORMERR"])
def test_an_error_reply_is_a_failure_with_a_reason(monkeypatch: pytest.MonkeyPatch, rcode: str) -> None:
    reply = addresses(monkeypatch, InMemory(rcode=rcode))
    assert reply.status is Status.FAILED
    assert rcode in str(reply)


@pytest.mark.parametrize("first", [Broken(), InMemory(rcode="SERVFAIL")])
def test_the_next_nameserver_is_asked_after_a_failure(monkeypatch: pytest.MonkeyPatch, first: InMemory) -> None:
    reply = addresses(monkeypatch, first, InMemory(";ANSWER", "orders. 50 IN A 10.0.0.1"))
    assert reply.records == ("10.0.0.1",)


def test_nobody_answering_in_time_is_not_an_error_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    made = on(monkeypatch, InMemory())

    async def resolve(*_: Any, **__: Any) -> None:
        raise dns.exception.Timeout(timeout=5)

    made._nameservers.resolve = resolve  # type: ignore[attr-defined]
    assert run(made.addresses("orders.", "A")).status is Status.LATE


def test_services_bring_their_addresses_along(monkeypatch: pytest.MonkeyPatch) -> None:
    server = InMemory(
        ";ANSWER",
        "orders. 50 IN SRV 1 2 80 A.",
        "orders. 50 IN SRV 3 4 81 b.",
        ";ADDITIONAL",
        "a. 40 IN A 10.0.0.1",
        "a. 30 IN AAAA ::1",
        "c. 5 IN A 10.0.0.9",
    )
    reply = run(on(monkeypatch, server).services("orders."))
    assert reply.ttl == 30.0
    assert set(reply.records) == {SrvRecord(1, 2, 80, "a.", ("10.0.0.1", "::1")), SrvRecord(3, 4, 81, "b.")}


def resolv_conf(tmp_path: Path, text: str) -> str:
    path = tmp_path / "resolv.conf"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nameserver 10.0.0.53\nsearch prod.svc svc\n", ("orders.prod.svc.", "orders.svc.", "orders.")),
        ("nameserver 10.0.0.53\nsearch svc\noptions ndots:0\n", ("orders.", "orders.svc.")),
        ("nameserver 10.0.0.53\ndomain corp.example\n", ("orders.corp.example.", "orders.")),
    ],
)
def test_the_systems_search_list_is_used(tmp_path: Path, text: str, expected: tuple[str, ...]) -> None:
    resolver = DnsResolver("orders", 80, resolv_conf=resolv_conf(tmp_path, text))
    assert client(resolver).candidates("orders") == expected


def test_settings_go_before_the_systems_search_list(tmp_path: Path) -> None:
    conf = resolv_conf(tmp_path, "nameserver 10.0.0.53\nsearch svc\noptions ndots:5\n")
    resolver = DnsResolver("a.b", 80, search=["own"], ndots=1, resolv_conf=conf)
    assert client(resolver).candidates("a.b") == ("a.b.", "a.b.own.")
    assert client(DnsResolver("a.b", 80, search=[], resolv_conf=conf)).candidates("a.b") == ("a.b.",)


def test_own_nameservers_have_no_search_list_but_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "box.corp.example")
    conf = resolv_conf(tmp_path, "nameserver 10.0.0.53\nsearch svc\n")
    own = DnsResolver("orders", 80, nameservers=["10.0.0.54"], resolv_conf=conf)
    assert client(own).candidates("orders") == ("orders.",)


def test_every_nameserver_has_its_turn_within_the_timeout() -> None:
    one = client(DnsResolver("orders", 80, nameservers=["10.0.0.1"]))
    many = client(DnsResolver("orders", 80, nameservers=["10.0.0.1", "10.0.0.2", "10.0.0.3"], timeout=1.5))
    assert one._nameservers.timeout == 2.0  # type: ignore[attr-defined]
    assert many._nameservers.timeout == 0.5  # type: ignore[attr-defined]


@pytest.mark.parametrize("text", ["", "search svc\n"])
def test_no_nameservers_are_a_failure(tmp_path: Path, text: str) -> None:
    with pytest.raises(ResolutionFailed, match="no nameservers"):
        client(DnsResolver("orders", 80, resolv_conf=resolv_conf(tmp_path, text)))


def test_questions_that_are_not_waited_for_end_with_the_asker() -> None:
    fake = FakeDns()
    fake.zone = {("orders.", rdtype): (60.0, answer("10.0.0.1")) for rdtype in ("A", "AAAA")}

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ask_families(fake, "orders.", ("A", "AAAA"), lambda _: 0.0), 3)
        await asyncio.sleep(0)
        assert now() == 3.0
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(main())
    assert len(fake.cancelled) == 2


def test_dnspython_and_yaml_are_not_imported_before_they_are_needed() -> None:
    code = (
        "import sys, resilient.discovery.targets as t\n"
        "t.parse_target('dns:///orders:80'), t.parse_target('srv:///_http._tcp.orders')\n"
        "print([name for name in ('dns', 'yaml') if name in sys.modules])"
    )
    path = [entry for entry in sys.path if entry]
    argv = [sys.executable, "-c", f"import sys; sys.path[:] = {path!r}\n{code}"]
    ran = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
