"""A blocking connection that several threads read and write at once, as HTTP/2 has them do.

A socket has one timeout for all who use it, and OpenSSL wants one thread at a time in a
connection. So the socket does not block: whoever has to wait does so outside the lock, for as
long as its own attempt may take.
"""

from __future__ import annotations

import select
import socket
import ssl
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any, TypeVar

import httpcore2

from resilient.runtime.wire.blocking import SocketStream, fail
from resilient.runtime.wire.deadline import AttemptOver, is_over, within_deadline
from resilient.runtime.wire.link import Link

T = TypeVar("T")


class SharedStream(httpcore2.NetworkStream):
    """A connected stream, from now on for any number of threads."""

    def __init__(self, stream: SocketStream, link: Link) -> None:
        self._inner = stream
        self._link = link
        self._sock: socket.socket = stream.get_extra_info("socket")
        self._sock.setblocking(False)
        self._lock = threading.Lock()

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """What has arrived; b"" at the end. Raises AttemptOver at the deadline of the attempt."""
        try:
            data = self._until_done(lambda: self._sock.recv(max_bytes), timeout, writes=False)
        except OSError as error:
            if isinstance(error, TimeoutError) and is_over():
                raise AttemptOver from error
            fail(error, httpcore2.ReadTimeout, httpcore2.ReadError)
        if data:
            self._link.reads += 1
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Hand all of it to the kernel."""
        if not buffer:
            return
        self._link.writes += 1
        view = memoryview(buffer)
        try:
            while view:
                view = view[self._until_done(lambda: self._sock.send(view), timeout, writes=True) :]  # noqa: B023
        except OSError as error:
            fail(error, httpcore2.WriteTimeout, httpcore2.WriteError)

    def _until_done(self, operation: Callable[[], T], timeout: float | None, *, writes: bool) -> T:
        timeout = within_deadline(timeout)
        give_up = None if timeout is None else monotonic() + timeout
        while True:
            try:
                with self._lock:
                    return operation()
            except ssl.SSLWantReadError:
                wanted = False
            except ssl.SSLWantWriteError:
                wanted = True
            except BlockingIOError:
                wanted = writes
            _wait(self._sock, wanted, give_up)

    def close(self) -> None:
        """Close the socket."""
        self._inner.close()

    def get_extra_info(self, info: str) -> Any:
        """As SocketStream."""
        return self._inner.get_extra_info(info)


def _wait(sock: socket.socket, writable: bool, give_up: float | None) -> None:
    """Until the socket can be read or written; raises TimeoutError."""
    left = None if give_up is None else give_up - monotonic()
    if left is not None and left <= 0:
        raise TimeoutError("timed out")
    if sock.fileno() < 0:
        raise ConnectionAbortedError("the connection was closed")
    if not hasattr(select, "poll"):  # Windows
        ready = select.select([] if writable else [sock], [sock] if writable else [], [], left)
        if not any(ready):
            raise TimeoutError("timed out")
        return
    poll = select.poll()
    poll.register(sock, select.POLLOUT if writable else select.POLLIN)
    if not poll.poll(None if left is None else left * 1000):
        raise TimeoutError("timed out")
