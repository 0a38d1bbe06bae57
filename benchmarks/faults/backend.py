"""Ten endpoints in a process of their own: `python -m benchmarks.faults.backend`.

Sends their ports; receives `{"start", "seed", "changes", "pauses"}`, `start` on the system's
monotonic clock; lives by that plan until the next line comes, and answers with what it got:
`[[seconds from the start, endpoint], ...]`, the health checks of a proxy left out.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections import deque
from random import Random
from typing import Any

from benchmarks.answering import run
from benchmarks.children import orders, reply
from benchmarks.faults.scenarios import ENDPOINTS, PAUSE, State

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n" + b'{"answer": 4200}'
UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 5\r\n\r\nno :("
LAST = OK.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n")


class Connection(asyncio.Protocol):
    """One request after the other, as HTTP/1.1 has it."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self.busy = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._endpoint.connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._endpoint.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        for _ in range(data.count(b"\r\n\r\n")):
            self.busy = True
            self._endpoint.receive(self, check=data.startswith(b"GET /health"))

    def answer(self, data: bytes) -> None:
        self.busy = False
        if self.transport.is_closing():
            return  # the client has gone; the work was done all the same
        if self._endpoint.state.listening:
            self.transport.write(data)
        else:
            self.transport.write(LAST)
            self.transport.close()


class Endpoint:
    """A listener, a queue, and some workers; `state` says how they behave."""

    def __init__(self, number: int, loop: asyncio.AbstractEventLoop) -> None:
        self._number = number
        self._loop = loop
        self._rng = Random(number)
        self._server: asyncio.Server | None = None
        self._queue: deque[Connection] = deque()
        self._working = 0
        self._paused_until = 0.0
        self.state = State()
        self.connections: set[Connection] = set()
        self.received: list[float] = []
        # Bound and never listening: while the endpoint is away, nobody else can take its port.
        self._claim = bound(0)
        self.port = self._claim.getsockname()[1]

    async def listen(self) -> None:
        self._server = await self._loop.create_server(lambda: Connection(self), sock=bound(self.port), backlog=512)

    async def become(self, state: State) -> None:
        was, self.state = self.state, state
        if was.listening and not state.listening:
            self._stop()
        elif state.listening and not was.listening:
            await self.listen()
        if not state.hanging:
            self._work()

    def _stop(self) -> None:
        self._server.close()
        for connection in list(self.connections):
            if self.state.killed:
                connection.transport.abort()
            elif not connection.busy:
                connection.transport.close()

    def pause(self) -> None:
        self._paused_until = self._loop.time() + PAUSE
        self._loop.call_later(PAUSE, self._work)

    def receive(self, connection: Connection, *, check: bool) -> None:
        if not check:
            self.received.append(time.monotonic())
        if self._rng.random() < self.state.failing:
            connection.answer(UNAVAILABLE)
            return
        self._queue.append(connection)
        self._work()

    def _work(self) -> None:
        if self.state.hanging or self._loop.time() < self._paused_until - 1e-4:
            return
        while self._queue and self._working < self.state.workers:
            self._working += 1
            seconds = self.state.seconds * (0.5 + self._rng.random())
            self._loop.call_later(seconds, self._finish, self._queue.popleft())

    def _finish(self, connection: Connection) -> None:
        pause = self._paused_until - self._loop.time()
        if pause > 0:
            self._loop.call_later(pause, self._finish, connection)
            return
        self._working -= 1
        connection.answer(OK)
        self._work()


def bound(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(("127.0.0.1", port))
    return listener


async def live(endpoints: list[Endpoint], plan: dict[str, Any]) -> None:
    loop = asyncio.get_running_loop()
    events = [(change["at"], change["endpoint"], State(**change["state"])) for change in plan["changes"]]
    events += [(at, endpoint, None) for at, endpoint in plan["pauses"]]
    for at, number, state in sorted(events, key=lambda event: event[0]):
        await asyncio.sleep(plan["start"] + at - loop.time())
        if state is None:
            endpoints[number].pause()
        else:
            await endpoints[number].become(state)


async def main() -> None:
    loop = asyncio.get_running_loop()
    endpoints = [Endpoint(number, loop) for number in range(ENDPOINTS)]
    for endpoint in endpoints:
        await endpoint.listen()
    reply([endpoint.port for endpoint in endpoints])
    plan = await asyncio.to_thread(orders)
    life = asyncio.create_task(live(endpoints, plan))
    await asyncio.to_thread(orders)
    life.cancel()
    received = [(at - plan["start"], number) for number, endpoint in enumerate(endpoints) for at in endpoint.received]
    reply(sorted(received))


if __name__ == "__main__":
    run(main())
