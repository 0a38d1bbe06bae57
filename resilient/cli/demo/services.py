"""The services of one contender: run as `python -m resilient.cli.demo.services`.

A process of its own, so that its CPU does not blur the client's latency. Receives the story,
sends `{"ports": [...]}`, receives anything as the start signal, and follows the story until
the pipe closes.
"""

from __future__ import annotations

import asyncio
import os
import socket
from random import Random

from resilient.cli.demo.child import Parent, run
from resilient.cli.demo.http1 import Connection, Reply
from resilient.cli.demo.story import ENDPOINTS, SLOWDOWN, Fault, Story

HOST = "127.0.0.1"
_SERVICE_TIME = (0.006, 0.010)  # seconds, uniform


class Service:
    """One endpoint: a listener whose behaviour is `fault`."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self.fault = Fault.NONE
        self.port = 0
        self._server: asyncio.Server | None = None
        self._claim: socket.socket | None = None
        self._connections: set[Connection] = set()

    async def start(self) -> None:
        """Listen on a port that the kernel picks."""
        listener = _bound(0)
        self.port = listener.getsockname()[1]
        if hasattr(socket, "SO_REUSEPORT"):
            # Bound but never listening: nobody can take the port while this service refuses.
            self._claim = _bound(self.port)
        await self._listen(listener)

    async def _listen(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._connection, sock=listener)

    def _connection(self) -> Connection:
        return Connection(self._reply, self._connections.add, self._connections.discard)

    async def become(self, fault: Fault) -> None:
        """Change the behaviour, from the next request on."""
        self.fault = fault
        if fault is Fault.REFUSING:
            self._refuse()
        elif self._server is None:
            await self._listen(_bound(self.port))

    def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in tuple(self._connections):
            connection.abort()

    def _reply(self) -> Reply | None:
        seconds = self._rng.uniform(*_SERVICE_TIME)
        if self.fault is Fault.HANGING:
            return None
        if self.fault is Fault.FAILING:
            return Reply(503)
        return Reply(200, seconds * SLOWDOWN if self.fault is Fault.SLOW else seconds)

    def close(self) -> None:
        """Stop listening, drop the connections, and give the port back."""
        self._refuse()
        if self._claim is not None:
            self._claim.close()


def _bound(port: int) -> socket.socket:
    listener = socket.socket()
    if os.name != "nt":  # on Windows it would let others take the port
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if hasattr(socket, "SO_REUSEPORT"):
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind((HOST, port))
    return listener


async def live(services: list[Service], story: Story) -> None:
    """Change the services as the story says, from now on."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    for change in story.changes():
        await asyncio.sleep(start + change.at - loop.time())
        await services[change.endpoint].become(change.fault)


async def main(parent: Parent) -> None:
    """Serve until the parent closes the pipe."""
    story = Story.from_json(await parent.receive())
    services = [Service(Random(story.seed * ENDPOINTS + number)) for number in range(ENDPOINTS)]
    for service in services:
        await service.start()
    parent.send({"ports": [service.port for service in services]})
    await parent.receive()
    await live(services, story)


if __name__ == "__main__":
    run(main)
