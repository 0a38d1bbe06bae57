"""A Policy as a decorator: one scenario at a time, in threads, asyncio and trio."""

from __future__ import annotations

import traceback
from typing import Any

import anyio
import pybreaker
import pytest
import tenacity

from resilient.callsite import bound_of
from resilient.context import deadline, inbound_attempt, remaining
from resilient.core.check import ConfigError
from resilient.core.classify import FunctionClassifier
from resilient.core.outcome import Kind
from resilient.errors import CircuitOpen, DeadlineExceeded, LimitExceeded
from resilient.policy.breaker import Breaker
from resilient.policy.budget import RetryBudget
from resilient.policy.limit import Limit
from resilient.policy.policy import Policy
from resilient.policy.retry import Retry
from tests.callsite.worlds import WORLDS, Script, Tasks, World

ONCE = Policy(retry=None)
THRICE = Policy(retry=Retry(attempts=3, wait=1.0, budget=None))


def calling(world: World, function: Any) -> Any:
    async def outer() -> Any:
        return await world.call(function)

    return outer


@pytest.fixture(params=WORLDS)
def world(request: pytest.FixtureRequest) -> World:
    return WORLDS[request.param]()


@pytest.fixture(params=["asyncio", "trio"])
def tasks(request: pytest.FixtureRequest) -> Any:
    return WORLDS[request.param]()


def test_a_success_is_returned_and_costs_one_call(world: World) -> None:
    async def scenario() -> None:
        script = Script(world, "charged")
        assert await world.call(world.under(THRICE, script), 42, note="x") == "charged"
        assert script.calls == 1

    world.run(scenario)


def test_a_failure_is_tried_again_after_the_pause(world: World) -> None:
    async def scenario() -> None:
        script = Script(world, ConnectionError("1"), ConnectionError("2"), "charged")
        began = world.clock()
        assert await world.call(world.under(THRICE, script)) == "charged"
        assert script.calls == 3
        assert world.clock() - began == pytest.approx(2.0)

    world.run(scenario)


def test_the_last_exception_is_raised_as_it_was(world: World) -> None:
    errors = [ConnectionError("1"), ConnectionError("2"), ConnectionError("3")]

    async def scenario() -> None:
        function = world.under(THRICE, Script(world, *errors))
        with pytest.raises(ConnectionError) as caught:
            await world.call(function)
        assert caught.value is errors[2]
        report = caught.value.report
        assert report.exhausted
        assert [a.outcome for a in report.attempts] == [Kind.FAILURE] * 3
        (note,) = caught.value.__notes__
        assert "attempts: error in 0 ms; error in 0 ms; error in 0 ms [retry-limit]" in note
        frames = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
        assert frames[-1] == "__call__"

    world.run(scenario)


@pytest.mark.parametrize("policy", [ONCE, THRICE], ids=["once", "thrice"])
def test_an_exception_that_cannot_be_asked_is_raised_as_it_was(world: World, policy: Policy) -> None:
    class Opaque(Exception):
        def __getattr__(self, name: str) -> Any:
            raise AttributeError if name.startswith("__") else RuntimeError(name)

    async def scenario() -> None:
        error = Opaque()
        with pytest.raises(Opaque) as caught:
            await world.call(world.under(policy, Script(world, error)))
        assert caught.value is error

    world.run(scenario)


def test_a_single_failure_gets_a_report_and_no_note(world: World) -> None:
    async def scenario() -> None:
        error = ValueError("no")
        with pytest.raises(ValueError, match="no"):
            await world.call(world.under(ONCE, Script(world, error)))
        assert len(error.report.attempts) == 1  # type: ignore[attr-defined]
        assert not hasattr(error, "__notes__")

    world.run(scenario)


def test_tenacity_says_which_exceptions_are_worth_it(world: World) -> None:
    retry = Retry(attempts=3, wait=0, retry=tenacity.retry_if_exception_type(ConnectionError))

    async def scenario() -> None:
        script = Script(world, ConnectionError(), KeyError("no such order"), "never")
        with pytest.raises(KeyError):
            await world.call(world.under(Policy(retry=retry), script))
        assert script.calls == 2

    world.run(scenario)


def test_a_disliked_result_is_tried_again_and_at_last_returned(world: World) -> None:
    retry = Retry(attempts=3, wait=0, retry=tenacity.retry_if_result(lambda result: result is None))

    async def scenario() -> None:
        good = Script(world, None, "found")
        assert await world.call(world.under(Policy(retry=retry), good)) == "found"
        bad = Script(world, None)
        assert await world.call(world.under(Policy(retry=retry, fallback="unused"), bad)) is None
        assert bad.calls == 3

    world.run(scenario)


def test_a_disliked_result_is_not_closed(world: World) -> None:
    class Session:
        closed = False

        def close(self) -> None:
            self.closed = True

        async def aclose(self) -> None:
            self.closed = True

    session = Session()
    retry = Retry(attempts=2, wait=0, retry=tenacity.retry_if_result(lambda result: True))

    async def scenario() -> None:
        assert await world.call(world.under(Policy(retry=retry), Script(world, session))) is session
        assert not session.closed

    world.run(scenario)


def test_the_budget_bounds_retries(world: World) -> None:
    budget = RetryBudget(ratio=1.0, min_per_second=0)

    async def scenario() -> None:
        script = Script(world, ConnectionError)
        function = world.under(Policy(retry=Retry(attempts=5, wait=0, budget=budget)), script)
        with pytest.raises(ConnectionError) as caught:
            await world.call(function)
        assert script.calls == 2
        assert caught.value.report.flags == ["retry-budget"]

    world.run(scenario)


def test_no_attempt_begins_after_the_deadline(world: World) -> None:
    async def scenario() -> None:
        script = Script(world, ConnectionError)
        with pytest.raises(ConnectionError) as caught:
            await world.call(world.under(THRICE.replace(timeout=1.5), script))
        assert script.calls == 2
        assert caught.value.report.flags == ["retry-deadline"]

    world.run(scenario)


def test_the_deadline_cancels_a_coroutine(tasks: Tasks) -> None:
    async def scenario() -> None:
        script = Script(tasks, "late", seconds=60.0)
        began = tasks.clock()
        with pytest.raises(DeadlineExceeded) as caught:
            await tasks.under(THRICE.replace(timeout=2.0), script)()
        assert tasks.clock() - began == pytest.approx(2.0)
        assert script.calls == 1
        assert isinstance(caught.value.__cause__, TimeoutError)
        assert caught.value.report is not None

    tasks.run(scenario)


def test_the_attempt_timeout_cancels_one_attempt(tasks: Tasks) -> None:
    durations = [60.0, 60.0, 0.1]

    async def slow() -> str:
        await anyio.sleep(durations.pop(0))
        return "charged"

    async def scenario() -> None:
        began = tasks.clock()
        assert await tasks.under(THRICE.replace(attempt_timeout=0.5), slow)() == "charged"
        assert tasks.clock() - began == pytest.approx(0.5 + 1 + 0.5 + 1 + 0.1)

    tasks.run(scenario)


def test_timeouts_to_the_end_raise_timeout_error(tasks: Tasks) -> None:
    async def scenario() -> None:
        script = Script(tasks, "late", seconds=60.0)
        with pytest.raises(TimeoutError, match=r"cut off after 0\.5 s"):
            await tasks.under(THRICE.replace(attempt_timeout=0.5), script)()
        assert script.calls == 3

    tasks.run(scenario)


def test_a_late_result_of_a_thread_is_returned_and_a_late_failure_not_repeated() -> None:
    world = WORLDS["threads"]()

    async def scenario() -> None:
        policy = THRICE.replace(timeout=2.0)
        assert await world.call(world.under(policy, Script(world, "late", seconds=5.0))) == "late"
        script = Script(world, ConnectionError, seconds=5.0)
        with pytest.raises(ConnectionError):
            await world.call(world.under(policy, script))
        assert script.calls == 1

    world.run(scenario)


def test_a_passed_deadline_refuses(world: World) -> None:
    async def scenario() -> None:
        script = Script(world, "never")
        function = world.under(ONCE, script)
        with deadline(1.0, clock=world.clock):
            await world.sleep(2.0)
            with pytest.raises(DeadlineExceeded, match="the deadline passed"):
                await world.call(function)
        assert script.calls == 0

    world.run(scenario)


def test_what_is_called_inside_has_the_time_that_is_left(world: World) -> None:
    seen: list[float | None] = []

    async def inner() -> None:
        seen.append(remaining())

    async def scenario() -> None:
        shorter = world.under(ONCE.replace(timeout=0.25), inner)
        longer = world.under(ONCE.replace(timeout=60.0), inner)
        free = world.under(ONCE, inner)

        async def outer() -> None:
            await world.sleep(1.5)
            for function in (shorter, longer, free):
                await world.call(function)

        await world.call(world.under(ONCE.replace(timeout=2.0), outer))
        await world.call(free)
        assert seen == [pytest.approx(0.25), pytest.approx(0.5), pytest.approx(0.5), None]
        assert remaining() is None

    world.run(scenario)


def test_an_attempt_timeout_shortens_what_is_inside(world: World) -> None:
    seen = []

    async def inner() -> None:
        seen.append(remaining())

    async def scenario() -> None:
        await world.call(world.under(ONCE.replace(timeout=5.0, attempt_timeout=2.0), inner))
        assert seen == [pytest.approx(2.0)]

    world.run(scenario)


def test_retries_of_layers_do_not_multiply(world: World) -> None:
    async def scenario() -> None:
        script = Script(world, ConnectionError)
        inner = world.under(THRICE, script)
        middle = world.under(THRICE, calling(world, inner))
        outer = world.under(THRICE, calling(world, middle))
        with pytest.raises(ConnectionError) as caught:
            await world.call(outer)
        assert script.calls == 3
        assert caught.value.report.exhausted

    world.run(scenario)


def test_an_inner_layer_makes_as_many_fewer_attempts_as_the_outer_one_has_made(world: World) -> None:
    """Where nothing is exhausted: two calls of the inner layer end in an error that it does not retry."""
    picky = Retry(attempts=3, wait=0, budget=None, retry=tenacity.retry_if_exception_type(ConnectionError))

    async def scenario() -> None:
        script = Script(world, KeyError(), KeyError(), ConnectionError())
        outer = world.under(THRICE, calling(world, world.under(Policy(retry=picky), script)))
        with pytest.raises(ConnectionError):
            await world.call(outer)
        assert script.calls == 1 + 1 + 1

        script = Script(world, KeyError(), ConnectionError())
        outer = world.under(THRICE, calling(world, world.under(Policy(retry=picky), script)))
        with pytest.raises(ConnectionError):
            await world.call(outer)
        assert script.calls == 1 + 2 + 1

    world.run(scenario)


def test_an_inbound_attempt_leaves_fewer(world: World) -> None:
    async def scenario() -> None:
        for number, calls in ((1, 3), (2, 2), (3, 1), (9, 1)):
            script = Script(world, ConnectionError)
            with inbound_attempt(number), pytest.raises(ConnectionError):
                await world.call(world.under(THRICE, script))
            assert script.calls == calls

    world.run(scenario)


def test_the_same_exception_object_is_retried_in_every_call(world: World) -> None:
    """As mocks raise it: what an earlier call reported on it says nothing about this one."""
    error = ConnectionError("always this one")

    async def scenario() -> None:
        script = Script(world, error)
        function = world.under(THRICE, script)
        for calls in (3, 6, 9):
            with pytest.raises(ConnectionError):
                await world.call(function)
            assert script.calls == calls
        assert len(error.__notes__) == 1

    world.run(scenario)


def test_an_exception_that_takes_no_attributes_is_raised_all_the_same(world: World) -> None:
    class Frozen(Exception):
        def __setattr__(self, name: str, value: object) -> None:
            raise TypeError("frozen")

    async def scenario() -> None:
        with pytest.raises(Frozen):
            await world.call(world.under(THRICE, Script(world, Frozen)))

    world.run(scenario)


def test_a_report_of_the_users_own_is_left_alone(world: World) -> None:
    class Rejected(Exception):
        report = "what the bank said"

    async def scenario() -> None:
        with pytest.raises(Rejected) as caught:
            await world.call(world.under(THRICE, Script(world, Rejected)))
        assert caught.value.report == "what the bank said"

    world.run(scenario)


class Faulty(pybreaker.CircuitBreakerListener):
    def before_call(self, *_: Any) -> None:
        raise ZeroDivisionError("odd")


def test_a_listener_that_raises_is_logged(world: World, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        function = world.under(ONCE.replace(breaker=Breaker(listeners=[Faulty()])), Script(world, "well"))
        assert await world.call(function) == "well"

    world.run(scenario)
    [record] = caplog.records
    assert (record.name, record.getMessage()) == (
        "resilient.breaker",
        "a listener of a breaker failed: ZeroDivisionError('odd')",
    )


def test_the_breaker_opens_and_recovers(world: World) -> None:
    breaker = Breaker(failure_ratio=None, consecutive_failures=2, break_duration=5.0)

    async def scenario() -> None:
        script = Script(world, ConnectionError(), ConnectionError(), "well")
        function = world.under(ONCE.replace(breaker=breaker), script)
        for _ in range(2):
            with pytest.raises(ConnectionError):
                await world.call(function)
        with pytest.raises(CircuitOpen) as caught:
            await world.call(function)
        assert caught.value.retry_in == pytest.approx(5.0)
        assert script.calls == 2
        await world.sleep(5.0)
        assert await world.call(function) == "well"
        state = bound_of(function).breaker
        assert state is not None
        assert state.state == "closed"

    world.run(scenario)


def test_functions_share_no_state(world: World) -> None:
    policy = ONCE.replace(breaker=Breaker(failure_ratio=None, consecutive_failures=1))

    async def scenario() -> None:
        bad, good = world.under(policy, Script(world, ConnectionError)), world.under(policy, Script(world, "well"))
        with pytest.raises(ConnectionError):
            await world.call(bad)
        assert await world.call(good) == "well"

    world.run(scenario)


def test_the_limit_refuses_what_is_too_much(world: World) -> None:
    async def scenario() -> None:
        policy = ONCE.replace(limit=Limit(max_in_flight=1, max_queue=0))

        async def again() -> Any:
            return await world.call(function)

        function = world.under(policy, again)
        with pytest.raises(LimitExceeded):
            await world.call(function)

    world.run(scenario)


def test_a_fallback_stands_in_for_failures_and_refusals(world: World) -> None:
    async def scenario() -> None:
        breaker = Breaker(failure_ratio=None, consecutive_failures=1)
        pairs = [(None, None), ("unknown", "unknown"), (lambda order, *, note: (order, note), (7, "n"))]
        for fallback, expected in pairs:
            function = world.under(ONCE.replace(breaker=breaker, fallback=fallback), Script(world, ConnectionError))
            assert await world.call(function, 7, note="n") == expected  # failed
            assert await world.call(function, 7, note="n") == expected  # refused

    world.run(scenario)


def test_an_ignored_error_is_raised_at_once_and_counts_nowhere(world: World) -> None:
    breaker = Breaker(failure_ratio=None, consecutive_failures=1)
    policy = THRICE.replace(classifier=FunctionClassifier(ignore=(KeyError,)), breaker=breaker, fallback="unused")

    async def scenario() -> None:
        script = Script(world, KeyError)
        function = world.under(policy, script)
        for _ in range(2):
            with pytest.raises(KeyError):
                await world.call(function)
        assert script.calls == 2

    world.run(scenario)


def test_a_fallback_of_a_coroutine_may_be_one(tasks: Tasks) -> None:
    async def guess(order: int) -> str:
        await anyio.sleep(1)
        return f"guess {order}"

    async def scenario() -> None:
        assert await tasks.under(ONCE.replace(fallback=guess), Script(tasks, ConnectionError))(7) == "guess 7"

    tasks.run(scenario)


def test_a_fallback_that_fails_shows_both_errors(world: World) -> None:
    def broken() -> None:
        raise LookupError("no fallback either")

    async def scenario() -> None:
        with pytest.raises(LookupError) as caught:
            await world.call(world.under(ONCE.replace(fallback=broken), Script(world, ConnectionError("first"))))
        assert isinstance(caught.value.__context__, ConnectionError)

    world.run(scenario)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_is_no_exception_passes_through_and_is_no_evidence(world: World, kind: type[BaseException]) -> None:
    breaker = Breaker(failure_ratio=None, consecutive_failures=1)
    policy = THRICE.replace(breaker=breaker, limit=Limit(max_in_flight=1), fallback="unused")

    async def scenario() -> None:
        script = Script(world, kind())
        function = world.under(policy, script)
        with pytest.raises(kind):
            await world.call(function)
        state = bound_of(function).breaker
        assert state is not None
        assert state.state == "closed"
        assert script.calls == 1

    world.run(scenario)


def test_a_cancelled_probe_makes_room_for_the_next(tasks: Tasks) -> None:
    durations = [0.0, 60.0, 0.0]

    async def flaky() -> str:
        seconds = durations.pop(0)
        await anyio.sleep(seconds)
        if len(durations) == 2:
            raise ConnectionError
        return "well"

    async def scenario() -> None:
        breaker = Breaker(failure_ratio=None, consecutive_failures=1, break_duration=5.0)
        function = tasks.under(ONCE.replace(breaker=breaker, limit=Limit(max_in_flight=1), fallback="unused"), flaky)
        assert await function() == "unused"
        await anyio.sleep(5.0)
        with anyio.move_on_after(1.0) as scope:
            await function()
        assert scope.cancelled_caught
        assert await function() == "well"

    tasks.run(scenario)


def test_waiting_under_the_limit_is_cancelled_at_the_deadline(tasks: Tasks) -> None:
    async def scenario() -> None:
        script = Script(tasks, "done", seconds=10.0)
        function = tasks.under(ONCE.replace(limit=Limit(max_in_flight=1, queue_timeout=60.0), timeout=30.0), script)
        results: list[Any] = []

        async def impatient() -> None:
            with deadline(3.0, clock=tasks.clock):
                try:
                    await function()
                except DeadlineExceeded:
                    results.append("refused")

        async def patient() -> None:
            results.append(await function())

        async with anyio.create_task_group() as group:
            for task in (patient, impatient, patient):
                group.start_soon(task)
                await anyio.sleep(0.1)
        assert results == ["refused", "done", "done"]
        assert script.calls == 2

    tasks.run(scenario)


def test_a_fallback_that_is_async_is_refused_for_a_plain_function() -> None:
    async def guess() -> None: ...

    with pytest.raises(ConfigError, match="not async"):
        ONCE.replace(fallback=guess)(lambda: None)
