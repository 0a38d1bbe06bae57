"""How a fake endpoint behaves for a while, and what it answers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from resilient.core import check


@check.setting
@dataclass(frozen=True)
class Behaviour:
    """How an endpoint behaves for a while.

    `latency`: seconds of service on average; `spread`: how much it varies (the sigma of a
    log-normal; 0 for none). `status`: what it answers; `failure_ratio`: the share of requests
    it answers with `failure_status` instead. `refuses`: no connection; `hangs`: no answer
    ever; `resets`: closes without an answer; `breaks`: closes in the middle of its answer's
    body; `stalls`: the body stops there, and nothing more comes. `workers`: requests served
    at once, the others queue (None: no bound). `retry_after`: seconds that it asks the caller
    to wait, with its failures and with every other status from 300 on. `rate_limit`: so many
    requests in so many seconds; its answers tell what is left (`RateLimit`), and who comes
    when nothing is gets a 429. `headers`: of all its answers.
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
    breaks: bool = False
    stalls: bool = False
    rate_limit: tuple[int, float] | None = None
    headers: Mapping[str, str] = field(default_factory=dict, hash=False)
    _is_bare: bool = field(default=True, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check.seconds("Behaviour.latency", self.latency, zero=True)
        check.number("Behaviour.spread", self.spread)
        check.ratio("Behaviour.failure_ratio", self.failure_ratio)
        for name in ("refuses", "hangs", "resets", "breaks", "stalls"):
            check.flag(f"Behaviour.{name}", getattr(self, name))
        for name in ("status", "failure_status"):
            check.statuses(f"Behaviour.{name}", [getattr(self, name)])
        if self.workers is not None:
            check.count("Behaviour.workers", self.workers)
        if self.retry_after is not None:
            check.seconds("Behaviour.retry_after", self.retry_after, zero=True)
        if self.rate_limit is not None:
            _check_rate_limit(self.rate_limit)
        check.instance("Behaviour.headers", self.headers, Mapping, "a mapping of names to values")
        object.__setattr__(self, "headers", {name.lower(): value for name, value in self.headers.items()})
        is_bare = self.retry_after is None and not self.headers and not self.breaks and not self.stalls
        object.__setattr__(self, "_is_bare", is_bare)

    def answer(self, failed: bool, told: dict[str, str]) -> FakeResponse:
        """What it answers to one request; `told`: what else is in the headers."""
        status = self.failure_status if failed else self.status
        if self._is_bare:  # as most are, in simulations that are to be fast
            return FakeResponse(status, told)
        headers = {**self.headers, **told}
        if self.retry_after is not None and (failed or status >= 300):
            headers["retry-after"] = in_seconds(self.retry_after)
        return FakeResponse(status, headers, "breaks" if self.breaks else "stalls" if self.stalls else "")


def _check_rate_limit(value: object) -> None:
    if not isinstance(value, tuple) or len(value) != 2:
        raise check.fault("Behaviour.rate_limit", value, "requests and seconds, such as (100, 60.0)")
    check.count("Behaviour.rate_limit[0]", value[0])
    check.seconds("Behaviour.rate_limit[1]", value[1])


def in_seconds(seconds: float) -> str:
    """A time as headers have it: in whole seconds, and rather too many."""
    return str(math.ceil(seconds))


class FakeResponse:
    """A response as far as a classifier looks at one.

    `fault`: what becomes of its body, "breaks" or "stalls"; "" if it is whole.
    """

    __slots__ = ("fault", "headers", "status_code")

    def __init__(self, status_code: int, headers: dict[str, str], fault: str = "") -> None:
        self.status_code = status_code
        self.headers = headers
        self.fault = fault

    def close(self) -> None:
        """Nothing is open."""


class Quota:
    """What is left of a `rate_limit`: it is whole again at the end of each window."""

    def __init__(self) -> None:
        self._used = 0
        self._ends = float("-inf")

    def take(self, limit: tuple[int, float], now: float) -> tuple[bool, dict[str, str]]:
        """Take a request: whether it is served, and what the headers say."""
        count, seconds = limit
        if now >= self._ends:
            self._used, self._ends = 0, now + seconds
        served = self._used < count
        self._used += served
        reset = in_seconds(self._ends - now)
        headers = {"ratelimit": f'"default";r={max(0, count - self._used)};t={reset}'}
        if not served:
            headers["retry-after"] = reset
        return served, headers
