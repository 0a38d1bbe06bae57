"""What carries attempts: our wires, one per endpoint, or a transport of the user's."""

from __future__ import annotations

import time
from typing import Any, Protocol

from resilient.balance.endpoint import Endpoint
from resilient.binding import Binding
from resilient.core.effects import Send
from resilient.runtime.cap import Cap
from resilient.runtime.doubles import Doubles
from resilient.runtime.wire import AsyncWire, Wire, WireSettings

SWEEP_INTERVAL = 5.0
"""Seconds between looks for wires that nobody uses any more; done while a request passes."""


class Carrier(Protocol):
    """Carries one attempt of a sync client."""

    @property
    def dials(self) -> bool: ...

    def send(self, request: Any, effect: Send) -> Any: ...

    def close(self) -> None: ...


class AsyncCarrier(Protocol):
    """Carries one attempt of an async client."""

    @property
    def dials(self) -> bool: ...

    async def send(self, request: Any, effect: Send) -> Any: ...

    async def aclose(self) -> None: ...


class Wires:
    """A pool of connections per endpoint, made when first used, closed when long unused."""

    def __init__(self, settings: WireSettings, binding: Binding, total: int | None = None) -> None:
        self._settings = settings
        self._binding = binding
        self._cap = Cap(total, binding) if total is not None else None
        self._wires: dict[str, Wire] = {}
        self._next_sweep = time.monotonic() + SWEEP_INTERVAL
        self._doubles = Doubles(binding)

    @property
    def dials(self) -> bool:
        """True: we connect, unless a test double stands in for the network."""
        return not self._doubles.active()

    def send(self, request: Any, effect: Send) -> Any:
        """Send on the endpoint's own connections."""
        if self._doubles.active():
            return self._doubles.transport().handle_request(request)
        now = time.monotonic()
        if now >= self._next_sweep:
            self._sweep(now)
        endpoint = effect.pick.stats.endpoint
        wire = self._wires.get(endpoint.address)
        if wire is None:
            wire = self._wires.setdefault(endpoint.address, Wire(endpoint, self._settings, self._binding))
        if self._cap is None:
            return wire.send(request, resend=effect.resend)
        self._cap.enter(request)
        try:
            response = wire.send(request, resend=effect.resend)
        except BaseException:
            self._cap.leave()
            raise
        return self._cap.until_closed(response)

    def _sweep(self, now: float) -> None:
        self._next_sweep = now + SWEEP_INTERVAL
        for address, wire in list(self._wires.items()):
            if wire.unused(now):
                self._wires.pop(address, None)
                wire.close()

    def forget(self) -> None:
        """After a fork: these connections are the parent's."""
        self._wires = {}

    def close(self) -> None:
        """Close all connections."""
        wires, self._wires = self._wires, {}
        for wire in wires.values():
            wire.close()


class AsyncWires:
    """As Wires, for async clients."""

    def __init__(self, settings: WireSettings, binding: Binding, total: int | None = None) -> None:
        self._settings = settings
        self._binding = binding
        self._cap = Cap(total, binding) if total is not None else None
        self._wires: dict[str, AsyncWire] = {}
        self._next_sweep = time.monotonic() + SWEEP_INTERVAL
        self._doubles = Doubles(binding)

    @property
    def dials(self) -> bool:
        """True: we connect, unless a test double stands in for the network."""
        return not self._doubles.active()

    async def send(self, request: Any, effect: Send) -> Any:
        """Send on the endpoint's own connections."""
        if self._doubles.active():
            return await self._doubles.async_transport().handle_async_request(request)
        now = time.monotonic()
        if now >= self._next_sweep:
            await self._sweep(now)
        endpoint = effect.pick.stats.endpoint
        wire = self._wires.get(endpoint.address)
        if wire is None:
            wire = self._wires[endpoint.address] = AsyncWire(endpoint, self._settings, self._binding)
        if self._cap is None:
            return await wire.send(request, resend=effect.resend)
        await self._cap.enter_async(request)
        try:
            response = await wire.send(request, resend=effect.resend)
        except BaseException:
            self._cap.leave()
            raise
        return self._cap.until_closed(response)

    async def _sweep(self, now: float) -> None:
        self._next_sweep = now + SWEEP_INTERVAL
        for address, wire in list(self._wires.items()):
            if wire.unused(now):
                self._wires.pop(address, None)
                await wire.aclose()

    def forget(self) -> None:
        """After a fork: these connections are the parent's."""
        self._wires = {}

    async def aclose(self) -> None:
        """Close all connections."""
        wires, self._wires = self._wires, {}
        for wire in wires.values():
            await wire.aclose()


class Carried:
    """A transport of the user's that carries each attempt of a sync client.

    One that stays in memory (MockTransport, WSGITransport) sees the logical URL. One that
    dials by the URL gets the address of the endpoint in it, the logical name staying in the
    Host header and in the TLS handshake. Where the endpoint is not of our choosing (a host
    that is not configured, or a proxy before it) nothing is changed.
    """

    dials = False

    def __init__(self, transport: Any, binding: Binding, *, through_proxy: bool = False) -> None:
        self.transport = transport
        self._addresser = Addresser(transport, binding, through_proxy)

    def send(self, request: Any, effect: Send) -> Any:
        """Send through the transport."""
        return self.transport.handle_request(self._addresser.addressed(request, effect))

    def close(self) -> None:
        """Close the transport."""
        self.transport.close()


class AsyncCarried:
    """As Carried, for async clients."""

    dials = False

    def __init__(self, transport: Any, binding: Binding, *, through_proxy: bool = False) -> None:
        self.transport = transport
        self._addresser = Addresser(transport, binding, through_proxy)

    async def send(self, request: Any, effect: Send) -> Any:
        """Send through the transport."""
        return await self.transport.handle_async_request(self._addresser.addressed(request, effect))

    async def aclose(self) -> None:
        """Close the transport."""
        await self.transport.aclose()


class Addresser:
    """Tells a transport of the user's which endpoint was picked."""

    def __init__(self, transport: Any, binding: Binding, through_proxy: bool) -> None:
        self._binding = binding
        self._rewrites = not through_proxy and not isinstance(transport, binding.in_memory)

    def addressed(self, request: Any, effect: Send) -> Any:
        """The request, for the picked endpoint."""
        endpoint = effect.pick.stats.endpoint
        url = request.url
        if endpoint.host == url.host:
            return request
        extensions = {**request.extensions, "resilient.endpoint": endpoint.address}
        if self._rewrites:
            if url.scheme in ("https", "wss"):
                extensions.setdefault("sni_hostname", url.host)
            url = _at(url, endpoint)
        return self._binding.Request(
            request.method, url, headers=request.headers, stream=request.stream, extensions=extensions
        )


def _at(url: Any, endpoint: Endpoint) -> Any:
    if endpoint.is_unix:
        return url
    return url.copy_with(host=endpoint.host, port=endpoint.port)


def carrier(
    transport: Any, settings: WireSettings | None, binding: Binding, through_proxy: bool, total: int | None
) -> Carrier:
    """What carries the attempts of a sync transport."""
    if transport is not None:
        return Carried(transport, binding, through_proxy=through_proxy)
    return Wires(settings or WireSettings(), binding, total)


def async_carrier(
    transport: Any, settings: WireSettings | None, binding: Binding, through_proxy: bool, total: int | None
) -> AsyncCarrier:
    """What carries the attempts of an async transport."""
    if transport is not None:
        return AsyncCarried(transport, binding, through_proxy=through_proxy)
    return AsyncWires(settings or WireSettings(), binding, total)
