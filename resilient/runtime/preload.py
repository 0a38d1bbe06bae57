"""Loads what a first call would load, when its client is made.

A client is made when a program starts, before others depend on its event loop; a call that
imports modules keeps all of them waiting. In the loop it would be 12 modules of anyio, some
20 ms, and twice as long again with HTTP/2. A TLS context is not built ahead: a client that
calls services by http:// needs none.
"""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module

from resilient.runtime.wire import WireSettings
from resilient.runtime.wire.async_link import on_trio


def load_event_loop() -> None:
    """Load what anyio needs on the running event loop, or on asyncio if none runs yet."""
    # Not public; where it has another name, the first call loads it as before.
    with suppress(ImportError):
        import_module(f"anyio._backends._{'trio' if on_trio() else 'asyncio'}")


def load_engine(settings: WireSettings) -> None:
    """Load what speaks the protocols of these connections."""
    if settings.http2:
        with suppress(ImportError):  # without h2, the first connection says so
            import_module("resilient.runtime.wire.multiplexed")
    if settings.engine == "fast":
        import_module("resilient.runtime.wire.fast")
