"""asyncio connections: a transport and its protocol, without a cancel scope per operation.

httpcore's own way to asyncio goes through anyio, which enters a scope and yields to the loop
at each read and write. `benchmarks/wire.py` shows the difference.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable
from typing import Any, cast
from weakref import WeakKeyDictionary

import httpcore2

from resilient.balance.endpoint import Endpoint
from resilient.runtime.wire.link import Link

_HIGH_WATER = 256 * 1024  # unread bytes at which the peer is made to wait; one recv of asyncio
_NEVER = float("inf")
_LINGER = 1.0  # seconds that bytes already accepted have to leave after a close


async def connect(
    link: Link, endpoint: Endpoint, timeout: float | None, local_address: str | None, socket_options: Iterable[Any]
) -> AsyncioStream:
    """A stream to the endpoint."""
    stream = AsyncioStream(link)
    try:
        async with asyncio.timeout(timeout):
            await _open(stream, endpoint, local_address)
    except TimeoutError as error:
        raise httpcore2.ConnectTimeout(error) from error
    except OSError as error:
        raise httpcore2.ConnectError(error) from error
    sock = stream.get_extra_info("socket")
    for option in socket_options:
        sock.setsockopt(*option)
    link.connected(stream)
    return stream


async def _open(stream: AsyncioStream, endpoint: Endpoint, local_address: str | None) -> None:
    loop = asyncio.get_running_loop()
    if endpoint.is_unix:
        await loop.create_unix_connection(lambda: stream, endpoint.host)
    else:
        local = None if local_address is None else (local_address, 0)
        await loop.create_connection(lambda: stream, endpoint.host, endpoint.port, local_addr=local)


_buffers: WeakKeyDictionary[asyncio.AbstractEventLoop, memoryview] = WeakKeyDictionary()


def _buffer_of(loop: asyncio.AbstractEventLoop) -> memoryview:
    """Where all connections of an event loop receive, one at a time.

    For a protocol without a buffer, asyncio has 256 KB allocated for each read and gives most
    of it back: three system calls and some page faults for a response of 200 bytes.
    """
    buffer = _buffers.get(loop)
    if buffer is None:
        buffer = _buffers[loop] = memoryview(bytearray(_HIGH_WATER))
    return buffer


class AsyncioStream(httpcore2.AsyncNetworkStream, asyncio.BufferedProtocol):
    """One connection: the protocol that asyncio calls and the stream that httpcore reads.

    `read` is for one reader at a time, as httpcore has it. Nothing is lost if it is
    cancelled: bytes wait in `_chunks`. `aclose` does not suspend, so that cancellation
    cannot come between a pool and its connections.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._loop = asyncio.get_running_loop()
        self._buffer = _buffer_of(self._loop)
        self._transport: asyncio.Transport
        self._socket_transport: asyncio.Transport
        self._chunks: list[bytes] = []  # rarely two; an empty deque takes 760 bytes
        self._size = 0
        self._ended = False
        self._closed = False
        self._failure: Exception | None = None
        self._reader: asyncio.Future[None] | None = None
        self._due = _NEVER
        self._timer: asyncio.TimerHandle | None = None
        self._writers: list[asyncio.Future[None]] = []
        self._full = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio's call: the socket is connected."""
        self._transport = self._socket_transport = cast(asyncio.Transport, transport)
        # A write has ended when the kernel has the bytes, as with a blocking socket.
        self._transport.set_write_buffer_limits(high=0)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        """asyncio's call: bytes are about to arrive."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """asyncio's call: bytes have arrived."""
        self._link.reads += 1
        self._chunks.append(bytes(self._buffer[:nbytes]))
        self._size += nbytes
        if self._size > _HIGH_WATER:
            self._transport.pause_reading()
        self._wake_reader()

    def eof_received(self) -> None:
        """asyncio's call: the peer has said all. The transport closes by itself."""
        self._ended = True
        self._wake_reader()

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio's call: the connection is gone."""
        self._ended = True
        self._failure = exc
        self._stop_timer()
        self._wake_reader()
        self.resume_writing()

    def pause_writing(self) -> None:
        """asyncio's call: the kernel has not taken all of it."""
        self._full = True

    def resume_writing(self) -> None:
        """asyncio's call: the kernel has taken all of it."""
        self._full = False
        for writer in self._writers:
            if not writer.done():
                writer.set_result(None)

    def _wake_reader(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """What has arrived; b"" at the end."""
        if not self._chunks and not self._ended:
            self._reader = self._loop.create_future()
            if timeout is not None:
                self._set_timer(timeout)
            try:
                await self._reader
            except TimeoutError as error:
                raise httpcore2.ReadTimeout(error) from error
            finally:
                self._reader = None
                self._due = _NEVER
        if self._chunks:
            return self._take(max_bytes)
        if self._failure is not None or self._closed:
            raise httpcore2.ReadError(self._failure or "the connection was closed") from self._failure
        return b""

    def _set_timer(self, timeout: float) -> None:
        """Give the reader so long. The timer of an earlier read is left to run, and then set anew.

        A timer for each read would cost more than the read's share of the event loop.
        """
        self._due = due = self._loop.time() + timeout
        if self._timer is not None:
            if self._timer.when() <= due:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(due, self._look, due)

    def _look(self, now: float) -> None:
        self._timer = None
        if self._due <= now:
            if self._reader is not None:
                _expire(self._reader)
        elif self._due != _NEVER:
            self._timer = self._loop.call_at(self._due, self._look, self._due)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _take(self, max_bytes: int) -> bytes:
        data = self._chunks.pop(0)
        if len(data) > max_bytes:
            self._chunks.insert(0, data[max_bytes:])
            data = data[:max_bytes]
        before = self._size
        self._size -= len(data)
        if before > _HIGH_WATER >= self._size:
            self._transport.resume_reading()
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Hand all of it to the kernel."""
        if not buffer:
            return
        if self._ended or self._closed:
            raise httpcore2.WriteError(self._failure or "the connection was closed") from self._failure
        self._link.writes += 1
        self._transport.write(buffer)
        if self._full:
            await self._drain(timeout)

    async def _drain(self, timeout: float | None) -> None:
        writer = self._loop.create_future()
        self._writers.append(writer)
        try:
            await self._wait(writer, timeout)
        except TimeoutError as error:
            raise httpcore2.WriteTimeout(error) from error
        finally:
            self._writers.remove(writer)
        if self._failure is not None:
            raise httpcore2.WriteError(self._failure) from self._failure

    async def _wait(self, waiter: asyncio.Future[None], timeout: float | None) -> None:
        if timeout is None:
            await waiter
            return
        timer = self._loop.call_later(timeout, _expire, waiter)
        try:
            await waiter
        finally:
            timer.cancel()

    async def aclose(self) -> None:
        """Close it now; what a write has accepted still has a moment to leave.

        Not so if the write was given up before all was accepted: the rest is of no use then.
        """
        self._closed = True
        self._stop_timer()
        if self._socket_transport.get_write_buffer_size() and not self._full:
            self._transport.close()
            self._loop.call_later(_LINGER, self._transport.abort)
        else:
            self._transport.abort()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.AsyncNetworkStream:
        """The same connection, encrypted."""
        try:
            async with asyncio.timeout(timeout):
                transport = await self._loop.start_tls(
                    self._transport, self, ssl_context, server_hostname=server_hostname
                )
            if transport is None:
                raise ConnectionResetError("the peer closed during the handshake")
        except TimeoutError as error:
            self._transport.abort()
            raise httpcore2.ConnectTimeout(error) from error
        except OSError as error:
            self._transport.abort()
            raise httpcore2.ConnectError(error) from error
        except BaseException:
            self._transport.abort()
            raise
        self._transport = transport
        self._link.secured(self)
        return self

    def get_extra_info(self, info: str) -> Any:
        """The items that httpcore documents: ssl_object, client_addr, server_addr, socket, is_readable."""
        if info == "is_readable":
            return self._ended or bool(self._chunks)
        return self._transport.get_extra_info(_NAMES.get(info, info))


_NAMES = {"client_addr": "sockname", "server_addr": "peername"}


def _expire(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_exception(TimeoutError("timed out"))
