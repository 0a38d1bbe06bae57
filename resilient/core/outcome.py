"""What became of an attempt, as a value: the one vocabulary that every policy reads."""

from __future__ import annotations

import enum
from typing import Any, Protocol, runtime_checkable


class Kind(enum.Enum):
    """The four ways in which an attempt can end.

    Four and not two: the caller's cancellation says nothing about an endpoint, and an answer
    of overload says something other than a fault does (Finagle's ResponseClass, Linkerd's
    classes).
    """

    SUCCESS = "success"
    FAILURE = "failure"
    REFUSED = "refused"
    """Turned away by a limit, ours or the peer's: not the endpoint's fault."""
    IGNORED = "ignored"
    """Cancelled by the caller, or a fault on our side: no evidence about anybody."""


class Safety(enum.IntEnum):
    """What a failed attempt may have done at the other end, safest first."""

    UNSENT = 1
    """Nothing left the process: safe to repeat for any method."""
    UNPROCESSED = 2
    """It left, and the peer is known not to have acted on it (REFUSED_STREAM, GOAWAY)."""
    UNKNOWN = 3
    """It may have been processed: reset, timeout, 502, 504."""
    PROCESSED = 4
    """The peer acted on it and said no."""


class Origin(enum.Enum):
    """Who produced the result: the peer by answering, or our side of the connection."""

    REMOTE = "remote"
    LOCAL = "local"


# By name, since httpx and httpx2 have the same tree twice.
_TIMEOUTS = frozenset({"TimeoutException", "TimeoutError"})


class Outcome:
    """The result of one attempt, or of the call.

    `reason` is "" for a success; else a word of Envoy's `retry_on` vocabulary where there
    is one (`connect-failure`, `reset`, `refused-stream`, `gateway-error`, `5xx`, ...).
    """

    __slots__ = ("error", "kind", "origin", "reason", "response", "retry_after", "safety", "seconds", "status")

    def __init__(
        self,
        kind: Kind,
        reason: str = "",
        *,
        response: Any = None,
        error: BaseException | None = None,
        status: int | None = None,
        safety: Safety = Safety.PROCESSED,
        origin: Origin = Origin.REMOTE,
        retry_after: float | None = None,
    ) -> None:
        self.kind = kind
        self.reason = reason
        self.response = response
        self.error = error
        self.status = status
        self.safety = safety
        self.origin = origin
        self.retry_after = retry_after
        """Seconds that the peer asked us to wait, if it did."""
        self.seconds = 0.0
        """From the start of the attempt to this result."""

    @property
    def ok(self) -> bool:
        """True for a success."""
        return self.kind is Kind.SUCCESS

    @property
    def is_timeout(self) -> bool:
        """True if our side gave up the attempt, while waiting for a connection or for the peer."""
        names = (base.__name__ for base in type(self.error).__mro__)
        return self.reason == "timeout" or any(name in _TIMEOUTS for name in names)

    @property
    def is_overload(self) -> bool:
        """True if the peer had too much to do: 429, a refused stream, no answer in time, 503 with a `Retry-After`.

        Not if our own side refused: then the peer does not know of the attempt.
        """
        if self.kind is Kind.REFUSED:
            return self.safety is not Safety.UNSENT
        return self.reason == "timeout" or (self.status == 503 and self.retry_after is not None)

    def __repr__(self) -> str:
        what = self.status if self.status is not None else type(self.error).__name__ if self.error else ""
        return f"<Outcome {self.kind.value} {self.reason or what} {self.seconds:.3f}s>"


@runtime_checkable
class Classifier(Protocol):
    """Turns what came back into an Outcome. Pure: it reads, and changes nothing.

    Exactly one of `response` and `error` is given.
    """

    def classify(self, response: Any, error: Exception | None) -> Outcome:
        """The outcome of one attempt."""
        ...
