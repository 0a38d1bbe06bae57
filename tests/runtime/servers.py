"""Scripted servers on raw sockets: what a client must survive, on loopback, in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Self

import h2.config
import h2.connection
import h2.events
import h2.settings

from resilient.balance.endpoint import Endpoint


class Closed(Exception):
    """The client has gone."""


class Peer:
    """One connection as its script sees it."""

    def __init__(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.number = number
        """0 for the first connection of the server."""
        self.requests: list[bytes] = []
        """Complete requests, head and body."""
        self.reader = reader
        self.writer = writer

    async def request(self) -> bytes:
        """The next request; raises Closed if there is none."""
        try:
            data = await self.reader.readuntil(b"\r\n\r\n")
            data += await self._body(data.lower())
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise Closed from error
        self.requests.append(data)
        return data

    async def _body(self, head: bytes) -> bytes:
        if b"transfer-encoding: chunked" in head:
            return await self.reader.readuntil(b"0\r\n\r\n")
        _, found, rest = head.partition(b"content-length: ")
        return await self.reader.readexactly(int(rest.split(b"\r\n")[0])) if found else b""

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def respond(self, body: bytes = b"ok", *, status: str = "200 OK", length: int | None = None) -> None:
        size = len(body) if length is None else length
        await self.send(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n" % (status.encode(), size) + body)

    def reset(self) -> None:
        """Close with RST."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Script = Callable[[Peer], Awaitable[None]]


async def serve(peer: Peer) -> None:
    """Answer everything."""
    while True:
        await peer.request()
        await peer.respond()


async def serve_much(peer: Peer) -> None:
    """Answer everything with more than is read at once, so that an answer is open until it is read."""
    while True:
        await peer.request()
        await peer.respond(b"x" * 1_000_000)


class Server:
    """Runs a script for each connection; `peers` are all connections so far.

    A script that returns closes its connection.
    """

    def __init__(
        self,
        script: Script = serve,
        *,
        host: str = "127.0.0.1",
        path: str | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.peers: list[Peer] = []
        self._script = script
        self._host = host
        self._path = path
        self._tls = tls
        self._tasks: set[asyncio.Task[None]] = set()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), daemon=True)

    @property
    def requests(self) -> list[bytes]:
        """The requests of all connections."""
        return [request for peer in self.peers for request in peer.requests]

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *exc: object) -> None:
        self.loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        assert not self._thread.is_alive()

    async def _main(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        if self._path is not None:
            server = await asyncio.start_unix_server(self._connected, self._path, ssl=self._tls)
            self.endpoint = Endpoint(self._path)
        else:
            server = await asyncio.start_server(self._connected, self._host, 0, ssl=self._tls, backlog=512)
            self.endpoint = Endpoint(self._host, server.sockets[0].getsockname()[1])
        self._ready.set()
        await self._stop.wait()
        server.close()
        for _ in range(5):  # turns of the loop, in which what was just accepted begins
            await asyncio.sleep(0)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        peer = Peer(len(self.peers), reader, writer)
        self.peers.append(peer)
        try:
            await self._script(peer)
        except (Closed, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError, asyncio.CancelledError):
                await writer.wait_closed()

    def on_loop(self, action: Callable[[], None]) -> None:
        """Do something in the server's thread, and wait until it is done."""
        done = threading.Event()
        self.loop.call_soon_threadsafe(lambda: (action(), done.set()))
        assert done.wait(10)


class H2Peer:
    """The server's half of an HTTP/2 connection."""

    def __init__(self, peer: Peer, max_streams: int = 100) -> None:
        self.peer = peer
        self.state = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        self.state.local_settings = h2.settings.Settings(
            client=False, initial_values={h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: max_streams}
        )
        self._open: set[int] = set()

    async def start(self) -> None:
        self.state.initiate_connection()
        await self.flush()

    async def flush(self) -> None:
        await self.peer.send(self.state.data_to_send())

    async def requests(self) -> list[int]:
        """The streams of the next complete requests."""
        while True:
            data = await self.peer.reader.read(65536)
            if not data:
                raise Closed
            done = []
            for event in self.state.receive_data(data):
                if isinstance(event, h2.events.DataReceived):
                    self.state.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id)
                elif isinstance(event, h2.events.StreamEnded):
                    self.peer.requests.append(b"stream %d" % event.stream_id)
                    done.append(event.stream_id)
            await self.flush()
            if done:
                return done

    async def respond(self, stream_id: int, body: bytes = b"ok") -> None:
        self.state.send_headers(stream_id, [(":status", "200")])
        self.state.send_data(stream_id, body, end_stream=True)
        await self.flush()

    async def refuse(self, stream_id: int) -> None:
        self.state.reset_stream(stream_id, error_code=7)
        await self.flush()

    async def go_away(self, last_stream_id: int) -> None:
        self.state.close_connection(last_stream_id=last_stream_id)
        await self.flush()


async def serve_h2(peer: Peer) -> None:
    """Answer everything."""
    connection = H2Peer(peer)
    await connection.start()
    while True:
        for stream_id in await connection.requests():
            await connection.respond(stream_id)


@contextlib.contextmanager
def serving(script: Script = serve, **kwargs: object) -> Iterator[Server]:
    with Server(script, **kwargs) as server:  # type: ignore[arg-type]
        yield server
