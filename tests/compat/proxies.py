"""A small proxy: forwards what has an absolute URL, and tunnels on CONNECT."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any
from urllib.parse import urlsplit

from tests.compat.origin import parsed
from tests.runtime.servers import Peer, Server


class Proxy(Server):
    """Keeps the targets that it was asked for, and the credentials that came with them."""

    def __init__(self, **options: Any) -> None:
        super().__init__(self._serve, **options)
        self.log: list[tuple[str, str, str | None]] = []
        self.names: dict[str, tuple[str, int]] = {}
        """Names that only the proxy can resolve."""

    def url(self, credentials: str = "") -> str:
        return f"http://{credentials}{self.endpoint.address}"

    def take(self) -> list[tuple[str, str, str | None]]:
        """What was asked since the last look."""
        log, self.log = self.log, []
        return log

    async def _serve(self, peer: Peer) -> None:
        while True:
            data = await peer.request()
            seen = parsed(data)
            self.log.append((seen.method, seen.target, seen.header("proxy-authorization")))
            if seen.method == "CONNECT":
                await self._tunnel(peer, seen.target)
                return
            await self._forward(peer, data, seen.target)

    async def _tunnel(self, peer: Peer, target: str) -> None:
        host, _, port = target.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        await peer.send(b"HTTP/1.1 200 Connected\r\n\r\n")
        with contextlib.closing(writer):
            pumps = [_pump(peer.reader, writer), _pump(reader, peer.writer)]
            await asyncio.wait([asyncio.create_task(pump) for pump in pumps], return_when=asyncio.FIRST_COMPLETED)

    async def _forward(self, peer: Peer, data: bytes, target: str) -> None:
        url = urlsplit(target)
        address = self.names.get(url.hostname or "", (url.hostname, url.port))
        reader, writer = await asyncio.open_connection(*address)
        path = target[target.index("/", len("http://")) :]
        writer.write(data.replace(target.encode(), path.encode(), 1))
        head = await reader.readuntil(b"\r\n\r\n")
        size = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        await peer.send(head + await reader.readexactly(size))
        writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
