"""What goes wrong on the wire, as an exception of the caller's HTTP library."""

from __future__ import annotations

from typing import Any

from resilient.binding import Binding
from resilient.runtime.wire.deadline import AttemptOver
from resilient.runtime.wire.exchange import Exchange

TIMEOUTS = {"pool": "PoolTimeout", "connect": "ConnectTimeout", "": "ReadTimeout"}
"""The exception of either library for an attempt that was cut off at a stage."""


def translate(error: BaseException, exchange: Exchange, binding: Binding, *, fresh: bool = True) -> Exception | None:
    """The exception to raise for `error`; None if it is not one of the wire.

    It carries `unsent` (not one byte of the request has left), `refused` (the peer did not
    act on it) and `resent` (it had been sent again on a fresh connection). `fresh` is False
    when an earlier connection may have carried some of it.
    """
    kind = _kind(type(error), binding)
    if isinstance(error, AttemptOver):
        kind = binding.errors[TIMEOUTS[exchange.stage]]
    if kind is None:
        return None
    fault: Any = kind(_message(error))
    fault.request = exchange.request
    fault.unsent = fresh and exchange.unsent
    fault.refused = fresh and exchange.refused(error)
    fault.resent = exchange.resent
    return fault  # type: ignore[no-any-return]


def _kind(error: type[BaseException], binding: Binding) -> type[Exception] | None:
    """By name: httpcore and httpx name their exceptions alike."""
    if error.__module__ == "h2.exceptions":
        return binding.errors["RemoteProtocolError"]
    names = (base.__name__ for base in error.__mro__ if base.__module__.startswith("httpcore2"))
    return next((binding.errors[name] for name in names if name in binding.errors), None)


def _message(error: BaseException | None) -> str:
    """The first text in the chain: trio's own exceptions leave the telling to their cause."""
    while error is not None:
        if str(error):
            return str(error)
        inner = error.args[0] if error.args else None
        error = inner if isinstance(inner, BaseException) else error.__cause__
    return ""
