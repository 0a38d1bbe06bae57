"""The errors of the mesh: each is also the httpx exception that callers already catch."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import httpx
import pybreaker

from resilient.binding import HTTPX, Binding
from resilient.core.check import ConfigError
from resilient.core.report import CallReport

__all__ = [
    "CircuitOpen",
    "ConfigError",
    "DeadlineExceeded",
    "LimitExceeded",
    "MeshError",
    "NoEndpoint",
    "RateLimited",
    "ResolveError",
    "UnknownService",
]


class MeshError(httpx.TransportError):
    """A call that the mesh itself ended. `report` says what was tried, and why it ended.

    Also an `httpx.HTTPError`, so that code written for httpx catches it. `request` is the
    request, where there was one. The report of an error that was made without one is empty.
    """

    report: CallReport

    def __init__(self, message: str = "", *, request: Any = None, report: CallReport | None = None) -> None:
        Exception.__init__(self, message)
        self._request = request
        self.report = CallReport("" if request is None else request.url.host) if report is None else report


class DeadlineExceeded(MeshError, httpx.TimeoutException):
    """The deadline of the call passed: `Policy.timeout`, or one set by the surrounding code."""


class NoEndpoint(MeshError, httpx.ConnectError):
    """The service is known, and has no endpoint at present."""


class ResolveError(MeshError, httpx.ConnectError):
    """The endpoints of the service could not be determined; `__cause__` says why."""


class UnknownService(NoEndpoint, ConfigError):
    """A strict mesh was asked for a service that it does not know: the host of the URL."""

    def __init__(self, message: str = "", *, request: Any = None, report: CallReport | None = None) -> None:
        super().__init__(message, request=request, report=report)
        if report is None:
            self.report.flags.append("unknown-service")


class CircuitOpen(MeshError, pybreaker.CircuitBreakerError):
    """The breaker of the service is OPEN. `retry_in`: seconds until it lets a probe pass."""

    def __init__(
        self,
        message: str = "",
        *,
        request: Any = None,
        report: CallReport | None = None,
        retry_in: float | None = None,
    ) -> None:
        super().__init__(message, request=request, report=report)
        self.retry_in = retry_in


class LimitExceeded(MeshError, httpx.PoolTimeout):
    """Too many calls in flight, and the queue was full or the wait too long."""


class RateLimited(MeshError):
    """A `Throttle` refused the call because the service is rejecting too much for overload."""


def for_library(error: type[MeshError], binding: Binding) -> type[MeshError]:
    """The same error, as the exception of another HTTP library too.

    `resilient.httpx2` raises classes that are caught by `except httpx2.HTTPError` and by
    `except resilient.MeshError` alike.
    """
    twins: Callable[[Any, Binding], type[MeshError]] = _twin
    return error if binding is HTTPX else twins(error, binding)


@cache
def _twin(error: Any, binding: Binding) -> type[MeshError]:
    twin = next(binding.errors[base.__name__] for base in error.__mro__ if base.__module__ == HTTPX.name)
    return type(error.__name__, (error, twin), {"__module__": error.__module__, "__doc__": error.__doc__})
