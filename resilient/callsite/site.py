"""A function or a block as the journey sees it: a service with one endpoint."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from random import Random

from resilient.balance.endpoint import Endpoint, EndpointStats
from resilient.balance.picker import Pick
from resilient.core import forking
from resilient.core.ambient import Ambient, ambient, enter
from resilient.core.bound import Bound
from resilient.core.call import Call
from resilient.core.classify import FunctionClassifier
from resilient.core.effects import Send
from resilient.core.outcome import Outcome
from resilient.core.report import CallReport
from resilient.errors import CircuitOpen, DeadlineExceeded, LimitExceeded, MeshError, RateLimited
from resilient.policy.policy import Policy
from resilient.runtime.breaker_mirror import BreakerMirror
from resilient.runtime.control import Repeated, process_control
from resilient.runtime.threads import Clock
from resilient.telemetry.logs import log_listener

_REFUSALS: dict[str, tuple[type[MeshError], str]] = {
    "deadline": (DeadlineExceeded, "the deadline passed"),
    "circuit-open": (CircuitOpen, "the circuit is open"),
    "throttled": (RateLimited, "overloaded, and throttled on our side"),
    "overflow": (LimitExceeded, "too many calls in flight"),
}
_CLASSIFIER = FunctionClassifier()
_order = itertools.count()  # of attempts and of reports; tells an old report from a new one
_ORDER = "_resilient_order"


class Site:
    """The state of one function, or of the blocks of one Policy, and the calls made there."""

    def __init__(self, name: str, policy: Policy, clock: Clock) -> None:
        alone = policy.replace(balancer=_Only(), outlier=None, health=None, hedge=None)
        self.bound = Bound(name, alone, Random(), _CLASSIFIER, log_listener)
        self.bound.update((_Callee(name, 1),), clock())
        self._clock = clock
        self._mirror: Repeated | None = None
        forking.register(self)

    def begin(self) -> Call:
        """A call that ends at the earlier of its own deadline and the one around it."""
        breaker = self.bound.breaker
        if breaker is not None and breaker.remote is not None and self._mirror is None:
            mirror = BreakerMirror(breaker)
            self._mirror = process_control().repeat(mirror.sync_once, mirror.interval)
        seconds = self.bound.policy.timeout
        outer = ambient.get()
        if outer is not None:
            left = outer.remaining()
            if left is not None and (seconds is None or left < seconds):
                seconds = left
        return Call(
            self.bound,
            deadline=None if seconds is None else self._clock() + seconds,
            outer_attempt=1 if outer is None else outer.attempt,
        )

    def after_fork(self) -> None:
        """In a forked child: nothing is in flight, and the mirror starts anew with the next call."""
        self.bound.after_fork(self._clock())
        self._mirror = None

    def attempt(self, call: Call, send: Send) -> Attempt:
        """The surroundings of one attempt, to be entered around it."""
        ordinal = call.outer_attempt + send.number - 1
        deadline = None if send.timeout is None else self._clock() + send.timeout
        return Attempt(deadline, self._clock, ordinal)

    def timed_out(self, send: Send) -> TimeoutError:
        """The error of an attempt that was cut off."""
        return TimeoutError(f"{self.bound.name}: an attempt was cut off after {send.timeout:g} s")

    def error(self, call: Call, outcome: Outcome) -> BaseException | None:
        """The exception to raise to the caller; None if there is a result to return."""
        if outcome.reason in _REFUSALS and outcome.reason in call.report.flags:
            return self._refusal(call, outcome)
        if outcome.error is not None:
            _attach(outcome.error, call.report)
        return outcome.error

    def _refusal(self, call: Call, outcome: Outcome) -> MeshError:
        kind, text = _REFUSALS[outcome.reason]
        error = kind(f"{self.bound.name}: {text}", report=call.report)
        error.__cause__ = outcome.error
        if isinstance(error, CircuitOpen) and self.bound.breaker is not None:
            error.retry_in = self.bound.breaker.remaining(self._clock())
        return error


class Attempt:
    """While it is entered, calls inside inherit the attempt's deadline and ordinal."""

    __slots__ = ("_began", "_clock", "_deadline", "_inside", "_ordinal")

    def __init__(self, deadline: float | None, clock: Clock, ordinal: int) -> None:
        self._deadline = deadline
        self._clock = clock
        self._ordinal = ordinal
        self._inside: Ambient | None = None
        self._began = next(_order)

    def __enter__(self) -> None:
        # With neither, there is nothing around it that has to be hidden.
        if self._deadline is not None or self._ordinal > 1:
            self._inside = enter(self._deadline, self._clock, self._ordinal)

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if self._inside is not None:
            self._inside.leave()
        if error is None:
            return
        with suppress(Exception):  # some exceptions raise when an attribute is read
            if getattr(error, _ORDER, self._began) < self._began:
                # The same exception object as before: its report dates from then, and would tell
                # the retry that an inner layer had used up its attempts.
                del error.report  # type: ignore[attr-defined]
                delattr(error, _ORDER)


def _attach(error: BaseException, report: CallReport) -> None:
    """Record on the exception what was tried. An inner layer's report stays, unless we used up our attempts."""
    with suppress(Exception):  # some exceptions accept no attributes
        inner = getattr(error, "report", None)
        is_ours = isinstance(inner, CallReport)
        if inner is None or (is_ours and (report.exhausted or not (inner.attempts or inner.flags))):
            error.report = report  # type: ignore[attr-defined]
            setattr(error, _ORDER, next(_order))
        if len(report.attempts) > 1 or report.flags:
            _add_note(error, report)


def _add_note(error: BaseException, report: CallReport) -> None:
    head = f"{report.service}: attempts: "
    tries = "; ".join(f"{a.reason or a.outcome.value} in {a.seconds * 1000:.0f} ms" for a in report.attempts)
    notes = getattr(error, "__notes__", [])
    notes[:] = [note for note in notes if not note.startswith(head)]  # the same object, raised again
    error.add_note(f"{head}{tries} [{', '.join(report.flags)}]")


@dataclass(frozen=True, slots=True)
class _Callee(Endpoint):
    """A function as an endpoint: its address is its name."""

    def __post_init__(self) -> None:
        Endpoint.__post_init__(self)
        object.__setattr__(self, "address", self.host)


@dataclass(frozen=True, slots=True)
class _Only:
    """A balancer, and its picker, for the one endpoint that there is."""

    stats: EndpointStats | None = None

    def picker(self, endpoints: Sequence[EndpointStats]) -> _Only:
        return _Only(endpoints[0])

    def pick(
        self,
        now: float,
        rng: Random,  # noqa: ARG002
        tried: Sequence[EndpointStats] = (),  # noqa: ARG002
        key: bytes | None = None,  # noqa: ARG002
    ) -> Pick:
        assert self.stats is not None
        return Pick(self.stats, now)
