"""Random histories of calls against a breaker that remembers everything and looks it all up.

Times are multiples of 1/16 s and a bucket is 0.25 s: exact in binary, on both sides.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule
from pybreaker import CircuitBreaker

from resilient.core.outcome import Kind, Outcome
from resilient.policy.breaker import Breaker

BUCKET = 0.25
WINDOW = 10 * BUCKET

BREAKERS = st.builds(
    Breaker,
    failure_ratio=st.sampled_from([0.25, 0.5, 1.0]),
    minimum_throughput=st.integers(1, 6),
    window=st.just(WINDOW),
    break_duration=st.sampled_from([0.5, 1.0, 5.0]),
    consecutive_failures=st.none() | st.integers(1, 4),
    probes=st.integers(1, 3),
    max_break_duration=st.sampled_from([None, 5.0, 8.0]),
) | st.builds(
    lambda failures, seconds, successes: Breaker(CircuitBreaker(failures, seconds, successes)),
    st.integers(1, 4),
    st.sampled_from([0.5, 1.0]),
    st.integers(1, 3),
)


@dataclass
class Ticket:
    """A call that the model let through."""

    generation: int
    granted: float
    ended: bool = False


@dataclass
class Model:
    """The rules of the breaker over the list of all that ever happened."""

    breaker: Breaker
    state: str = "closed"
    generation: int = 0
    until: float = 0.0
    failed_breaks: int = 0
    results: list[tuple[float, bool]] = field(default_factory=list)
    tickets: list[Ticket] = field(default_factory=list)

    def move(self, state: str) -> None:
        self.state = state
        self.generation += 1
        self.results = []

    def open(self, now: float) -> None:
        longest = self.breaker.max_break_duration or self.breaker.break_duration
        self.until = now + min(self.breaker.break_duration * 2**self.failed_breaks, longest)
        self.failed_breaks += 1
        self.move("open")

    def close(self) -> None:
        self.failed_breaks = 0
        self.move("closed")

    def may_pass(self, now: float) -> bool:
        if self.state == "open":
            return now >= self.until
        return self.state == "closed" or self.out(now) < self.breaker.probes - len(self.results)

    def out(self, now: float) -> int:
        lease = self.breaker.break_duration
        mine = [ticket for ticket in self.tickets if ticket.generation == self.generation]
        return sum(not ticket.ended and now < ticket.granted + lease for ticket in mine)

    def admit(self, now: float) -> Ticket | None:
        if not self.may_pass(now):
            return None
        if self.state == "open":
            self.move("half-open")
        self.tickets.append(Ticket(self.generation, now))
        return self.tickets[-1]

    def observe(self, ticket: Ticket, kind: Kind, now: float) -> None:
        late = ticket.ended or ticket.generation != self.generation
        ticket.ended = True
        if late or kind in (Kind.REFUSED, Kind.IGNORED):
            return
        failed = kind is Kind.FAILURE
        self.results.append((now, failed))
        if failed and (self.state == "half-open" or self.has_failed(now)):
            self.open(now)
        elif self.state == "half-open" and len(self.results) >= self.breaker.probes:
            self.close()

    def has_failed(self, now: float) -> bool:
        limit, ratio = self.breaker.consecutive_failures, self.breaker.failure_ratio
        latest = self.results[-limit:] if limit else []
        if limit and len(latest) == limit and all(failed for _, failed in latest):
            return True
        recent = [failed for at, failed in self.results if at // BUCKET > now // BUCKET - WINDOW / BUCKET]
        return (
            ratio is not None and len(recent) >= self.breaker.minimum_throughput and sum(recent) >= ratio * len(recent)
        )


class BreakerAgainstModel(RuleBasedStateMachine):
    calls = Bundle("calls")

    @initialize(breaker=BREAKERS)
    def bind(self, breaker):
        self.now = 0.0
        self.ready = breaker.circuit_breaker
        self.real = breaker.bind("orders")
        self.model = Model(breaker)

    @rule(target=calls)
    def admit(self):
        permit, ticket = self.real.admit(self.now), self.model.admit(self.now)
        assert (permit is None) == (ticket is None)
        return permit, ticket

    @rule(call=consumes(calls), kind=st.sampled_from(Kind))
    def end(self, call, kind):
        self._observe(call, kind)

    @rule(call=calls, kind=st.sampled_from(Kind))
    def end_and_again_later(self, call, kind):
        self._observe(call, kind)

    def _observe(self, call, kind):
        permit, ticket = call
        if permit is not None:
            permit.observe(Outcome(kind), self.now)
            self.model.observe(ticket, kind, self.now)

    @rule(kinds=st.lists(st.sampled_from([Kind.SUCCESS, Kind.FAILURE]), min_size=1, max_size=8))
    def burst(self, kinds):
        for kind in kinds:
            self._observe(self.admit(), kind)

    @rule(sixteenths=st.integers(1, 8))
    def wait(self, sixteenths):
        self.now += sixteenths / 16

    @rule(sixteenths=st.integers(0, 200))
    def jump(self, sixteenths):
        self.now += sixteenths / 16

    @rule()
    def wait_for_the_end_of_the_break(self):
        self.now = max(self.now, self.model.until)

    @rule()
    def open_by_hand(self):
        if self.ready is not None and self.model.state != "open":
            self.ready.open()
            self.model.open(self.now)
            assert self.real.admit(self.now) is None

    @rule()
    def close_by_hand(self):
        if self.ready is not None and self.model.state != "closed":
            self.ready.close()
            self.model.close()

    @invariant()
    def same_state(self):
        assert self.real.state == self.model.state
        assert (self.real.remaining(self.now) == 0.0) == self.model.may_pass(self.now)
        if self.model.state == "open":
            assert self.real.retry_at == self.model.until


BreakerAgainstModel.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
TestBreakerAgainstModel = BreakerAgainstModel.TestCase
