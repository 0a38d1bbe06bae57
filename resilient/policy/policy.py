"""Policy: everything that is decided about the calls of one service, as one frozen value."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import pybreaker

from resilient.balance.locality import Failover
from resilient.balance.outlier import OutlierDetection
from resilient.balance.peak_ewma import PeakEwma
from resilient.balance.picker import Balancer
from resilient.core import check
from resilient.core.outcome import Classifier
from resilient.policy.breaker import Breaker
from resilient.policy.health import HealthCheck
from resilient.policy.hedge import Hedge
from resilient.policy.limit import LimitPolicy
from resilient.policy.pacing import Pacing
from resilient.policy.retry import Retry
from resilient.policy.throttle import Throttle

if TYPE_CHECKING:
    from resilient.callsite import Blocks
    from resilient.core.report import CallReport

F = TypeVar("F", bound=Callable[..., Any])


class _Unset:
    def __repr__(self) -> str:
        return "UNSET"

    def __reduce__(self) -> str:
        return "UNSET"  # the only one, also after a copy


UNSET = _Unset()
"""No fallback: None is a fallback too."""


@check.setting
@dataclass(frozen=True)
class Policy:
    """How calls are made: for a client, a service, or a function that it decorates.

    A value: equal policies are interchangeable, and `replace` gives another one. The counts
    behind it (breaker, budget, limit) are created when it is bound to a service or a function.

    `timeout`: seconds for the whole call, retries, pauses and the response body included.
    Default None: httpx's own `timeout=` still bounds each operation, as it always did.
    `attempt_timeout`: seconds for one attempt up to the response's headers (its body too,
    unless the response is streamed); not applied to the last one if the call has a deadline.
    `retry`: None for no retries. `breaker`: a Breaker, or a ready `pybreaker.CircuitBreaker`.
    Default None: a breaker refuses healthy calls as well, so you have to ask for one.
    `balancer`: PeakEwma by default. `outlier`: ejection of endpoints that fail; None for none.
    `health`: active checks of endpoints, by a thread of the Mesh; None for none.
    `failover`: how calls are shared among priorities, regions and zones.
    `slow_start`: seconds until an endpoint that joins others has its full share; 0 for at once.
    Default 30, as for one that was ejected (`OutlierDetection.ramp`).
    `hedge`: a second attempt beside a slow one; None for none.
    `limit`: calls in flight; None for no limit. `throttle`: refusal of calls at random while
    the service is overloaded; None for none. `pacing`: calls are spread out when the service says
    that few are left of its rate limit; None to send them at once. `fallback`: for decorated
    functions: what a failed call returns, or a function of its arguments that makes it.
    `classifier`: what counts as success; None for the default of the protocol.
    """

    timeout: check.Seconds | None = None
    attempt_timeout: check.Seconds | None = None
    retry: Retry | None = Retry()
    breaker: Breaker | pybreaker.CircuitBreaker | None = None
    balancer: Balancer = PeakEwma()
    outlier: OutlierDetection | None = OutlierDetection()
    health: HealthCheck | None = None
    failover: Failover = Failover()
    slow_start: check.Seconds = 30.0
    hedge: Hedge | None = None
    limit: LimitPolicy | None = None
    throttle: Throttle | None = None
    pacing: Pacing | None = None
    fallback: Any = dataclasses.field(default=UNSET, hash=False)  # of any type, such as a list
    classifier: Classifier | None = dataclasses.field(default=None, hash=False)

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
        check.instance("Policy.health", self.health, (HealthCheck, type(None)), "a HealthCheck, or None for no checks")
        check.instance("Policy.failover", self.failover, Failover, "a Failover")
        check.seconds("Policy.slow_start", self.slow_start, zero=True)
        check.instance("Policy.hedge", self.hedge, (Hedge, type(None)), "a Hedge, or None for no hedging")
        check.instance("Policy.limit", self.limit, (LimitPolicy, type(None)), "a Limit, or None for no limit")
        _not_a_class("Policy.limit", self.limit)
        check.instance("Policy.throttle", self.throttle, (Throttle, type(None)), "a Throttle, or None for none")
        check.instance("Policy.pacing", self.pacing, (Pacing, type(None)), "a Pacing, or None for none")
        check.instance("Policy.classifier", self.classifier, (Classifier, type(None)), "a classifier, or None")

    def replace(self, **changes: Any) -> Policy:
        """The same policy but for `changes`; raises ConfigError for an unknown field."""
        known = {field.name for field in dataclasses.fields(self)}
        for name, value in changes.items():
            if name not in known:
                raise check.fault(f"Policy.{name}", value, "a field of Policy: " + ", ".join(sorted(known)))
        return dataclasses.replace(self, **changes)

    def __call__(self, function: F) -> F:
        """Decorate a function, `def` or `async def`: each of its calls runs under this policy.

        It keeps its signature, and gets a breaker, a budget and a limit of its own, shared by
        all its calls (a method: by all instances) and shown by `function.bound`. Whatever it
        returns is a success, and whatever it raises is a failure that is worth a retry, unless
        `Retry.retry` or `classifier` says otherwise. When no retry is left, the last exception
        is raised as it was, with `.report` and a note about the attempts, or the last result
        is returned. CancelledError, KeyboardInterrupt and the like pass through at once.

        `timeout` and `attempt_timeout` cancel a coroutine. A thread cannot be interrupted: a
        function that is not async runs on, the calls that it makes with this package end in time,
        and what it returns late is still returned. No attempt begins after the deadline.

        `fallback` stands in for a call that failed or was refused, not for a result that the
        retry predicate rejected to the end, nor for an error that the classifier ignores.

        Raises TypeError for generator functions, classes, and classmethods or staticmethods
        that were made below the policy.
        """
        from resilient.callsite import decorate  # the one upward import, made when it is needed

        return decorate(self, function)

    def __enter__(self) -> CallReport:
        """Put a block under this policy: its deadline for the calls inside, breaker and limit.

        A block cannot be run again, so there are no retries, and no fallback: an exception leaves
        it, and counts as a failure for the breaker; a cancellation is no evidence. Raises
        CircuitOpen, LimitExceeded or DeadlineExceeded instead of entering. All blocks of one
        Policy object share their state; any number may be entered at once.
        """
        return self._blocks.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._blocks.__exit__(kind, error, traceback)

    async def __aenter__(self) -> CallReport:
        """As `with`; in addition, the deadline cancels the block, which then raises DeadlineExceeded."""
        return await self._blocks.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._blocks.__aexit__(kind, error, traceback)

    @property
    def _blocks(self) -> Blocks:
        blocks: Blocks | None = self.__dict__.get("_made_blocks")
        if blocks is None:
            from resilient.callsite import Blocks

            blocks = self.__dict__.setdefault("_made_blocks", Blocks(self))  # only one, even for two threads
        return blocks

    def __getstate__(self) -> dict[str, Any]:
        # A copy is another object: a value with the same fields and no state.
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}


def _not_a_class(field: str, value: object) -> None:
    if isinstance(value, type):
        raise check.fault(field, value, f"an instance, such as {value.__name__}()")
