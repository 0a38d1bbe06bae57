"""Policy: everything that is decided about the calls of one service, as one frozen value."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import pybreaker

from resilient.balance.outlier import OutlierDetection
from resilient.balance.peak_ewma import PeakEwma
from resilient.balance.picker import Balancer
from resilient.core import check
from resilient.core.outcome import Classifier
from resilient.policy.breaker import Breaker
from resilient.policy.limit import LimitPolicy
from resilient.policy.retry import Retry


class _Unset:
    def __repr__(self) -> str:
        return "UNSET"


UNSET = _Unset()
"""No fallback: None is a fallback too."""


@dataclass(frozen=True)
class Policy:
    """How calls are made: for a client, a service, or a function that it decorates.

    A value: equal policies are interchangeable, and `replace` gives another one. What it
    counts (breaker, budget, limit) is born when it is bound to a service or a function.

    `timeout`: seconds for the whole call, retries, pauses and the response body included.
    Default None: httpx's own `timeout=` still bounds each operation, as it always did.
    `attempt_timeout`: seconds for one attempt up to the response's headers (its body too,
    unless the response is streamed); not applied to the last one if the call has a deadline.
    `retry`: None for no retries. `breaker`: a Breaker, or a ready `pybreaker.CircuitBreaker`.
    Default None: a breaker refuses healthy calls as well, so it is for you to ask for.
    `balancer`: PeakEwma by default. `outlier`: ejection of endpoints that fail; None for none.
    `limit`: calls in flight; None for no limit. `fallback`: for decorated functions: what a
    call that failed returns, or a function of its arguments that makes it.
    `classifier`: what counts as success; None for the default of the protocol.
    """

    timeout: float | None = None
    attempt_timeout: float | None = None
    retry: Retry | None = Retry()
    breaker: Breaker | pybreaker.CircuitBreaker | None = None
    balancer: Balancer = PeakEwma()
    outlier: OutlierDetection | None = OutlierDetection()
    limit: LimitPolicy | None = None
    fallback: Any = UNSET
    classifier: Classifier | None = None

    def __post_init__(self) -> None:
        check.optional_seconds("Policy.timeout", self.timeout)
        check.optional_seconds("Policy.attempt_timeout", self.attempt_timeout)
        if self.timeout is not None and self.attempt_timeout is not None and self.attempt_timeout > self.timeout:
            raise check.fault("Policy.attempt_timeout", self.attempt_timeout, f"at most Policy.timeout, {self.timeout}")
        check.instance("Policy.retry", self.retry, (Retry, type(None)), "a Retry, or None for no retries")
        if self.breaker is not None:
            object.__setattr__(self, "breaker", Breaker.coerce(self.breaker))
        check.instance("Policy.balancer", self.balancer, Balancer, "a balancer such as PeakEwma()")
        _not_a_class("Policy.balancer", self.balancer)
        check.instance("Policy.outlier", self.outlier, (OutlierDetection, type(None)), "an OutlierDetection or None")
        check.instance("Policy.limit", self.limit, (LimitPolicy, type(None)), "a Limit, or None for no limit")
        _not_a_class("Policy.limit", self.limit)
        check.instance("Policy.classifier", self.classifier, (Classifier, type(None)), "a classifier, or None")

    def replace(self, **changes: Any) -> Policy:
        """The same policy but for `changes`; raises ConfigError for an unknown field."""
        known = {field.name for field in dataclasses.fields(self)}
        for name in changes:
            if name not in known:
                raise check.fault(f"Policy.{name}", changes[name], "a field of Policy: " + ", ".join(sorted(known)))
        return dataclasses.replace(self, **changes)


def _not_a_class(field: str, value: object) -> None:
    if isinstance(value, type):
        raise check.fault(field, value, f"an instance, such as {value.__name__}()")
