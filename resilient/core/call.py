"""The journey of one call, from top to bottom.

One flat generator: everything it calls is a plain function, everything it cannot do itself
it yields as an effect. Threads, asyncio, trio and the simulator drive the same text, so they
cannot drift apart.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from resilient.core.effects import Admit, Discard, Effect, Reply, Resolve, Send, Sleep
from resilient.core.outcome import Kind, Outcome, Safety
from resilient.core.report import AttemptReport, CallReport

if TYPE_CHECKING:
    from resilient.balance.endpoint import EndpointStats
    from resilient.balance.picker import Pick
    from resilient.core.bound import Bound
    from resilient.policy.breaker import Permit
    from resilient.policy.limit import LimitState

Journey = Generator[Effect, Reply, Outcome]


def journey(call: Call, now: float) -> Journey:
    """Admit, resolve, pick, send, learn; and again while that is safe and affordable."""
    call.started = now
    outcome: Outcome | None = None
    try:
        # The deadline before all else: work for a caller who has gone helps nobody.
        if call.deadline is not None and now >= call.deadline:
            return call.refuse("deadline")
        if call.bound.limit is not None or call.bound.picker is None:
            refusal, now = yield from _enter(call, now)
            if refusal is not None:
                return refusal
        attempts = call.begin(now)
        while True:
            refusal = call.choose(now)
            if refusal is not None:
                return outcome or refusal
            if outcome is not None and outcome.response is not None:
                _, _, now = yield Discard(outcome.response)
            sent_at = now
            response, error, now = yield call.attempt(now, attempts)
            outcome = call.learn(response, error, sent_at, now)
            if outcome.kind is Kind.SUCCESS and not call.watches_successes:
                return call.end(outcome)
            if call.out_of_time(outcome, now):
                return call.refuse("deadline", outcome.error)
            delay = call.verdict(outcome, attempts, now)
            if delay is None:
                return call.end(outcome)
            if delay > 0:
                _, _, now = yield Sleep(delay)
    finally:
        call.abandon(now)


def _enter(call: Call, now: float) -> Generator[Effect, Reply, tuple[Outcome | None, float]]:
    """Get a place under the limit, then endpoints: the steps that may have to wait.

    The limit comes first because it counts calls, waiting for a resolution included.
    """
    bound = call.bound
    if bound.limit is not None and not call.acquire(bound.limit):
        call.report.flags.append("queued")
        patience = call.at_most(bound.limit.queue_timeout, now)
        admitted, _, now = yield Admit(bound.limit, patience)
        if not admitted:
            return call.refuse("deadline" if call.is_late(now) else "overflow"), now
        call.limit = bound.limit
    if bound.picker is None:
        call.report.flags.append("resolved")
        _, error, now = yield Resolve(bound, call.at_most(None, now))
        if bound.picker is None:
            return call.refuse("deadline" if call.is_late(now) else "resolve", error, Kind.FAILURE), now
    return None, now


class Call:
    """One call: what the edge tells the journey, the journey's state, and what it leaves.

    `idempotent`: the request may be processed twice. `replayable()`: its body can be sent
    (again) from the start. `is_open(response)`: its body is still to be read; such a response
    leaves the journey with its pick and its place under the limit `held`. `outer_attempt`:
    the ordinal of the attempt that an outer layer is making of the same work. `stopped_at` is
    set by a driver that is cancelled, since the journey has no clock of its own.
    """

    __slots__ = (
        "bound",
        "deadline",
        "held",
        "idempotent",
        "is_open",
        "key",
        "limit",
        "number",
        "outer_attempt",
        "permit",
        "pick",
        "replayable",
        "report",
        "started",
        "stopped_at",
        "tried",
    )

    def __init__(
        self,
        bound: Bound,
        *,
        deadline: float | None = None,
        idempotent: bool = True,
        replayable: Callable[[], bool] | None = None,
        is_open: Callable[[Any], bool] | None = None,
        key: bytes | None = None,
        outer_attempt: int = 1,
    ) -> None:
        self.bound = bound
        self.deadline = deadline
        self.idempotent = idempotent
        self.replayable = replayable
        self.is_open = is_open
        self.key = key
        self.outer_attempt = outer_attempt
        self.report = CallReport(bound.name)
        self.held: Held | None = None
        self.number = 0
        self.started = 0.0
        self.stopped_at: float | None = None
        self.pick: Pick | None = None
        self.permit: Permit | None = None
        self.limit: LimitState | None = None
        self.tried: tuple[EndpointStats, ...] = ()

    @property
    def watches_successes(self) -> bool:
        """True if a success may still be retried, by the user's predicate."""
        return self.bound.retry is not None and self.bound.retry.watches_successes

    def is_late(self, now: float) -> bool:
        """True once the deadline has passed."""
        return self.deadline is not None and now >= self.deadline

    def at_most(self, seconds: float | None, now: float) -> float | None:
        """`seconds`, shortened to what is left until the deadline."""
        if self.deadline is None:
            return seconds
        left = max(0.0, self.deadline - now)
        return left if seconds is None else min(seconds, left)

    def acquire(self, limit: LimitState) -> bool:
        """Take a place under the limit if one is free."""
        if limit.acquire():
            self.limit = limit
            return True
        return False

    def begin(self, now: float) -> int:
        """Pay into the retry budget; returns how many attempts this call may make."""
        retry = self.bound.retry
        if retry is None:
            return 1
        if retry.budget is not None:
            retry.budget.deposit(now)
        # What an outer layer has tried already is not tried again here.
        return max(1, retry.attempts - (self.outer_attempt - 1))

    def choose(self, now: float) -> Outcome | None:
        """Pass the breaker and pick an endpoint; an Outcome if that is refused.

        The breaker stands inside the retry loop: it sees every attempt, and one that opens
        meanwhile ends the retries of calls under way.
        """
        if self.bound.breaker is not None:
            self.permit = self.bound.breaker.admit(now)
            if self.permit is None:
                return self.refuse("circuit-open")
        self.pick = self.bound.pick(now, self.tried, self.key)
        return None if self.pick is not None else self.refuse("no-endpoint", kind=Kind.FAILURE)

    def attempt(self, now: float, attempts: int) -> Send:
        """The effect of the next attempt."""
        assert self.pick is not None
        self.number += 1
        timeout = self.bound.policy.attempt_timeout
        if timeout is not None and self.number >= attempts > 1:
            # Nothing is left to decide, so the last try may use all the time (Linkerd) - if
            # there is an end to it.
            timeout = timeout if self.deadline is None else None
        resend = self.idempotent and (self.replayable is None or self.replayable())
        return Send(self.pick, self.number, self.at_most(timeout, now), resend)

    def learn(self, response: Any, error: Exception | None, sent_at: float, now: float) -> Outcome:
        """Classify a result and hand it to everything that learns from results."""
        assert self.pick is not None
        outcome = self.bound.classifier.classify(response, error)
        outcome.seconds = now - sent_at
        if outcome.reason == "timeout" and self.is_late(now) and not self.bound.had_its_time(outcome.seconds):
            # Cut off by what little the caller had left: says nothing about the endpoint.
            outcome.kind = Kind.IGNORED
        self.report.attempts.append(
            AttemptReport(
                self.pick.stats.address, outcome.kind, outcome.seconds, outcome.reason, outcome.status, self.number
            )
        )
        permit, self.permit = self.permit, None
        self.bound.feedback(self.pick, permit, outcome, now)
        return outcome

    def out_of_time(self, outcome: Outcome, now: float) -> bool:
        """True if the deadline, not the peer, ended the attempt."""
        return outcome.reason == "timeout" and self.is_late(now)

    def verdict(self, outcome: Outcome, attempts: int, now: float) -> float | None:
        """Seconds until the next attempt, or None if there is none; the reason is reported."""
        if self.bound.retry is None:
            return None
        delay = self.bound.retry.next_delay(self, outcome, attempts, now, self.bound.rng)
        if isinstance(delay, str):
            if delay:
                self.report.flags.append(delay)
            return None
        assert self.pick is not None
        self.tried = (*self.tried, self.pick.stats)
        self.pick.release()
        self.pick = None
        return delay

    def end(self, outcome: Outcome) -> Outcome:
        """The outcome of the call; what an open body still occupies becomes `held`."""
        if self.is_open is not None and outcome.response is not None and self.is_open(outcome.response):
            assert self.pick is not None
            self.held = Held(self.bound, self.pick, self.limit)
            self.pick = self.limit = None
        return outcome

    def refuse(self, reason: str, error: BaseException | None = None, kind: Kind = Kind.REFUSED) -> Outcome:
        """End the call without (another) attempt."""
        self.report.flags.append(reason)
        return Outcome(kind, reason, error=error, safety=Safety.UNSENT)

    def abandon(self, now: float) -> None:
        """Give back whatever is still taken; an attempt under way ends as no evidence."""
        if self.stopped_at is not None:
            now = self.stopped_at
        if self.permit is not None or self.pick is not None:
            given_up = Outcome(Kind.IGNORED, "cancelled")
            if self.pick is not None:
                given_up.seconds = max(0.0, now - self.pick.started)
                self.pick.done(given_up, now)
            if self.permit is not None:
                self.permit.observe(given_up, now)
            self.pick = self.permit = None
        if self.limit is not None:
            self.limit.release()
            self.limit = None


class Held:
    """What a response with an open body still occupies; `release` gives it back, once."""

    __slots__ = ("_limit", "_pick", "bound")

    def __init__(self, bound: Bound, pick: Pick, limit: LimitState | None) -> None:
        self.bound = bound
        self._pick: Pick | None = pick
        self._limit = limit

    def broke(self, error: Exception, now: float) -> None:
        """The body ended in an error: counted against the endpoint, beside its good headers."""
        if self._pick is not None:
            self.bound.late_failure(self._pick.stats, self.bound.classifier.classify(None, error), now)

    def release(self) -> None:
        """The body was read, closed or lost."""
        pick, self._pick = self._pick, None
        if pick is not None:
            pick.release()
            if self._limit is not None:
                self._limit.release()
