"""The record of one call: every attempt with its reason, cheap enough to be always on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, NamedTuple

from resilient.core.outcome import Kind


class AttemptReport(NamedTuple):
    """One attempt: where it went, how it ended, how long it took, and why it ended so."""

    endpoint: str
    """The address, or the service's own name where somebody else chose the address."""
    outcome: Kind
    seconds: float
    reason: str
    """"" for a success; else a word such as `connect-failure`, `timeout`, `gateway-error`."""
    status: int | None = None
    number: int = 1
    hedge: bool = False


class CallReport:
    """What happened to one call; `response.extensions["resilient"]` and `error.report`.

    `attempts` is in the order in which they ended. `flags` are the notable decisions, in the
    order in which they were made; each is one of the words listed in `FLAGS`.
    """

    __slots__ = ("attempts", "flags", "service")

    FLAGS: ClassVar[Mapping[str, str]] = {
        "retry-limit": "no attempt was left",
        "retry-budget": "the retry budget was spent",
        "retry-deadline": "no time was left for another attempt",
        "retry-unsafe": "the request may have been processed and is not known to be idempotent",
        "retry-body": "the request body cannot be sent a second time",
        "retry-after": "the peer asked for a longer pause than allowed",
        "retry-outer": "an outer layer had already used attempts",
        "resent": "a kept-alive connection was found closed; sent again on a fresh one",
        "hedged": "a second attempt was started beside a slow one",
        "queued": "waited for a place under the concurrency limit",
        "resolved": "waited for the first resolution of the service",
        "circuit-open": "refused by the breaker",
        "paced": "waited for a turn under the rate limit that the peer announced",
        "throttled": "refused because the service is rejecting too much for overload",
        "overflow": "refused by the concurrency limit",
        "no-endpoint": "the service had no endpoint",
        "unknown-service": "refused by a strict mesh, which does not know the service",
        "resolve": "the service could not be resolved",
        "lag": "timed out or reset while our own event loop or thread was late; not held against the endpoint",
        "deadline": "cut off at the deadline",
        "cancelled": "given up by the caller",
    }

    def __init__(self, service: str) -> None:
        self.service = service
        self.attempts: list[AttemptReport] = []
        self.flags: list[str] = []

    @property
    def route(self) -> str:
        """The route that the call took: the service, as long as routes are not configurable."""
        return self.service

    @property
    def exhausted(self) -> bool:
        """True if this layer used up its retries: an outer layer should not start over."""
        return "retry-limit" in self.flags or "retry-budget" in self.flags

    @property
    def seconds(self) -> float:
        """The time spent in attempts, without pauses."""
        return sum(attempt.seconds for attempt in self.attempts)

    def __str__(self) -> str:
        tries = "; ".join(
            f"{a.endpoint} {a.status or a.reason or a.outcome.value} in {a.seconds * 1000:.0f} ms"
            for a in self.attempts
        )
        flags = f" [{', '.join(self.flags)}]" if self.flags else ""
        return f"{self.service}: {tries or 'no attempt'}{flags}"

    def __repr__(self) -> str:
        return f"<CallReport {self}>"
