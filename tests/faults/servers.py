"""Servers that fail, each in its own way, and remember every request that reached them whole."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from resilient.balance.endpoint import Endpoint
from tests.runtime.servers import Peer, Script, serve, serving

DRIP = 0.02
LONG = 60.0  # more than any test waits


@dataclass
class Bad:
    """Where to find a server, and the requests that it got."""

    endpoint: Endpoint
    requests: list[bytes] = field(default_factory=list)


async def hangs(peer: Peer) -> None:
    await peer.request()
    await asyncio.sleep(LONG)


async def resets_at_accept(peer: Peer) -> None:
    peer.reset()


async def closes_at_accept(peer: Peer) -> None:
    """Returns, which closes."""


async def resets_after_the_request(peer: Peer) -> None:
    await peer.request()
    peer.reset()


async def closes_after_the_request(peer: Peer) -> None:
    await peer.request()


async def resets_in_the_head(peer: Peer) -> None:
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\nContent-Le")
    peer.reset()


async def resets_in_the_body(peer: Peer) -> None:
    await peer.request()
    await peer.respond(b"abc", length=10)
    peer.reset()


async def truncates(peer: Peer) -> None:
    await peer.request()
    await peer.respond(b"abc", length=10)


async def truncates_chunks(peer: Peer) -> None:
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc")


async def _drip(peer: Peer, data: bytes) -> None:
    for byte in data:
        await peer.send(bytes([byte]))
        await asyncio.sleep(DRIP)


async def drips_the_head(peer: Peer) -> None:
    await peer.request()
    await _drip(peer, b"HTTP/1.1 200 OK\r\nX-Long: " + b"a" * 10_000)


async def drips_the_body(peer: Peer) -> None:
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n")
    await _drip(peer, b"a" * 10_000)


async def hints_for_ever(peer: Peer) -> None:
    """Always something to read, never a response."""
    await peer.request()
    while True:
        await peer.send(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n")
        await asyncio.sleep(DRIP)


def says(data: bytes) -> Script:
    """Answers every request with `data`."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(data)

    return script


Place = Callable[[], AbstractContextManager[Any]]


def scripted(script: Script, **options: Any) -> Place:
    return lambda: serving(script, **options)


@contextmanager
def refusing() -> Iterator[Bad]:
    """A port that is bound, and nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield Bad(Endpoint(*taken.getsockname()))


@contextmanager
def deaf() -> Iterator[Bad]:
    """The kernel accepts, and the program never does: as under SIGSTOP."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        yield Bad(Endpoint(*listening.getsockname()))


@contextmanager
def full_backlog() -> Iterator[Bad]:
    """The queue of the kernel is full, so that connection requests are dropped unanswered."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listening, _waiting_at(listening.getsockname()):
        yield Bad(Endpoint(*listening.getsockname()))


@contextmanager
def _waiting_at(address: tuple[str, int]) -> Iterator[None]:
    waiting: list[socket.socket] = []
    try:
        while True:
            waiting.append(socket.socket())
            waiting[-1].settimeout(0.05)
            if waiting[-1].connect_ex(address) != 0:
                break
        yield
    finally:
        for one in waiting:
            one.close()


@dataclass(frozen=True)
class Fault:
    """One way to fail, and what an attempt that meets it has to report.

    `unsent`: provably nothing of the request has arrived, so that any method may go elsewhere;
    None if that depends on who is quicker.
    """

    place: Place
    reason: str
    error: type[Exception]
    unsent: bool | None = False

    @property
    def reasons(self) -> set[str]:
        """What an attempt may report."""
        return {self.reason} if self.unsent is not None else {self.reason, "connect-failure"}

    @property
    def is_slow(self) -> bool:
        """True if only a timeout ends it."""
        return issubclass(self.error, httpx.TimeoutException)


def _reset(script: Script, error: type[Exception] = httpx.TransportError) -> Fault:
    return Fault(scripted(script), "reset", error)


def _malformed(data: bytes) -> Fault:
    return Fault(scripted(says(data)), "reset", httpx.RemoteProtocolError)


def _slow(place: Place) -> Fault:
    return Fault(place, "timeout", httpx.ReadTimeout)


FAULTS = {
    "refuses": Fault(refusing, "connect-failure", httpx.ConnectError, unsent=True),
    "full-backlog": Fault(full_backlog, "connect-failure", httpx.ConnectTimeout, unsent=True),
    "deaf": _slow(deaf),
    "hangs": _slow(scripted(hangs)),
    "drips-the-head": _slow(scripted(drips_the_head)),
    "drips-the-body": _slow(scripted(drips_the_body)),
    "hints-for-ever": _slow(scripted(hints_for_ever)),
    "resets-at-accept": Fault(scripted(resets_at_accept), "reset", httpx.TransportError, unsent=None),
    "closes-at-accept": Fault(scripted(closes_at_accept), "reset", httpx.TransportError, unsent=None),
    "resets-after-the-request": _reset(resets_after_the_request),
    "closes-after-the-request": _reset(closes_after_the_request, httpx.RemoteProtocolError),
    "resets-in-the-head": _reset(resets_in_the_head),
    "resets-in-the-body": _reset(resets_in_the_body),
    "truncates": _reset(truncates, httpx.RemoteProtocolError),
    "truncates-chunks": _reset(truncates_chunks, httpx.RemoteProtocolError),
    "no-http": _malformed(b"\x15\x03\x01\x00\x02\x02\x46\r\n\r\n"),
    "bad-status": _malformed(b"HTTP/1.1 ten OK\r\n\r\n"),
    "bad-length": _malformed(b"HTTP/1.1 200 OK\r\nContent-Length: ten\r\n\r\n0123456789"),
    "two-lengths": _malformed(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!"),
    "bad-chunk": _malformed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\nok\r\n0\r\n\r\n"),
    "bad-header": _malformed(b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n"),
    "endless-head": _malformed(b"HTTP/1.1 200 OK\r\n" + b"X-More: and more\r\n" * 20_000),
}

good: Place = scripted(serve)
