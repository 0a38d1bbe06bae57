"""Every way in which TLS can fail to come about: nothing of a request has left then, so any may go elsewhere."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import trustme

from tests.faults.callers import FLAVOURS
from tests.faults.servers import DRIP, LONG, Fault, deaf, hangs, resets_in_the_body, scripted, truncates
from tests.faults.test_matrix import check_bad_only, check_one_bad_of_three
from tests.runtime.servers import Peer, serve

URL = "https://orders/v1"
AUTHORITY = trustme.CA()

pytestmark = [pytest.mark.usefixtures("no_leaks"), pytest.mark.parametrize("flavour", FLAVOURS)]


def shows(authority: trustme.CA, *names: str, **options: Any) -> ssl.SSLContext:
    """The context of a server with a certificate for these names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names, **options).configure_cert(context)
    return context


def trust() -> ssl.SSLContext:
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    return context


def expired() -> ssl.SSLContext:
    now = datetime.now(UTC)
    return shows(AUTHORITY, "orders", not_before=now - timedelta(days=9), not_after=now - timedelta(days=1))


def asks_for_a_certificate() -> ssl.SSLContext:
    context = shows(AUTHORITY, "orders")
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # in TLS 1.3 a client learns only later that it was refused
    context.verify_mode = ssl.CERT_REQUIRED
    AUTHORITY.configure_trust(context)
    return context


async def is_silent(peer: Peer) -> None:
    """Takes what the handshake begins with, and never answers."""
    await peer.reader.read(1)
    await asyncio.sleep(LONG)


async def stops_in_the_handshake(peer: Peer) -> None:
    """The header of a record of the handshake, and then nothing."""
    await peer.reader.read(1)
    await peer.send(b"\x16\x03\x03\x00\x7a\x02\x00")
    await asyncio.sleep(LONG)


async def drips_the_handshake(peer: Peer) -> None:
    """A long record, always with something to read."""
    await peer.reader.read(1)
    await peer.send(b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc")
    while True:
        await peer.send(b"\x03")
        await asyncio.sleep(DRIP)


async def closes_in_the_handshake(peer: Peer) -> None:
    await peer.reader.read(65536)


async def resets_in_the_handshake(peer: Peer) -> None:
    await peer.reader.read(1)
    peer.reset()


async def sends_an_alert(peer: Peer) -> None:
    """`handshake_failure`, as a server does that knows no such name."""
    await peer.reader.read(65536)
    await peer.send(b"\x15\x03\x03\x00\x02\x02\x28")


async def speaks_plain_text(peer: Peer) -> None:
    """As nginx answers what is no request."""
    await peer.reader.read(65536)
    await peer.send(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")


def _unsent(script: Any, tls: ssl.SSLContext | None = None) -> Fault:
    return Fault(scripted(script, tls=tls), "connect-failure", httpx.ConnectError, unsent=True)


def _silent(place: Any) -> Fault:
    return Fault(place, "connect-failure", httpx.ConnectTimeout, unsent=True)


FAULTS = {
    "untrusted": _unsent(serve, shows(trustme.CA(), "orders")),
    "another-name": _unsent(serve, shows(AUTHORITY, "payments")),
    "expired": _unsent(serve, expired()),
    "asks-for-a-certificate": _unsent(serve, asks_for_a_certificate()),
    "closes-in-the-handshake": _unsent(closes_in_the_handshake),
    "resets-in-the-handshake": _unsent(resets_in_the_handshake),
    "sends-an-alert": _unsent(sends_an_alert),
    "speaks-plain-text": _unsent(speaks_plain_text),
    "is-silent": _silent(scripted(is_silent)),
    "stops-in-the-handshake": _silent(scripted(stops_in_the_handshake)),
    "drips-the-handshake": _silent(scripted(drips_the_handshake)),
    "deaf": _silent(deaf),
    # Once TLS is there, it is as without.
    "hangs": Fault(scripted(hangs, tls=shows(AUTHORITY, "orders")), "timeout", httpx.ReadTimeout),
    "resets-in-the-body": Fault(
        scripted(resets_in_the_body, tls=shows(AUTHORITY, "orders")), "reset", httpx.TransportError
    ),
    "truncates": Fault(scripted(truncates, tls=shows(AUTHORITY, "orders")), "reset", httpx.TransportError),
}

good = scripted(serve, tls=shows(AUTHORITY, "orders"))


ASKED = pytest.mark.parametrize(
    ("method", "http2"), [("GET", False), ("POST", False), ("POST", True)], ids=["GET", "POST", "POST-http2"]
)
"""Where HTTP/2 is wanted, calls wait for one handshake together."""


@pytest.fixture(params=FAULTS)
def fault(request: pytest.FixtureRequest) -> Fault:
    return FAULTS[request.param]


@ASKED
def test_one_bad_endpoint_of_three(flavour, fault, method, http2) -> None:
    with ExitStack() as stack:
        servers = [stack.enter_context(place()) for place in (fault.place, good, good)]
        check_one_bad_of_three(flavour, fault, method, servers, URL, verify=trust(), http2=http2)


@ASKED
def test_bad_endpoints_only(flavour, fault, method, http2) -> None:
    with ExitStack() as stack:
        servers = [stack.enter_context(fault.place()) for _ in range(2)]
        check_bad_only(flavour, fault, method, servers, URL, verify=trust(), http2=http2)
