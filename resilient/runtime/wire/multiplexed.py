"""HTTP/2 connections on which one request does no harm to the others.

httpcore2 2.16 forgets a stream that was given up. h2 and the peer go on counting it: against
the limit of streams and, with the bytes it had brought, against the connection's flow-control
window; so cancellations would wear a connection out. And its threads share h2's state without
a lock, and wait for one another without regard for their deadlines. And it takes for a fault
of ours what the peer says against the protocol.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import wraps
from typing import Any, TypeVar

from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, Event
from h2.exceptions import ProtocolError
from httpcore2 import AsyncHTTP2Connection, HTTP2Connection, Origin, RemoteProtocolError, Request

from resilient.runtime.wire.blocking import SocketStream
from resilient.runtime.wire.deadline import Places, Turn
from resilient.runtime.wire.link import Link
from resilient.runtime.wire.shared import SharedStream

F = TypeVar("F", bound=Callable[..., Any])


def _guarded(method: F) -> F:
    """The same method, for one thread at a time."""

    @wraps(method)
    def call(self: SharedState, *args: Any, **kwargs: Any) -> Any:
        with self.lock:
            return method(self, *args, **kwargs)

    return call  # type: ignore[return-value]


class SharedState(H2Connection):
    """h2's state of a connection, shared by threads.

    Whoever takes a stream's number has the lock until its headers are framed: HTTP/2 wants
    streams opened in the order of their numbers, and no number twice (RFC 9113 section 5.1.1).
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.lock = threading.RLock()
        self._opening = False

    def get_next_available_stream_id(self) -> int:
        """The number of a stream; `send_headers` or `abandon` has to follow in this thread."""
        self.lock.acquire()
        try:
            number = super().get_next_available_stream_id()
            self._opening = True
            return number
        finally:
            if not self._opening:
                self.lock.release()

    def send_headers(self, *args: Any, **kwargs: Any) -> None:
        """Frame the headers of a stream."""
        with self.lock:
            try:
                super().send_headers(*args, **kwargs)
            finally:
                self.opened()

    def opened(self) -> None:
        """Let others open streams, if it was this thread that kept them from it."""
        with self.lock:
            if self._opening:
                self._opening = False
                self.lock.release()

    acknowledge_received_data = _guarded(H2Connection.acknowledge_received_data)
    close_connection = _guarded(H2Connection.close_connection)
    data_to_send = _guarded(H2Connection.data_to_send)
    end_stream = _guarded(H2Connection.end_stream)
    increment_flow_control_window = _guarded(H2Connection.increment_flow_control_window)
    initiate_connection = _guarded(H2Connection.initiate_connection)
    local_flow_control_window = _guarded(H2Connection.local_flow_control_window)
    receive_data = _guarded(H2Connection.receive_data)
    reset_stream = _guarded(H2Connection.reset_stream)
    send_data = _guarded(H2Connection.send_data)


def _give_up(state: H2Connection, stream_id: int, events: Mapping[int, Sequence[Any]]) -> None:
    """Reset a stream unless it has ended, and acknowledge what it brought and nobody read.

    The frames leave with whatever is written next.
    """
    with suppress(ProtocolError):  # the connection has ended: there is nobody to tell
        for event in events.get(stream_id, ()):
            if isinstance(event, DataReceived) and event.flow_controlled_length:
                state.acknowledge_received_data(event.flow_controlled_length, stream_id)
        stream = state.streams.get(stream_id)
        if stream is not None and stream.open:
            state.reset_stream(stream_id, ErrorCodes.CANCEL)


class Multiplexed(HTTP2Connection):
    """The blocking connection."""

    def __init__(self, origin: Origin, stream: SocketStream, keepalive_expiry: float | None, link: Link) -> None:
        super().__init__(origin, SharedStream(stream, link), keepalive_expiry)
        self._h2_state: SharedState = SharedState(config=self.CONFIG)
        self._init_lock, self._read_lock, self._write_lock = Turn(), Turn(), Turn()  # type: ignore[assignment]

    def __setattr__(self, name: str, value: Any) -> None:
        # httpcore makes it when the connection is first used.
        if name == "_max_streams_semaphore":
            value = Places(self._h2_state.local_settings.max_concurrent_streams)
        super().__setattr__(name, value)

    def _read_incoming_data(self, request: Request) -> list[Event]:
        try:
            return super()._read_incoming_data(request)
        except ProtocolError as error:
            self._connection_error = True
            self._read_exception = RemoteProtocolError(str(error))
            raise self._read_exception from error

    def _response_closed(self, stream_id: int) -> None:
        with self._h2_state.lock:
            self._h2_state.opened()
            _give_up(self._h2_state, stream_id, self._events)
        super()._response_closed(stream_id)


class AsyncMultiplexed(AsyncHTTP2Connection):
    """The asynchronous connection."""

    async def _read_incoming_data(self, request: Request) -> list[Event]:
        try:
            return await super()._read_incoming_data(request)
        except ProtocolError as error:
            self._connection_error = True
            self._read_exception = RemoteProtocolError(str(error))
            raise self._read_exception from error

    async def _response_closed(self, stream_id: int) -> None:
        _give_up(self._h2_state, stream_id, self._events)
        await super()._response_closed(stream_id)
