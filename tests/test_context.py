"""Deadlines and outer attempts that code hands to the calls inside it."""

from __future__ import annotations

import asyncio
import contextvars
import math
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import anyio
import anyio.to_thread
import pytest

from resilient.context import deadline, inbound_attempt, remaining
from resilient.core.ambient import ambient
from resilient.core.check import ConfigError


class Clock:
    def __init__(self, now: float = 100.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def test_without_a_deadline_there_is_no_end() -> None:
    assert remaining() is None


def test_a_deadline_draws_nearer_and_passes() -> None:
    clock = Clock()
    with deadline(2.0, clock=clock):
        assert remaining() == 2.0
        clock.now += 1.5
        assert remaining() == 0.5
        clock.now += 1.5
        assert remaining() == 0.0
    assert remaining() is None


def test_the_earlier_of_nested_deadlines_holds() -> None:
    clock = Clock()
    with deadline(2.0, clock=clock):
        with deadline(5.0, clock=clock):
            assert remaining() == 2.0
        with deadline(1.0, clock=clock):
            assert remaining() == 1.0
        assert remaining() == 2.0


def test_deadlines_of_different_clocks_are_compared_by_what_is_left() -> None:
    ours, theirs = Clock(100.0), Clock(9000.0)
    with deadline(2.0, clock=theirs), deadline(3.0, clock=ours):
        theirs.now += 1
        assert remaining() == 1.0
    with deadline(2.0, clock=theirs), deadline(1.0, clock=ours):
        assert remaining() == 1.0


def test_zero_has_passed_at_once() -> None:
    with deadline(0.0, clock=Clock()):
        assert remaining() == 0.0


@pytest.mark.parametrize("seconds", [-1, math.nan, math.inf, "2", None, True])
def test_what_is_no_number_of_seconds_is_refused(seconds: Any) -> None:
    with pytest.raises(ConfigError, match=r"deadline: .* expected a number of seconds >= 0"):
        deadline(seconds)


@pytest.mark.parametrize("make", [lambda: deadline(2.0), lambda: inbound_attempt(2)])
def test_each_is_for_one_use(make: Callable[[], AbstractContextManager[None]]) -> None:
    block = make()
    with block, pytest.raises(RuntimeError, match="is for one use"):
        block.__enter__()
    with pytest.raises(RuntimeError, match="is for one use"):
        block.__enter__()
    assert ambient.get() is None


def test_outer_attempts_add_up_and_leave_the_deadline() -> None:
    with deadline(2.0, clock=Clock()), inbound_attempt(2), inbound_attempt(3):
        around = ambient.get()
        assert around is not None
        assert around.attempt == 4
        assert remaining() == 2.0
    assert ambient.get() is None


@pytest.mark.parametrize("number", [0, -1, 1.5, "2", None, True])
def test_what_is_no_ordinal_is_refused(number: Any) -> None:
    with pytest.raises(ConfigError, match=r"inbound_attempt: .* expected a whole number >= 1"):
        inbound_attempt(number)


def test_an_exception_ends_the_block_too() -> None:
    with pytest.raises(KeyError), deadline(2.0):
        raise KeyError
    assert remaining() is None


@pytest.mark.anyio
async def test_it_follows_into_tasks_and_worker_threads_and_not_out_of_them() -> None:
    seen = []
    clock = Clock()

    async def task() -> None:
        seen.append(remaining())
        with deadline(1.0, clock=clock):
            await anyio.lowlevel.checkpoint()
            seen.append(remaining())

    with deadline(2.0, clock=clock):
        async with anyio.create_task_group() as group:
            group.start_soon(task)
        seen.append(remaining())
        seen.append(await anyio.to_thread.run_sync(remaining))
    assert seen == [2.0, 1.0, 2.0, 2.0]


def test_it_follows_into_asyncios_worker_threads() -> None:
    async def main() -> float | None:
        with deadline(2.0, clock=Clock()):
            return await asyncio.to_thread(remaining)

    assert asyncio.run(main()) == 2.0


def test_a_thread_of_ones_own_inherits_it_by_a_copy_of_the_context() -> None:
    seen = []

    def look() -> None:
        seen.append(remaining())

    with deadline(2.0, clock=Clock()):
        thread = threading.Thread(target=contextvars.copy_context().run, args=(look,))
        thread.start()
        thread.join()
    assert seen == [2.0]
