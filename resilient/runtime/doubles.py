"""Test doubles of the HTTP library, detected so that tests written for it work unchanged.

pytest-httpx replaces the `handle_request` of httpx's transports, respx that of httpcore's
pools. Our wires pass through neither. While such a double is in place, an attempt is carried
by a plain transport of the library at the logical URL, and hosts are not resolved. A wrapper
such as OpenTelemetry's keeps the module name of what it wraps, and is not a double.
"""

from __future__ import annotations

import sys
from typing import Any

from resilient.binding import HTTPX, Binding
from resilient.runtime.wire import WireSettings


class Doubles:
    """Detects whether a double is in place, and makes the transport that the double sees."""

    def __init__(self, binding: Binding, settings: WireSettings) -> None:
        self._binding = binding
        self._settings = settings
        self._may_be_respx = binding is HTTPX  # respx supports no other
        self._home = f"{binding.name}._transports.default"
        self._plain: Any = None

    def active(self) -> bool:
        """True while a double is in place (for sync; the same tools replace async along with it)."""
        if self._binding.HTTPTransport.handle_request.__module__ != self._home:
            return True
        return self._may_be_respx and "respx" in sys.modules and _pools_are_doubled()

    def transport(self) -> Any:
        """The plain sync transport."""
        if self._plain is None:
            self._plain = self._binding.HTTPTransport(**self._options())
        return self._plain

    def async_transport(self) -> Any:
        """The plain async transport."""
        if self._plain is None:
            self._plain = self._binding.AsyncHTTPTransport(**self._options())
        return self._plain

    def close(self) -> None:
        """Close the sync transport, if there ever was one."""
        if self._plain is not None:
            self._plain.close()

    async def aclose(self) -> None:
        """Close the async transport, if there ever was one."""
        if self._plain is not None:
            await self._plain.aclose()

    def _options(self) -> dict[str, Any]:
        """Options for what a double lets through to the network."""
        settings = self._settings
        context = settings.tls.context(http2=settings.http2)
        return {"verify": context, "http1": settings.http1, "http2": settings.http2}


def _pools_are_doubled() -> bool:
    httpcore = sys.modules.get("httpcore")
    return (
        httpcore is not None and httpcore.ConnectionPool.handle_request.__module__ != "httpcore._sync.connection_pool"
    )
