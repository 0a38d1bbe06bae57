"""When a hedge is made, and what it costs if it is not."""

from __future__ import annotations

import pytest

from resilient import Breaker, Hedge, Limit, Policy, Retry, RetryBudget
from resilient.balance.picker import Pick
from resilient.core.bound import Bound
from resilient.core.effects import Send, Start, Stop, Wait
from tests.core.steps import Answer, ReadTimeout, Steps, bound

HEDGE = Hedge(delay=0.1, max_extra_ratio=1.0)
BUDGET = RetryBudget(ratio=1.0, min_per_second=0)


def late(service: Bound) -> Steps:
    """A call whose first attempt has taken as long as a hedge waits."""
    steps = Steps(service)
    assert isinstance(steps.effect, Start)
    assert isinstance(steps.reply(), Wait)
    steps.reply(now=0.1)
    return steps


def hedged(steps: Steps) -> bool:
    flagged = "hedged" in steps.call.report.flags
    assert flagged is isinstance(steps.effect, Start)
    return flagged


@pytest.mark.parametrize(("places", "makes_one"), [(1, False), (2, True)])
def test_none_while_the_limit_is_full(places: int, makes_one: bool) -> None:
    steps = late(bound(Policy(hedge=HEDGE, limit=Limit(max_in_flight=places))))
    assert hedged(steps) is makes_one


def test_none_for_a_call_that_had_to_queue() -> None:
    service = bound(Policy(hedge=HEDGE, limit=Limit(max_in_flight=1)))
    first, second = Steps(service), Steps(service)
    assert service.limit is not None
    service.limit.max_in_flight = 9
    first.cancel()
    second.reply(True, now=0.05)
    assert second.call.report.flags == ["queued"]
    second.reply(Answer(200), now=0.3)
    assert second.outcome is not None
    assert second.outcome.ok
    second.cancel()
    assert service.in_flight == 0


def spent(service: Bound, now: float) -> tuple[bool, bool]:
    """Whether the hedges' own budget, and that of retries, have nothing left."""
    assert service.hedge is not None
    assert service.retry is not None
    assert service.retry.budget is not None
    return not service.hedge.withdraw(now), not service.retry.budget.withdraw(now)


def test_one_that_is_made_is_paid_for_twice() -> None:
    service = bound(Policy(hedge=HEDGE, retry=Retry(budget=BUDGET)))
    assert hedged(late(service))
    assert spent(service, 0.1) == (True, True)


def test_one_that_the_breaker_refuses_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    service = bound(Policy(hedge=HEDGE, retry=Retry(budget=BUDGET), breaker=Breaker()))
    steps = Steps(service)
    steps.reply()
    monkeypatch.setattr(type(service.breaker), "admit", lambda *_: None)
    steps.reply(now=0.1)
    assert not hedged(steps)
    assert "circuit-open" not in steps.call.report.flags
    assert spent(service, 0.1) == (False, False)
    assert spent(service, 0.1) == (True, True)


def test_one_that_the_retry_budget_cannot_pay_leaves_the_other_budget_as_it_was() -> None:
    service = bound(Policy(hedge=HEDGE, retry=Retry(budget=RetryBudget(ratio=0.0, min_per_second=0))))
    assert not hedged(late(service))
    assert spent(service, 0.1) == (False, True)


def test_one_without_another_endpoint_is_not_paid_for() -> None:
    service = bound(Policy(hedge=HEDGE, retry=Retry(budget=BUDGET)), "10.0.0.1:80")
    assert not hedged(late(service))
    assert spent(service, 0.1) == (False, False)


def test_what_a_loser_was_given_is_what_balancing_learns_from(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    observe = Pick.observe
    monkeypatch.setattr(Pick, "observe", lambda pick, outcome, now: seen.append(outcome) or observe(pick, outcome, now))
    steps = late(bound(Policy(hedge=HEDGE)))
    rival = steps.effect.send
    steps.reply(now=0.1)
    steps.reply((rival, Answer(200)), now=0.3)
    steps.reply(now=0.3)
    assert [(outcome.reason, outcome.seconds) for outcome in seen] == [("", pytest.approx(0.2)), ("superseded", 0.3)]


@pytest.mark.parametrize("winner", ["first", "rival"])
def test_the_loser_is_stopped_before_anything_else_happens(winner: str) -> None:
    service = bound(Policy(hedge=HEDGE))
    steps = late(service)
    rival = steps.effect.send
    first = steps.call.live[0]
    steps.reply(now=0.1)
    won, lost = (first, rival) if winner == "first" else (rival, first)
    steps.reply((won, Answer(200)), now=0.3)
    assert isinstance(steps.effect, Stop)
    assert steps.effect.send is lost
    assert service.in_flight == 2  # while it is not stopped, it occupies its endpoint
    steps.reply(now=0.3)
    assert steps.outcome is not None
    assert service.in_flight == 0


def test_a_failure_stops_nobody() -> None:
    steps = late(bound(Policy(hedge=HEDGE)))
    rival = steps.effect.send
    steps.reply(now=0.1)
    steps.reply((rival, None), ReadTimeout(), now=0.3)
    assert isinstance(steps.effect, Wait)


def test_the_delay_is_learnt_from_the_attempts_of_the_service() -> None:
    """Nothing is hedged until twenty have told how long they take; losers and retries tell too."""
    service = bound(Policy(hedge=Hedge(delay="p90", max_extra_ratio=1.0)))
    for number in range(20):
        steps = Steps(service, now=float(number))
        assert isinstance(steps.effect, Send)
        steps.reply(Answer(200), now=number + 0.1)
    steps = Steps(service, now=20.0)
    assert isinstance(steps.effect, Start)
    patience = steps.reply(now=20.0)
    assert isinstance(patience, Wait)
    assert patience.timeout == pytest.approx(0.1, rel=0.1)


def test_a_loser_tells_how_long_it_was_waited_for() -> None:
    """Or a service that is always rescued by its hedges would look as fast as they are."""
    service = bound(Policy(hedge=Hedge(delay="p50", max_extra_ratio=1.0)))
    for number in range(20):
        Steps(service, now=float(number)).reply(Answer(200), now=number + 0.1)
    for number in range(20, 80):
        steps = Steps(service, now=float(number))
        steps.reply(now=float(number))
        steps.reply(now=number + 0.3)
        rival = steps.effect.send
        steps.reply(now=number + 0.3)
        steps.reply((rival, Answer(200)), now=number + 0.9)
        steps.reply(now=number + 0.9)
    steps = Steps(service, now=80.0)
    patience = steps.reply(now=80.0)
    assert isinstance(patience, Wait)
    assert patience.timeout == pytest.approx(0.6, rel=0.11)
