"""Retry: every reason to make another attempt, every reason not to, and its price."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from resilient.core import check
from resilient.core.outcome import Kind, Outcome, Safety
from resilient.policy.budget import BudgetState, RetryBudget

if TYPE_CHECKING:
    from tenacity import RetryCallState

    from resilient.core.call import Call

    TenacityObject = Callable[[RetryCallState], Any]
else:  # tenacity need not be loaded to read the type hints of a Retry
    TenacityObject = Callable[[Any], Any]

IDEMPOTENT_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""RFC 9110 section 9.2.2."""

RETRIED_STATUSES = frozenset({429, 502, 503, 504})
"""Overload, and what a gateway says when it got no answer. A 500 is the service's own answer."""

_FINAL = frozenset({"overflow", "overloaded"})
"""No connection was free, and the caller said how long to wait for one; a proxy says it is overloaded (Envoy)."""

BACKOFF_BASE = 0.025
BACKOFF_MAX = 0.25
"""Envoy's `retry_back_off`: 25 ms, at most ten times that."""


@check.setting
@dataclass(frozen=True)
class Retry:
    """When to make another attempt, and after how long.

    Safe by default. What never left the process is always repeated. What may have been
    processed is repeated only if the request is idempotent (by method, by an
    `Idempotency-Key` header, or because `idempotent` or the caller says so), its body can be
    sent again, the budget allows it and time is left. Another endpoint is used if there is
    one.

    `attempts`: the first included; None leaves it to `stop`. Default 3, Istio's two retries.
    `wait`: seconds, or any tenacity wait. Default: full jitter, 25 ms base, 250 ms cap (Envoy).
    `stop`: any tenacity stop, asked after each failure, in addition to `attempts`.
    `retry`: any tenacity retry predicate; it replaces `statuses` and the rule that every
    transport error is worth a retry, but not the safety rules.
    `budget`: None for none.
    `statuses`: answers worth another attempt.
    `idempotent`: True if every request of this service may be repeated.
    `max_retry_after`: a `Retry-After` longer than this many seconds ends the call at once
    with the response it came with. Default 30.
    `buffer_limit`: bytes of a one-shot body that are kept for sending it again. Default
    65536 (Linkerd's replay buffer).
    """

    attempts: int | None = 3
    wait: float | TenacityObject | None = None
    stop: TenacityObject | None = None
    retry: TenacityObject | None = None
    budget: RetryBudget | None = RetryBudget()
    statuses: frozenset[int] = RETRIED_STATUSES
    idempotent: bool = False
    max_retry_after: check.Seconds = 30.0
    buffer_limit: int = 65536

    def __post_init__(self) -> None:
        if self.attempts is not None:
            check.count("Retry.attempts", self.attempts)
        elif self.stop is None:
            raise check.fault("Retry.attempts", None, "a whole number >= 1, or None together with `stop`")
        self._check_tenacity()
        check.instance("Retry.budget", self.budget, (RetryBudget, type(None)), "a RetryBudget or None")
        object.__setattr__(self, "statuses", check.statuses("Retry.statuses", self.statuses))
        check.flag("Retry.idempotent", self.idempotent)
        check.seconds("Retry.max_retry_after", self.max_retry_after, zero=True)
        check.count("Retry.buffer_limit", self.buffer_limit, minimum=0)

    def _check_tenacity(self) -> None:
        if self.wait is not None and not callable(self.wait):
            check.seconds("Retry.wait", self.wait, zero=True)
        for name in ("wait", "stop", "retry"):
            value = getattr(self, name)
            if isinstance(value, type):
                raise check.fault(f"Retry.{name}", value, f"an instance, such as {value.__name__}(...)")
            if inspect.iscoroutinefunction(value):
                raise check.fault(f"Retry.{name}", value, "a function that is not a coroutine function")
        for name in ("stop", "retry"):
            value = getattr(self, name)
            if value is not None and not callable(value):
                raise check.fault(f"Retry.{name}", value, f"a tenacity {name} object, or None")

    def bind(self) -> RetryState:
        """The machine that decides, with a budget of its own."""
        return RetryState(self)


class RetryState:
    """A Retry bound to a service or a function: `next_delay` is the whole interface."""

    __slots__ = ("_custom_wait", "attempts", "budget", "setting", "watches_successes")

    def __init__(self, setting: Retry) -> None:
        self.setting = setting
        self.budget: BudgetState | None = setting.budget.bind() if setting.budget is not None else None
        self.attempts = setting.attempts if setting.attempts is not None else 1 << 30
        self.watches_successes = setting.retry is not None
        """True if a success must be shown to the predicate too."""
        self._custom_wait = callable(setting.wait)

    def next_delay(self, call: Call, outcome: Outcome, attempts: int, now: float, rng: Random) -> float | str:
        """Seconds until the next attempt, or the reason why there is none.

        The reason is "" if the outcome is not worth a retry, else one of `CallReport.FLAGS`.
        `call.number` is the ordinal of the attempt that ended with `outcome`; `attempts` how
        many the call may make.
        """
        number = call.number
        state = None
        if self.setting.retry is not None or self.setting.stop is not None or self._custom_wait:
            state = _call_state(outcome, number, call.started, now)
        if not self._worth_it(outcome, state):
            return ""
        if number >= attempts:
            return "retry-limit" if attempts >= self.attempts else "retry-outer"
        unsafe = self._unsafe(call, outcome)
        if unsafe:
            return unsafe
        delay = self._delay(outcome, state, number, rng)
        if isinstance(delay, str):
            return delay
        if state is not None and self.setting.stop is not None:
            state.upcoming_sleep = delay
            if self.setting.stop(state):
                return "retry-limit"
        if call.deadline is not None and now + delay >= call.deadline:
            return "retry-deadline"
        if outcome.safety is not Safety.UNSENT and self.budget is not None and not self.budget.withdraw(now):
            return "retry-budget"
        return delay

    def _worth_it(self, outcome: Outcome, state: RetryCallState | None) -> bool:
        if outcome.kind is Kind.IGNORED or (outcome.error is not None and _exhausted(outcome.error)):
            return False
        if self.setting.retry is not None:
            return bool(self.setting.retry(state))  # type: ignore[arg-type]
        if outcome.kind is Kind.SUCCESS or outcome.reason in _FINAL:
            return False
        return outcome.status is None or outcome.status in self.setting.statuses

    def _unsafe(self, call: Call, outcome: Outcome) -> str:
        if outcome.safety > Safety.UNPROCESSED and not (call.idempotent or self.setting.idempotent):
            return "retry-unsafe"
        return "" if call.replayable is None or call.replayable() else "retry-body"

    def _delay(self, outcome: Outcome, state: RetryCallState | None, number: int, rng: Random) -> float | str:
        wait = self.setting.wait
        if wait is None:
            # Nothing reached the peer: another endpoint can be tried at once (gRFC A6,
            # transparent retries). From the second time on, more than one is at fault.
            delay = 0.0 if outcome.safety is Safety.UNSENT and number == 1 else full_jitter(number, rng)
        elif callable(wait):
            delay = max(0.0, float(wait(state)))  # type: ignore[arg-type]
        else:
            delay = float(wait)
        if outcome.retry_after is None:
            return delay
        if outcome.retry_after > self.setting.max_retry_after:
            return "retry-after"
        # A lower bound, spread upwards so that those told the same do not come back together
        # (Envoy: interval to 1.5 times interval).
        return max(delay, outcome.retry_after * (1 + 0.5 * rng.random()))


def _exhausted(error: BaseException) -> bool:
    """True if an inner layer has already used up its retries on what ended in `error`.

    Finagle marks such failures non-retryable, so that the retries of layers do not multiply.
    """
    with suppress(Exception):  # some exceptions raise when an attribute is read
        report = getattr(error, "report", None)
        if report is None:
            report = getattr(getattr(error, "response", None), "extensions", {}).get("resilient")
        return bool(getattr(report, "exhausted", False))
    return False


def full_jitter(number: int, rng: Random, base: float = BACKOFF_BASE, cap: float = BACKOFF_MAX) -> float:
    """Seconds before the retry after attempt `number`: `min(random in [0, (2^n - 1) * base), cap)`.

    Envoy's formula (`retry_back_off`); it spreads a herd over the whole interval.
    """
    return float(min(rng.random() * (2 ** min(number, 30) - 1) * base, cap))


class AttemptResult:
    """The part of a `concurrent.futures.Future` that tenacity's objects read.

    A real Future brings a lock and a condition, and costs more than the rest of the
    decision.
    """

    __slots__ = ("_error", "_value", "attempt_number")

    def __init__(self, number: int, value: Any, error: BaseException | None) -> None:
        self.attempt_number = number
        self._value = value
        self._error = error

    @property
    def failed(self) -> bool:
        """True if the attempt raised."""
        return self._error is not None

    def exception(self, timeout: float | None = None) -> BaseException | None:  # noqa: ARG002 - as a Future has it
        """What it raised, or None."""
        return self._error

    def result(self, timeout: float | None = None) -> Any:  # noqa: ARG002 - as a Future has it
        """What it returned; raises what it raised."""
        if self._error is not None:
            raise self._error
        return self._value

    def done(self) -> bool:
        """Always True: only results are shown."""
        return True


def _call_state(outcome: Outcome, number: int, started: float, now: float) -> RetryCallState:
    import tenacity

    state = tenacity.RetryCallState(retry_object=_vocabulary(), fn=None, args=(), kwargs={})
    state.start_time = started
    state.outcome_timestamp = now
    state.attempt_number = number
    state.outcome = AttemptResult(number, outcome.response, outcome.error)  # type: ignore[assignment]
    return state


_shared: list[Any] = []


def _vocabulary() -> Any:
    """An inert `Retrying`: stock callbacks ask a state for it. Never called."""
    if not _shared:
        import tenacity

        _shared.append(tenacity.Retrying())
    return _shared[0]
