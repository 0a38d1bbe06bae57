"""Fake endpoints: how long they take, what they answer, and how that changes with time."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random

from resilient.balance.endpoint import NOWHERE, Endpoint, Locality, parse_endpoint
from resilient.core import check
from resilient.testing.behaviour import Behaviour, FakeResponse, Quota

_NEVER = float("inf")


class TransportError(Exception):
    """The base of the errors below, named as httpx's: classifiers go by names."""


class ConnectError(TransportError):
    """What a fake endpoint that refuses raises."""


class ReadError(TransportError):
    """What a fake endpoint that resets raises."""


class RemoteProtocolError(TransportError):
    """What one raises that breaks in the middle of a body."""


@dataclass
class FakeEndpoint:
    """An endpoint with a script: `Behaviour` at first, then changes at given times.

        FakeEndpoint("10.0.0.1:80", Behaviour(latency=0.01)).at(5.0, latency=0.2).at(15.0, latency=0.01)

    `weight`, `priority`, `locality` and `labels` are what discovery says of it. `requests` counts
    what arrived, `answered` what was answered, `checks` the checks of health, which are none of these.
    """

    address: str
    behaviour: Behaviour = field(default_factory=Behaviour)
    weight: float = 1.0
    priority: int = 0
    locality: Locality = NOWHERE
    labels: Mapping[str, str] = field(default_factory=dict)
    requests: int = 0
    answered: int = 0
    checks: int = 0

    def __post_init__(self) -> None:
        self._script: list[tuple[float, Behaviour]] = [(float("-inf"), self.behaviour)]
        self._routes: dict[str, list[tuple[float, dict[str, object]]]] = {}
        self._free_at: list[float] = []
        self._quota = Quota()

    def at(self, time: float, *, route: str | None = None, **changes: object) -> FakeEndpoint:
        """Change the behaviour from `time` on, relative to the one before; returns itself.

        `route`: for requests of this route alone, whatever the others get.
        """
        if route is not None:
            self._change_route(time, route, changes)
            return self
        self._check_order(time, self._script[-1][0])
        self._script.append((time, replace(self._script[-1][1], **changes)))  # type: ignore[arg-type]
        return self

    def _change_route(self, time: float, route: str, changes: dict[str, object]) -> None:
        script = self._routes.get(route, [(float("-inf"), {})])
        before, present = script[-1]
        self._check_order(time, before)
        replace(self.behaviour, **changes)  # type: ignore[arg-type]  # is it one?
        self._routes[route] = [*script, (time, {**present, **changes})]

    def _check_order(self, time: float, before: float) -> None:
        if time < before:
            raise check.fault("FakeEndpoint.at", time, f"a time from {before} on; the script is in order")

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

    def behaving(self, now: float, route: str | None = None) -> Behaviour:
        """How it behaves at `now`, to requests of a route."""
        behaviour = self.behaviour
        for start, latest in reversed(self._script):
            if start <= now:
                behaviour = latest
                break
        if route is None or route not in self._routes:
            return behaviour
        changes = next(changes for start, changes in reversed(self._routes[route]) if start <= now)
        return replace(behaviour, **changes) if changes else behaviour  # type: ignore[arg-type]

    def serve(self, now: float, rng: Random, route: str | None = None) -> tuple[float, FakeResponse | Exception]:
        """Take a request: the time of the result (infinity if none comes), and the result.

        The body belongs to it, as where it is read at once.
        """
        time, result = served = self.answer(now, rng, route)
        if type(result) is FakeResponse and result.fault:
            return (time if result.fault == "breaks" else _NEVER), RemoteProtocolError("the body is incomplete")
        return served

    def serve_check(self, now: float, rng: Random, route: str) -> tuple[float, FakeResponse | Exception]:
        """As `serve`, for a check of health."""
        requests, answered = self.requests, self.answered
        result = self.serve(now, rng, route)
        self.requests, self.answered = requests, answered
        self.checks += 1
        return result

    def answer(self, now: float, rng: Random, route: str | None = None) -> tuple[float, FakeResponse | Exception]:
        """Take a request: the time of what comes first, the headers or an error, and what it is."""
        behaviour = self.behaving(now, route)
        if behaviour.refuses:
            return now, ConnectError("connection refused")
        self.requests += 1
        if behaviour.hangs:
            return _NEVER, ReadError("never seen")
        if behaviour.resets:
            return now, ReadError("connection reset")
        told: dict[str, str] = {}
        if behaviour.rate_limit is not None:
            is_served, told = self._quota.take(behaviour.rate_limit, now)
            if not is_served:
                self.answered += 1
                return now, FakeResponse(429, {**behaviour.headers, **told})
        done = self._served_at(now, behaviour, self._service_time(behaviour, rng))
        failed = behaviour.failure_ratio > 0 and rng.random() < behaviour.failure_ratio
        response = behaviour.answer(failed, told)
        if not response.fault:
            self.answered += 1
        return done, response

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
