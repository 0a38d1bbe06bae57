"""The journey of one call, from top to bottom.

One flat generator: everything it calls is a plain function, and what it cannot do itself it
yields as an effect. Threads, asyncio, trio and the simulator drive the same code, so they
cannot drift apart.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from resilient.core.admission import enter, pause
from resilient.core.effects import Discard, Effect, Reply, Send, Sleep
from resilient.core.hedging import hedge_after, race
from resilient.core.held import Held
from resilient.core.learning import learn
from resilient.core.outcome import Kind, Outcome, Safety
from resilient.core.report import CallReport

if TYPE_CHECKING:
    from resilient.balance.endpoint import EndpointStats
    from resilient.core.bound import Bound
    from resilient.core.lag import Lag
    from resilient.policy.limit import LimitState

Journey = Generator[Effect, Reply, Outcome]

_EARLY = 0.002  # seconds by which a timer may fire too early: uvloop counts in milliseconds


def journey(call: Call, now: float) -> Journey:
    """Admit, resolve, pick, send, learn; and again while that is safe and affordable."""
    call.started = now
    latest: tuple[Send, Outcome] | None = None
    try:
        # The deadline before all else: work for a caller that is gone helps nobody.
        if call.deadline is not None and now >= call.deadline:
            return call.refuse("deadline")
        if call.bound.throttle is not None and not call.bound.throttle.admit(now, call.bound.rng):
            return call.refuse("throttled")
        if call.bound.pacing is not None and call.bound.pacing.is_limited(now):
            seconds = pause(call, call.bound.pacing, now)
            if seconds > 0:
                _, _, now = yield Sleep(seconds)
        if call.bound.limit is not None or call.bound.picker is None:
            refusal, now = yield from enter(call, now)
            if refusal is not None:
                return refusal
        attempts = call.begin(now)
        while True:
            send = call.attempt(now, attempts)
            if isinstance(send, Outcome):
                return send if latest is None else call.end(*latest)
            if latest is not None and latest[1].response is not None and call.is_open is not None:
                _, _, send.started = yield Discard(latest[1].response)
            patience = hedge_after(call, now)
            if patience is None:
                response, error, now = yield send
                outcome = learn(call, send, response, error, now)
            else:
                send, outcome, now = yield from race(call, send, patience)
            if outcome.kind is Kind.SUCCESS and not call.watches_successes:
                return call.end(send, outcome)
            if call.out_of_time(outcome, now):
                return call.refuse("deadline", outcome.error)
            delay = call.verdict(send, outcome, attempts, now)
            if delay is None:
                return call.end(send, outcome)
            latest = send, outcome
            if delay > 0:
                _, _, now = yield Sleep(delay)
                if call.is_late(now):  # woken too late: nothing more is sent
                    call.report.flags.append("retry-deadline")
                    return call.end(*latest)
    finally:
        call.abandon(now)


class Call:
    """One call: what the edge hands to the journey, the journey's state, and what it leaves behind.

    `idempotent`: the request may be processed twice. `replayable()`: its body can be sent
    (again) from the start. `shareable`: two attempts may read it at the same time. `route()`:
    what it is about (`core/route.py`). `is_open(response)`: its body is still to be read; such a
    response leaves the journey with its pick and its place under the limit in `held`.
    `outer_attempt`: the number of the attempt that an outer layer is making at the same work.
    `stopped_at` is set by a driver that is cancelled, since the journey has no clock.
    """

    __slots__ = (
        "_about",
        "bound",
        "deadline",
        "held",
        "idempotent",
        "is_open",
        "key",
        "lag",
        "latest",
        "limit",
        "live",
        "number",
        "outer_attempt",
        "replayable",
        "report",
        "route",
        "shareable",
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
        shareable: bool = True,
        is_open: Callable[[Any], bool] | None = None,
        key: bytes | None = None,
        outer_attempt: int = 1,
        route: Callable[[], str] | None = None,
    ) -> None:
        self.bound = bound
        self.deadline = deadline
        self.idempotent = idempotent
        self.replayable = replayable
        self.shareable = shareable
        self.is_open = is_open
        self.key = key
        self.outer_attempt = outer_attempt
        self._about: str | None = None
        self.route = route
        self.report = CallReport(bound.name)
        self.held: Held | None = None
        self.lag: Lag | None = None
        """The lag of the event loop that runs the call; None if it is not measured."""
        self.latest: Any = None
        """The latest response received."""
        self.number = 0
        self.started = 0.0
        self.stopped_at: float | None = None
        self.live: tuple[Send, ...] = ()
        """Attempts that are not finished, two while hedging; a streamed one moves to `held`."""
        self.limit: LimitState | None = None
        self.tried: tuple[EndpointStats, ...] = ()

    def about(self) -> str | None:
        """The name of its route (`core/route.py`); None if it has none."""
        if self._about is None and self.route is not None:
            self._about = self.route()
        return self._about

    @property
    def watches_successes(self) -> bool:
        """True if a success may still be retried, by the user's predicate."""
        return self.bound.retry is not None and self.bound.retry.watches_successes

    @property
    def is_repeatable(self) -> bool:
        """True if the request may be processed twice: by itself, or because the policy says so."""
        return self.idempotent or (self.bound.retry is not None and self.bound.retry.setting.idempotent)

    def is_late(self, now: float) -> bool:
        """True once the deadline has passed, as far as timers can tell."""
        return self.deadline is not None and now + _EARLY >= self.deadline

    def at_most(self, seconds: float | None, now: float) -> float | None:
        """`seconds`, shortened to what is left until the deadline."""
        if self.deadline is None:
            return seconds
        left = max(0.0, self.deadline - now)
        return left if seconds is None else min(seconds, left)

    def begin(self, now: float) -> int:
        """Pay into the retry budget; returns how many attempts this call may make."""
        retry = self.bound.retry
        if retry is None:
            return 1
        if retry.budget is not None:
            retry.budget.deposit(now)
        # What an outer layer has tried already is not tried again here.
        return max(1, retry.attempts - (self.outer_attempt - 1))

    def attempt(self, now: float, attempts: int) -> Send | Outcome:
        """Pass the breaker and pick an endpoint for the next attempt; an Outcome if refused.

        The breaker stands inside the retry loop: it sees every attempt, and one that opens
        meanwhile ends the retries of calls under way.
        """
        bound = self.bound
        permit = None
        hedge = bool(self.live)
        if bound.breaker is not None:
            permit = bound.breaker.admit(now)
            if permit is None:
                return self.refuse("circuit-open")
        tried = (*self.tried, self.live[0].pick.stats) if hedge else self.tried
        pick = bound.pick(now, tried, self.key)
        if pick is None:
            if permit is not None:
                permit.observe(Outcome(Kind.IGNORED, "no-endpoint"), now)
            return self.refuse("no-endpoint", kind=Kind.FAILURE)
        self.number += 1
        timeout = bound.policy.attempt_timeout
        if timeout is not None and self.number >= attempts > 1 and self.deadline is not None:
            # No retry can follow, so the last attempt may use all the time left (Linkerd).
            timeout = None
        resend = self.is_repeatable and (self.replayable is None or self.replayable())
        send = Send(pick, permit, now, self.number, self.at_most(timeout, now), resend=resend, hedge=hedge)
        self.live = (*self.live, send)
        return send

    def out_of_time(self, outcome: Outcome, now: float) -> bool:
        """True if the deadline, not the peer, ended the attempt, whatever it was waiting for."""
        return self.is_late(now) and outcome.is_timeout

    def verdict(self, send: Send, outcome: Outcome, attempts: int, now: float) -> float | None:
        """Seconds until the next attempt, or None if there is none; the reason is reported."""
        if self.bound.retry is None:
            return None
        delay = self.bound.retry.next_delay(self, outcome, attempts, now, self.bound.rng)
        if isinstance(delay, str):
            if delay:
                self.report.flags.append(delay)
            return None
        self.tried = (*self.tried, send.pick.stats)
        self.let_go(send)
        return delay

    def let_go(self, send: Send) -> None:
        """An attempt is finished: it is not in flight any more."""
        send.pick.release()
        self.live = () if len(self.live) == 1 else tuple(other for other in self.live if other is not send)

    def end(self, send: Send, outcome: Outcome) -> Outcome:
        """The outcome of the call; what an open body still occupies becomes `held`."""
        if self.has_open_body(outcome.response):
            self.held = Held(self.bound, send.pick, self.limit, outcome, self.route, self.lag)
            self.live, self.limit = (), None
        else:
            self.let_go(send)
        return outcome

    def refuse(self, reason: str, error: BaseException | None = None, kind: Kind = Kind.REFUSED) -> Outcome:
        """End the call without (another) attempt."""
        self.report.flags.append(reason)
        return Outcome(kind, reason, error=error, safety=Safety.UNSENT)

    def abandon(self, now: float) -> None:
        """Give back whatever is still held; an attempt under way counts as no evidence."""
        try:
            for send in self.live:
                self.give_up(send, "cancelled", now if self.stopped_at is None else self.stopped_at)
        finally:
            limit, self.limit = self.limit, None
            if limit is not None:
                limit.release()

    def cut_off(self, now: float) -> Any:
        """The driver is cut off: returns the response that it has to close; None if there is none.

        It may be cut off even with the outcome in hand, while it waits for the loser of a race:
        what the winner holds is given back here, since nobody else will.
        """
        self.stopped_at = now
        if self.held is not None:
            self.held.release(now)
        return self.latest if self.has_open_body(self.latest) else None

    def has_open_body(self, response: Any) -> bool:
        """True if the body of a response is still to be read."""
        return response is not None and self.is_open is not None and self.is_open(response)

    def give_up(self, send: Send, reason: str, now: float) -> None:
        """End an attempt under way, as no evidence; nothing happens if it has already ended."""
        outcome = Outcome(Kind.IGNORED, reason)
        outcome.seconds = max(0.0, now - send.started)
        self.bound.feedback(send, outcome, now, self.about)
        self.let_go(send)
