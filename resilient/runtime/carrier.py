"""What carries attempts: our wires, one per endpoint, or a user-supplied transport."""

from __future__ import annotations

from typing import Any, Protocol, Self

from resilient.binding import Binding
from resilient.core.effects import Send
from resilient.runtime.async_wires import AsyncWires
from resilient.runtime.carried import AsyncCarried, Carried
from resilient.runtime.preload import load_engine, load_event_loop
from resilient.runtime.wire import WireSettings
from resilient.runtime.wires import Wires


class _Carries(Protocol):
    @property
    def dials(self) -> bool:
        """True if it connects to whichever endpoint is picked, so that hosts have to be resolved."""

    @property
    def follows_picks(self) -> bool:
        """True if a request to a service goes to the endpoint that was picked."""


class Carrier(_Carries, Protocol):
    """Carries the attempts of a sync client; a context manager, as the transports are."""

    def send(self, request: Any, effect: Send) -> Any:
        """Make one attempt."""
        ...

    def close(self) -> None:
        """Close all connections."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc_info: object) -> None: ...


class AsyncCarrier(_Carries, Protocol):
    """Carries the attempts of an async client; a context manager, as the transports are."""

    async def send(self, request: Any, effect: Send) -> Any:
        """Make one attempt."""
        ...

    async def aclose(self) -> None:
        """Close all connections."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exc_info: object) -> None: ...


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
