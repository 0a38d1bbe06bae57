"""The server that the scenarios talk to, with a path for each of its habits."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from hashlib import sha1
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.runtime.servers import Peer, Server

BIG = bytes(range(256)) * 8192
TEXT = "grüße\n" * 3


@dataclass(frozen=True)
class Seen:
    """A request as it came in."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name), None)

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    def query(self, name: str) -> str:
        return parse_qs(urlsplit(self.target).query)[name][0]


def parsed(data: bytes) -> Seen:
    head, _, body = data.partition(b"\r\n\r\n")
    line, *fields = head.decode("latin-1").split("\r\n")
    method, target, _ = line.split(" ")
    pairs = tuple(tuple(field.split(": ", 1)) for field in fields)
    seen = Seen(method, target, pairs, body)  # type: ignore[arg-type]
    return Seen(method, target, seen.headers, _dechunked(body)) if seen.header("transfer-encoding") else seen


def _dechunked(body: bytes) -> bytes:
    found = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        found, body = found + body[: int(size, 16)], body[int(size, 16) + 2 :]
    return found


class Origin(Server):
    """Answers by the first part of the path, by default with an echo; keeps what it has seen."""

    def __init__(self, **options: Any) -> None:
        super().__init__(self._serve, **options)
        self.log: list[Seen] = []
        self.scheme = "https" if options.get("tls") else "http"

    def __exit__(self, *exc: object) -> None:
        # A client that keeps its connection would let a TLS server wait for its goodbye.
        self.on_loop(lambda: [peer.writer.transport.abort() for peer in self.peers])
        super().__exit__(*exc)

    def url(self, path: str = "/echo", host: str | None = None) -> str:
        return f"{self.scheme}://{host or self.endpoint.host}:{self.endpoint.port}{path}"

    def take(self) -> list[Seen]:
        """What was seen since the last look."""
        log, self.log = self.log, []
        return log

    async def _serve(self, peer: Peer) -> None:
        while True:
            seen = parsed(await peer.request())
            self.log.append(seen)
            name = seen.path.split("/")[1]
            await HABITS.get(name, echo)(peer, seen)
            if name in ENDS:
                return


Habit = Callable[[Peer, Seen], Awaitable[None]]
HABITS: dict[str, Habit] = {}
ENDS = {"truncated", "truncated-chunks", "upgrade", "reset"}
"""Habits after which the connection is of no use."""


def habit(function: Habit) -> Habit:
    HABITS[function.__name__.replace("_", "-")] = function
    return function


async def answer(peer: Peer, body: bytes = b"", *, status: str = "200 OK", headers: str = "") -> None:
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    asked_for_head = peer.requests[-1].startswith(b"HEAD ")
    await peer.send(head.encode() + (b"" if asked_for_head else body))


@habit
async def echo(peer: Peer, seen: Seen) -> None:
    told = {"method": seen.method, "target": seen.target, "headers": seen.headers, "body": seen.body.decode("latin-1")}
    await answer(peer, json.dumps(told).encode(), headers="Content-Type: application/json\r\n")


@habit
async def status(peer: Peer, seen: Seen) -> None:
    code = seen.path.split("/")[2]
    if code in ("204", "304"):
        await peer.send(f"HTTP/1.1 {code} Nothing\r\n\r\n".encode())
    else:
        await answer(peer, f"this is {code}".encode(), status=f"{code} Whatever")


@habit
async def redirect(peer: Peer, seen: Seen) -> None:
    code = seen.path.split("/")[2]
    await answer(peer, b"elsewhere", status=f"{code} Elsewhere", headers=f"Location: {seen.query('to')}\r\n")


@habit
async def loop(peer: Peer, seen: Seen) -> None:
    await answer(peer, status="302 Found", headers="Location: /loop\r\n")


@habit
async def cookie(peer: Peer, seen: Seen) -> None:
    headers = f"Set-Cookie: {seen.query('set')}; Path=/\r\nSet-Cookie: second=2; Path=/\r\n"
    await answer(peer, (seen.header("cookie") or "").encode(), headers=headers)


@habit
async def basic(peer: Peer, seen: Seen) -> None:
    expected = "Basic " + base64.b64encode(b"user:secret").decode()
    if seen.header("authorization") == expected:
        await answer(peer, b"in")
    else:
        await answer(peer, b"out", status="401 Unauthorized", headers='WWW-Authenticate: Basic realm="x"\r\n')


@habit
async def digest(peer: Peer, seen: Seen) -> None:
    if (seen.header("authorization") or "").startswith('Digest username="user"'):
        await answer(peer, b"in")
    else:
        challenge = 'WWW-Authenticate: Digest realm="x", nonce="abc", qop="auth", algorithm=MD5\r\n'
        await answer(peer, b"out", status="401 Unauthorized", headers=challenge)


@habit
async def zipped(peer: Peer, seen: Seen) -> None:
    await answer(peer, gzip.compress(TEXT.encode(), mtime=0), headers="Content-Encoding: gzip\r\n")


@habit
async def not_zipped(peer: Peer, seen: Seen) -> None:
    await answer(peer, b"this is not gzip", headers="Content-Encoding: gzip\r\n")


@habit
async def latin(peer: Peer, seen: Seen) -> None:
    charset = "; charset=latin-1" if "charset" in seen.target else ""
    await answer(peer, TEXT.encode("latin-1"), headers=f"Content-Type: text/plain{charset}\r\n")


@habit
async def chunked(peer: Peer, seen: Seen) -> None:
    await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: text/plain\r\n\r\n")
    for chunk in (b"one\ntw", b"o\nthree\n", b"four"):
        await peer.send(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        await asyncio.sleep(0.005)
    await peer.send(b"0\r\n\r\n")


@habit
async def big(peer: Peer, seen: Seen) -> None:
    await answer(peer, BIG)


@habit
async def truncated(peer: Peer, seen: Seen) -> None:
    """Promises ten bytes and sends three."""
    await peer.respond(b"abc", length=10)


@habit
async def truncated_chunks(peer: Peer, seen: Seen) -> None:
    await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")


@habit
async def reset(peer: Peer, seen: Seen) -> None:
    peer.reset()


@habit
async def stall(peer: Peer, seen: Seen) -> None:
    await asyncio.sleep(60)


@habit
async def stall_in_body(peer: Peer, seen: Seen) -> None:
    await peer.respond(b"abc", length=10)
    await asyncio.sleep(60)


@habit
async def hint(peer: Peer, seen: Seen) -> None:
    await peer.send(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n")
    await answer(peer, b"after the hint")


@habit
async def upgrade(peer: Peer, seen: Seen) -> None:
    """Speaks a protocol of its own: what comes goes back, in capitals."""
    await peer.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: shout\r\n\r\n")
    while data := await peer.reader.read(1024):
        await peer.send(data.upper())


@habit
async def websocket(peer: Peer, seen: Seen) -> None:
    """Returns each frame of text that comes, until the client closes."""
    key = (seen.header("sec-websocket-key") or "") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    accept = base64.b64encode(sha1(key.encode()).digest()).decode()
    head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    await peer.send(f"{head}Sec-WebSocket-Accept: {accept}\r\n\r\n".encode())
    while True:
        first, second = await peer.reader.readexactly(2)
        size = second & 0x7F
        if size == 126:
            (size,) = struct.unpack("!H", await peer.reader.readexactly(2))
        mask = await peer.reader.readexactly(4)
        data = bytes(byte ^ mask[i % 4] for i, byte in enumerate(await peer.reader.readexactly(size)))
        await peer.send(bytes([first, len(data)]) + data)
        if first & 0x0F == 8:
            return
