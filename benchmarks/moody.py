"""Servers in a bad mood: the peers of the soak, in a process of their own.

Run by `benchmarks/soak.py`. The first line of output lists the ports; then each line of input
is answered with the deliveries: `{"posts": ..., "twice": ...}`, the second being how many
requests with one and the same body arrived more than once.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))

from benchmarks.children import orders, reply

SERVERS = 4
MOODS = {
    "good": 840,
    "slow": 30,
    "late": 20,
    "503": 30,
    "hang": 15,
    "reset": 15,
    "cut": 20,
    "drip": 10,
    "nonsense": 10,
    "close": 10,
}
"""Of a thousand requests."""
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 4096\r\n\r\n" + b"x" * 4096


class Moody:
    """The habits of one server; `posts` counts the bodies that arrived, over all servers."""

    def __init__(self, seed: int, posts: Counter[bytes]) -> None:
        self._rng = random.Random(seed)
        self._posts = posts

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):  # cancelled at the end of all
            while await self._serve(reader, writer):
                pass
        writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; False if that was the end of the connection."""
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        _, found, rest = head.partition(b"content-length: ")
        if found:
            self._posts[await reader.readexactly(int(rest.split(b"\r\n")[0]))] += 1
        (mood,) = self._rng.choices(list(MOODS), list(MOODS.values()))
        await asyncio.sleep(self._rng.random() * 0.004)
        if mood in ("good", "slow", "late", "503", "close"):
            await asyncio.sleep({"slow": 0.05, "late": 0.3}.get(mood, 0.0))
            writer.write(b"HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nno" if mood == "503" else OK)
            await writer.drain()
            return mood != "close"
        await self._fail(mood, writer)
        return False

    async def _fail(self, mood: str, writer: asyncio.StreamWriter) -> None:
        if mood == "hang":
            await asyncio.sleep(3.0)
        elif mood == "cut":
            writer.write(OK[: self._rng.randrange(len(OK))])
            await writer.drain()
        elif mood == "drip":
            for byte in OK[:60]:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.02)
        elif mood == "nonsense":
            writer.write(b"\x16\x03\x01 no HTTP at all\r\n\r\n")
            await writer.drain()
        elif mood == "reset":
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()


async def main(seed: int) -> None:
    """Serve until the parent has closed the pipe."""
    posts: Counter[bytes] = Counter()
    servers = [
        await asyncio.start_server(Moody(seed + number, posts).connected, "127.0.0.1", 0, backlog=512)
        for number in range(SERVERS)
    ]
    reply([server.sockets[0].getsockname()[1] for server in servers])
    while await asyncio.to_thread(orders) is not None:
        reply({"posts": posts.total(), "twice": sum(count > 1 for count in posts.values())})


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
