"""An HTTP server that answers every GET after a delay: `python -m benchmarks.answering SECONDS [ADDRESS]`.

It parses nothing but the end of a request, so that next to no CPU is its own. At the address
0.0.0.0 it is as many endpoints as loopback has addresses, 127.0.0.1 to 127.255.255.254.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from benchmarks.children import orders, reply

ANSWER = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n{"answer": 4200}'


class Answering(asyncio.Protocol):
    def __init__(self, loop: asyncio.AbstractEventLoop, delay: float) -> None:
        self._loop = loop
        self._delay = delay

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        answer = ANSWER * data.count(b"\r\n\r\n")
        if self._delay:
            self._loop.call_later(self._delay, self.transport.write, answer)
        else:
            self.transport.write(answer)


async def main() -> None:
    loop = asyncio.get_running_loop()
    delay = float(sys.argv[1])
    address = sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1"
    server = await loop.create_server(lambda: Answering(loop, delay), address, 0, backlog=8192)
    reply(server.sockets[0].getsockname()[1])
    await asyncio.to_thread(orders)


def run(coroutine: Any) -> None:
    """On uvloop where it is installed: the less a server takes, the less it disturbs."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(coroutine)
    else:
        uvloop.run(coroutine)


if __name__ == "__main__":
    run(main())
