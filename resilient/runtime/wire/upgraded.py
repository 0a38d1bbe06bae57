"""What is left of HTTP after an upgrade: the network stream, in the words of the caller's library.

Our connections are httpcore2's. Code that speaks WebSocket over an httpx client catches what
httpx's own connections raise there, the exceptions of httpcore; httpx2 is on httpcore2 itself.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpcore

from resilient.binding import HTTPX, Binding


def hand_over(response: Any, binding: Binding) -> None:
    """Make the stream of an upgraded response fit for users of the library."""
    if binding is HTTPX:
        stream = response.extensions["network_stream"]
        kind = AsyncUpgraded if hasattr(stream, "aclose") else Upgraded
        response.extensions["network_stream"] = kind(stream)


@contextmanager
def _in_words_of_httpcore() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        names = (base.__name__ for base in type(error).__mro__ if base.__module__.startswith("httpcore2"))
        name = next(names, None)
        if name is None:
            raise
        raise getattr(httpcore, name)(*error.args) from error


class Upgraded(httpcore.NetworkStream):
    """A blocking stream."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """What has arrived; b"" at the end."""
        with _in_words_of_httpcore():
            return self._stream.read(max_bytes, timeout)  # type: ignore[no-any-return]

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Hand all of it to the kernel."""
        with _in_words_of_httpcore():
            self._stream.write(buffer, timeout)

    def close(self) -> None:
        """Close the connection."""
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        """The same connection, encrypted."""
        with _in_words_of_httpcore():
            return Upgraded(self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        """What the stream below says."""
        return self._stream.get_extra_info(info)


class AsyncUpgraded(httpcore.AsyncNetworkStream):
    """An asynchronous stream."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """What has arrived; b"" at the end."""
        with _in_words_of_httpcore():
            return await self._stream.read(max_bytes, timeout)  # type: ignore[no-any-return]

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Hand all of it to the kernel."""
        with _in_words_of_httpcore():
            await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        """Close the connection."""
        await self._stream.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        """The same connection, encrypted."""
        with _in_words_of_httpcore():
            return AsyncUpgraded(await self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        """What the stream below says."""
        return self._stream.get_extra_info(info)
