"""The protocol of resolvers: a name becomes a stream of endpoint sets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol, runtime_checkable

from resilient.balance.endpoint import Endpoint

Endpoints = tuple[Endpoint, ...]


class ResolutionFailed(Exception):
    """A lookup failed; the endpoints known before stay in use.

    `retry_after` is the number of seconds for which asking again is pointless (negative
    caching, RFC 2308), or None to let the watcher back off by itself.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


@runtime_checkable
class Resolver(Protocol):
    """A frozen, hashable value that says where endpoints come from.

    `watch` yields the whole set initially and again at each change, forever or until the
    set can no longer change. It runs in the control thread's asyncio loop. It may yield an
    equal set again; it raises ResolutionFailed when a lookup fails, and is then restarted
    after a pause, the last good set being kept meanwhile.
    """

    def watch(self) -> AsyncIterator[Endpoints]:
        """The whole set, initially and after each change."""
        ...


@runtime_checkable
class FixedResolver(Resolver, Protocol):
    """A resolver whose endpoints are known without asking anybody: no thread is needed."""

    def endpoints(self) -> Endpoints:
        """The set, once and for all."""
        ...
