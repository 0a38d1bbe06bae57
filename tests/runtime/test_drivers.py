"""The same journey under four drivers: the same events at the same times, and nothing left over."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest

from resilient import Breaker, Hedge, Limit, Pacing, Policy, Retry, Throttle
from resilient.core.bound import Bound
from resilient.core.effects import Send
from resilient.core.outcome import Kind, Outcome
from resilient.runtime.tasks import TaskDriver
from resilient.testing import FakeResponse, VirtualLoop
from tests.runtime.worlds import HANGS, WORLDS, Asyncio, ConnectError, Scenario, Stray, Threads, nothing_is_held

PAUSE = Policy(retry=Retry(attempts=3, wait=0.5))
HEDGED = Policy(hedge=Hedge(delay=0.2, max_extra_ratio=1.0), retry=Retry(attempts=3, wait=0.5))
NOT_YET = HEDGED.replace(retry=Retry(retry=lambda state: state.outcome.result().status_code == 202, wait=0.5))
ONE = Policy(limit=Limit(max_in_flight=1, queue_timeout=0.4))
THROTTLED = Policy(throttle=Throttle(minimum_per_second=0, max_refusal_ratio=0.99))
PACED = Policy(pacing=Pacing(max_delay=0.5), retry=Retry(wait=0.5))


def open_the_breaker(service: Bound) -> None:
    assert service.breaker is not None
    permit = service.breaker.admit(-10.0)
    assert permit is not None
    permit.observe(Outcome(Kind.FAILURE), -10.0)


def overload(service: Bound) -> None:
    assert service.throttle is not None
    for _ in range(500):
        service.throttle.observe(True, 0.0)


def use_up_the_quota(service: Bound) -> None:
    assert service.pacing is not None
    answer = FakeResponse(200, {"ratelimit": '"default";r=0;t=60'})
    service.pacing.observe(Outcome(Kind.SUCCESS, response=answer), 0.0)


def breaks_for(seconds: float) -> Policy:
    return Policy(breaker=Breaker(consecutive_failures=1, break_duration=seconds), retry=Retry(wait=0.5))


SCENARIOS = [
    Scenario("success", ((0.1, 200),), ("200", 0.1), ("1 a 200 0.1",)),
    Scenario(
        "retry",
        ((0.1, 503), (0.2, 200)),
        ("200", 0.8),
        ("1 a 503 0.1", "2 b 200 0.2"),
        policy=PAUSE,
        streamed=True,
    ),
    Scenario(
        "refused connections are retried at once",
        ((0.1, ConnectError()), (0.2, 200)),
        ("200", 0.3),
        ("1 a connect-failure 0.1", "2 b 200 0.2"),
        idempotent=False,
    ),
    Scenario(
        "attempts run out",
        ((0.1, 503), (0.1, 503), (0.1, 502)),
        ("502", 1.3),
        ("1 a 503 0.1", "2 b 503 0.1", "3 c 502 0.1"),
        ("retry-limit",),
        policy=PAUSE,
        streamed=True,
    ),
    Scenario(
        "the hedge is not needed",
        ((0.1, 200), (HANGS, 200)),
        ("200", 0.1),
        ("1 a 200 0.1",),
        policy=HEDGED,
    ),
    Scenario(
        "the hedge wins",
        ((1.0, 200), (0.1, 200)),
        ("200", 0.3),
        ("2 a 200 0.1 hedge",),
        ("hedged",),
        policy=HEDGED,
        streamed=True,
    ),
    Scenario(
        "the hedge wins, and another attempt follows",
        ((0.6, 200), (0.1, 202), (0.1, 200)),
        ("200", 0.9),
        ("2 a 202 0.1 hedge", "3 b 200 0.1"),
        ("hedged",),
        policy=NOT_YET,
        streamed=True,
    ),
    Scenario(
        "the first wins over its hedge",
        ((0.5, 200), (0.9, 200)),
        ("200", 0.5),
        ("1 a 200 0.5",),
        ("hedged",),
        policy=HEDGED,
        streamed=True,
    ),
    Scenario(
        "a fast failure does not beat a coming success",
        ((0.7, 200), (0.1, 503)),
        ("200", 0.7),
        ("2 b 503 0.1 hedge", "1 a 200 0.7"),
        ("hedged",),
        policy=HEDGED,
        streamed=True,
    ),
    Scenario(
        "both fail, and a retry follows",
        ((0.3, 503), (0.3, 502), (0.1, 200)),
        ("200", 1.1),
        ("1 a 503 0.3", "2 b 502 0.3 hedge", "3 c 200 0.1"),
        ("hedged",),
        policy=HEDGED,
        streamed=True,
    ),
    Scenario(
        "both fail, and that is all",
        ((0.3, 503), (0.3, 502)),
        ("502", 0.5),
        ("1 a 503 0.3", "2 b 502 0.3 hedge"),
        ("hedged",),
        policy=HEDGED.replace(retry=None),
        streamed=True,
    ),
    Scenario(
        "a hedge needs another endpoint",
        ((0.5, 200),),
        ("200", 0.5),
        ("1 a 200 0.5",),
        policy=HEDGED,
        endpoints=1,
    ),
    Scenario(
        "the deadline passes while hedging",
        ((0.5, 503), (HANGS, 200)),
        ("deadline", 0.6),
        ("1 a 503 0.5", "2 b timeout 0.4 hedge"),
        ("hedged", "deadline"),
        policy=HEDGED.replace(retry=None),
        deadline=0.6,
    ),
    Scenario(
        "the deadline passes in an attempt",
        ((HANGS, 200),),
        ("deadline", 0.6),
        ("1 a timeout 0.6",),
        ("deadline",),
        deadline=0.6,
    ),
    Scenario(
        "the deadline would pass in a pause",
        ((0.2, 503),),
        ("503", 0.2),
        ("1 a 503 0.2",),
        ("retry-deadline",),
        policy=PAUSE,
        deadline=0.6,
        streamed=True,
    ),
    Scenario(
        "an attempt takes too long",
        ((HANGS, 200), (0.1, 200)),
        ("200", 0.8),
        ("1 a timeout 0.2", "2 b 200 0.1"),
        policy=PAUSE.replace(attempt_timeout=0.2),
    ),
    Scenario(
        "a place is granted in the queue",
        ((0.1, 200),),
        ("200", 0.4),
        ("1 a 200 0.1",),
        ("queued",),
        policy=ONE,
        places_free_at=0.3,
        streamed=True,
    ),
    Scenario(
        "the queue takes too long",
        (),
        ("overflow", 0.4),
        (),
        ("queued", "overflow"),
        policy=ONE,
        places_free_at=0.9,
    ),
    Scenario(
        "the deadline passes in the queue",
        (),
        ("deadline", 0.2),
        (),
        ("queued", "deadline"),
        policy=ONE,
        places_free_at=0.9,
        deadline=0.2,
    ),
    Scenario(
        "the queue is full",
        (),
        ("overflow", 0.0),
        (),
        ("queued", "overflow"),
        policy=Policy(limit=Limit(max_in_flight=1, max_queue=0)),
        places_free_at=0.9,
    ),
    Scenario(
        "resolved meanwhile",
        ((0.1, 200),),
        ("200", 0.4),
        ("1 a 200 0.1",),
        ("resolved",),
        resolved_at=(0.3, True),
    ),
    Scenario("not resolved", (), ("resolve", 0.3), (), ("resolved", "resolve"), resolved_at=(0.3, False)),
    Scenario(
        "resolved too late",
        (),
        ("deadline", 0.2),
        (),
        ("resolved", "deadline"),
        resolved_at=(0.3, True),
        deadline=0.2,
    ),
    Scenario(
        "the breaker is open",
        (),
        ("circuit-open", 0.0),
        (),
        ("circuit-open",),
        policy=breaks_for(20.0),
        before=open_the_breaker,
    ),
    Scenario(
        "a probe passes the breaker",
        ((0.1, 200),),
        ("200", 0.1),
        ("1 a 200 0.1",),
        policy=breaks_for(1.0),
        before=open_the_breaker,
    ),
    Scenario(
        "the breaker opens between attempts",
        ((0.1, 503), (0.1, 200)),
        ("503", 0.6),
        ("1 a 503 0.1",),
        ("circuit-open",),
        policy=breaks_for(20.0),
        streamed=True,
    ),
    Scenario(
        "throttled",
        (),
        ("throttled", 0.0),
        (),
        ("throttled",),
        policy=THROTTLED,
        before=overload,
    ),
    Scenario("the throttle lets pass", ((0.1, 200),), ("200", 0.1), ("1 a 200 0.1",), policy=THROTTLED),
    Scenario(
        "paced",
        ((0.1, 200),),
        ("200", 0.6),
        ("1 a 200 0.1",),
        ("paced",),
        policy=PACED,
        before=use_up_the_quota,
    ),
    Scenario(
        "paced, but its retries are not",
        ((0.1, ConnectError()), (0.1, 503), (0.1, 200)),
        ("200", 1.8),
        ("1 a connect-failure 0.1", "2 b 503 0.1", "3 c 200 0.1"),
        ("paced",),
        policy=PACED,
        before=use_up_the_quota,
        streamed=True,
    ),
    Scenario(
        "the deadline would pass before its turn",
        ((0.1, 200),),
        ("200", 0.1),
        ("1 a 200 0.1",),
        policy=PACED,
        before=use_up_the_quota,
        deadline=0.4,
    ),
    Scenario(
        "paced, and the deadline passes in the attempt",
        ((HANGS, 200),),
        ("deadline", 0.7),
        ("1 a timeout 0.2",),
        ("paced", "deadline"),
        policy=PACED,
        before=use_up_the_quota,
        deadline=0.7,
    ),
    Scenario(
        "paced, then a place is granted in the queue",
        ((0.1, 200),),
        ("200", 0.8),
        ("1 a 200 0.1",),
        ("paced", "queued"),
        policy=ONE.replace(pacing=PACED.pacing),
        places_free_at=0.7,
        before=use_up_the_quota,
        streamed=True,
    ),
]


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_the_same_events_under_every_driver(scenario: Scenario, world: str, no_leaks: None) -> None:
    seen = WORLDS[world](scenario).run()
    assert (seen.ends, seen.attempts, seen.flags) == (scenario.ends, scenario.attempts, scenario.flags)
    assert seen.left_open == []
    assert nothing_is_held(seen.service, scenario.ends[1])


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_a_cancelled_call_leaves_nothing_behind_whatever_it_was_doing(scenario: Scenario) -> None:
    for cancel_at in (0.03 + step / 10 for step in range(int(scenario.ends[1] * 10))):
        runs = {name: world(scenario, cancel_at).run() for name, world in WORLDS.items()}
        expected = runs["simulator"]
        assert expected.ends == ("cancelled", round(cancel_at, 6))
        for name, seen in runs.items():
            assert (seen.ends, seen.attempts, seen.flags) == (expected.ends, expected.attempts, expected.flags), name
            assert seen.left_open == [], name
            assert nothing_is_held(seen.service, cancel_at), name
            assert sum(stats.failures for stats in seen.service.members) == failures(seen.attempts), name


def failures(attempts: tuple[str, ...]) -> int:
    return sum(any(word in line for word in ("503", "502", "connect-failure", "timeout")) for line in attempts)


def named(name: str) -> Scenario:
    [scenario] = [scenario for scenario in SCENARIOS if scenario.name == name]
    return scenario


@pytest.mark.parametrize("world", ["asyncio", "trio"])
@pytest.mark.parametrize("name", ["the hedge wins", "the hedge wins, and another attempt follows"])
def test_the_loser_of_a_race_is_cancelled_at_once(name: str, world: str) -> None:
    """Not at the end of the call, which may come much later."""
    assert WORLDS[world](named(name)).run().cut_off == [(1, 0.3)]


def test_in_a_thread_the_loser_is_abandoned_and_closes_what_it_brings() -> None:
    world = Threads(named("the hedge wins"))
    world.run()
    assert world.clock() == 1.0
    assert {answer.number: answer.closed for answer in world.answers} == {1: True, 2: False}


@pytest.mark.parametrize("world", ["threads", "asyncio", "trio"])
def test_a_predicate_that_raises_reaches_the_caller_as_it_is(world: str) -> None:
    broken = Policy(hedge=HEDGED.hedge, retry=Retry(retry=lambda _: 1 / 0))
    for script in (((0.1, 503),), ((0.5, 503), (0.1, 503))):
        scenario = Scenario("broken", script, ("", 0.0), policy=broken, streamed=True)
        run = WORLDS[world](scenario)
        with pytest.raises(ZeroDivisionError):
            run.run()
        assert nothing_is_held(run.service, 1.0)
        assert all(answer.closed for answer in run.answers)


@pytest.mark.parametrize("world", ["threads", "asyncio", "trio"])
@pytest.mark.parametrize("policy", [PAUSE, HEDGED], ids=["alone", "hedged"])
@pytest.mark.parametrize("later", [(), ((1.0, 200),)], ids=["at once", "beside another"])
def test_what_is_no_exception_reaches_the_caller_as_it_is(world: str, policy: Policy, later: Any) -> None:
    stray = Stray()
    scenario = Scenario("stray", ((0.5 if later else 0.1, stray), *later), ("", 0.0), policy=policy, streamed=True)
    run = WORLDS[world](scenario)
    with pytest.raises(Stray) as caught:
        run.run()
    assert caught.value is stray
    assert nothing_is_held(run.service, 1.0)
    assert all(answer.closed for answer in run.answers)


def test_a_loser_that_ends_the_program_does_so() -> None:
    class Abrupt(Asyncio):
        async def _attempt(self, send: Send) -> Any:
            try:
                return await super()._attempt(send)
            except anyio.get_cancelled_exc_class():
                raise Stray from None

    [scenario] = [scenario for scenario in SCENARIOS if scenario.name == "the hedge wins"]
    run = Abrupt(scenario)
    with pytest.raises(Stray):
        run.run()
    assert nothing_is_held(run.service, 1.0)
    assert [answer.closed for answer in run.answers] == [True]


def test_a_cancelled_error_of_somebody_elses_reaches_the_caller() -> None:
    async def main() -> None:
        with pytest.raises(asyncio.CancelledError):
            await TaskDriver(anyio.current_time).drive(world.call, attempt)

    async def attempt(_: Send) -> Any:
        raise asyncio.CancelledError

    world = Asyncio(Scenario("stray", (), ("", 0.0), policy=HEDGED))
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(asyncio.wait_for(main(), 60.0))
    assert nothing_is_held(world.service, 1.0)
