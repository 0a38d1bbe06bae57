"""Blocking connections: sockets that keep to the deadline of the attempt."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import TracebackType
from typing import Any, NoReturn

import httpcore2

from resilient.core.classify import FROM_BODY
from resilient.runtime.wire.deadline import within_deadline
from resilient.runtime.wire.link import Link, poller


class BlockingLink(Link, httpcore2.NetworkBackend):
    """Connects to its endpoint whatever host the URL names."""

    def connect_tcp(
        self,
        host: str,  # noqa: ARG002
        port: int,  # noqa: ARG002
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        """A stream to the endpoint."""
        try:
            sock = self._unix(timeout) if self.endpoint.is_unix else self._tcp(timeout, local_address)
        except OSError as error:
            fail(error, httpcore2.ConnectTimeout, httpcore2.ConnectError)
        for option in socket_options or ():
            sock.setsockopt(*option)
        stream = SocketStream(sock, self)
        self.connected(stream)
        return stream

    def _tcp(self, timeout: float | None, local_address: str | None) -> socket.socket:
        source = None if local_address is None else (local_address, 0)
        address = self.endpoint.host, self.endpoint.port
        sock = socket.create_connection(address, within_deadline(timeout), source_address=source)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def _unix(self, timeout: float | None) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(within_deadline(timeout))
            sock.connect(self.endpoint.host)
        except BaseException:
            sock.close()
            raise
        return sock


class SocketStream(httpcore2.NetworkStream):
    """A connected socket."""

    def __init__(self, sock: socket.socket, link: Link) -> None:
        self._sock = sock
        self._link = link
        self._timeout = sock.gettimeout()
        self._poller: Callable[[], bool] | None = None

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """What has arrived; b"" at the end."""
        try:
            self._arm(timeout)
            data = self._sock.recv(max_bytes)
        except OSError as error:
            fail(error, httpcore2.ReadTimeout, httpcore2.ReadError)
        if data:
            self._link.reads += 1
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Hand all of it to the kernel."""
        if not buffer:
            return
        if isinstance(self._sock, ssl.SSLSocket):
            # A failed call may have sent some of its records.
            self._link.writes += 1
        try:
            view = memoryview(buffer)
            while view:
                self._arm(timeout)
                view = view[self._sock.send(view) :]
                self._link.writes += 1
        except OSError as error:
            fail(error, httpcore2.WriteTimeout, httpcore2.WriteError)

    def _arm(self, timeout: float | None) -> None:
        timeout = within_deadline(timeout)
        if timeout != self._timeout:  # it costs a system call
            self._timeout = timeout
            self._sock.settimeout(timeout)

    def close(self) -> None:
        """Close the socket; a thread that waits on it goes on."""
        with suppress(OSError):
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)
        self._sock.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        """The same connection, encrypted."""
        try:
            self._arm(timeout)
            sock = ssl_context.wrap_socket(self._sock, server_hostname=server_hostname)
        except OSError as error:
            self.close()
            fail(error, httpcore2.ConnectTimeout, httpcore2.ConnectError)
        except BaseException:
            self.close()
            raise
        stream = SocketStream(sock, self._link)
        self._link.secured(stream)
        return stream

    def get_extra_info(self, info: str) -> Any:
        """The items that httpcore documents: ssl_object, client_addr, server_addr, socket, is_readable."""
        if info == "is_readable":
            return self._is_readable()
        if info == "socket":
            return self._sock
        if info == "ssl_object":
            return self._sock if isinstance(self._sock, ssl.SSLSocket) else None
        if info == "client_addr":
            return self._sock.getsockname()
        return self._sock.getpeername() if info == "server_addr" else None

    def _is_readable(self) -> bool:
        if self._poller is None:
            self._poller = poller(self._sock)
        return self._poller()


def fail(error: OSError, timeout: type[Exception], other: type[Exception]) -> NoReturn:
    """Raise what httpcore would for an error of a socket.

    What a signal handler has raised while the socket waited stays as it is: it is the program's
    own, as what its request body raises, and an alarm ends the call without another attempt.
    """
    if _is_of_signal_handler(error.__traceback__):
        with suppress(Exception):  # there are exceptions that let nothing be written to them
            setattr(error, FROM_BODY, True)
        raise error
    raise (timeout if isinstance(error, TimeoutError) else other)(error) from error


def _is_of_signal_handler(traceback: TracebackType | None) -> bool:
    """True if it has come through a function that was called with the frame of its own caller."""
    while traceback is not None:
        frame = traceback.tb_frame
        for value in frame.f_locals.values():
            arguments = value if isinstance(value, tuple) else (value,)
            if frame.f_back is not None and any(argument is frame.f_back for argument in arguments):
                return True
        traceback = traceback.tb_next
    return False
