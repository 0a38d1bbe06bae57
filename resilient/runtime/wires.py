"""The wires of a client: a pool of connections per endpoint."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Self

from resilient.balance.endpoint import Endpoint
from resilient.binding import Binding
from resilient.core import forking
from resilient.core.effects import Send
from resilient.runtime.cap import Cap
from resilient.runtime.doubles import Doubles
from resilient.runtime.wire import AsyncWire, Wire, WireSettings

SWEEP_INTERVAL = 5.0
"""Seconds between sweeps for wires that are no longer used; done as a request passes."""


class WiresOfClient:
    """What the wires of a client have in common, sync or async: settings, the cap, test doubles."""

    def __init__(self, settings: WireSettings, binding: Binding, total: int | None = None) -> None:
        self._settings = settings
        self._binding = binding
        self._total = total
        self._cap = self._new_cap()
        self._closed = False
        self._doubles = Doubles(binding, settings)
        forking.register(self)

    @property
    def dials(self) -> bool:
        """True: we connect, unless a test double stands in for the network."""
        return not self._doubles.active()

    follows_picks = dials

    def _new_cap(self) -> Cap | None:
        return Cap(self._total, self._binding) if self._total is not None else None

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise RuntimeError("the client has been closed")

    def _leave_to_parent(self, wires: Mapping[str, Wire | AsyncWire]) -> None:
        forking.inherited.append(wires)
        for wire in wires.values():
            wire.after_fork()
        self._cap = self._new_cap()

    def after_fork(self) -> None:
        """In a forked child: these connections are the parent's."""


class Wires(WiresOfClient):
    """A pool of connections per endpoint, made when first used, closed when long unused."""

    def __init__(self, settings: WireSettings, binding: Binding, total: int | None = None) -> None:
        super().__init__(settings, binding, total)
        self._wires: dict[str, Wire] = {}
        self._next_sweep = time.monotonic() + SWEEP_INTERVAL

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
        return wire.send(request, resend=effect.resend)

    def _open(self, endpoint: Endpoint) -> Wire:
        self._refuse_if_closed()
        wires = self._wires
        wire = wires.setdefault(endpoint.address, Wire(endpoint, self._settings, self._binding, self._cap))
        if self._closed:  # by another thread meanwhile, which may have missed this one
            wire.close()
            self._refuse_if_closed()
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
        self._leave_to_parent(wires)

    def close(self) -> None:
        """Close all connections. What is under way on them fails, and is not retried."""
        self._closed = True
        wires, self._wires = self._wires, {}
        for wire in list(wires.values()):  # another thread may add one, and closes it itself
            wire.close()
        self._doubles.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
