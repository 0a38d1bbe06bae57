"""What a response or an exception means: the classifiers that come with the package."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from resilient.core.outcome import Kind, Origin, Outcome, Safety

_ERRORS: dict[str, tuple[Kind, str, Safety]] = {
    # By name, since httpx and httpx2 have the same tree twice. A name that is not here is
    # looked for among its bases.
    "ConnectError": (Kind.FAILURE, "connect-failure", Safety.UNSENT),
    "ConnectTimeout": (Kind.FAILURE, "connect-failure", Safety.UNSENT),
    "ProxyError": (Kind.FAILURE, "connect-failure", Safety.UNSENT),
    "PoolTimeout": (Kind.REFUSED, "overflow", Safety.UNSENT),
    "ReadTimeout": (Kind.FAILURE, "timeout", Safety.UNKNOWN),
    "WriteTimeout": (Kind.FAILURE, "timeout", Safety.UNKNOWN),
    "TimeoutError": (Kind.FAILURE, "timeout", Safety.UNKNOWN),
    "LocalProtocolError": (Kind.IGNORED, "local", Safety.UNSENT),
    "UnsupportedProtocol": (Kind.IGNORED, "local", Safety.UNSENT),
    "StreamError": (Kind.IGNORED, "local", Safety.UNKNOWN),
    "TransportError": (Kind.FAILURE, "reset", Safety.UNKNOWN),
    # Not raised by a known transport: a body iterator or a custom transport broke. That is a
    # fault of this program, and repeating it does not help.
    "Exception": (Kind.IGNORED, "local", Safety.UNKNOWN),
}

FROM_BODY = "from_request_body"
"""The attribute of an exception that is True if the caller's own request body raised it."""

_FINAL = re.compile(r"4(?!08|29)\d\d |Invalid username/password|Requested ")
"""How the text of a ProxyError begins when the proxy has refused us: a 4xx to CONNECT, or a failed SOCKS login."""

_GATEWAY = frozenset({502, 503, 504})
_ASKS_FOR_PAUSE = frozenset({429, 503})


@dataclass(frozen=True)
class HttpClassifier:
    """Classifies HTTP responses: 5xx is a failure, 429 a refusal, the rest a success.

    A 4xx is a success: the service answered, and would answer the same again. `wall_clock`
    gives the seconds since the epoch; it is used only for a `Retry-After` date that comes
    without a `Date` to compare it with.
    """

    wall_clock: Callable[[], float] | None = None

    def classify(self, response: Any, error: Exception | None) -> Outcome:
        """The outcome of one attempt."""
        if error is not None:
            return _classify_error(error)
        status = response.status_code
        if status < 500 and status != 429:
            return Outcome(Kind.SUCCESS, response=response, status=status)
        outcome = Outcome(Kind.FAILURE, "5xx", response=response, status=status)
        if status == 429:
            outcome.kind, outcome.reason = Kind.REFUSED, "rate-limited"
        elif status in _GATEWAY:
            outcome.reason = "gateway-error"
            if status != 503:
                outcome.safety = Safety.UNKNOWN
        if status in _ASKS_FOR_PAUSE:
            outcome.retry_after = retry_after(response.headers, self.wall_clock)
        if status == 503 and "x-envoy-overloaded" in response.headers:
            # A proxy did not let it through: not the fault of what is behind it, and not to be repeated.
            outcome.kind, outcome.reason, outcome.safety = Kind.REFUSED, "overloaded", Safety.UNPROCESSED
        return outcome


def _classify_error(error: Exception) -> Outcome:
    if getattr(error, FROM_BODY, False):
        return Outcome(Kind.IGNORED, "local", error=error, safety=Safety.UNKNOWN, origin=Origin.LOCAL)
    names = _names(type(error))
    if "ProxyError" in names and _FINAL.match(str(error)):
        return Outcome(Kind.IGNORED, "local", error=error, safety=Safety.UNSENT, origin=Origin.LOCAL)
    kind, reason, safety = next(_ERRORS[name] for name in names if name in _ERRORS)
    # The wire knows more than the class: whether a byte had left, whether the peer refused.
    if getattr(error, "refused", False):
        kind, reason, safety = Kind.REFUSED, "refused-stream", Safety.UNPROCESSED
    elif getattr(error, "unsent", False):
        safety = Safety.UNSENT
    return Outcome(kind, reason, error=error, safety=safety, origin=Origin.LOCAL)


def _names(error: type) -> list[str]:
    return [base.__name__ for base in error.__mro__]


def retry_after(headers: Any, wall_clock: Callable[[], float] | None = None) -> float | None:
    """The seconds in a `Retry-After` header, in either form (RFC 9110 section 10.2.3); else None.

    A date is compared with the answer's own `Date`, so the clocks of the two sides may differ.
    A date in the past counts as 0; what cannot be read is ignored.
    """
    text = headers.get("retry-after")
    if not text:
        return None
    text = text.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    when = http_date(text)
    if when is None:
        return None
    base = http_date(headers.get("date") or "")
    if base is None:
        if wall_clock is None:
            return None
        base = wall_clock()
    return max(0.0, when - base)


def is_draining(response: Any) -> bool:
    """True if the peer asks for no further requests, with the header that Envoy understands."""
    headers = getattr(response, "headers", None)
    return headers is not None and "x-envoy-immediate-health-check-fail" in headers


def http_date(text: str) -> float | None:
    """A date in a header, as seconds since the epoch; None if it is not a date."""
    try:
        return parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None


@dataclass(frozen=True)
class FunctionClassifier:
    """Classifies calls of a decorated function: one that returns is a success, one that raises a failure.

    An exception in `ignore` is the caller's concern, not a fault: no retry, no evidence.
    """

    ignore: tuple[type[Exception], ...] = ()

    def classify(self, response: Any, error: Exception | None) -> Outcome:
        """The outcome of one attempt."""
        if error is None:
            return Outcome(Kind.SUCCESS, response=response)
        if isinstance(error, self.ignore):
            return Outcome(Kind.IGNORED, "local", error=error, origin=Origin.LOCAL)
        reason = "timeout" if isinstance(error, TimeoutError) else "error"
        # An exception does not say how far the work had got; decorating a function with a
        # Retry says that it may run again.
        return Outcome(Kind.FAILURE, reason, error=error, safety=Safety.UNKNOWN, origin=Origin.LOCAL)
