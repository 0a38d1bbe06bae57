"""The wires of an async client: a pool of connections per endpoint and event loop."""

from __future__ import annotations

import gc
import time
from asyncio.events import _get_running_loop
from collections.abc import AsyncGenerator, Callable
from typing import Any, Self

from resilient.binding import Binding
from resilient.core import forking
from resilient.core.effects import Send
from resilient.runtime import ended
from resilient.runtime.wire import AsyncWire, WireSettings
from resilient.runtime.wires import SWEEP_INTERVAL, WiresOfClient


class AsyncWires(WiresOfClient):
    """As Wires, for async clients: a pool per endpoint and event loop."""

    def __init__(self, settings: WireSettings, binding: Binding, total: int | None = None) -> None:
        super().__init__(settings, binding, total)
        self._homes: dict[object, _Home] = {}
        ended.watch(self)

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
            self._refuse_if_closed()
            wire = home.wires[endpoint.address] = AsyncWire(endpoint, self._settings, self._binding, self._cap)
        return await wire.send(request, resend=effect.resend, attempt=effect)

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
        forking.inherited.append(homes)
        for home in homes.values():
            self._leave_to_parent(home.wires)

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


def _running_loop() -> object:
    """What tells event loops apart."""
    # Not by the thread, as for the lag: a loop that runs inside another one has connections of its own.
    loop = _get_running_loop()
    if loop is not None:
        return loop
    import trio

    return trio.lowlevel.current_trio_token()
