"""Blocks inside generators, which share the context of their consumer and may be closed anywhere."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anyio
import pytest

from resilient.callsite import Blocks
from resilient.context import deadline, inbound_attempt, remaining
from resilient.core.ambient import ambient
from resilient.errors import DeadlineExceeded
from resilient.policy.limit import Limit
from resilient.policy.policy import Policy
from tests.callsite.worlds import WORLDS, Tasks

POLICY = Policy(timeout=2.0, limit=Limit(max_in_flight=2, max_queue=0))
abandoned = pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")


@pytest.fixture(params=["asyncio", "trio"])
def tasks(request: pytest.FixtureRequest) -> Any:
    return WORLDS[request.param]()


def in_flight(blocks: Any) -> tuple[int, int]:
    assert blocks.bound.limit is not None
    return blocks.bound.in_flight, blocks.bound.limit.in_flight


async def arows(block: Any) -> AsyncIterator[int]:
    async with block:
        yield 1
        yield 2


def rows(block: Any) -> Iterator[int]:
    with block:
        yield 1
        yield 2


async def collected() -> None:
    """The event loop closes what was dropped."""
    gc.collect()
    await anyio.sleep(0.1)


def in_a_thread(function: Callable[[], object]) -> None:
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


@abandoned
def test_one_that_is_abandoned_leaves_nothing_to_its_consumer(tasks: Tasks) -> None:
    async def scenario() -> None:
        block = tasks.block(POLICY)
        with anyio.move_on_after(60.0):
            for _ in range(3):
                async for _ in arows(block):
                    break
                await collected()
            assert in_flight(block) == (0, 0)
            assert remaining() is None
            await anyio.sleep(30.0)  # is not cancelled when the deadlines of the blocks pass

    tasks.run(scenario)


def test_its_consumer_is_not_cancelled_while_it_stands_still(tasks: Tasks) -> None:
    async def scenario() -> None:
        async with contextlib.aclosing(arows(tasks.block(POLICY))) as numbers:
            async for _ in numbers:
                await anyio.sleep(30.0)
        assert remaining() is None

    tasks.run(scenario)


def test_the_deadline_cancels_a_block_in_a_context_manager(tasks: Tasks) -> None:
    @contextlib.asynccontextmanager
    async def guarded(block: Any) -> AsyncIterator[None]:
        async with block:
            yield

    async def scenario() -> None:
        with pytest.raises(DeadlineExceeded):
            async with guarded(tasks.block(POLICY)):
                await anyio.sleep(60.0)

    tasks.run(scenario)


def test_another_task_may_close_it(tasks: Tasks) -> None:
    async def scenario() -> None:
        block = tasks.block(POLICY)
        generator: Any = arows(block)
        async with anyio.create_task_group() as group:
            group.start_soon(generator.__anext__)
        assert in_flight(block) == (1, 1)
        with deadline(50.0, clock=tasks.clock):
            await generator.aclose()
            assert remaining() == pytest.approx(50.0)
        assert in_flight(block) == (0, 0)

    tasks.run(scenario)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_an_exit_stack_enters_is_given_back_in_another_task() -> None:
    tasks: Any = WORLDS["asyncio"]()

    async def stacked(block: Any) -> AsyncIterator[int]:
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(block)
            yield 1

    async def scenario() -> None:
        block = tasks.block(POLICY)
        generator: Any = stacked(block)
        await anext(generator)
        with pytest.raises(RuntimeError, match="different task"):
            await asyncio.create_task(generator.aclose())
        assert in_flight(block) == (0, 0)
        await anyio.sleep(30.0)

    tasks.run(scenario)


def test_each_of_several_leaves_its_own_block() -> None:
    blocks = Blocks(Policy(timeout=2.0), clock=lambda: 0.0)
    one, other = rows(blocks), rows(blocks)
    for generator in (one, other, one, other):
        next(generator)
    one.close()
    assert blocks.bound.in_flight == 1
    other.close()
    assert blocks.bound.in_flight == 0
    assert remaining() is None
    assert not blocks._lent


def test_another_thread_may_close_it() -> None:
    blocks = Blocks(POLICY)
    generator = rows(blocks)
    in_a_thread(lambda: next(generator))
    assert in_flight(blocks) == (1, 1)
    assert remaining() is None
    in_a_thread(generator.close)  # type: ignore[attr-defined]
    assert in_flight(blocks) == (0, 0)


def test_whoever_closes_one_keeps_their_own_deadline() -> None:
    generator: Any = rows(Blocks(POLICY))
    context = contextvars.copy_context()
    context.run(next, generator)
    with deadline(50.0, clock=lambda: 0.0):
        generator.close()
        assert remaining() == 50.0
    assert context.run(remaining) is None


def test_a_context_that_ends_first_gives_its_places_back() -> None:
    async def hold() -> None:
        with blocks:
            await asyncio.sleep(0)

    blocks = Blocks(Policy(limit=Limit(max_in_flight=1, max_queue=0)))
    coroutine = hold()
    context = contextvars.copy_context()
    context.run(coroutine.send, None)
    del context
    coroutine.close()
    assert in_flight(blocks) == (0, 0)


@abandoned
def test_deadlines_and_attempts_of_one_that_is_abandoned_end_with_it(tasks: Tasks) -> None:
    async def numbers() -> AsyncIterator[int]:
        with deadline(2.0, clock=tasks.clock), inbound_attempt(3):
            yield 1

    async def scenario() -> None:
        with deadline(50.0, clock=tasks.clock):
            for _ in range(2):
                async for _ in numbers():
                    break
                await collected()
            assert (remaining() or 0) > 40.0
            around = ambient.get()
            assert around is not None
            assert around.attempt == 1
        assert remaining() is None

    tasks.run(scenario)


@pytest.mark.parametrize("seconds", [None, 60.0])
def test_places_of_a_closed_event_loop_are_given_back(seconds: float | None) -> None:
    async def hold() -> None:
        async with blocks:
            await asyncio.sleep(100)

    async def enter() -> None:
        async with blocks:
            assert in_flight(blocks) == (1, 1)

    blocks = Blocks(Policy(timeout=seconds, limit=Limit(max_in_flight=1, max_queue=0)))
    loop = asyncio.new_event_loop()
    task = loop.create_task(hold())
    loop.run_until_complete(asyncio.wait({task}, timeout=0.01))
    loop.close()
    assert in_flight(blocks) == (1, 1)
    asyncio.run(enter())
    assert in_flight(blocks) == (0, 0)
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    del task
    gc.collect()
    assert in_flight(blocks) == (0, 0)


def test_generators_that_overlap_for_ever_make_no_chain() -> None:
    def limited() -> Iterator[None]:
        with deadline(100.0):
            yield

    previous = limited()
    next(previous)
    for _ in range(3000):
        following = limited()
        next(following)
        previous.close()
        previous = following
    left = remaining()
    assert left is not None
    assert left > 99.0
    previous.close()
    assert remaining() is None


def test_the_deadline_of_a_closed_generator_is_nobodys() -> None:
    """Also of code that has entered one of its own meanwhile."""

    def limited() -> Iterator[None]:
        with deadline(1.0):
            yield

    generator = limited()
    next(generator)
    with deadline(5.0):
        assert (remaining() or 0.0) <= 1.0
        generator.close()
        assert (remaining() or 0.0) > 4.0
