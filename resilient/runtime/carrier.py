"""What carries attempts: our wires, one per endpoint, or a transport of the user's."""

from __future__ import annotations

import asyncio
import gc
import os
import time
import weakref
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import suppress
from typing import Any, Protocol, Self

from resilient.balance.endpoint import Endpoint
from resilient.binding import Binding
from resilient.core.effects import Send
from resilient.runtime import ended
from resilient.runtime.cap import Cap
from resilient.runtime.carried import AsyncCarried, Carried
from resilient.runtime.doubles import Doubles
from resilient.runtime.preload import load_engine, load_event_loop
from resilient.runtime.wire import AsyncWire, Wire, WireSettings

SWEEP_INTERVAL = 5.0
"""Seconds between looks for wires that nobody uses any more; done while a request passes."""


class _Carries(Protocol):
    @property
    def dials(self) -> bool:
        """True if it connects to any endpoint that is picked, so that hosts are to be resolved."""

    @property
    def follows_picks(self) -> bool:
        """True if a request to a service goes to the endpoint that was picked."""


class Carrier(_Carries, Protocol):
    """Carries the attempts of a sync client; a context manager as the transports are."""

    def send(self, request: Any, effect: Send) -> Any:
        """Make one attempt."""
        ...

    def close(self) -> None:
        """Close all connections."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc_info: object) -> None: ...


class AsyncCarrier(_Carries, Protocol):
    """Carries the attempts of an async client; a context manager as the transports are."""

    async def send(self, request: Any, effect: Send) -> Any:
        """Make one attempt."""
        ...

    async def aclose(self) -> None:
        """Close all connections."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exc_info: object) -> None: ...


class Wires:
    """A pool of connections per endpoint, made when first used, closed when long unused."""

    def __init__(self, settings: WireSettings, binding: Binding, total: int | None = None) -> None:
        self._settings = settings
        self._binding = binding
        self._cap = Cap(total, binding) if total is not None else None
        self._wires: dict[str, Wire] = {}
        self._closed = False
        self._next_sweep = time.monotonic() + SWEEP_INTERVAL
        self._doubles = Doubles(binding, settings)
        _carriers.add(self)

    @property
    def dials(self) -> bool:
        """True: we connect, unless a test double stands in for the network."""
        return not self._doubles.active()

    follows_picks = dials

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
            wire = self._open(endpoint)
        if self._cap is None:
            return wire.send(request, resend=effect.resend)
        self._cap.enter(request)
        try:
            response = wire.send(request, resend=effect.resend)
        except BaseException:
            self._cap.leave()
            raise
        return self._cap.until_closed(response)

    def _open(self, endpoint: Endpoint) -> Wire:
        _refuse_if(self._closed)
        wires = self._wires
        wire = wires.setdefault(endpoint.address, Wire(endpoint, self._settings, self._binding))
        if self._closed:  # by another thread meanwhile, which may have missed this one
            wire.close()
            _refuse_if(True)
        return wire

    def _sweep(self, now: float) -> None:
        self._next_sweep = now + SWEEP_INTERVAL
        for address, wire in list(self._wires.items()):
            if wire.unused(now):
                self._wires.pop(address, None)
                wire.close()

    def after_fork(self) -> None:
        """In a forked child: these connections are the parent's."""
        wires, self._wires = self._wires, {}
        _leave_to_parent(wires, self._cap)

    def close(self) -> None:
        """Close all connections. What is under way on them fails, and is not tried again."""
        self._closed = True
        wires, self._wires = self._wires, {}
        for wire in list(wires.values()):  # another thread may add one, and closes it itself
            wire.close()
        self._doubles.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class AsyncWires:
    """As Wires, for async clients: a pool per endpoint and event loop."""

    def __init__(self, settings: WireSettings, binding: Binding, total: int | None = None) -> None:
        self._settings = settings
        self._binding = binding
        self._cap = Cap(total, binding) if total is not None else None
        self._homes: dict[object, _Home] = {}
        self._closed = False
        self._doubles = Doubles(binding, settings)
        _carriers.add(self)
        ended.watch(self)

    @property
    def dials(self) -> bool:
        """True: we connect, unless a test double stands in for the network."""
        return not self._doubles.active()

    follows_picks = dials

    async def send(self, request: Any, effect: Send) -> Any:
        """Send on the endpoint's own connections."""
        if self._doubles.active():
            return await self._doubles.async_transport().handle_async_request(request)
        loop = _running_loop()
        home = self._homes.get(loop) or await self._settle(loop)
        now = time.monotonic()
        if now >= home.next_sweep:
            await home.sweep(now)
        endpoint = effect.pick.stats.endpoint
        wire = home.wires.get(endpoint.address)
        if wire is None:
            _refuse_if(self._closed)
            wire = home.wires[endpoint.address] = AsyncWire(endpoint, self._settings, self._binding)
        if self._cap is None:
            return await wire.send(request, resend=effect.resend, attempt=effect)
        effect.stage = "pool"
        await self._cap.enter_async(request)
        effect.stage = ""
        try:
            response = await wire.send(request, resend=effect.resend, attempt=effect)
        except BaseException:
            self._cap.leave()
            raise
        return self._cap.until_closed(response)

    async def _settle(self, loop: object) -> _Home:
        self.forget_closed()
        home = self._homes[loop] = _Home()
        await home.open(lambda: self._homes.pop(loop, None))
        return home

    def forget_closed(self) -> None:
        """Let go of the connections of loops that were closed without a word to us."""
        closed = [loop for loop in list(self._homes) if ended.is_closed(loop)]
        homes = [home for home in (self._homes.pop(loop, None) for loop in closed) if home is not None]
        occupied = any(wire.in_flight for home in homes for wire in home.wires.values())
        closed.clear()
        homes.clear()
        if occupied:
            # By bodies that are still open. They are in cycles with their tasks, and it may take
            # long until the collector comes by itself, while others wait for their places.
            gc.collect()

    def after_fork(self) -> None:
        """In a forked child: these connections are the parent's."""
        homes, self._homes = self._homes, {}
        _inherited.append(homes)
        for home in homes.values():
            _leave_to_parent(home.wires, self._cap)

    async def aclose(self) -> None:
        """Close all connections of this event loop; those of others end with their loops."""
        self._closed = True
        home = self._homes.pop(_running_loop(), None)
        if home is not None:
            await home.close()
        await self._doubles.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()


class _Home:
    """The wires of one event loop. They end with it: nobody else could use or close them.

    What tells of the end is an asynchronous generator: asyncio and trio close those that are
    left when a loop ends, while it can still be waited.
    """

    def __init__(self) -> None:
        self.wires: dict[str, AsyncWire] = {}
        self.next_sweep = time.monotonic() + SWEEP_INTERVAL
        self._life: AsyncGenerator[None] | None = None

    async def open(self, forget: Callable[[], object]) -> None:
        """Begin to live in the running loop; `forget` is called at its end."""
        self._life = self._live(forget)
        await anext(self._life)

    async def _live(self, forget: Callable[[], object]) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            forget()
            wires, self.wires = self.wires, {}
            for wire in wires.values():
                await wire.aclose()

    async def close(self) -> None:
        """Close the connections."""
        if self._life is not None:
            await self._life.aclose()

    async def sweep(self, now: float) -> None:
        """Close the wires that nobody uses any more."""
        self.next_sweep = now + SWEEP_INTERVAL
        for address, wire in list(self.wires.items()):
            if wire.unused(now):
                self.wires.pop(address, None)
                await wire.aclose()


_inherited: list[object] = []
"""What is a parent process's: never collected, since that could reach what they share."""


def _leave_to_parent(wires: Mapping[str, Wire | AsyncWire], cap: Cap | None) -> None:
    _inherited.append(wires)
    for wire in wires.values():
        wire.after_fork()
    if cap is not None:
        cap.after_fork()


def _refuse_if(closed: bool) -> None:
    if closed:
        raise RuntimeError("the client has been closed")


def _running_loop() -> object:
    """What tells event loops apart."""
    with suppress(RuntimeError):
        return asyncio.get_running_loop()
    import trio

    return trio.lowlevel.current_trio_token()


def carrier(
    transport: Any, settings: WireSettings | None, binding: Binding, through_proxy: bool, total: int | None
) -> Carrier:
    """What carries the attempts of a sync transport."""
    if transport is not None:
        return Carried(transport, binding, through_proxy=through_proxy)
    settings = settings or WireSettings()
    load_engine(settings)
    return Wires(settings, binding, total)


def async_carrier(
    transport: Any, settings: WireSettings | None, binding: Binding, through_proxy: bool, total: int | None
) -> AsyncCarrier:
    """What carries the attempts of an async transport."""
    load_event_loop()
    if transport is not None:
        return AsyncCarried(transport, binding, through_proxy=through_proxy)
    settings = settings or WireSettings()
    load_engine(settings)
    return AsyncWires(settings, binding, total)


_carriers: weakref.WeakSet[Wires | AsyncWires] = weakref.WeakSet()


def _after_fork() -> None:
    for carrier in list(_carriers):
        carrier.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
