"""What travels in the headers of a request: the trace, the baggage, whatever the propagator writes."""

from __future__ import annotations

from typing import Any, Self

from opentelemetry.context import Context
from opentelemetry.propagators.textmap import Setter

from resilient.balance.endpoint import Endpoint
from resilient.binding import copied

Headers = list[tuple[str, str]]


class _ListSetter(Setter[Headers]):
    def set(self, carrier: Headers, key: str, value: str) -> None:
        carrier.append((key, value))


_SETTER = _ListSetter()


def headers_of(context: Context) -> Headers:
    """What the process's propagator writes for this context."""
    # Importing it searches all installed packages for propagators.
    from opentelemetry.propagate import inject

    headers: Headers = []
    inject(headers, context, _SETTER)
    return headers


def with_headers(request: Any, headers: Headers) -> Any:
    """A copy of the request in which these headers replace its own of the same names."""
    copy = copied(request, headers=request.headers.copy())
    copy.headers.update(headers)
    return copy


class PassedOn:
    """A call without spans, and each of its attempts: passes on what came with the context."""

    __slots__ = ("_headers",)

    def __init__(self, headers: Headers) -> None:
        self._headers = headers

    def attempt(self, endpoint: Endpoint, *, hedge: bool = False, suppress: bool = False) -> PassedOn:  # noqa: ARG002
        """Begin an attempt."""
        return self

    def request(self, request: Any) -> Any:
        """A copy of the request with the headers that are passed on."""
        return with_headers(request, self._headers)

    def responded(self, response: Any) -> None:
        """Nobody wants to know."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return
