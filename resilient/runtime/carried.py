"""A user-supplied transport that carries attempts."""

from __future__ import annotations

from time import monotonic
from typing import Any, Self

from resilient.balance.endpoint import Endpoint
from resilient.binding import Binding, copied
from resilient.core.effects import Send
from resilient.runtime.wire import attempt_deadline

BUFFER = "resilient.buffer"
"""Set by our clients on requests whose body is read at once: it is read in the attempt."""
DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
"""The schemes that our own connections speak, and their ports."""

_TIMEOUTS = ("connect", "read", "write", "pool")


class _Carried:
    """A transport that carries each attempt.

    One that stays in memory (MockTransport, WSGITransport) sees the logical URL. One that
    dials by the URL gets the address of the endpoint in it; the logical name stays in the
    Host header and in the TLS handshake. Nothing is changed where we do not choose the
    endpoint (a host that is not configured, or a proxy in front of it).
    """

    dials = False

    def __init__(self, transport: Any, binding: Binding, *, through_proxy: bool = False) -> None:
        self.transport = transport
        self.follows_picks = not through_proxy and not isinstance(transport, binding.in_memory)

    def _addressed(self, request: Any, effect: Send) -> Any:
        """The request, for the picked endpoint."""
        endpoint = effect.pick.stats.endpoint
        url = request.url
        if _is_at(url, endpoint):
            return request
        extensions = {**request.extensions, "resilient.endpoint": endpoint.address}
        if self.follows_picks and not endpoint.is_unix:
            if url.scheme in ("https", "wss"):
                extensions.setdefault("sni_hostname", url.raw_host.decode("ascii"))
            url = url.copy_with(host=endpoint.host, port=endpoint.port)
        return copied(request, url=url, extensions=extensions)


def _is_at(url: Any, endpoint: Endpoint) -> bool:
    """True if the URL already leads to the endpoint, or has no host to replace."""
    host = url.raw_host.decode("ascii")
    return not host or (host, url.port or DEFAULT_PORTS.get(url.scheme, 80)) == (endpoint.host, endpoint.port)


def _in_time(request: Any) -> Any:
    """The request, with no timeout beyond what is left of the attempt: a thread cannot be cancelled."""
    deadline = attempt_deadline.get()
    if deadline is None:
        return request
    left = max(0.001, deadline - monotonic())
    given = request.extensions.get("timeout") or {}
    timeouts = {name: given.get(name) for name in _TIMEOUTS}
    within = {name: left if seconds is None else min(seconds, left) for name, seconds in timeouts.items()}
    return copied(request, extensions={**request.extensions, "timeout": within})


class Carried(_Carried):
    """A user-supplied transport, for sync clients."""

    def send(self, request: Any, effect: Send) -> Any:
        """Send through the transport."""
        addressed = self._addressed(request, effect)
        timed = _in_time(addressed)
        response = self.transport.handle_request(timed)
        if timed is not addressed and not request.extensions.get(BUFFER):
            # The body is streamed after the attempt. httpx's transports look when it is read.
            given = addressed.extensions.get("timeout") or {}
            timed.extensions["timeout"].update({name: given.get(name) for name in _TIMEOUTS})
        return response

    def close(self) -> None:
        """Close the transport."""
        self.transport.close()

    def __enter__(self) -> Self:
        self.transport.__enter__()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.transport.__exit__(*exc_info)


class AsyncCarried(_Carried):
    """A user-supplied transport, for async clients."""

    async def send(self, request: Any, effect: Send) -> Any:
        """Send through the transport."""
        return await self.transport.handle_async_request(self._addressed(request, effect))

    async def aclose(self) -> None:
        """Close the transport."""
        await self.transport.aclose()

    async def __aenter__(self) -> Self:
        await self.transport.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.transport.__aexit__(*exc_info)
