"""Asynchronous connections: which event loop runs, and the streams of trio."""

from __future__ import annotations

import ssl
import sys
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import anyio
import httpcore2

from resilient.runtime.wire import aio
from resilient.runtime.wire.link import Link


class AsyncLink(Link, httpcore2.AsyncNetworkBackend):
    """Connects to its endpoint whatever host the URL names."""

    async def connect_tcp(
        self,
        host: str,  # noqa: ARG002
        port: int,  # noqa: ARG002
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """A stream to the endpoint."""
        options = socket_options or ()
        if on_trio():
            return await self._connect_on_trio(timeout, local_address, options)
        return await aio.connect(self, self.endpoint, timeout, local_address, options)

    async def _connect_on_trio(
        self, timeout: float | None, local_address: str | None, options: Iterable[Any]
    ) -> httpcore2.AsyncNetworkStream:
        backend, timeout = _trio_backend(), _at_least_zero(timeout)
        host, port = self.endpoint.host, self.endpoint.port
        if self.endpoint.is_unix:
            inner = await backend.connect_unix_socket(host, timeout, options)
        else:
            inner = await backend.connect_tcp(host, port, timeout, local_address, options)
        stream = CountedStream(inner, self)
        self.connected(stream)
        return stream

    def hung_up(self) -> bool:
        """As Link says; what has already been read, by asyncio or into trio's TLS, counts as well."""
        if not self.multiplexed and (self._stream.get_extra_info("is_readable") or _holds_more(self._stream)):
            return True
        return super().hung_up()


def _holds_more(stream: Any) -> bool:
    """True if trio's TLS has taken more from the socket than was read: a response nobody asked for."""
    tls = stream.get_extra_info("ssl_object") if isinstance(stream, CountedStream) else None
    if tls is None:
        return False
    try:
        tls.read(1)
    except ssl.SSLWantReadError:  # as it should be; tickets of TLS 1.3 have been dealt with
        return False
    except ssl.SSLError:
        return True
    return True


def on_trio() -> bool:
    """True in a task of trio."""
    trio = sys.modules.get("trio")
    return trio is not None and bool(trio.lowlevel.in_trio_task())


async def shielded(close: Callable[[], Awaitable[None]]) -> None:
    """Close something in spite of cancellation. On asyncio our streams do so without suspending."""
    if on_trio():
        with anyio.CancelScope(shield=True):
            await close()
    else:
        await close()


def _trio_backend() -> httpcore2.AsyncNetworkBackend:
    from httpcore2 import TrioBackend

    return TrioBackend()


def _at_least_zero(timeout: float | None) -> float | None:
    """No time is left either way, but trio refuses a negative number with a ValueError."""
    return None if timeout is None else max(0.0, timeout)


class CountedStream(httpcore2.AsyncNetworkStream):
    """A stream of httpcore's, counted."""

    def __init__(self, inner: httpcore2.AsyncNetworkStream, link: Link) -> None:
        self._inner = inner
        self._link = link

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """What has arrived; b"" at the end."""
        data = await self._inner.read(max_bytes, _at_least_zero(timeout))
        if data:
            self._link.reads += 1
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Hand all of it to the kernel."""
        if buffer:
            self._link.writes += 1
            await self._inner.write(buffer, _at_least_zero(timeout))

    async def aclose(self) -> None:
        """Close the socket."""
        await self._inner.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.AsyncNetworkStream:
        """The same connection, encrypted."""
        try:
            inner = await self._inner.start_tls(ssl_context, server_hostname, _at_least_zero(timeout))
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self.aclose()
            raise
        stream = CountedStream(inner, self._link)
        self._link.secured(stream)
        return stream

    def get_extra_info(self, info: str) -> Any:
        """What httpcore's stream says."""
        return self._inner.get_extra_info(info)
