"""A Policy as a context manager: one scenario at a time, in threads, asyncio and trio."""

from __future__ import annotations

import threading
from typing import Any

import anyio
import pytest

from resilient.callsite import Blocks
from resilient.context import deadline, remaining
from resilient.errors import CircuitOpen, DeadlineExceeded, LimitExceeded
from resilient.policy.breaker import Breaker
from resilient.policy.limit import Limit
from resilient.policy.policy import Policy
from tests.callsite.worlds import WORLDS, Tasks, World

TRIPS = Breaker(failure_ratio=None, consecutive_failures=1, break_duration=5.0)


@pytest.fixture(params=WORLDS)
def world(request: pytest.FixtureRequest) -> World:
    return WORLDS[request.param]()


@pytest.fixture(params=["asyncio", "trio"])
def tasks(request: pytest.FixtureRequest) -> Any:
    return WORLDS[request.param]()


def test_a_block_gives_its_deadline_to_what_is_inside(world: World) -> None:
    async def scenario() -> None:
        block = world.block(Policy(timeout=2.0))
        async with block as report:
            assert remaining() == pytest.approx(2.0)
            with deadline(5.0, clock=world.clock):
                assert remaining() == pytest.approx(2.0)
        assert remaining() is None
        assert len(report.attempts) == 1

    world.run(scenario)


def test_an_exception_leaves_the_block_and_opens_the_breaker(world: World) -> None:
    async def scenario() -> None:
        block = world.block(Policy(breaker=TRIPS, fallback="unused"))
        error = ConnectionError()
        with pytest.raises(ConnectionError) as caught:
            async with block:
                raise error
        assert caught.value is error
        assert len(error.report.attempts) == 1  # type: ignore[attr-defined]
        with pytest.raises(CircuitOpen, match="block: the circuit is open"):
            async with block:
                pytest.fail("entered")
        await world.sleep(5.0)
        async with block:
            pass
        async with block:
            pass

    world.run(scenario)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, GeneratorExit])
def test_what_is_no_exception_is_no_evidence(world: World, kind: type[BaseException]) -> None:
    async def scenario() -> None:
        block = world.block(Policy(breaker=TRIPS, limit=Limit(max_in_flight=1, max_queue=0)))
        with pytest.raises(kind):
            async with block:
                raise kind
        async with block:
            pass

    world.run(scenario)


def test_the_limit_counts_blocks(world: World) -> None:
    async def scenario() -> None:
        block = world.block(Policy(limit=Limit(max_in_flight=2, max_queue=0)))
        async with block, block:
            with pytest.raises(LimitExceeded):
                async with block:
                    pytest.fail("entered")
        async with block, block:
            pass

    world.run(scenario)


def test_nested_blocks_of_several_policies_are_kept_apart(world: World) -> None:
    async def scenario() -> None:
        outer, inner = world.block(Policy(timeout=5.0, breaker=TRIPS)), world.block(Policy(timeout=2.0))
        with pytest.raises(ConnectionError):  # noqa: PT012 - the blocks are what is tested
            async with inner, outer, inner:
                assert remaining() == pytest.approx(2.0)
                raise ConnectionError
        assert remaining() is None
        async with inner:
            with pytest.raises(CircuitOpen):
                async with outer:
                    pytest.fail("entered")

    world.run(scenario)


def test_the_deadline_cancels_an_async_block(tasks: Tasks) -> None:
    async def scenario() -> None:
        block = tasks.block(Policy(timeout=2.0, breaker=TRIPS))
        began = tasks.clock()
        with pytest.raises(DeadlineExceeded) as caught:
            async with block:
                await anyio.sleep(60.0)
        assert tasks.clock() - began == pytest.approx(2.0)
        assert isinstance(caught.value.__cause__, TimeoutError)
        assert caught.value.report is not None
        assert caught.value.report.flags == ["deadline"]
        with pytest.raises(CircuitOpen):
            async with block:
                pytest.fail("entered")

    tasks.run(scenario)


def test_a_deadline_that_the_block_outlives_is_not_told_of_later(tasks: Tasks) -> None:
    async def scenario() -> None:
        async with tasks.block(Policy(timeout=2.0)):
            await anyio.sleep(1.0)
        await anyio.sleep(60.0)

    tasks.run(scenario)


def test_the_attempt_timeout_of_an_async_block_is_a_timeout_error(tasks: Tasks) -> None:
    async def scenario() -> None:
        with pytest.raises(TimeoutError, match="block: an attempt was cut off"):
            async with tasks.block(Policy(timeout=5.0, attempt_timeout=1.0)):
                await anyio.sleep(60.0)

    tasks.run(scenario)


def test_a_cancelled_block_is_no_evidence(tasks: Tasks) -> None:
    async def scenario() -> None:
        block = tasks.block(Policy(timeout=60.0, breaker=TRIPS, limit=Limit(max_in_flight=1, max_queue=0)))
        with anyio.move_on_after(1.0) as scope:
            async with block:
                await anyio.sleep(30.0)
        assert scope.cancelled_caught
        async with block:
            pass

    tasks.run(scenario)


def test_many_tasks_are_in_one_policy_at_once(tasks: Tasks) -> None:
    order: list[str] = []

    async def scenario() -> None:
        block = tasks.block(Policy(limit=Limit(max_in_flight=2), timeout=60.0))

        async def stay(name: str, seconds: float) -> None:
            async with block:
                await anyio.sleep(seconds)
                order.append(name)

        async with anyio.create_task_group() as group:
            for name, seconds in (("a", 3.0), ("b", 1.0), ("c", 1.0)):
                group.start_soon(stay, name, seconds)
                await anyio.sleep(0.01)
        assert order == ["b", "c", "a"]

    tasks.run(scenario)


def test_a_late_block_of_a_thread_ends_as_it_ended() -> None:
    world = WORLDS["threads"]()

    async def scenario() -> None:
        async with world.block(Policy(timeout=2.0)):
            await world.sleep(60.0)
            assert remaining() == 0.0

    world.run(scenario)


def test_threads_have_blocks_of_their_own() -> None:
    policy = Policy(limit=Limit(max_in_flight=2, max_queue=0))
    inside, done = threading.Barrier(3), threading.Event()

    def stay() -> None:
        with policy:
            inside.wait(10)
            done.wait(10)

    threads = [threading.Thread(target=stay) for _ in range(2)]
    for thread in threads:
        thread.start()
    inside.wait(10)
    with pytest.raises(LimitExceeded):
        policy.__enter__()
    done.set()
    for thread in threads:
        thread.join()
    with policy, policy:
        pass


def test_a_block_is_left_where_it_was_entered() -> None:
    blocks = Blocks(Policy())
    with pytest.raises(RuntimeError, match="left in the task or thread that entered it"):
        blocks.__exit__(None, None, None)


@pytest.mark.anyio
async def test_the_policy_itself_is_the_context_manager() -> None:
    policy = Policy(breaker=TRIPS)
    with policy, pytest.raises(ConnectionError):
        async with policy:
            raise ConnectionError
    with pytest.raises(CircuitOpen):
        policy.__enter__()
