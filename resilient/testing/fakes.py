"""Fake endpoints: how long they take, what they answer, and how that changes with time."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random

from resilient.balance.endpoint import NOWHERE, Endpoint, Locality, parse_endpoint
from resilient.core import check


@dataclass(frozen=True)
class Behaviour:
    """How an endpoint behaves for a while.

    `latency`: seconds of service on average; `spread`: how much it varies (the sigma of a
    log-normal; 0 for none). `status`: what it answers; `failure_ratio`: the share of requests
    it answers with `failure_status` instead. `refuses`: no connection; `hangs`: no answer
    ever; `resets`: closes without an answer. `workers`: requests served at once, the others
    queue (None: no bound). `retry_after`: seconds that its failures ask the caller to wait.
    """

    latency: float = 0.01
    spread: float = 0.3
    status: int = 200
    failure_ratio: float = 0.0
    failure_status: int = 503
    refuses: bool = False
    hangs: bool = False
    resets: bool = False
    workers: int | None = None
    retry_after: float | None = None

    def __post_init__(self) -> None:
        check.seconds("Behaviour.latency", self.latency, zero=True)
        check.number("Behaviour.spread", self.spread)
        check.ratio("Behaviour.failure_ratio", self.failure_ratio)
        if self.workers is not None:
            check.count("Behaviour.workers", self.workers)


class TransportError(Exception):
    """The base of the errors below, named as httpx's: classifiers go by names."""


class ConnectError(TransportError):
    """What a fake endpoint that refuses raises."""


class ReadError(TransportError):
    """What a fake endpoint that resets raises."""


class FakeResponse:
    """A response as far as a classifier looks at one."""

    __slots__ = ("headers", "status_code")

    def __init__(self, status_code: int, headers: dict[str, str]) -> None:
        self.status_code = status_code
        self.headers = headers

    def close(self) -> None:
        """Nothing is open."""


@dataclass
class FakeEndpoint:
    """An endpoint with a script: `Behaviour` at first, then changes at given times.

        FakeEndpoint("10.0.0.1:80", Behaviour(latency=0.01)).at(5.0, latency=0.2).at(15.0, latency=0.01)

    `weight`, `priority`, `locality` and `labels` are what discovery says of it. `requests` counts
    what arrived, `answered` what was answered.
    """

    address: str
    behaviour: Behaviour = field(default_factory=Behaviour)
    weight: float = 1.0
    priority: int = 0
    locality: Locality = NOWHERE
    labels: Mapping[str, str] = field(default_factory=dict)
    requests: int = 0
    answered: int = 0

    def __post_init__(self) -> None:
        self._script: list[tuple[float, Behaviour]] = [(float("-inf"), self.behaviour)]
        self._free_at: list[float] = []

    def at(self, time: float, **changes: object) -> FakeEndpoint:
        """Change the behaviour from `time` on, relative to the one before; returns itself."""
        if time < self._script[-1][0]:
            raise check.fault("FakeEndpoint.at", time, f"a time from {self._script[-1][0]} on; the script is in order")
        self._script.append((time, replace(self._script[-1][1], **changes)))  # type: ignore[arg-type]
        return self

    @property
    def endpoint(self) -> Endpoint:
        """The endpoint as discovery finds it."""
        return replace(
            parse_endpoint(self.address),
            weight=self.weight,
            priority=self.priority,
            locality=self.locality,
            labels=tuple(sorted(self.labels.items())),
        )

    def behaving(self, now: float) -> Behaviour:
        """How it behaves at `now`."""
        for start, behaviour in reversed(self._script):
            if start <= now:
                return behaviour
        return self.behaviour

    def serve(self, now: float, rng: Random) -> tuple[float, FakeResponse | Exception]:
        """Take a request: the time of the result (infinity if none comes), and the result."""
        behaviour = self.behaving(now)
        if behaviour.refuses:
            return now, ConnectError("connection refused")
        self.requests += 1
        if behaviour.hangs:
            return float("inf"), ReadError("never seen")
        if behaviour.resets:
            return now, ReadError("connection reset")
        self.answered += 1
        done = self._served_at(now, behaviour, self._service_time(behaviour, rng))
        failed = behaviour.failure_ratio > 0 and rng.random() < behaviour.failure_ratio
        headers = {}
        if failed and behaviour.retry_after is not None:
            headers["retry-after"] = str(behaviour.retry_after)
        return done, FakeResponse(behaviour.failure_status if failed else behaviour.status, headers)

    def _service_time(self, behaviour: Behaviour, rng: Random) -> float:
        if behaviour.spread == 0 or behaviour.latency == 0:
            return behaviour.latency
        # The mean of a log-normal is exp(mu + sigma^2 / 2): corrected, so that it is `latency`.
        return behaviour.latency * rng.lognormvariate(-(behaviour.spread**2) / 2, behaviour.spread)

    def _served_at(self, now: float, behaviour: Behaviour, seconds: float) -> float:
        """When a first-come-first-served queue before `workers` servers is done with it."""
        if behaviour.workers is None:
            return now + seconds
        start = now
        if len(self._free_at) >= behaviour.workers:
            start = max(now, heapq.heappop(self._free_at))
        heapq.heappush(self._free_at, start + seconds)
        return start + seconds


def fleet(count: int, behaviour: Behaviour | None = None) -> Sequence[FakeEndpoint]:
    """`count` endpoints that behave alike."""
    return [
        FakeEndpoint(f"10.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}:80", behaviour or Behaviour())
        for n in range(1, count + 1)
    ]
