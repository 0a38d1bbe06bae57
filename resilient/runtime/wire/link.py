"""What is known of one connection below HTTP: the proofs on which resending rests."""

from __future__ import annotations

import os
import random
import select
from _thread import allocate_lock
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any

from resilient.balance.endpoint import Endpoint
from resilient.runtime.wire.settings import WireSettings

_POLL = getattr(select, "poll", None)
_JITTER = 0.1  # of max_connection_age


class Generation:
    """The connections of a wire that may still be used: those born after `start`."""

    __slots__ = ("start",)

    def __init__(self) -> None:
        self.start = 0.0

    def renew(self) -> None:
        """Let no connection that exists now be used again once it is idle."""
        self.start = monotonic()


class Link:
    """One connection's address and history.

    Each kind of link is also the network backend of its connection: so the address is pinned.

    `writes` and `reads` count operations in which bytes left and arrived. A write counts
    from the moment when bytes may have left; only a write that is known to have moved
    nothing does not count.
    """

    __slots__ = (
        "_generation",
        "_looking",
        "_poller",
        "_settings",
        "_stream",
        "born",
        "endpoint",
        "multiplexed",
        "reads",
        "retires",
        "writes",
    )

    def __init__(self, endpoint: Endpoint, settings: WireSettings, generation: Generation) -> None:
        self.endpoint = endpoint
        self.writes = 0
        self.reads = 0
        self.multiplexed = settings.http2 and not settings.http1
        self.born: float | None = None
        self.retires = float("inf")
        self._settings = settings
        self._generation = generation
        self._stream: Any = None
        self._poller: Callable[[], bool] | None = None
        self._looking = allocate_lock()

    def connected(self, stream: Any) -> None:
        """The socket is there: the connection's age counts from now."""
        self.born = now = monotonic()
        self._stream = stream
        age = self._settings.max_connection_age
        if age is not None:
            self.retires = now + age * random.uniform(1 - _JITTER, 1)

    def secured(self, stream: Any) -> None:
        """The handshake is done: from here on `stream` carries the bytes."""
        self._stream = stream
        tls = stream.get_extra_info("ssl_object")
        self.multiplexed = tls is not None and tls.selected_alpn_protocol() == "h2"

    def after_fork(self) -> None:
        """In a forked child: give up our copy of the socket, without a word to the peer.

        Kept, it would hold the connection open when the parent closes its own.
        """
        if self._stream is not None:
            wrapped = self._stream.get_extra_info("socket")
            sock = getattr(wrapped, "_sock", wrapped)  # asyncio and trio hand out wrappers
            with suppress(AttributeError, OSError):  # closed before, or a loop's own kind
                os.close(sock.detach())

    @property
    def stream(self) -> Any:
        """What carries the bytes; None until it is connected."""
        return self._stream

    @property
    def retired(self) -> bool:
        """True if the connection is to take no further request."""
        return self.born is not None and (self.born <= self._generation.start or monotonic() > self.retires)

    def hung_up(self) -> bool:
        """True if the idle connection is known to be of no use any more.

        Asks the kernel: an event loop may not have looked since the peer closed. On
        HTTP/1.1 any byte on an idle connection is its end; HTTP/2 has frames of its own.
        """
        with self._looking:  # a poll object refuses to serve two threads at once
            if self._poller is None:
                self._poller = poller(self._stream.get_extra_info("socket"), self.multiplexed)
            return self._poller()


def poller(sock: Any, multiplexed: bool = False) -> Callable[[], bool]:
    """A function that tells without waiting whether a socket has ended at either end.

    Unless `multiplexed`, anything to read is an end too.
    """
    if _POLL is None:  # Windows
        return lambda: sock.fileno() < 0 or (not multiplexed and bool(select.select([sock], [], [], 0)[0]))
    poll = _POLL()
    if sock.fileno() >= 0:
        # POLLERR and POLLHUP need not be asked for.
        poll.register(sock.fileno(), getattr(select, "POLLRDHUP", 0) if multiplexed else select.POLLIN)
    # The number of a closed socket may already belong to another.
    return lambda: sock.fileno() < 0 or bool(poll.poll(0))
