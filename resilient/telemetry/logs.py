"""What is logged: one line per call, for those who ask for it, and failing breaker listeners."""

from __future__ import annotations

import logging
from typing import Any

from resilient.core.outcome import Outcome
from resilient.core.report import CallReport
from resilient.telemetry.semconv import redacted

_calls = logging.getLogger("resilient.call")
_breakers = logging.getLogger("resilient.breaker")


def log_call(request: Any, report: CallReport, outcome: Outcome) -> None:
    """Write the end of a call to the logger `resilient.call`, at DEBUG.

    Never louder: a failing service must not flood the log of its callers, and whoever gets
    the exception knows best what it is worth.
    """
    if _calls.isEnabledFor(logging.DEBUG):
        result = outcome.status if outcome.status is not None else outcome.reason
        _calls.debug("%s %s -> %s (%s)", request.method, redacted(request.url), result, report)


def log_listener(error: Exception) -> None:
    """Write what a listener of a breaker raised to the logger `resilient.breaker`, at ERROR."""
    _breakers.error("a listener of a breaker failed: %r", error)
