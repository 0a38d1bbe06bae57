"""Knot DNS: an authoritative server whose zone the tests change while it runs (RFC 2136)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dns.exception
import dns.message
import dns.query
import dns.rcode
import dns.update
import pytest

from tests.real.procs import HOST, Proc, free_port_tcp_udp, on_free_port, require

ZONE = "test."
BROKEN_ZONE = "broken."
"""Configured, but without a file: every question about it ends in SERVFAIL."""

NEGATIVE_TTL = 2

_CONFIG = """
server:
    rundir: "{directory}"
    listen: {host}@{port}
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
database:
    storage: "{directory}"
    journal-db-max-size: 8M
    kasp-db-max-size: 8M
    timer-db-max-size: 1M
log:
  - target: stdout
    any: info
acl:
  - id: loopback
    address: 127.0.0.0/8
    action: update
template:
  - id: default
    storage: "{directory}"
    file: "%s.zone"
    acl: loopback
    zonefile-sync: -1
    journal-content: all
zone:
  - domain: {zone}
  - domain: {broken_zone}
"""

_EMPTY_ZONE = f"""
$ORIGIN {ZONE}
$TTL 1
@ 60 SOA ns.{ZONE} admin.{ZONE} 1 3600 600 86400 {NEGATIVE_TTL}
@ 60 NS ns.{ZONE}
ns 60 A {HOST}
"""


@dataclass
class Knot:
    """The server; names are given without the zone `test.` that they are in."""

    proc: Proc
    port: int

    def put(self, name: str, rdtype: str, *records: str, ttl: int = 1) -> None:
        """Make `records` all that there is of this type at this name; none removes them."""
        update = dns.update.UpdateMessage(ZONE)
        update.delete(name, rdtype)
        for record in records:
            update.add(name, ttl, rdtype, record)
        self._send(update)

    def remove(self, name: str) -> None:
        """Make the name unknown (NXDOMAIN)."""
        update = dns.update.UpdateMessage(ZONE)
        update.delete(name)
        self._send(update)

    def _send(self, update: dns.update.UpdateMessage) -> None:
        response = dns.query.tcp(update, HOST, timeout=5.0, port=self.port)
        assert response.rcode() == dns.rcode.NOERROR, response


def start_knot(directory: Path) -> Knot:
    """Knot with the empty zone `test.` and the broken zone `broken.`."""
    binary = require("knotd")
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "test.zone").write_text(_EMPTY_ZONE)

    def start(port: int) -> Knot:
        config = directory / "knot.conf"
        settings = {"directory": directory, "host": HOST, "port": port, "zone": ZONE, "broken_zone": BROKEN_ZONE}
        config.write_text(_CONFIG.format(**settings))
        return Knot(Proc([binary, "-c", config], lambda: _answers(port), directory), port)

    return on_free_port(start, port=free_port_tcp_udp)


def _answers(port: int) -> bool:
    question = dns.message.make_query(ZONE, "SOA")
    try:
        return bool(dns.query.udp(question, HOST, timeout=0.5, port=port).answer)
    except dns.exception.DNSException:
        return False


@pytest.fixture
def knot(tmp_path: Path) -> Iterator[Knot]:
    server = start_knot(tmp_path / "knot")
    with server.proc:
        yield server
